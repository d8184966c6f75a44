"""One run at a time on a server: a connection in, the run lock held by it or `RunInProgress`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.core.errors import Finding, RunInProgress
from provisioner.edges.postgres import SqlError

if TYPE_CHECKING:
    from provisioner.edges.postgres import Connection

# Any constant of ours does. Advisory locks are per database, so it is always taken in the administrator's.
RUN_LOCK = 7_274_500_165_014_000


def take_run_lock(connection: Connection) -> None:
    """Take the lock for as long as the connection lives, waiting as long as its `lock_timeout`.

    Raises:
        RunInProgress: another run held it all that time.
        SqlError: the connection was lost.
    """
    try:
        connection.run(f"SELECT pg_advisory_lock({RUN_LOCK})")
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
