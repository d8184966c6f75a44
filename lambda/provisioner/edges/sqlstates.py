"""What is to be done about which SQLSTATE: a failure of PostgreSQL in, a remedy and its words out."""

from __future__ import annotations

from enum import StrEnum


class Remedy(StrEnum):
    RETRY = "retry"  # the same transaction again, now: it may go through a moment later
    LOOK = "look"  # another look and another script, then as LATER: what was seen is not there any more
    LATER = "later"  # another run: nothing is broken that time does not mend
    MANUAL = "person"  # somebody has to change something first


# A connection that died under us says no SQLSTATE; it gets PostgreSQL's own code for that.
CONNECTION_LOST = "08006"
# It has waited for `lock_timeout` already.
LOCK_NOT_AVAILABLE = "55P03"
NOT_PERMITTED = "42501"
# What `edges.lock.fence` fails with: a division by zero, of which no statement of ours has another.
LOCK_LOST = "22012"

_RETRY_LATER = "call again in a few minutes: the next run continues where this one ended"
# The one place that says what is to be done about which SQLSTATE; any other asks for a person.
_REMEDIES: dict[str, tuple[Remedy, str]] = {
    # Somebody else was at the same rows: PostgreSQL says XX000 for "tuple concurrently updated".
    **dict.fromkeys(("40001", "40P01", "XX000", "23505", "55006"), (Remedy.RETRY, _RETRY_LATER)),
    # A schema, a table, a column, a function or a role went away since it was looked at.
    **dict.fromkeys(("3F000", "42P01", "42703", "42883", "42704"), (Remedy.LOOK, _RETRY_LATER)),
    # No refusal of the server but a judgement of ours about what it shows.
    "": (Remedy.LOOK, "somebody changes the same things: call again when it is quieter"),
    # Somebody made it since it was looked for, or it is in the way of what an extension brings along.
    **dict.fromkeys(("42710", "42P04"), (Remedy.LATER, "call again; where it stays, its owner renames or drops it")),
    # The server starts, stops, fails over; the connection is gone.
    **dict.fromkeys(
        ("57P01", "57P02", "57P03", "08000", "08003", CONNECTION_LOST),
        (Remedy.LATER, _RETRY_LATER),
    ),
    LOCK_NOT_AVAILABLE: (
        Remedy.LATER,
        "somebody holds a lock there (an open ALTER TABLE or ALTER ROLE?): wait for it or end it, and call again",
    ),
    "57014": (Remedy.LATER, "the server was slow: " + _RETRY_LATER),
    "25006": (Remedy.LATER, "the server has become a standby (a failover?): " + _RETRY_LATER),
    "53300": (
        Remedy.LATER,
        "the server has no connection left for it: end some, or raise max_connections or that CONNECTION LIMIT",
    ),
    "53200": (
        Remedy.LATER,
        "the server has no memory left, or a session holds thousands of locks (count them by pid in pg_locks) and has "
        "to be ended: " + _RETRY_LATER,
    ),
    LOCK_LOST: (Remedy.LATER, "the run has lost its lock, so that another may be at work: " + _RETRY_LATER),
    "53100": (Remedy.MANUAL, "the server's storage is full: add storage, then call again"),
    "58030": (Remedy.MANUAL, "the server cannot read or write its storage: see its own log, then call again"),
    NOT_PERMITTED: (Remedy.MANUAL, "the administrator lacks the right: see the runbook, then call again"),
}
_UNKNOWN = (Remedy.MANUAL, "see the runbook for this SQLSTATE; the next run tries it again")
# Codes of a whole server that is not there, and not of one database that refuses.
_UNAVAILABLE = frozenset(
    {"57P01", "57P02", "57P03", "53300", "53100", "53200", "08000", "08003", CONNECTION_LOST, "58030", "25006"}
)


class SqlError(Exception):
    """A statement was refused, or the connection died (`CONNECTION_LOST`).

    `message` is the server's, with no statement text in it; it is empty for statements that carry a password. `pid` is
    the session's process, where it was a statement that failed.
    """

    def __init__(self, sqlstate: str, message: str, routine: str = "", pid: int = 0) -> None:
        self.sqlstate = sqlstate
        self.message = message
        self.routine = routine
        self.pid = pid
        super().__init__(f"{message} (SQLSTATE {sqlstate})" if sqlstate else message)

    @property
    def remedy(self) -> Remedy:
        return _REMEDIES.get(self.sqlstate, _UNKNOWN)[0]

    @property
    def next_step(self) -> str:
        return _REMEDIES.get(self.sqlstate, _UNKNOWN)[1]

    @property
    def asks_for_look(self) -> bool:
        """Whether what was seen may have changed; ALL TABLES is not permitted with one of somebody else's in it."""
        return self.remedy is Remedy.LOOK or self.sqlstate == NOT_PERMITTED

    @property
    def is_transient(self) -> bool:
        """Whether another try, soon, may go through: a lock, a deadlock, a row that somebody else was writing."""
        return self.remedy is Remedy.RETRY

    @property
    def is_connection_lost(self) -> bool:
        """Whether the server as a whole is not to be had, so that asking about another database is idle.

        A connection limit of one database or role (CheckMyDatabase, InitializeSessionUserId) is set by its owner and
        says nothing about the server.
        """
        own_limit = self.is_limit_of_role or (self.sqlstate == "53300" and self.routine == "CheckMyDatabase")
        return self.sqlstate in _UNAVAILABLE and not own_limit

    @property
    def is_limit_of_role(self) -> bool:
        return self.sqlstate == "53300" and self.routine == "InitializeSessionUserId"
