"""The statements of a plan, in the order and the transactions in which they are sent: plan and scope in, script out.

A dry run stores the script and an apply sends it, so what was shown is what is done. Acting in the place of another
role takes a membership in it. Inside one database's transaction that is borrowed and given back unseen; only CREATE
DATABASE cannot run in a transaction, so for its time the membership stands, and the role's marker says so: a run that
is interrupted in between leaves a note that the next one can read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from provisioner.core import ddl, leaving
from provisioner.core.changes import MAKES_OURS, Change, ChangeKind
from provisioner.core.marker import parse_marker
from provisioner.core.state import (
    DATABASE_OWNER,
    NO_LIMIT,
    PUBLIC,
    Database,
    Marker,
    ObjectKind,
    Role,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from provisioner.core.ddl import PasswordStatement, Statement
    from provisioner.core.difference import Difference
    from provisioner.core.holdings import Holding
    from provisioner.core.ownership import Ownership


_WRITES_ROLE_MARKER = frozenset(
    {
        ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP,
        ChangeKind.ADOPT_ROLE,
        ChangeKind.RESTORE_ROLE,
        ChangeKind.CREATE_ROLE,
        ChangeKind.ALTER_ROLE,
    }
)


@dataclass(frozen=True, slots=True)
class DatabaseScript:
    """What is done to one database: `create` alone, `open` from outside, then `statements` in one transaction in it.

    A new database is closed until `open` has taken from PUBLIC what everybody has on it; the last of `open` lets in.
    `uses_temporary_membership` says that the membership in its owner stands while that is done. `on_success` ends, in
    the same transaction, what was borrowed to create the databases of its owner; it is there only on the last of them,
    and where that one is not reached, `on_abort` gives back what was borrowed but leaves the note of what was started.
    """

    database: Database
    changes: tuple[Change, ...]
    create: Statement | None
    open: tuple[Statement, ...]
    statements: tuple[Statement, ...]
    changes_outside: tuple[Change, ...] = ()
    uses_temporary_membership: bool = False
    on_success: tuple[Statement, ...] = ()
    on_abort: tuple[Statement, ...] = ()

    @property
    def name(self) -> str:
        """The database's."""
        return self.database.name

    @property
    def owner(self) -> str:
        """Whose it is, or will be."""
        return self.database.owner


@dataclass(frozen=True, slots=True)
class RoleScript:
    """What is done to one role."""

    name: str
    changes: tuple[Change, ...]
    statements: tuple[Statement | PasswordStatement, ...]


@dataclass(frozen=True, slots=True)
class LeavingStep:
    """One transaction of a role that leaves, in a database or, where none is named, in the administrator's own.

    `ends_sessions` says that those of the role are ended when it is committed. `before` and `after` stand around the
    statements and around those for what is found in the database by then.
    """

    changes: tuple[Change, ...]
    statements: tuple[Statement, ...]
    database: str = ""
    ends_sessions: bool = False
    before: tuple[Statement, ...] = ()
    after: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class LeavingScript:
    """The steps by which one role leaves, in order; none is begun after one that failed.

    `acts_as` are the roles that the administrator makes itself a member of, for the time of a transaction.
    """

    role: str
    steps: tuple[LeavingStep, ...]
    acts_as: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Script:
    """The roles, in one transaction; then each database, those of one owner one after the other; then who leaves."""

    roles: tuple[RoleScript, ...]
    databases: tuple[DatabaseScript, ...]
    leaving: tuple[LeavingScript, ...] = ()

    @property
    def role_statements(self) -> tuple[Statement | PasswordStatement, ...]:
        """The statements of all roles."""
        return tuple(item for role in self.roles for item in role.statements)


def write_script(changes: Sequence[Change], ownership: Ownership, differences: Iterable[Difference]) -> Script:
    """Write the statements of ordered changes; `differences` are of the databases that they are made in."""
    databases = {each.database.name: each.database for each in differences}
    by_role: dict[str, list[Change]] = {}
    by_database: dict[str, list[Change]] = {}
    creating: dict[str, list[str]] = {}
    ordinary, departing = leaving.split(changes)
    for change in ordinary:
        if not change.database:
            by_role.setdefault(change.username, []).append(change)
            continue
        by_database.setdefault(change.database, []).append(change)
        if change.kind is ChangeKind.CREATE_DATABASE or _completes_interrupted_create(change, ownership):
            creating.setdefault(change.username, []).append(change.database)
    marks = RoleComments(
        ownership, creating, {role: limit for role, own in by_role.items() if (limit := _limit_set(own))}
    )
    return Script(
        tuple(_one_role(role, by_role.get(role, ()), marks) for role in sorted(by_role.keys() | creating.keys())),
        tuple(_one_database(databases[name], members, marks) for name, members in by_database.items()),
        tuple(_one_departure(role, members, ownership) for role, members in departing.items()),
    )


