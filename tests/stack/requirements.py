"""Prints the pinned requirements of the named groups of pyproject.toml, one a line, for `pip install -r`."""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def read_requirements(*groups: str) -> list[str]:
    """The requirements of each group: `run` for the function, `cli` for the command line, the others by their names."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    optional = project["optional-dependencies"]
    available = {"cli": project["dependencies"], "run": optional["function"], **optional}
    return [requirement for group in groups for requirement in available[group]]


if __name__ == "__main__":
    print("\n".join(read_requirements(*sys.argv[1:])))
