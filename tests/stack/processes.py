"""Child processes that never outlive this one: started in a session of their own, ended by process id."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import IO, Any

_children: list[subprocess.Popen[bytes]] = []


def start(command: list[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command that is ended with this process, also on Ctrl-C and SIGTERM."""
    _end_on_sigterm()
    child: subprocess.Popen[bytes] = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, start_new_session=True, **options
    )
    _children.append(child)
    return child


def end(child: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM, patience_seconds: float = 10) -> None:
    """End a child and whatever it started; after the patience is spent, by force."""
    _signal(child, number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(patience_seconds)
    # Also what the child left behind in its session.
    kill_group(child)
    child.wait()
    if child in _children:
        _children.remove(child)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child with all that it started, by the id of the session that it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def read_line(stream: IO[bytes]) -> str:
    """One line of a child's output: how a child says its port. Empty when the child ended before it spoke."""
    return stream.readline().decode().strip()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.poll() is None:
        child.send_signal(number)


def _end_on_sigterm() -> None:
    # Without a handler SIGTERM ends Python at once and atexit never runs.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


@atexit.register
def _end_all() -> None:
    for child in _children.copy():
        end(child, signal.SIGINT, patience_seconds=3)
