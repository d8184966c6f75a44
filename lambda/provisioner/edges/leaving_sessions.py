"""Who is in: sessions of a role that leaves are ended, and nobody stays in a database that was closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from provisioner.core import ddl
from provisioner.core.quoting import Literal, Statement
from provisioner.core.script import LeavingStep
from provisioner.edges.holding_queries import DATABASE_LIST, VISITORS
from provisioner.edges.postgres import Connection
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import ApplyContext, transaction

# How long sessions are waited for that were told to end: a backend notices at its next interrupt check.
SESSION_SECONDS = 15.0
# The logins that are under way: they hold locks, and no session shows whose they are.
_UNNAMED_LOGINS = """
SELECT DISTINCT l.pid FROM pg_locks AS l WHERE l.pid NOT IN (
    SELECT a.pid FROM pg_stat_activity AS a WHERE a.usename IS NOT NULL OR a.backend_type <> 'client backend')"""


def terminate_query(role: str) -> str:
    """Tell the sessions of a role to end, and count them; takes a membership in it, or in pg_signal_backend."""
    return f"""
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a WHERE a.usename = {Literal(role).sql()}"""


def end_sessions(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    """End the sessions of a role that may not log in any more, and its logins that were allowed before.

    Raises:
        SqlError: some stay.
    """

    def count() -> int:
        with transaction(connection, leave=False):
            sent = connection.run("BEGIN", context.fence, *step.before, terminate_query(step.role), *step.after)
        return int(sent[0][0])

    # A login that has come to its end since is a session by now.
    complaint = f'sessions of role "{step.role}" were told to end and stay'
    _wait_while(lambda: _end_logins(connection, step, context) or count(), complaint, context)


def _end_logins(connection: Connection, step: LeavingStep, context: ApplyContext) -> bool:
    """Tell the logins of a role to end that wait, such as for a lock of a database; whether there were any.

    Whose one is, the server does not say; it lets a role end its own, and refuses others'.
    """
    ended, ownership = False, context.ownership
    if not ownership.may_act_as(step.role, ""):
        return False
    borrowed = (step.role,) if ownership.needs_membership(step.role) else ()
    with_options = ownership.server.has_membership_options
    for (pid,) in connection.run(_UNNAMED_LOGINS):
        ending = ddl.as_role(step.role, [Statement(f"SELECT pg_terminate_backend({pid:d})")])
        with suppress(SqlError), transaction(connection, leave=False):
            connection.run("BEGIN", context.fence, *ddl.as_member(borrowed, ending, with_options=with_options))
            ended = True
    return ended


def refuse_guests(connection: Connection, database: str) -> None:
    """Raise where somebody else than the administrator has something on a database that was closed, or is in it."""
    [[holders, sessions]] = connection.run(f"""
SELECT (SELECT count(*) FROM {DATABASE_LIST} WHERE x.grantee = 0 OR pg_get_userbyid(x.grantee) <> current_user),
       (SELECT count(*) FROM {VISITORS})
FROM pg_database AS d WHERE d.datname = {Literal(database).sql()}""")
    if holders or sessions:
        raise SqlError("", f'others have {holders} privileges on database "{database}", and {sessions} sessions in it')


def refuse_late_guests(connection: Connection, database: str, context: ApplyContext) -> None:
    """Raise where somebody is in a database that is closed by now, whose login was allowed a moment before.

    A login holds a lock of its database until it is to be seen as a session.
    """
    logins = f"""
SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.objid
WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND d.datname = {Literal(database).sql()}"""
    complaint = f'a login to database "{database}" does not come to its end'
    _wait_while(lambda: connection.run(logins), complaint, context)
    refuse_guests(connection, database)


def _wait_while(is_there: Callable[[], object], complaint: str, context: ApplyContext) -> None:
    """Look again and again, for as long as sessions are waited for. Raises SqlError when that is over."""
    deadline = time.monotonic() + SESSION_SECONDS
    while is_there():
        if time.monotonic() > deadline or context.is_late:
            raise SqlError("", complaint)
        time.sleep(0.05)
