"""The steps by which a role leaves, sent in order: each is one transaction, and proved before the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from provisioner.core import ddl
from provisioner.edges.leaving_catalogs import sessions_query, terminate_query
from provisioner.edges.postgres import SqlError
from provisioner.edges.transaction import retry, transaction

if TYPE_CHECKING:
    from provisioner.core.script import LeavingScript, LeavingStep
    from provisioner.edges.postgres import Connection
    from provisioner.edges.transaction import ApplyContext

# How long sessions are waited for that were told to end: a backend notices at its next interrupt check.
SESSION_SECONDS = 15.0


def change_departure(item: LeavingScript, step: LeavingStep, context: ApplyContext) -> None:
    """Send one step of a role that leaves.

    Raises:
        SqlError: it failed, or sessions of the role stay.
        DatabaseUnavailable: the server could not be reached.
    """
    with context.login.connect(step.database) as connection:
        if step.statements:
            retry(lambda: _send(connection, step, context), context)
        if step.ends_sessions:
            _end_sessions(connection, item, context)


def _send(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    with transaction(connection, leave=False):
        connection.run("BEGIN", context.fence, *step.statements)


def _end_sessions(connection: Connection, item: LeavingScript, context: ApplyContext) -> None:
    """End the sessions of a role that may not log in any more; a next look finds those that were on their way in."""
    deadline = time.monotonic() + SESSION_SECONDS
    temporary, with_options = sorted(item.acts_as), context.ownership.server.has_membership_options
    while connection.run(sessions_query(item.role))[0][0]:
        if time.monotonic() > deadline or context.is_late:
            raise SqlError("", f'sessions of role "{item.role}" were told to end and stay')
        with transaction(connection, leave=False):
            connection.run(
                "BEGIN",
                context.fence,
                *(ddl.grant_self(role, with_options=with_options) for role in temporary),
                terminate_query(item.role),
                *(ddl.revoke_self(role) for role in temporary),
            )
        time.sleep(0.05)