def needs_object_names(changes: Iterable[Change]) -> tuple[Target, ...]:
    """The groups of which some objects are to be changed and others not, so that they have to be named."""
    named = {
        target
        for change in changes
        if change.kind.is_grant and _statement_needs_names(change)
        for target in change.targets
    }
    return tuple(sorted(named))


def database_statements(
    changes: Sequence[Change], facts: Database, ownership: Ownership, *, temporary: frozenset[str] = frozenset()
) -> tuple[Statement, ...]:
    """The statements of one database's transaction; `temporary` are roles that are borrowed already."""
    borrowed = sorted(_temporary_memberships(changes, facts.owner, ownership) - temporary)
    body: list[Statement] = []
    for change in changes:
        if change.kind is ChangeKind.CREATE_EXTENSION:
            body += ddl.create_extension(change)
        elif change.kind in MAKES_OURS:
            body.append(
                ddl.set_database_marker(
                    change.database, Marker(ownership.environment, comment=_original_comment(facts))
                )
            )
    grants = (change for change in changes if change.kind.is_grant)
    contested = _contested_targets(facts)
    statements = [
        item
        for _, group in groupby(grants, _same_statement)
        for item in _grant_statements(list(group), facts, ownership, contested)
    ]
    return (
        *(ddl.grant_self(role, with_options=ownership.server.has_membership_options) for role in borrowed),
        *statements,
        *body,
        *(ddl.revoke_self(role) for role in borrowed),
    )


@dataclass(frozen=True, slots=True)
class RoleComments:
    """The marks of the roles before and while databases are created for them; `limits` are those set now."""

    ownership: Ownership
    creating: Mapping[str, list[str]]
    limits: Mapping[str, int]

    def final(self, role: str) -> Marker:
        """The mark that a role has when nothing is under way."""
        facts = self.ownership.server.roles.get(role)
        marker = facts.marker if facts else None
        limit = self.limits.get(role, marker.connection_limit if marker else NO_LIMIT)
        if marker is None:
            return Marker(self.ownership.environment, comment=facts.comment if facts else "", connection_limit=limit)
        environment = self.ownership.environment
        marker = replace(
            marker, environment=environment, creating=(), has_temporary_membership=False, connection_limit=limit
        )
        return replace(marker, quarantined="", login=True)

    def during_create(self, role: str) -> Marker:
        """The mark of a role while its databases are created."""
        creating = tuple(sorted(self.creating.get(role, ())))
        return replace(
            self.final(role), creating=creating, has_temporary_membership=bool(creating) and self.is_temporary(role)
        )

    def is_temporary(self, role: str) -> bool:
        """Whether creating a database for a role takes a membership that the administrator does not have."""
        facts = self.ownership.server.roles.get(role)
        return facts is None or not _is_inherited(facts, self.ownership)


def _one_role(role: str, changes: Sequence[Change], marks: RoleComments) -> RoleScript:
    statements = [item for change in changes for item in _role_statements(change, marks.ownership)]
    has_marker = any(change.kind in _WRITES_ROLE_MARKER for change in changes)
    facts = marks.ownership.server.roles.get(role)
    marker = facts.marker if facts else None
    is_right = marker is not None and marker.current and marker == marks.during_create(role)
    if (has_marker or role in marks.creating) and not is_right:
        statements.append(ddl.set_role_marker(role, marks.during_create(role)))
    if role in marks.creating and marks.is_temporary(role):
        statements.append(ddl.grant_self(role, with_options=marks.ownership.server.has_membership_options))
    return RoleScript(role, tuple(changes), tuple(statements))


def _one_departure(name: str, changes: Sequence[Change], ownership: Ownership) -> LeavingScript:
    may_end = ownership.server.roles[name].administrator_inherits or ownership.leaving.may_signal
    steps = tuple(_leaving_step(change, ownership) for change in changes)
    return LeavingScript(name, steps, frozenset() if may_end else frozenset({name}))


