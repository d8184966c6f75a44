"""Prints the path of a Python of the asked minor version (`3.13`) on this machine, or nothing when there is none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def find_python(version: str) -> Path | None:
    """The first interpreter that answers with the asked version, from PATH or from pyenv's folder of versions."""
    return next((path for path in _candidates(version) if _version_of(path) == version), None)


def _candidates(version: str) -> Iterator[Path]:
    for name in (f"python{version}", "python3"):
        if found := shutil.which(name):
            yield Path(found)
    for root in _pyenv_roots():
        # Another user's pyenv may be named and not be ours to look into.
        if os.access(root / "versions", os.R_OK | os.X_OK):
            yield from sorted(root.glob(f"versions/{version}*/bin/python{version}"), reverse=True)


def _pyenv_roots() -> Iterator[Path]:
    if root := os.environ.get("PYENV_ROOT"):
        yield Path(root)
    if shutil.which("pyenv"):
        answer = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    yield Path.home() / ".pyenv"


def _version_of(python: Path) -> str | None:
    # A pyenv shim is on PATH for every version but runs only the chosen ones: ask, do not believe the name.
    query = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", query], capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


if __name__ == "__main__":
    print(find_python(sys.argv[1]) or "")
