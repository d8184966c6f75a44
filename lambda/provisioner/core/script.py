"""The statements of a plan, in the order and the transactions in which they are sent: plan and scope in, script out.

A dry run stores the script and an apply sends it, so what was shown is what is done. Acting in the place of another
role takes a membership in it. Inside one database's transaction that is borrowed and given back unseen; only CREATE
DATABASE cannot run in a transaction, so for its time the membership stands, and the role's marker says so: a run that
is interrupted in between leaves a note that the next one can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.database_script import DatabaseScript, write_database_script
from provisioner.core.difference import Difference
from provisioner.core.leaving import DEPARTURES
from provisioner.core.marker import parse_marker
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import PasswordStatement, Statement
from provisioner.core.retiring import granted_again
from provisioner.core.role_script import RoleComments, RoleScript, write_role_script
from provisioner.core.state import Marker


@dataclass(frozen=True, slots=True)
class LeavingStep:
    """One transaction of a role that leaves, in a database or, where none is named, in the administrator's own.

    `before` and `after` stand around the statements and around those for what is found in the database by then.
    `ends_sessions` says that those of the role are ended when it is committed, by whoever is a member of `ended_as`.
    """

    change: Change
    statements: tuple[Statement, ...]
    database: str = ""
    before: tuple[Statement, ...] = ()
    after: tuple[Statement, ...] = ()
    ends_sessions: bool = False
    ended_as: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        return self.change.username


@dataclass(frozen=True, slots=True)
class Script:
    """The roles, in one transaction; then each database, those of one owner one after the other; then who leaves.

    The steps of one role stand together; none is started after one of them that failed.
    """

    roles: tuple[RoleScript, ...]
    databases: tuple[DatabaseScript, ...]
    leaving: tuple[LeavingStep, ...] = ()

    @property
    def role_statements(self) -> tuple[Statement | PasswordStatement, ...]:
        return tuple(item for role in self.roles for item in role.statements)


def write_script(changes: Sequence[Change], ownership: Ownership, differences: Iterable[Difference]) -> Script:
    """Write the statements of ordered changes; `differences` are of the databases that they are made in."""
    databases = {each.database.name: each.database for each in differences}
    by_role: dict[str, list[Change]] = {}
    by_database: dict[str, list[Change]] = {}
    departing: dict[str, list[Change]] = {}
    creating: dict[str, list[str]] = {}
    for change in changes:
        if change.kind in DEPARTURES:
            departing.setdefault(change.username, []).append(change)
        elif change.database:
            by_database.setdefault(change.database, []).append(change)
        else:
            by_role.setdefault(change.unit_role, []).append(change)
        # What an interrupted run created and could not mark is told by its owner's marker alone: that stays as long.
        if change.kind is ChangeKind.CREATE_DATABASE or (
            change.kind is ChangeKind.ADOPT_DATABASE and ownership.is_interrupted_create(databases[change.database])
        ):
            creating.setdefault(change.username, []).append(change.database)
    limits = {change.username: change.connection_limit for change in changes if change.connection_limit is not None}
    comments = RoleComments(ownership, creating, limits)
    roles = sorted(by_role.keys() | creating.keys())
    return Script(
        tuple(write_role_script(role, by_role.get(role, ()), comments) for role in roles),
        tuple(write_database_script(databases[name], members, comments) for name, members in by_database.items()),
        tuple(_leaving_step(change, ownership) for members in departing.values() for change in members),
    )


# What is done in the database itself.
_INSIDE = frozenset({ChangeKind.PASS_OBJECTS, ChangeKind.GIVE_DATABASE})


def _leaving_step(change: Change, ownership: Ownership) -> LeavingStep:
    if change.kind is ChangeKind.QUARANTINE_ROLE:
        return _quarantine_step(change, ownership)
    name = change.username
    acts_as, statements = _retirement_statements(change, ownership)
    own = _database_grants(name, ownership, own=True) if change.kind is ChangeKind.DROP_ROLE else ()
    with_options = ownership.server.has_membership_options
    temporary = sorted(role for role in acts_as if ownership.needs_membership(role))
    return LeavingStep(
        change,
        tuple(statements),
        change.database if change.kind in _INSIDE else "",
        # As a member of who owns a database, what we granted on it would not be what we revoke.
        before=(*own, *(ddl.grant_self(role, with_options=with_options) for role in temporary)),
        after=(
            *(ddl.revoke_self(role) for role in temporary),
            *([ddl.drop_role(name)] if change.kind is ChangeKind.DROP_ROLE else []),
        ),
    )


def _quarantine_step(change: Change, ownership: Ownership) -> LeavingStep:
    name, role, statements = change.username, ownership.server.roles[change.username], []
    if not change.since:
        marker = replace(role.marker, quarantined=ownership.leaving.now, login=role.can_login)
        statements = [ddl.set_login(name, login=False), ddl.set_role_marker(name, marker)]
    may_end = ownership.leaving.may_signal or role.administrator_inherits
    return LeavingStep(change, tuple(statements), ends_sessions=True, ended_as=() if may_end else (name,))


def _retirement_statements(change: Change, ownership: Ownership) -> tuple[set[str], list[Statement]]:
    """In whose place a step is done, and what is known of it before it is started."""
    name, database = change.username, change.database
    if change.kind is ChangeKind.GIVE_DATABASE:
        marker = Marker(ownership.environment, comment=ownership.server.databases[database].marker.comment)
        taken = [ddl.set_owner("DATABASE", database, name), ddl.grant_database("CONNECT", database)]
        return {name}, [*taken, ddl.set_database_marker(database, marker)]
    holdings = ownership.leaving.holdings[name]
    if change.kind is ChangeKind.DROP_ROLE:
        statements = [*_database_grants(name, ownership, own=False)]
        statements += [ddl.revoke_granted(role, member, name) for role, member in holdings.granted]
        return {item.grantor for item in holdings.on_databases} | ({name} if holdings.granted else set()), statements
    [holding] = [item for item in holdings.databases if item.database == database]
    if change.kind is ChangeKind.PASS_OBJECTS:
        return set(change.acting_roles), [ddl.reassign_owned(name, change.owner)] if holding.owned else []
    statements = [ddl.set_owner("DATABASE", database, ownership.server.administrator)]
    # Its owner may have revoked what an owner has.
    statements += [ddl.grant_database("ALL", database), ddl.unset_template(database)]
    statements += [text for holder in holding.holders for text in ddl.revoke_from("DATABASE", [database], holder)]
    comment = parse_marker(holding.comment).comment
    marker = Marker(ownership.environment, comment=comment, kept=ownership.leaving.now, kept_from=name)
    return {name}, [*statements, ddl.set_database_marker(database, marker)]


def _database_grants(name: str, ownership: Ownership, *, own: bool) -> Iterable[Statement]:
    """What a role was granted on databases goes, by ourselves or by the others; what it passed on is granted again."""
    me = ownership.server.administrator
    for database, grantor, passed_on in ownership.leaving.holdings[name].on_databases:
        kept = [ddl.grant_again("DATABASE", database, item) for item in granted_again(passed_on, database, ownership)]
        if own == (grantor == me):
            yield from ddl.revoke_from("DATABASE", [database], name, act_as="" if own else grantor, first=kept)
