"""Who is in: sessions of a role that leaves are ended, and nobody stays in a database that was closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from provisioner.core import ddl
from provisioner.core.quoting import Statement
from provisioner.core.script import LeavingStep
from provisioner.edges.leaving_catalogs import (
    UNNAMED_LOGINS,
    guests_query,
    logins_query,
    sessions_query,
    terminate_query,
)
from provisioner.edges.postgres import Connection
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import ApplyContext, transaction

# How long sessions are waited for that were told to end: a backend notices at its next interrupt check.
SESSION_SECONDS = 15.0


def end_sessions(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    """End the sessions of a role that may not log in any more, and its logins that were allowed before.

    Raises:
        SqlError: some stay.
    """
    role, query = step.role, sessions_query(step.role)
    # A login that has come to its end since is a session by now.
    complaint = f'sessions of role "{role}" were told to end and stay'
    for _ in _while(lambda: _end_logins(connection, step, context) or connection.run(query)[0][0], complaint, context):
        with transaction(connection, leave=False):
            connection.run("BEGIN", context.fence, *step.before, terminate_query(role), *step.after)


def _end_logins(connection: Connection, step: LeavingStep, context: ApplyContext) -> bool:
    """Tell the logins of a role to end that wait, such as for a lock of a database; whether there were any.

    Whose one is, the server does not say; it lets a role end its own, and refuses others'.
    """
    ended, ownership = False, context.ownership
    if not ownership.may_act_as(step.role, ""):
        return False
    borrowed = (step.role,) if ownership.needs_membership(step.role) else ()
    with_options = ownership.server.has_membership_options
    for (pid,) in connection.run(UNNAMED_LOGINS):
        ending = ddl.as_role(step.role, [Statement(f"SELECT pg_terminate_backend({pid:d})")])
        with suppress(SqlError), transaction(connection, leave=False):
            connection.run("BEGIN", context.fence, *ddl.as_member(borrowed, ending, with_options=with_options))
            ended = True
    return ended


def refuse_guests(connection: Connection, database: str) -> None:
    """Raise where somebody else has something on a database that was closed, or is in it."""
    [[holders, sessions]] = connection.run(guests_query(database))
    if holders or sessions:
        raise SqlError("", f'others have {holders} privileges on database "{database}", and {sessions} sessions in it')


def refuse_late_guests(connection: Connection, database: str, context: ApplyContext) -> None:
    """Raise where somebody is in a database that is closed by now, whose login was allowed a moment before.

    A login holds a lock of its database until it is to be seen as a session.
    """
    complaint = f'a login to database "{database}" does not come to its end'
    for _ in _while(lambda: connection.run(logins_query(database))[0][0], complaint, context):
        pass
    refuse_guests(connection, database)


def _while(is_there: Callable[[], object], complaint: str, context: ApplyContext) -> Iterator[None]:
    """Look again and again, for as long as sessions are waited for. Raises SqlError when that is over."""
    deadline = time.monotonic() + SESSION_SECONDS
    while is_there():
        if time.monotonic() > deadline or context.is_late:
            raise SqlError("", complaint)
        yield
        time.sleep(0.05)
