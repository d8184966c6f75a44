"""The statements of a plan, in the order and the transactions in which they are sent: plan and scope in, script out.

A dry run stores the script and an apply sends it, so what was shown is what is done. Acting in the place of another
role takes a membership in it. Inside one database's transaction that is borrowed and given back unseen; only CREATE
DATABASE cannot run in a transaction, so for its time the membership stands, and the role's mark says so: a run that is
cut off in between leaves a note that the next one can read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from provisioner.core import ddl
from provisioner.core.plan import (
    AdoptDatabase,
    AdoptRole,
    AlterRole,
    Change,
    ChangeGrants,
    CreateDatabase,
    CreateExtension,
    CreateRole,
    Finish,
    RevokeMembership,
    SetPassword,
)
from provisioner.core.state import (
    DATABASE_OWNER,
    NO_LIMIT,
    PUBLIC,
    DatabaseFacts,
    Kind,
    Marker,
    RoleFacts,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from provisioner.core.ddl import PasswordStatement, Statement
    from provisioner.core.scope import Scope


@dataclass(frozen=True, slots=True)
class DatabaseScript:
    """What is done to one database: `create` alone, `open` from outside, then `statements` in one transaction in it.

    A new database is closed until `open` has taken from PUBLIC what everybody has on it; the last of `open` lets in.
    `is_lent` says that the membership in its owner stands while that is done. `afterwards` ends, in the same
    transaction, what was borrowed to create the databases of its owner; it is there only on the last of them, and
    where that one is not reached, `cut_short` gives back what was borrowed but leaves the note of what was begun.
    """

    name: str
    owner: str
    changes: tuple[Change, ...]
    create: Statement | None
    open: tuple[Statement, ...]
    statements: tuple[Statement, ...]
    changes_outside: tuple[Change, ...] = ()
    is_lent: bool = False
    afterwards: tuple[Statement, ...] = ()
    cut_short: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleScript:
    """What is done to one role."""

    name: str
    changes: tuple[Change, ...]
    statements: tuple[Statement | PasswordStatement, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """First the roles, in one transaction; then each database, those of one owner one after the other."""

    roles: tuple[RoleScript, ...]
    databases: tuple[DatabaseScript, ...]

    @property
    def role_statements(self) -> tuple[Statement | PasswordStatement, ...]:
        """The statements of all roles."""
        return tuple(item for role in self.roles for item in role.statements)


def write_script(changes: Sequence[Change], scope: Scope, inventory: Mapping[str, DatabaseFacts]) -> Script:
    """Write the statements of ordered changes; `inventory` holds the names of objects where single ones change."""
    by_role: dict[str, list[Change]] = {}
    by_database: dict[str, list[Change]] = {}
    creating: dict[str, list[str]] = {}
    for change in changes:
        if not change.database:
            by_role.setdefault(change.username, []).append(change)
            continue
        by_database.setdefault(change.database, []).append(change)
        if isinstance(change, CreateDatabase) or _is_unfinished(change, scope):
            creating.setdefault(change.username, []).append(change.database)
    marks = _Marks(scope, creating, {role: limit for role, own in by_role.items() if (limit := _limit_set(own))})
    return Script(
        tuple(_one_role(role, by_role.get(role, ()), marks) for role in sorted(by_role.keys() | creating.keys())),
        tuple(_one_database(name, inventory[name], members, marks) for name, members in by_database.items()),
    )


def targets_to_name(changes: Iterable[Change]) -> tuple[Target, ...]:
    """The groups of which some objects are to be changed and others not, so that they have to be named."""
    named = {
        target
        for change in changes
        if isinstance(change, ChangeGrants) and _needs_names(change)
        for target in change.targets
    }
    return tuple(sorted(named))


def database_statements(
    changes: Sequence[Change], facts: DatabaseFacts, scope: Scope, *, lent: frozenset[str] = frozenset()
) -> tuple[Statement, ...]:
    """The statements of one database's transaction; `lent` are roles that are borrowed already."""
    borrowed = sorted(_roles_to_borrow(changes, facts.owner, scope) - lent)
    body: list[Statement] = []
    for change in changes:
        if isinstance(change, CreateExtension):
            body += ddl.create_extension(change)
        elif isinstance(change, CreateDatabase | AdoptDatabase):
            body.append(ddl.mark_database(change.database, Marker(scope.environment, comment=_own_comment(facts))))
    grants = (change for change in changes if isinstance(change, ChangeGrants))
    contested = _contested_targets(facts)
    statements = [
        item for _, group in groupby(grants, _alike) for item in _grant_statements(list(group), facts, scope, contested)
    ]
    return (
        *(ddl.borrow(role, scope.server.version) for role in borrowed),
        *statements,
        *body,
        *(ddl.give_back(role) for role in borrowed),
    )