def _leaving_step(change: Change, ownership: Ownership) -> LeavingStep:
    if change.kind is ChangeKind.QUARANTINE_ROLE:
        return _quarantine_step(change, ownership)
    name, me = change.username, ownership.server.administrator
    acts_as, statements = _retirement_statements(change, ownership)
    known, with_options = ownership.server.roles, ownership.server.has_membership_options
    temporary = sorted(role for role in acts_as - {me} if not _is_inherited(known[role], ownership))
    return LeavingStep(
        (change,),
        tuple(statements),
        change.database if change.kind is ChangeKind.PASS_OBJECTS else "",
        before=tuple(ddl.grant_self(role, with_options=with_options) for role in temporary),
        after=(
            *(ddl.revoke_self(role) for role in temporary),
            *([ddl.drop_role(name)] if change.kind is ChangeKind.DROP_ROLE else []),
        ),
    )


def _quarantine_step(change: Change, ownership: Ownership) -> LeavingStep:
    name, statements = change.username, []
    if not change.since:
        role = ownership.server.roles[name]
        marker = replace(
            role.marker or Marker(ownership.environment), quarantined=ownership.leaving.now, login=role.can_login
        )
        statements = [ddl.set_login(name, login=False), ddl.set_role_marker(name, marker)]
    return LeavingStep((change,), tuple(statements), ends_sessions=True)


def _retirement_statements(change: Change, ownership: Ownership) -> tuple[set[str], list[Statement]]:
    """In whose place a step is done, and what is known of it before it is begun."""
    name, me = change.username, ownership.server.administrator
    statements: list[Statement] = []
    holdings = ownership.leaving.holdings[name]
    holding = next((item for item in holdings.databases if item.database == change.database), None)
    if change.kind is ChangeKind.KEEP_DATABASE and holding:
        statements = [ddl.set_owner("DATABASE", change.database, me)]
        for holder in holding.holders:
            statements += ddl.revoke_from("DATABASE", [ddl.Identifier(change.database)], holder)
        return {name}, [*statements, ddl.set_database_marker(change.database, _kept_marker(holding, name, ownership))]
    if change.kind is ChangeKind.PASS_OBJECTS and holding:
        passes = [ddl.reassign_owned(name, change.owner)] if holding.owned else []
        return set(change.acting_roles), passes
    for database, grantor in holdings.on_databases:
        act_as = "" if grantor == me else grantor
        statements += ddl.revoke_from("DATABASE", [ddl.Identifier(database)], name, act_as=act_as)
    statements += [ddl.revoke_granted(role, member, name) for role, member in holdings.granted]
    acts_as = {grantor for _, grantor in holdings.on_databases} | ({name} if holdings.granted else set())
    return acts_as, statements


def _kept_marker(holding: Holding, role: str, ownership: Ownership) -> Marker:
    marker = parse_marker(holding.comment)
    original = marker.comment if marker else holding.comment
    return Marker(ownership.environment, comment=original, kept=ownership.leaving.now, kept_from=role)


def _limit_set(changes: Iterable[Change]) -> int | None:
    """The connection limit that a role is given; -1 where one is taken away."""
    return next((change.connection_limit for change in changes if change.connection_limit is not None), None)


def _role_statements(change: Change, ownership: Ownership) -> Iterable[Statement | PasswordStatement]:
    if change.kind is ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP:
        marker = ownership.server.roles[change.username].marker
        if not (change.username in ownership.self_granted or (marker and marker.has_temporary_membership)):
            return
    if change.kind is ChangeKind.RESTORE_ROLE and not change.login:
        return
    if change.kind in ddl.ROLE_STATEMENTS:
        yield ddl.ROLE_STATEMENTS[change.kind](change)


