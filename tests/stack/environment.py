"""`environment.py FOLDER GROUP...` makes a virtual environment with the pinned groups of pyproject.toml.

Run by whatever Python the environment is to have, so by one without any package. It is made anew only when the pins
themselves have changed.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - asked of whatever `python3` is
    sys.exit(f"Python 3.11 or later is needed, and this is {sys.version.split()[0]}: make PYTHON=/path/to/python3")

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stack import progress  # noqa: E402


def read_requirements(*groups: str) -> list[str]:
    """The requirements of each group: `run` for the function, `cli` for the command line, the others by their names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    available = {"cli": project["dependencies"], "run": optional["function"], **optional}
    return [requirement for group in groups for requirement in available[group]]


def main() -> int:
    """Install what is not installed yet."""
    folder, groups = Path(sys.argv[1]), sys.argv[2:]
    wanted = "\n".join(read_requirements(*groups)) + "\n"
    installed = folder / "requirements.txt"
    if installed.exists() and installed.read_text() == wanted:
        return 0
    print(f"Installing into {folder}: {', '.join(groups)} ...", flush=True)
    problem = progress.run([sys.executable, "-m", "venv", "--clear", str(folder)])
    if not problem:
        (folder / "wanted.txt").write_text(wanted)
        pip = [
            str(folder / "bin/python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--progress-bar",
            "off",
            "--prefer-binary",
        ]
        problem = progress.run([*pip, "-r", str(folder / "wanted.txt")])
    if problem:
        print(problem, file=sys.stderr)
        return 2
    (folder / "wanted.txt").rename(installed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
