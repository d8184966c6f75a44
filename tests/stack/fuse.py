"""Counts the messages that a function sends through several proxies, and at one of them does something."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Literal

from stack.proxy import Proxy, _Connection

Moment = Literal["before", "delivered", "answered"]


class Fuse:
    """One count over all its proxies; `light` says at which message what happens.

    The moments: `before` the message is delivered, which it then never is; `delivered`, its answer still to come;
    `answered`, when the server's answer is at the proxy but not yet at the function.
    """

    def __init__(self) -> None:
        self.passed = 0
        self._lock = threading.Lock()
        self._at = 0
        self._moment: Moment = "before"
        self._action: Callable[[], None] | None = None
        self._awaited: Any = None
        self._is_burnt = False
        self._watch: Callable[[int], None] | None = None
        self._asked: dict[Any, int] = {}

    def watch(self, look: Callable[[int], None]) -> None:
        """Count from zero; at each answered message all stands still while somebody looks, who is told its number."""
        with self._lock:
            self.passed, self._action, self._awaited, self._watch = 0, None, None, look
            self._asked.clear()

    def light(self, at: int, moment: Moment, action: Callable[[], None]) -> None:
        """Count from zero; do the action at that message, once."""
        with self._lock:
            self.passed, self._at, self._moment, self._action, self._awaited = 0, at, moment, action, None
            self._is_burnt = False

    def put_out(self) -> None:
        """Count from zero and do nothing."""
        with self._lock:
            self.passed, self._action, self._awaited, self._is_burnt, self._watch = 0, None, None, False, None

    @property
    def is_burnt(self) -> bool:
        """Whether it was lit and has done its work."""
        return self._is_burnt

    def note_sent(self, connection: _Connection, data: bytes) -> bool:
        """Whether a message is to be passed on."""
        with self._lock:
            self.passed += 1
            if self._watch:
                self._asked[connection] = self.passed
            if self._awaited is not None:
                # Its client goes on without an answer: then this is the moment after it.
                return self._act()
            if self._action is None or self.passed != self._at:
                return True
            if self._moment == "before":
                return self._act()
            if self._moment == "answered":
                self._awaited = connection
                return True
            with contextlib.suppress(OSError):
                connection._server.sendall(data)
            return self._act()

    def note_received(self, connection: _Connection) -> None:
        """The server answered somebody."""
        with self._lock:
            if self._awaited is connection:
                self._act()
            if self._watch and (number := self._asked.pop(connection, 0)):
                self._watch(number)

    def _act(self) -> bool:
        action, self._action, self._awaited = self._action, None, None
        if action:
            self._is_burnt = True
            action()
        return False


class FusedProxy(Proxy):
    """A proxy whose messages a fuse counts, but for the first ones of each connection.

    Args:
        port: the server's port on this machine.
        fuse: who counts.
        greeting: how many messages a client sends before it can ask for anything.
    """

    def __init__(self, port: int, fuse: Fuse, *, greeting: int = 0) -> None:
        super().__init__(port)
        self._fuse = fuse
        self.is_counted = True
        self._greeting = greeting
        self._spoken: dict[_Connection, int] = {}

    def _note_sent(self, connection: _Connection, data: bytes) -> bool:
        self._spoken[connection] = self._spoken.get(connection, 0) + 1
        if self._spoken[connection] <= self._greeting or not self.is_counted:
            return super()._note_sent(connection, data)
        return self._fuse.note_sent(connection, data) and super()._note_sent(connection, data)

    def _note_received(self, connection: _Connection, data: bytes) -> None:
        self._fuse.note_received(connection)
        super()._note_received(connection, data)