def _one_database(facts: Database, changes: list[Change], marks: RoleComments) -> DatabaseScript:
    create = next((change for change in changes if change.kind is ChangeKind.CREATE_DATABASE), None)
    name, owner = facts.name, facts.owner
    creating = marks.creating.get(owner, [])
    temporary = frozenset({owner}) if name in creating else frozenset()
    back = [ddl.revoke_self(owner)] if marks.is_temporary(owner) else []
    outside = [] if facts.allows_connections else [item for item in changes if _is_said_outside(item, marks.ownership)]
    inside = [item for item in changes if item not in outside]
    is_last = bool(creating) and name == creating[-1]
    return DatabaseScript(
        database=facts,
        changes=tuple(changes),
        create=ddl.create_database(create) if create else None,
        open=(*database_statements(outside, facts, marks.ownership, temporary=temporary), ddl.open_database(name))
        if outside
        else (),
        statements=database_statements(inside, facts, marks.ownership, temporary=temporary),
        changes_outside=tuple(outside),
        uses_temporary_membership=name in creating,
        on_success=(*back, ddl.set_role_marker(owner, marks.final(owner))) if is_last else (),
        on_abort=(
            *back,
            ddl.set_role_marker(owner, replace(marks.during_create(owner), has_temporary_membership=False)),
        )
        if is_last
        else (),
    )


def _is_said_outside(change: Change, ownership: Ownership) -> bool:
    """Whether a change has to be made before a new database lets anybody in: what PUBLIC loses, what we keep.

    Editors and readers get in by what the transaction in the database grants, together with all else that they get.
    """
    is_on_database = change.kind.is_grant and change.target.kind is ObjectKind.DATABASE
    return is_on_database and change.username in {PUBLIC, ownership.server.administrator}


def _completes_interrupted_create(change: Change, ownership: Ownership) -> bool:
    """Whether a run was interrupted after it created a database and before it could mark it.

    Only its owner's marker tells; so that marker has to stay until the database has its own.
    """
    facts = ownership.server.databases.get(change.database)
    return change.kind is ChangeKind.ADOPT_DATABASE and facts is not None and ownership.is_interrupted_create(facts)


def _temporary_memberships(changes: Iterable[Change], owner: str, ownership: Ownership) -> set[str]:
    """In whose place the statements are run, less those whose privileges the administrator has anyway."""
    roles = {owner}.union(*(change.acting_roles for change in changes))
    known = ownership.server.roles
    return {
        role
        for role in roles
        if role != ownership.server.administrator and not (role in known and _is_inherited(known[role], ownership))
    }


def _is_inherited(role: Role, ownership: Ownership) -> bool:
    """Whether the administrator has a role's privileges for good, and not only because it made itself a member."""
    is_temporary = role.marker is not None and role.marker.has_temporary_membership
    return role.administrator_inherits and not is_temporary and role.name not in ownership.self_granted


def _same_statement(change: Change) -> tuple[object, ...]:
    """Changes alike in this differ in the grantee only, and are said in one statement; PUBLIC is said alone."""
    return (
        change.kind,
        change.targets,
        change.privileges,
        change.grantor,
        change.grant_option,
        change.username == PUBLIC,
    )


def _grant_statements(
    changes: Sequence[Change], facts: Database, ownership: Ownership, contested: frozenset[Target]
) -> list[Statement]:
    objects: list[tuple[str, ...]] = []
    if _statement_needs_names(changes[0]):
        objects = sorted(name for target in changes[0].targets for name in facts.names.get(target, ()))
    grantor = facts.owner if changes[0].grantor == DATABASE_OWNER else changes[0].grantor
    is_settled = grantor == ownership.server.administrator or not _grantor_is_ambiguous(changes[0], contested)
    return ddl.grant_or_revoke(changes, objects, act_as="" if is_settled else grantor)


def _contested_targets(facts: Database) -> frozenset[Target]:
    """What another role than the owner of the objects may pass on privileges on too.

    The administrator may have the privileges of both then, and the server would choose in whose name it grants.
    """
    return frozenset(
        group.target
        for group in facts.groups
        if any(item.grant_option and item.grantee != group.target.owner for item in group.items)
    )


def _grantor_is_ambiguous(change: Change, contested: frozenset[Target]) -> bool:
    return not change.target.creator and (
        change.grantor != change.target.owner or not contested.isdisjoint(change.targets)
    )


def _statement_needs_names(change: Change) -> bool:
    target = change.target
    if target.creator or target.kind in {ObjectKind.DATABASE, ObjectKind.SCHEMA}:
        return False
    return target.kind is ObjectKind.COLUMN or not change.covers_schema


def _original_comment(facts: Database) -> str:
    return facts.marker.comment if facts.marker else facts.comment
