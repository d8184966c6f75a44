"""Prints the pinned requirements of the named groups of pyproject.toml, one a line, for `pip install -r`."""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def read_requirements(*groups: str) -> list[str]:
    """The requirements of each group: `run` is what the function itself needs, the others are the optional ones."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    available = {"run": project["dependencies"], **project["optional-dependencies"]}
    return [requirement for group in groups for requirement in available[group]]


if __name__ == "__main__":
    print("\n".join(read_requirements(*sys.argv[1:])))
