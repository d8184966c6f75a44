"""One run at a time on a server: a connection in, the run lock held by it or `RunInProgress`.

The lock is its session's. Where that session dies while the run lives on, somebody else can take the lock, so two rules
hold together: every connection that is about to change something first asks whether the lock is still held (`fence`),
and whoever takes the lock first ends the sessions of runs that have lost it. A session that asked in time stood before
the lock changed hands, so it is ended; one that came later is refused by its own question.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from provisioner.core.errors import Finding, RunInProgress
from provisioner.edges.postgres import SqlError

if TYPE_CHECKING:
    from provisioner.edges.postgres import Connection

# Any constant of ours does. Advisory locks are per database, so it is always taken in the administrator's.
RUN_LOCK = 7_274_500_165_014_000
# How long the new holder waits for what a run that was cut off had left running, such as CREATE DATABASE.
PATIENCE_SECONDS = 15.0

_HELD = (
    "SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
    f"AND (l.classid::int8 << 32 | l.objid::int8) = {RUN_LOCK}"
)
_END_LEFTOVERS = (
    "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a WHERE a.usename = current_user "
    f"AND a.application_name ~ '^rds-provisioner [0-9]+$' AND NOT EXISTS ({_HELD} "
    "AND l.pid::text = split_part(a.application_name, ' ', 2))"
)


def take_run_lock(connection: Connection) -> int:
    """Take the lock for as long as the connection lives, and end what a run that lost it has left running.

    Waits for the lock as long as the connection's `lock_timeout`. Gives the process id of the session that holds it.

    Raises:
        RunInProgress: another run held it all that time, or what it left running does not end.
        SqlError: the connection was lost.
    """
    try:
        rows = connection.run(f"SELECT pg_advisory_lock({RUN_LOCK})", "SELECT pg_backend_pid()", _END_LEFTOVERS)
    except SqlError as error:
        if error.sqlstate != "55P03":
            raise
        raise RunInProgress(
            Finding(
                "run_in_progress",
                "another run is at work on this server",
                "wait for it and call again; if none is, the runbook tells how to find who holds the lock",
            )
        ) from None
    holder, left = int(rows[-2][0]), int(rows[-1][0])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left:
        if time.monotonic() > deadline:
            raise RunInProgress(
                Finding(
                    "run_ending",
                    f"{left} sessions of a run that was cut off are still at work on this server",
                    "call again in a minute; the runbook tells how to find them (application_name in pg_stat_activity)",
                )
            )
        time.sleep(0.05)
        left = int(connection.run(_END_LEFTOVERS)[-1][0])
    return holder


def session_name(holder: int) -> str:
    """The application_name of a run's other sessions: it tells whose lock they work under."""
    return f"rds-provisioner {holder}"


def fence(holder: int) -> str:
    """A statement that fails with `LOCK_LOST` unless the session with this process id holds the run lock.

    It has no row, so that the rows of its message are those of the question in it.
    """
    return f"SELECT FROM ({_HELD} AND l.pid = {holder}) AS held HAVING 1 / count(*) = 0"
