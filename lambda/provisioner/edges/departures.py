"""The steps by which a role leaves, sent in order: each is one transaction, and proved before the next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

from provisioner.core import ddl
from provisioner.core.changes import ChangeKind
from provisioner.core.database_script import DatabaseScript
from provisioner.core.errors import Finding
from provisioner.core.holdings import Obstacle, PassedOn
from provisioner.core.quoting import Quoted, Statement
from provisioner.core.retiring import granted_again, obstacle_finding
from provisioner.core.script import LeavingStep, Script
from provisioner.core.state import DATABASE_OWNER
from provisioner.edges.holding_obstacles import inside_query
from provisioner.edges.holding_queries import defaults_query, given_query, grants_query, left_query
from provisioner.edges.leaving_catalogs import outside_databases
from provisioner.edges.leaving_sessions import end_sessions, refuse_guests, refuse_late_guests, terminate_query
from provisioner.edges.postgres import Connection
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import ApplyContext, change_database, refuse_empty_grants, retry, transaction
from provisioner.edges.unit_results import FAIL_FAST, ApplyResult, UnitResult, change_unit

# One message to the server; more are sent in several, in the one transaction.
STATEMENTS_PER_MESSAGE = 50


class GrantRow(NamedTuple):
    """A row of `grants_query`."""

    kind: str
    name: str
    grantor: str
    column: str
    passed_on_json: str

    def granted_again(self, step: LeavingStep, context: ApplyContext) -> list[PassedOn]:
        passed_on = [PassedOn(*item) for item in json.loads(self.passed_on_json)]
        return granted_again(passed_on, step.database, context.ownership)


def _read_grants(connection: Connection, role: str) -> list[GrantRow]:
    return [GrantRow(*row) for row in connection.run(grants_query(role))]


def apply_departures(script: Script, before: ApplyResult, context: ApplyContext) -> ApplyResult:
    """Let roles leave one after the other, after all else; what fails keeps back the further steps of its role."""
    results: list[UnitResult] = []
    failed: dict[str, Finding] = {}
    stop = FAIL_FAST if before.failures and context.fail_fast else None
    for step in script.leaving:
        subject = f'role "{step.role}"' + (f' in database "{step.database}"' if step.database else "")
        about = Finding("apply_failed", subject, username=step.role)
        change = partial(_change_departure, step, context)
        results.append(change_unit((step.change,), about, change, context, stop=failed.get(step.role, stop)))
        if results[-1].error:
            failed[step.role] = Finding("skipped", f'an earlier step failed: role "{step.role}" stays quarantined')
            stop = FAIL_FAST if context.fail_fast else None
    return replace(before, results=(*before.results, *results))


def _change_departure(step: LeavingStep, context: ApplyContext) -> None:
    """Send one step of a role that leaves.

    Raises:
        SqlError: it failed, or sessions of the role stay.
        DatabaseUnavailable: the server could not be reached.
    """
    change = step.change
    with context.login.connect(step.database) as connection:
        if change.kind is ChangeKind.PASS_OBJECTS:
            if step.statements and change.owner == context.ownership.server.administrator:
                refuse_late_guests(connection, step.database, context)
            _pass_in_parts(connection, step, context)
            _revoke_in_parts(connection, step, context)
        if step.statements or not step.ends_sessions:
            retry(lambda: _send(connection, step, context), context)
        if step.ends_sessions:
            end_sessions(connection, step, context)
    if step.database:
        _apply_levels(step, context)


@contextmanager
def _acting(
    connection: Connection, step: LeavingStep, context: ApplyContext, granted: Sequence[GrantRow] = ()
) -> Iterator[None]:
    """One transaction of a step in the place of whom it takes, after what we granted ourselves is revoked.

    As a member of who owns something, we would not revoke what we granted on it.
    """
    with transaction(connection, leave=False):
        connection.run(*context.begin)
        _run_all(connection, _revocations(granted, step, context, own=True))
        _run_all(connection, step.before)
        yield
        _run_all(connection, step.after)


def _send(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    kind = step.change.kind
    granted = _read_grants(connection, step.role) if kind is ChangeKind.PASS_OBJECTS else []
    with _acting(connection, step, context, granted):
        if kind is ChangeKind.PASS_OBJECTS:
            _pass_on(connection, step, granted, context)
        elif kind is ChangeKind.GIVE_DATABASE:
            _give(connection, step, context)
        else:
            # Sessions end first: one that changed its own role, and stays in that transaction, would hold us up.
            ended = [terminate_query(step.role)] if step.ends_sessions else []
            connection.run(*ended, *step.statements)
        refuse_empty_grants(connection)
        if kind is ChangeKind.KEEP_DATABASE:
            refuse_guests(connection, step.change.database)
        elif kind is ChangeKind.DROP_ROLE:
            _refuse_new_memberships(step.role, context)


def _refuse_new_memberships(role: str, context: ApplyContext) -> None:
    """Raise where a role has granted other memberships than the plan says.

    Seen from outside they are what they were before our REVOKE, and nobody else can change them until it is committed.
    """
    with context.login.connect() as outside:
        found = outside_databases(outside, role)
    if found.granted != context.ownership.leaving.holdings[role].granted:
        raise SqlError("", f'the memberships that role "{role}" granted have changed since the plan')


def _pass_on(connection: Connection, step: LeavingStep, granted: Sequence[GrantRow], context: ApplyContext) -> None:
    """Hand over what a role owns in the connected database and revoke what it has there, then prove that all is gone.

    REASSIGN OWNED moves databases of the role too, which the proof finds; it drops nothing, and nothing else does.
    """
    role, heir = step.role, step.change.owner
    if step.statements:
        # Who gets a routine has to be able to create in its schema.
        rows = connection.run(given_query(role))
        schemas = [ddl.set_owner(kind, Quoted(name), heir) for kind, name, _ in rows if kind == "SCHEMA"]
        connection.run(*schemas, *step.statements)
        _refuse_obstacles(connection, step)
    _revoke(connection, step, granted, context)
    statements: list[Statement] = []
    for creator, schema, letter, grantees in connection.run(defaults_query(role)):
        statements += ddl.forget_defaults(creator, schema, letter, grantees, role)
    _run_all(connection, statements)
    left, example = connection.run(left_query(role))[0]
    if left:
        raise SqlError("", f'{left} objects still belong to role "{role}" or name it, such as {example}')


def _revoke(connection: Connection, step: LeavingStep, granted: Sequence[GrantRow], context: ApplyContext) -> None:
    """Revoke what others granted a role in the connected database, and nothing that it has passed on since the look.

    Seen from outside all is what it was before our REVOKE, and nobody else can change it until it is committed.
    """
    _run_all(connection, _revocations(granted, step, context, own=False))
    if not granted:
        return
    with context.login.connect(step.database) as outside:
        found = {*_read_grants(outside, step.role)}
    holding = context.ownership.leaving.holdings[step.role].inside(step.database)
    planned = {(name, privilege) for name, privilege, _ in holding.passed_on}
    for each in granted:
        stays = {(item.grantee, item.privilege) for item in each.granted_again(step, context)}
        if each not in found or not stays <= planned:
            raise SqlError(
                "", f'what role "{step.role}" was granted or passed on has changed since the look: {each.name}'
            )


def _revocations(
    granted: Sequence[GrantRow], step: LeavingStep, context: ApplyContext, *, own: bool
) -> Sequence[Statement]:
    """What a role was granted in the connected database, by ourselves or by the others; what it passed on stays."""
    statements: list[Statement] = []
    me = context.ownership.server.administrator
    for (kind, grantor, column), rows in groupby(granted, key=attrgetter("kind", "grantor", "column")):
        if own != ((step.change.owner if grantor == DATABASE_OWNER else grantor) == me):
            continue
        names, again, part = [], [], Quoted(column) if column else None
        for row in rows:
            names.append(Quoted(row.name))
            again += [ddl.grant_again(kind, names[-1], item, part) for item in row.granted_again(step, context)]
        # The owner of the database itself may have been granted the same: then it revokes what it granted since.
        act_as = "" if grantor == me else grantor
        statements += ddl.revoke_from(kind, names, step.role, act_as=act_as, column=part, first=again)
    return statements


def _run_all(connection: Connection, statements: Sequence[Statement]) -> None:
    for start in range(0, len(statements), STATEMENTS_PER_MESSAGE):
        connection.run(*statements[start : start + STATEMENTS_PER_MESSAGE])


def _pass_in_parts(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    """Where one transaction would take too many of the server's locks, pass the objects on in several.

    The plan lets that be where nobody else can enter: no application sees a database half passed on.
    """
    rows = connection.run(given_query(step.role))
    if not rows or not rows[-1][2]:
        return
    for _, part in groupby(rows, key=itemgetter(2)):
        with _acting(connection, step, context):
            _run_all(connection, [ddl.set_owner(kind, Quoted(name), step.change.owner) for kind, name, _ in part])
            _refuse_obstacles(connection, step)


def _revoke_in_parts(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    """Revoke what is more than one transaction may name; the rest is left to the last one."""
    most = context.ownership.server.max_named_objects
    rows = _read_grants(connection, step.role)
    for start in range(0, len(rows) - most, most):
        part = rows[start : start + most]
        with _acting(connection, step, context, part):
            _revoke(connection, step, part, context)


def _refuse_obstacles(connection: Connection, step: LeavingStep) -> None:
    """Raise where something was passed on that stands in the way: a member of the role can still act in its place."""
    role, change = step.role, step.change
    found = connection.run(inside_query(role, change.owner))[0][0]["obstacles"]
    if found:
        raise SqlError("", obstacle_finding(role, Obstacle(*found[0]), change.database, change.owner).message)


def _give(connection: Connection, step: LeavingStep, context: ApplyContext) -> None:
    """Give a kept database to its new owner, with all in it that is the administrator's."""
    connection.run(*step.statements)
    rows = connection.run(given_query(context.ownership.server.administrator))
    if rows and rows[-1][2]:
        raise SqlError("", "one transaction would take too many of the server's locks; raise max_locks_per_transaction")
    _run_all(connection, [ddl.set_owner(kind, Quoted(name), step.role) for kind, name, _ in rows])


def _apply_levels(step: LeavingStep, context: ApplyContext) -> None:
    """What the levels say of what has passed on; what that would take away is left for a plan that shows it."""
    change = step.change
    if step.database not in context.ownership.by_database:
        return
    facts = context.ownership.server.databases[step.database]
    facts = replace(facts, owner=change.username) if change.kind is ChangeKind.GIVE_DATABASE else facts
    with suppress(SqlError):
        change_database(DatabaseScript(facts, (change,)), context)