@dataclass(frozen=True, slots=True)
class _Marks:
    """The marks of the roles before and while databases are created for them; `limits` are those set now."""

    scope: Scope
    creating: Mapping[str, list[str]]
    limits: Mapping[str, int]

    def lasting(self, role: str) -> Marker:
        """The mark that a role has when nothing is under way."""
        facts = self.scope.server.roles.get(role)
        marker = facts.marker if facts else None
        limit = self.limits.get(role, marker.connection_limit if marker else NO_LIMIT)
        if marker is None:
            return Marker(self.scope.environment, comment=facts.comment if facts else "", connection_limit=limit)
        environment = self.scope.environment
        return replace(marker, environment=environment, creating=(), borrowed=False, connection_limit=limit)

    def under_way(self, role: str) -> Marker:
        """The mark of a role while its databases are created."""
        creating = tuple(sorted(self.creating.get(role, ())))
        return replace(self.lasting(role), creating=creating, borrowed=bool(creating) and self.is_borrowed(role))

    def is_borrowed(self, role: str) -> bool:
        """Whether creating a database for a role takes a membership that the administrator does not have."""
        facts = self.scope.server.roles.get(role)
        return facts is None or not _is_inherited(facts, self.scope)


def _one_role(role: str, changes: Sequence[Change], marks: _Marks) -> RoleScript:
    statements = [item for change in changes for item in _role_statement(change, marks.scope)]
    is_marked = any(isinstance(item, Finish | AdoptRole | CreateRole | AlterRole) for item in changes)
    facts = marks.scope.server.roles.get(role)
    marker = facts.marker if facts else None
    is_right = marker is not None and marker.current and marker == marks.under_way(role)
    if (is_marked or role in marks.creating) and not is_right:
        statements.append(ddl.mark_role(role, marks.under_way(role)))
    if role in marks.creating and marks.is_borrowed(role):
        statements.append(ddl.borrow(role, marks.scope.server.version))
    return RoleScript(role, tuple(changes), tuple(statements))


def _limit_set(changes: Iterable[Change]) -> int | None:
    """The connection limit that a role is given; -1 where one is taken away."""
    limits = (item.connection_limit for item in changes if isinstance(item, CreateRole | AlterRole))
    return next((limit for limit in limits if limit is not None), None)


def _role_statement(change: Change, scope: Scope) -> Iterable[Statement | PasswordStatement]:
    """The statement of one change; adopting a role is its mark and nothing more."""
    if isinstance(change, Finish):
        marker = scope.server.roles[change.username].marker
        if change.username in scope.self_granted or (marker and marker.borrowed):
            yield ddl.give_back(change.username)
    elif isinstance(change, CreateRole):
        yield ddl.create_role(change)
    elif isinstance(change, AlterRole):
        yield ddl.alter_role(change)
    elif isinstance(change, SetPassword):
        yield ddl.set_password(change.username)
    elif isinstance(change, RevokeMembership):
        yield ddl.revoke_membership(change)


