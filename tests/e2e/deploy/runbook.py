"""docs/operations.md: its blocks, and a shell in which they run as they stand there."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from stack.aws import Aws
from stack.binaries import ROOT

RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
# What make and the command line of this repository need of it.
PARTS = ("Makefile", "infra", ".venv-cli")


def read_block(mark: str, language: str) -> str:
    """The block that a comment marks, the indentation of a list taken away."""
    [block] = re.findall(rf"<!-- {mark} -->\s*```{language}\n(.*?)```", RUNBOOK, re.DOTALL)
    return textwrap.dedent(block)


def read_bash(mark: str) -> str:
    """The commands of a block."""
    return read_block(mark, "bash")


def read_sql(mark: str) -> list[str]:
    """The statements of a block."""
    return [statement.strip() for statement in read_block(mark, "sql").split(";") if statement.strip()]


class Shell:
    """Runs commands in a folder with nothing but what make needs, and with an `aws` that asks this AWS."""

    def __init__(self, aws: Aws, folder: Path) -> None:
        self.folder = folder
        self._aws = aws
        program = f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("aws_command.py")} "$@"\n'
        (folder / "bin").mkdir()
        (folder / "bin/aws").write_text(program)
        (folder / "bin/aws").chmod(0o755)
        for part in PARTS:
            (folder / part).symlink_to(ROOT / part)
        # Older than the command line, which make is not to install anew from here.
        (folder / "pyproject.toml").touch()
        os.utime(folder / "pyproject.toml", (0, 0))
        # What the page sets before all else.
        [self._head] = re.findall(r"```bash\nexport ENV=.*?\n(output\(\) .*?)```", RUNBOOK, re.DOTALL)

    def __call__(
        self, commands: str, *, typed: str = "", endpoint: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run them in one shell."""
        known = {"ENV": "dev", "HOST": "db.example.internal", "HOME": str(self.folder)}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-u", "-c", self._head + commands],
            cwd=self.folder,
            env={**self._aws.environment(endpoint), **known, "PATH": path, **variables},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
