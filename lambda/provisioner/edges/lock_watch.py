"""Who keeps a run waiting: the administrator's login in, whose lock each of the run's sessions waits for out."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread
from typing import Self

from provisioner.core.errors import DatabaseUnavailable, OutOfTime
from provisioner.edges.postgres import Login
from provisioner.edges.sqlstates import SqlError

# Less than `lock_timeout`, so that a wait that ends with it has been seen: afterwards nobody can tell whom it was for.
LOOK_SECONDS = 2.0

_WAITING = """
SELECT w.pid, min(CASE b.pid WHEN 0 THEN 'a prepared transaction'
                              ELSE format('session %s of "%s"', b.pid, h.usename) END)
FROM pg_stat_activity AS w CROSS JOIN unnest(pg_blocking_pids(w.pid)) AS b(pid)
LEFT JOIN pg_stat_activity AS h ON h.pid = b.pid
WHERE w.usename = session_user AND w.wait_event_type = 'Lock' GROUP BY w.pid"""


class LockWatch:
    """Looks now and then, in a session of its own, while it is entered and that takes longer than a moment."""

    def __init__(self, login: Login) -> None:
        self._login, self._is_over = login, Event()
        self._holders: dict[int, str] = {}
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def take_holder(self, pid: int) -> str:
        """Who held what a session of ours was last seen to wait for, told once; empty where none was."""
        return self._holders.pop(pid, "")

    def _watch(self) -> None:
        if self._is_over.wait(LOOK_SECONDS):
            return
        # Without it a run says as much as the server does.
        with suppress(SqlError, DatabaseUnavailable, OutOfTime), self._login.connect() as connection:
            while True:
                self._holders = dict(connection.run(_WAITING))
                if self._is_over.wait(LOOK_SECONDS):
                    return