def _one_database(name: str, facts: DatabaseFacts, changes: list[Change], marks: _Marks) -> DatabaseScript:
    create = next((change for change in changes if isinstance(change, CreateDatabase)), None)
    owner = facts.owner
    creating = marks.creating.get(owner, [])
    lent = frozenset({owner}) if name in creating else frozenset()
    back = [ddl.give_back(owner)] if marks.is_borrowed(owner) else []
    outside = [] if facts.allows_connections else [item for item in changes if _is_said_outside(item, marks.scope)]
    inside = [item for item in changes if item not in outside]
    is_last = bool(creating) and name == creating[-1]
    return DatabaseScript(
        name=name,
        owner=owner,
        changes=tuple(changes),
        create=ddl.create_database(create) if create else None,
        open=(*database_statements(outside, facts, marks.scope, lent=lent), ddl.open_database(name)) if outside else (),
        statements=database_statements(inside, facts, marks.scope, lent=lent),
        changes_outside=tuple(outside),
        is_lent=name in creating,
        afterwards=(*back, ddl.mark_role(owner, marks.lasting(owner))) if is_last else (),
        cut_short=(*back, ddl.mark_role(owner, replace(marks.under_way(owner), borrowed=False))) if is_last else (),
    )


def _is_said_outside(change: Change, scope: Scope) -> bool:
    """Whether a change has to be made before a new database lets anybody in: what PUBLIC loses, what we keep.

    Editors and readers get in by what the transaction in the database grants, together with all else that they get.
    """
    is_on_database = isinstance(change, ChangeGrants) and change.target.kind is Kind.DATABASE
    return is_on_database and change.username in {PUBLIC, scope.server.administrator}


def _is_unfinished(change: Change, scope: Scope) -> bool:
    """Whether a database was created by a run that was cut off before it could mark it: only its owner's mark tells.

    So that mark has to stay until the database has its own.
    """
    facts = scope.server.databases.get(change.database)
    return isinstance(change, AdoptDatabase) and facts is not None and scope.is_interrupted_create(facts)


def _roles_to_borrow(changes: Iterable[Change], owner: str, scope: Scope) -> set[str]:
    """In whose place the statements are run, less those whose privileges the administrator has anyway."""
    roles = {owner}.union(*(change.acting_roles for change in changes))
    known = scope.server.roles
    return {
        role
        for role in roles
        if role != scope.server.administrator and not (role in known and _is_inherited(known[role], scope))
    }


def _is_inherited(role: RoleFacts, scope: Scope) -> bool:
    """Whether the administrator has a role's privileges for good, and not only because it made itself a member."""
    is_borrowed = role.marker is not None and role.marker.borrowed
    return role.inherited and not is_borrowed and role.name not in scope.self_granted


def _alike(change: ChangeGrants) -> tuple[object, ...]:
    """Changes alike in this differ in the grantee only, and are said in one statement; PUBLIC is said alone."""
    return (type(change), change.targets, change.privileges, change.grantor, change.option, change.username == PUBLIC)


def _grant_statements(
    changes: Sequence[ChangeGrants], facts: DatabaseFacts, scope: Scope, contested: frozenset[Target]
) -> list[Statement]:
    objects: list[tuple[str, ...]] = []
    if _needs_names(changes[0]):
        objects = sorted(name for target in changes[0].targets for name in facts.names.get(target, ()))
    grantor = facts.owner if changes[0].grantor == DATABASE_OWNER else changes[0].grantor
    is_settled = grantor == scope.server.administrator or not _is_contested(changes[0], contested)
    return ddl.change_grants(changes, objects, act_as="" if is_settled else grantor)


def _contested_targets(facts: DatabaseFacts) -> frozenset[Target]:
    """What another role than the owner of the objects may pass on privileges on too.

    The administrator may have the privileges of both then, and the server would choose in whose name it grants.
    """
    return frozenset(
        group.target
        for group in facts.groups
        if any(item.grantable and item.grantee != group.target.owner for item in group.items)
    )


def _is_contested(change: ChangeGrants, contested: frozenset[Target]) -> bool:
    return not change.target.creator and (
        change.grantor != change.target.owner or not contested.isdisjoint(change.targets)
    )


def _needs_names(change: ChangeGrants) -> bool:
    target = change.target
    if target.creator or target.kind in {Kind.DATABASE, Kind.SCHEMA}:
        return False
    return target.kind is Kind.COLUMN or not change.whole


def _own_comment(facts: DatabaseFacts) -> str:
    return facts.marker.comment if facts.marker else facts.comment
