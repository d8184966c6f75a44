"""Runs a command that takes long, with a line every few seconds, and its output only where it failed."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS_BETWEEN_LINES = 4.0


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run to its end; empty where it ended well, else what it said. Ctrl-C ends the command, too."""
    started = time.monotonic()
    with subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output = None
        while output is None:
            try:
                output = process.communicate(timeout=SECONDS_BETWEEN_LINES)[0]
            except subprocess.TimeoutExpired:
                print(f"  ... {time.monotonic() - started:.0f} s", flush=True)
    return "" if process.returncode == 0 else output.strip() or f"{command[0]} ended with {process.returncode}"
