"""What an application feels of a run: one inserts into its tables all the while, and how long it waited comes out."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from typing import TYPE_CHECKING

from bench import fleet
from bench.field import Field, Figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.aws import Aws
    from stack.postgres import Server

TABLES = 200
QUIET_SECONDS = 3.0


def measure(server: Server, aws: Aws) -> Figures:
    """Seconds for one transaction of the application: alone, and while grants on all of its tables are repaired."""
    with Field(server, aws) as field:
        field.declare(1)
        field.call()
        owner, reader, editor = (fleet.role(0, level) for level in ("owner", "reader", "editor"))
        login = (owner, fleet.password(0, "owner"), fleet.database(0))
        with contextlib.closing(server.connect(*login)) as connection:
            for number in range(TABLES):
                connection.run(f"CREATE TABLE t{number} (id int, said text)")
        application = _Application(server, login)
        alone = application.during(lambda: time.sleep(QUIET_SECONDS))
        server.run_as_superuser(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {reader}, {editor}", login[2])
        called: list[Figures] = []
        beside = application.during(lambda: called.append(field.call()))
    return {
        "tables": TABLES,
        "apply": called[0]["phases"]["apply"],
        "alone": _describe(alone),
        "beside": _describe(beside),
    }


class _Application:
    def __init__(self, server: Server, login: tuple[str, str, str]) -> None:
        self._server = server
        self._login = login

    def during(self, work: Callable[[], object]) -> list[float]:
        """Insert into one table after the other until the work is done; the seconds of each transaction."""
        over = threading.Event()
        waited: list[float] = []

        def insert() -> None:
            with contextlib.closing(self._server.connect(*self._login)) as connection:
                number = 0
                while not over.is_set():
                    started = time.perf_counter()
                    connection.run(f"INSERT INTO t{number % TABLES} VALUES ({number}, 'at work')")
                    waited.append(time.perf_counter() - started)
                    number += 1

        thread = threading.Thread(target=insert)
        thread.start()
        try:
            work()
        finally:
            over.set()
            thread.join()
        return waited


def _describe(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "transactions": len(ordered),
        "median": statistics.median(ordered),
        "percentile_99": ordered[int(len(ordered) * 0.99)],
        "longest": ordered[-1],
    }
