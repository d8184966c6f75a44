"""One run at a time for an administrator: a connection in, the run lock held by it or `RunInProgress`.

The lock is no object. A run is a session of the administrator's own role whose application_name says its own process
and the moment it connected (`_RUN`). Which role a session logged in as, its process and that moment are the server's
word, and the last is not known before: no other role can be taken for a run or keep one away, whatever it names itself,
whatever it locks, and whatever name the owner of a database sets for every session in it (ALTER DATABASE ... SET).

Never two: a session that wants the lock first takes its name, then looks for another session that is a run, and where
there is one it gives the name up (`_STEP_BACK`). A name is in shared memory before the statement that sets it has
ended, and the look is a later statement with a fresh view of that memory (a transaction keeps what it has read once
unless told to clear it). So of two sessions that both go on, each would have looked after its own name was there and
before the other's was: each name before the other, which cannot be. That both step back can be; they try again at
random times.

The lock is its session's. Where that session dies while the run lives on, somebody else can take the lock, so two rules
hold together: every connection that is about to change something first asks whether its run's session is still there
(`fence`), and whoever takes the lock ends the other sessions of every run, which have none any more. A session that
asked in time was there before the lock changed hands, so the second look, after the one that won the lock, sees it; one
that came later is refused by its own query. A session of another role is never ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import SystemRandom

from provisioner.core.errors import Finding, RunInProgress
from provisioner.edges.postgres import Connection

# How long the new holder waits for what an interrupted run had left running, such as CREATE DATABASE.
LEFTOVER_TIMEOUT_SECONDS = 15.0
# How often whoever waits asks whether there is still something to wait for.
CHECK_SECONDS = 10.0
_RANDOM = SystemRandom()

_SESSION_ID = "a.pid || ' ' || to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')"
_RUN = f"a.usename = session_user AND a.application_name = 'rds-provisioner run ' || {_SESSION_ID}"
_FRESH_VIEW = "SELECT pg_stat_clear_snapshot()"
# Makes a run of the session that sends it.
TAKE_NAME = (
    f"SELECT {_SESSION_ID}, set_config('application_name', 'rds-provisioner run ' || {_SESSION_ID}, false) "
    "FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid()"
)
# The oldest is the likeliest to hold the lock: others may be there for the time of one message.
_OTHER_RUN = (
    "SELECT a.pid, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC') AS since "
    f"FROM pg_stat_activity AS a WHERE {_RUN} AND a.pid <> pg_backend_pid() ORDER BY a.backend_start LIMIT 1"
)
_STEP_BACK = (
    "SELECT other.pid, other.since, set_config('application_name', 'rds-provisioner waiting', false) "
    f"FROM ({_OTHER_RUN}) AS other"
)
# Nothing for one who stepped back: the sessions are those of the run that it has seen.
_TERMINATE_LEFTOVERS = (
    "SELECT count(pg_terminate_backend(a.pid)), clock_timestamp()::text FROM pg_stat_activity AS a "
    "WHERE a.usename = session_user AND a.application_name ~ '^rds-provisioner [0-9]+ [0-9]{20}$' "
    "AND current_setting('application_name') LIKE 'rds-provisioner run %'"
)


def application_name(session_id: str) -> str:
    """Those of a run's other sessions, without an id those of one who only looks."""
    return f"rds-provisioner {session_id}".rstrip()


def acquire_run_lock(connection: Connection, seconds: float, check: Callable[[], object]) -> tuple[str, bool]:
    """Take the lock for as long as the connection lives, and end what a run that lost it has left running.

    Waits for another run as long as `seconds` say, and calls `check` now and then, which may raise to end the waiting.
    Gives the id of the session, by which its run is known, and whether there was another run to wait for.

    Raises:
        RunInProgress: another run held it all that time, or what it left running does not end.
        SqlError: the connection was lost.
    """
    now = time.monotonic()
    deadline, next_check = now + seconds, now + CHECK_SECONDS
    has_waited = False
    statements = (*connection.late_settings, TAKE_NAME, _FRESH_VIEW, _STEP_BACK, _FRESH_VIEW, _TERMINATE_LEFTOVERS)
    while True:
        rows = connection.run(*statements)
        [session_id, _], _, *others, _, [leftovers, moment] = rows
        if not others:
            _wait_for_leftovers(connection, int(leftovers), moment)
            return session_id, has_waited
        has_waited, now = True, time.monotonic()
        if now > deadline:
            raise RunInProgress(_in_progress(*others[0][:2]))
        if now > next_check:
            check()
            next_check = now + CHECK_SECONDS
        time.sleep(_RANDOM.uniform(0.1, 0.5))


def find_run(connection: Connection) -> tuple[Finding, ...]:
    """A warning where a run is at work, for those who only look: they stand in nobody's way."""
    return tuple(
        Finding(
            "run_under_way",
            f"a run is at work on this server, connected since {since}: what it changes may be shown half done",
            "look again when it has ended",
        )
        for _, since in connection.run(_OTHER_RUN)
    )


def fence(session_id: str) -> str:
    """A statement that fails with `LOCK_LOST` unless the session of this run, of our own role, is still there.

    It has no row, so that the rows of its message are those of the query in it.
    """
    return (
        f"SELECT FROM (SELECT FROM pg_stat_activity AS a WHERE {_RUN} AND {_SESSION_ID} = '{session_id}') AS held "
        "HAVING 1 / count(*) < 0"
    )


def _wait_for_leftovers(connection: Connection, left: int, moment: str) -> None:
    # Who came after that is refused by its own query, or is a tool of an operator's that is named so by the owner of
    # its database and comes back again and again.
    earlier = f"{_TERMINATE_LEFTOVERS} AND a.backend_start < '{moment}'"
    deadline = time.monotonic() + LEFTOVER_TIMEOUT_SECONDS
    while left:
        if time.monotonic() > deadline:
            message = f"{left} sessions of a run that was interrupted are still at work on this server"
            next_step = "call again in a minute; the runbook tells how to find them (application_name)"
            raise RunInProgress(Finding("run_ending", message, next_step))
        time.sleep(0.05)
        left = int(connection.run(earlier)[-1][0])


def _in_progress(pid: int, since: str) -> Finding:
    return Finding(
        "run_in_progress",
        f"another run is at work on this server: process {pid}, connected since {since}",
        "wait for it and call again; one that is older than the function's timeout can be ended by the administrator: "
        f"SELECT pg_terminate_backend({pid})",
    )
