"""Ports on loopback: a free one from the system, and waiting until a child listens on its own."""

import socket
import subprocess
import time


def free_port() -> int:
    """A port that is free now. Another process may take it first: whoever uses it has to try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, child: subprocess.Popen[bytes], patience_seconds: float = 15) -> bool:
    """Whether the child came to listen on the port before it ended or the patience was spent."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return child.poll() is None
    return False
