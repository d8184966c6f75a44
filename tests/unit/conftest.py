"""Here nothing starts a server or another program: that is held, so that `make unit` stays quick."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

FORBIDDEN = {"subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "socket.bind"}
running = ""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if running and event in FORBIDDEN:
        raise RuntimeError(f"{running} belongs in tests/integration: {event} {arguments[:2]}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest) -> Iterator[None]:
    global running  # noqa: PLW0603 - a hook of the interpreter cannot be taken away again
    running = request.node.nodeid
    yield
    running = ""
