"""The steps by which a role leaves, sent in order: each is one transaction, and proved before the next."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from provisioner.core import ddl
from provisioner.core.changes import ChangeKind
from provisioner.core.database_script import DatabaseScript
from provisioner.core.errors import Finding
from provisioner.core.model import Status
from provisioner.core.quoting import Identifier, Quoted
from provisioner.core.state import DATABASE_OWNER
from provisioner.edges.holding_queries import (
    defaults_query,
    given_query,
    grants_query,
    guests_query,
    left_query,
    schemas_query,
)
from provisioner.edges.leaving_catalogs import sessions_query, terminate_query
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import change_database, refuse_empty_grants, retry, transaction
from provisioner.edges.unit_results import (
    FAIL_FAST,
    ApplyResult,
    UnitResult,
    failed_unit,
    leave_for_the_next_run,
    outcomes_of,
    skipped_unit,
    summarize,
)

if TYPE_CHECKING:
    from provisioner.core.quoting import Statement
    from provisioner.core.script import LeavingScript, LeavingStep, Script
    from provisioner.edges.postgres import Connection
    from provisioner.edges.transaction import ApplyContext

# How long sessions are waited for that were told to end: a backend notices at its next interrupt check.
SESSION_SECONDS = 15.0
# One message to the server; more are sent in several, in the one transaction.
STATEMENTS_PER_MESSAGE = 50


def apply_departures(script: Script, before: ApplyResult, context: ApplyContext) -> ApplyResult:
    """Let roles leave one after the other, after all else; what fails keeps back the further steps of its role."""
    results: list[UnitResult] = []
    stop = FAIL_FAST if before.failures and context.fail_fast else None
    for item in script.leaving:
        failed = stop
        for step in item.steps:
            started = time.monotonic()
            if failed:
                results.append(skipped_unit(step.changes, failed))
            elif context.is_late or before.out_of_time:
                results.append(leave_for_the_next_run(step.changes))
            else:
                try:
                    _change_departure(item, step, context)
                    results.append(UnitResult(outcomes_of(step.changes, Status.SUCCESS, started)))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this role's
                    subject = f'role "{item.role}"' + (f' in database "{step.database}"' if step.database else "")
                    results.append(failed_unit(error, step.changes, started, subject, context, username=item.role))
                    failed = Finding("skipped", f'an earlier step failed: role "{item.role}" stays quarantined')
                    stop = FAIL_FAST if context.fail_fast else None
    after = summarize(results, {})
    return ApplyResult(
        (*before.outcomes, *after.outcomes),
        (*before.failures, *after.failures),
        before.out_of_time or after.out_of_time,
        before.passwords,
    )


def _change_departure(item: LeavingScript, step: LeavingStep, context: ApplyContext) -> None:
    """Send one step of a role that leaves.

    Raises:
        SqlError: it failed, or sessions of the role stay.
        DatabaseUnavailable: the server could not be reached.
    """
    with context.login.connect(step.database) as connection:
        if step.statements or step.before or step.after:
            retry(lambda: _send(connection, item, step, context), context)
        if step.ends_sessions:
            _end_sessions(connection, item, context)
    if step.database:
        _apply_levels(step, context)


def _send(connection: Connection, item: LeavingScript, step: LeavingStep, context: ApplyContext) -> None:
    with transaction(connection, leave=False):
        connection.run(*context.begin, *step.before)
        if step.changes[0].kind is ChangeKind.PASS_OBJECTS:
            _pass_on(connection, item.role, step, context)
        elif step.database:
            _give(connection, item.role, step, context)
        else:
            connection.run(*step.statements)
            _refuse_guests(connection, step)
        refuse_empty_grants(connection)
        if step.after:
            connection.run(*step.after)


def _refuse_guests(connection: Connection, step: LeavingStep) -> None:
    """Raise where somebody else still has something on a database that was closed, or is in it."""
    [change] = step.changes
    if change.kind is ChangeKind.KEEP_DATABASE:
        holders, guests = connection.run(guests_query(change.database))[0]
        if holders or guests:
            raise SqlError(
                "", f'others have {holders} privileges on database "{change.database}", and {guests} sessions in it'
            )


def _pass_on(connection: Connection, role: str, step: LeavingStep, context: ApplyContext) -> None:
    """Hand over what a role owns in the connected database and revoke what it has there, then prove that all is gone.

    REASSIGN OWNED would move databases of the role too, so there must be none; it drops nothing, and nothing else does.
    """
    me = context.ownership.server.administrator
    [change] = step.changes
    _, databases, _ = connection.run(left_query(role))[0]
    if databases:
        raise SqlError("", f'role "{role}" owns {databases} databases by now')
    schemas = [
        ddl.set_owner("SCHEMA", Identifier(name), change.owner) for (name,) in connection.run(schemas_query(role))
    ]
    if step.statements:
        connection.run(*schemas, *step.statements)
    statements: list[Statement] = []
    for (kind, grantor, column), rows in groupby(connection.run(grants_query(role)), key=itemgetter(0, 2, 3)):
        owner = change.owner if grantor == DATABASE_OWNER else grantor
        names = [Quoted(name) for _, name, *_ in rows]
        act_as = "" if owner == me else owner
        statements += ddl.revoke_from(kind, names, role, act_as=act_as, column=Quoted(column) if column else None)
    for creator, schema, letter, grantees in connection.run(defaults_query(role)):
        statements += ddl.forget_defaults(creator, schema, letter, json.loads(grantees), role)
    for start in range(0, len(statements), STATEMENTS_PER_MESSAGE):
        connection.run(*statements[start : start + STATEMENTS_PER_MESSAGE])
    left, _, example = connection.run(left_query(role))[0]
    if left:
        raise SqlError("", f'{left} objects still belong to role "{role}" or name it, such as {example}')


def _give(connection: Connection, owner: str, step: LeavingStep, context: ApplyContext) -> None:
    """Give a kept database to its new owner, with all in it that is the administrator's."""
    connection.run(*step.statements)
    rows = connection.run(given_query(context.ownership.server.administrator))
    statements = [ddl.set_owner(kind, Quoted(name), owner) for kind, name in rows]
    for start in range(0, len(statements), STATEMENTS_PER_MESSAGE):
        connection.run(*statements[start : start + STATEMENTS_PER_MESSAGE])


def _apply_levels(step: LeavingStep, context: ApplyContext) -> None:
    """What the levels say of what has passed on; what that would take away is left for a plan that shows it."""
    ownership, [change] = context.ownership, step.changes
    facts = ownership.server.databases.get(step.database)
    if not facts or step.database not in ownership.by_database:
        return
    facts = replace(facts, owner=change.username) if change.kind is ChangeKind.GIVE_DATABASE else facts
    script = DatabaseScript(facts, step.changes, None, (), ())
    if ownership.may_change(facts):
        with suppress(SqlError):
            change_database(script, context.blocked_roles, context)


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
