"""`environment.py FOLDER GROUP...` makes a virtual environment with the pinned groups of pyproject.toml.

Run by whatever Python the environment is to have, so by one without any package. It is made anew only when the pins
themselves have changed. uv installs in seconds what pip takes a minute for; where uv finds no registry, pip does it.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - asked of whatever `python3` is
    sys.exit(f"Python 3.11 or later is needed, and this is {sys.version.split()[0]}: make PYTHON=/path/to/python3")

import ast
import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stack import progress  # noqa: E402

CACHE = ROOT / ".cache"
# What pip is told of registries, by its files or by the environment, and how uv is told the same.
AS_UV_IS_TOLD = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}


def read_requirements(*groups: str) -> list[str]:
    """The requirements of each group: `run` for the function, `cli` for the command line, the others by their names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    available = {"cli": project["dependencies"], "run": optional["function"], **optional}
    return [requirement for group in groups for requirement in available[group]]


def make_by_uv(folder: Path, requirements: Path) -> str:
    """Make it with the uv that the tests pin; empty, or what went wrong."""
    pin = next(requirement for requirement in read_requirements("test") if requirement.startswith("uv=="))
    uv = CACHE / pin / "bin/uv"
    problem = "" if uv.exists() else make_by_pip(CACHE / pin, pin)
    # As with pip, the pinned release counts and not which registry has it.
    env = {"UV_INDEX_STRATEGY": "unsafe-best-match", **registries(), **os.environ, "UV_CACHE_DIR": str(CACHE / "uv")}
    return (
        problem
        or progress.run([uv, "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, folder], env=env)
        or progress.run([uv, "pip", "install", "--quiet", "--python", folder, "-r", requirements], env=env)
    )


def make_by_pip(folder: Path, *what: str | Path) -> str:
    """Make it with the pip that Python brings along; empty, or what went wrong."""
    options = ["--quiet", "--progress-bar", "off", "--prefer-binary"]
    return progress.run([sys.executable, "-m", "venv", "--clear", folder]) or progress.run(
        [folder / "bin/python", "-m", "pip", "install", *options, *what]
    )


def registries() -> dict[str, str]:
    """Variables that send uv where pip is sent; a later source of pip's settings wins, as with pip."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    told = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if variable := AS_UV_IS_TOLD.get(key.rpartition(".")[2]):
            # As Python writes it; a file may give several addresses, each on a line.
            told[variable] = " ".join(ast.literal_eval(value).split())
    return told


def main() -> int:
    """Install what is not installed yet."""
    folder, groups = Path(sys.argv[1]), sys.argv[2:]
    wanted = "\n".join(read_requirements(*groups)) + "\n"
    installed = folder / "requirements.txt"
    if installed.exists() and installed.read_text() == wanted:
        return 0
    print(f"Installing into {folder}: {', '.join(groups)} ...", flush=True)
    CACHE.mkdir(exist_ok=True)
    requirements = CACHE / f"{folder.name}.txt"
    requirements.write_text(wanted)
    problem = make_by_uv(folder, requirements)
    if problem:
        print("uv could not, so pip does it ...", flush=True)
        problem = make_by_pip(folder, "-r", requirements)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    requirements.rename(installed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
