"""`docs/tutorial.md`: every command of it, run as it stands there, on the stack that `make stack` keeps up."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.binaries import ROOT

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
MARK = "=== done ==="


# What is done on a second stack.
FIRST, SECOND = TUTORIAL.split("## Where somebody approves")


def blocks(text: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


@contextlib.contextmanager
def stack_of(environment: str) -> Iterator[None]:
    """The stack, up, in the folder `.stack`; Ctrl-C ends it and leaves nothing."""
    with subprocess.Popen(
        [sys.executable, "-m", "demo.embedded"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/lambda:{ROOT}/tests", "ENVIRONMENT": environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        shown = ""
        while "Ctrl-C ends everything" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
    assert not Path(ROOT / ".stack").exists()


class Shell:
    """One shell, since what a block sets the next one uses."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, command: str) -> str:
        """What the command printed; it ended with 0."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f'{{ {command}\n}} 2>&1; echo "{MARK} $?"\n')
        self.process.stdin.flush()
        shown = ""
        for line in self.process.stdout:
            if line.startswith(MARK):
                assert line.split()[-1] == "0", f"{command}\n{shown}"
                return shown
            shown += line
        raise AssertionError(f"the shell ended in {command}:\n{shown}")


def commands(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what it must print."""
    for command in re.findall(r"cat > .*?\nEND\n|[^\n]+\n", block, re.DOTALL):
        if "\n" in command.strip():
            yield command, ""
        else:
            text, _, said = command.strip().partition("   # ")
            yield text.strip(), said.strip()


@pytest.mark.parametrize(("environment", "text"), [("dev", FIRST), ("prod", SECOND)], ids=["dev", "prod"])
def test_every_command_of_the_tutorial_does_what_the_page_says(environment: str, text: str) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        stack_of(environment),
        subprocess.Popen(["bash"], cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, **streams) as process,  # type: ignore[call-overload]
    ):
        shell = Shell(process)
        for block in blocks(text):
            for command, said in commands(block):
                shown = shell.run(command)
                assert said in shown, f"{command}\n{shown}"
        process.stdin.close()
