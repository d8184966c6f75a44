"""A run that is held at a call to AWS, in a thread, until the test lets it go on."""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from stack.world import World

PLAN = "/plans/"


class HeldRun:
    """A run that stands still with the lock taken and its plan made, before the first change; then it goes on.

    It is held while it stores its plan: that call is not answered, and tried again once `release` is called.
    """

    def __init__(self, world: World, **fields: Any) -> None:
        self._world, self._fields = world, fields
        self.answer: dict[str, Any] | None = None
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        """Begin, and wait until it is held."""
        before = self._stored()
        self._world.aws.fail("PutObject", kind="timeout", matching=PLAN)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(lambda: self._stored() > before or not self._thread.is_alive())
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go on, and wait for its end."""
        self.release()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the run does not end"

    def release(self) -> None:
        """Let it go on."""
        self._world.aws.heal()

    def _run(self) -> None:
        try:
            self.answer = self._world.apply(**self._fields)
        except Exception as error:  # noqa: BLE001 - told to the test
            self.error = error

    def _stored(self) -> int:
        calls = self._world.aws.calls()
        return sum(call.operation == "PutObject" and PLAN in f"/{call.parameters['Key']}" for call in calls)


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Ask again and again until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)
