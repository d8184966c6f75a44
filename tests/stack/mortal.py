"""The function in a process that can be killed where it stands: events in, what became of each call out.

A parent that has loaded the function once forks a child for each call, so a call costs no start of Python.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stack import processes


@dataclass(frozen=True)
class Call:
    """How a call ended: killed, with an answer, or with the name and text of an error; `output` is what it wrote."""

    killed: bool
    answer: dict[str, Any] | None
    error: str
    message: str
    output: str


class Mortal:
    """Calls the function, one at a time, each in a process of its own.

    Args:
        environment: the function's variables; a call may add to them. `BROKEN_CLOCK_AFTER` and `BROKEN_CLOCK_SAYS`
            make the clock of the call raise `ClockBroke` with that text, after so many answers.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    def __enter__(self) -> Self:
        """Start the parent and wait until it has loaded the function."""
        ours, theirs = socket.socketpair()
        folder = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(folder.parent / "lambda"), str(folder)])
        self._process = processes.start(
            [sys.executable, "-m", "stack.mortal", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **self._environment},
        )
        theirs.close()
        self._socket = ours
        self._lines = ours.makefile("r", encoding="utf-8")
        if not self._lines.readline():
            raise RuntimeError("the function cannot be loaded: run `python -m stack.mortal` to see why")
        return self

    def __exit__(self, *_: object) -> None:
        """End the parent."""
        self._lines.close()
        self._socket.close()
        processes.end(self._process)

    def begin(self, event: Any, *, seconds: float = 900, **environment: str) -> int:
        """Make a process for a call and give back its id; it waits for `go`."""
        self._say({"event": event, "environment": environment, "seconds": seconds})
        return int(json.loads(self._lines.readline())["pid"])

    def go(self) -> Call:
        """Let it run and wait for its end."""
        self._say({"go": True})
        return Call(**json.loads(self._lines.readline()))

    def call(self, event: Any, **options: Any) -> Call:
        """Both at once."""
        self.begin(event, **options)
        return self.go()

    def _say(self, message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")


def kill(pid: int) -> None:
    """Kill a call's process as a lost host would: no handler, no farewell.

    After its last message it may be gone by itself; `Call.killed` says which of the two it was.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class ClockBroke(Exception):
    """What a call's clock raises on demand: something that nobody expects, with a text that nobody may see."""


class _Context:
    def __init__(self, seconds: float, token: str) -> None:
        self.aws_request_id = token
        self._milliseconds = int(seconds * 1000)
        self._answers = int(os.environ.get("BROKEN_CLOCK_AFTER", "-1"))

    def get_remaining_time_in_millis(self) -> int:
        self._answers -= 1
        if self._answers == -1:
            raise ClockBroke(os.environ["BROKEN_CLOCK_SAYS"])
        return self._milliseconds


def _serve(file_number: int) -> None:
    from provisioner.core.snapshot import parse_snapshot
    from provisioner.edges.aws import aws_clients
    from provisioner.handler import lambda_handler

    # Its first use builds what it keeps for the life of a process.
    parse_snapshot(b"application_databases = {}", "terraform.tfvars", environment="dev")
    clients = aws_clients(int(os.environ.get("MAX_WORKERS", "8")), ())
    # Made here, once; no connection of theirs is open yet.
    _ = clients.s3, clients.secrets, clients.sns
    channel = socket.socket(fileno=file_number)
    lines = channel.makefile("r", encoding="utf-8")

    def say(message: Any) -> None:
        channel.sendall(json.dumps(message).encode() + b"\n")

    say("ready")
    number = 0
    while line := lines.readline():
        number += 1
        request = json.loads(line)
        # Both in files that outlive the child, whichever way it ends.
        output = os.memfd_create("output")
        result = os.memfd_create("result")
        gate, opener = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ.update(request["environment"])
            os.read(gate, 1)
            context: Any = _Context(request["seconds"], f"run-{os.getpid()}-{number}")
            try:
                found: dict[str, Any] = {
                    "answer": lambda_handler(request["event"], context),
                    "error": "",
                    "message": "",
                }
            except Exception as error:  # noqa: BLE001 - told to the test
                found = {"answer": None, "error": type(error).__name__, "message": str(error)}
            os.pwrite(result, json.dumps(found).encode(), 0)
            sys.stdout.flush()
            os._exit(0)
        os.close(gate)
        say({"pid": pid})
        lines.readline()
        os.close(opener)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status)
        ended = {"answer": None, "error": "", "message": ""} if killed else json.loads(_content(result))
        say({"killed": killed, "output": _content(output).decode(errors="replace"), **ended})
        for number_ in (output, result):
            os.close(number_)


def _content(file_number: int) -> bytes:
    return os.pread(file_number, os.fstat(file_number).st_size, 0)


if __name__ == "__main__":
    # A fork copies the calling thread alone: there must be no other.
    assert threading.active_count() == 1
    _serve(int(sys.argv[1]))
