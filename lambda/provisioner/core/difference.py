"""The difference of two states: what stands and what should in, changes out, and findings on what has to stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.grants import DatabasePolicy
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.roles import desired_roles, diff_role, observed_roles
from provisioner.core.state import (
    DATABASE_OWNER,
    PUBLIC,
    AclItem,
    Database,
    DatabaseFacts,
    Grant,
    ObjectGroup,
    ObjectKind,
    Server,
    State,
    Target,
    grants_of,
)

if TYPE_CHECKING:
    from provisioner.core.errors import Finding


@dataclass(frozen=True, slots=True)
class Desired:
    """The state that should be, the inventory that it was built over, and what stays as it is though it should not."""

    state: State
    inventory: Mapping[str, DatabaseFacts]
    findings: tuple[Finding, ...]


def desired_state(ownership: Ownership) -> Desired:
    """Build the state that a declaration asks for over what stands; see the module's first sentence."""
    findings: list[Finding] = []
    inventory = take_inventory(ownership)
    databases = {name: desired_database(facts, ownership, findings) for name, facts in inventory.items()}
    return Desired(State(desired_roles(ownership, findings), databases), inventory, tuple(findings))


def observed_state(ownership: Ownership) -> State:
    """The compared part of what was observed: the declared roles and databases that exist."""
    databases = {
        name: observed_database(database, ownership)
        for name in ownership.by_database
        if (database := ownership.server.databases.get(name)) is not None
    }
    return State(observed_roles(ownership), databases)


def take_inventory(ownership: Ownership) -> dict[str, DatabaseFacts]:
    """What stands in each declared database, or will where it is yet to be created."""
    found = {
        name: ownership.server.databases.get(name) or _to_be_created(name, ownership) for name in ownership.by_database
    }
    return {name: facts for name, facts in found.items() if facts is not None}


def desired_database(facts: DatabaseFacts, ownership: Ownership, findings: list[Finding]) -> Database:
    """The state that one declared database should have, over what stands in it; findings are added to the list.

    One that is not ours to change is desired as it is.
    """
    if not ownership.may_change(facts):
        return observed_database(facts, ownership)
    room = DatabasePolicy.of(facts, ownership)
    entries = ownership.by_database[facts.name]
    return Database(
        name=facts.name,
        owner=room.owner,
        extensions=facts.extensions.union(*(entry.extensions for entry in entries)),
        grants=frozenset(grant for group in room.all_groups() for grant in room.desired_grants(group, findings)),
    )


def observed_database(facts: DatabaseFacts, ownership: Ownership) -> Database:
    """The compared part of one database as it stands."""
    return Database(
        name=facts.name,
        owner=facts.owner,
        managed=has_marker(facts, ownership.environment),
        extensions=facts.extensions,
        grants=grants_of(facts.groups),
    )


def database_changes(facts: DatabaseFacts, ownership: Ownership) -> list[Change]:
    """What one existing database lacks or has too much of, as it was just observed; in no order."""
    return diff_database(observed_database(facts, ownership), desired_database(facts, ownership, []), facts)


def diff(observed: State, desired: State, inventory: Mapping[str, DatabaseFacts]) -> tuple[Change, ...]:
    """All changes that lead from one state to the other, in the order in which they are to be made.

    `inventory` holds the objects of each desired database, as `Desired.inventory` gives them. Total over any two
    states; equal states give no change. What is only in `observed` is nobody's business and gives none.
    """
    changes: list[Change] = []
    for role in desired.roles.values():
        changes += diff_role(observed.roles.get(role.name), role)
    for database in desired.databases.values():
        changes += diff_database(observed.databases.get(database.name), database, inventory[database.name])
    return tuple(sorted(changes, key=attrgetter("order")))


def diff_database(observed: Database | None, desired: Database, facts: DatabaseFacts) -> list[Change]:
    """The changes of one database, in no order; `facts` is its inventory, also where it is yet to be created."""
    changes: list[Change] = []
    if observed is None:
        changes.append(Change(ChangeKind.CREATE_DATABASE, database=desired.name, username=desired.owner))
        observed = replace(desired, managed=True, extensions=frozenset(), grants=grants_of(facts.groups))
    elif desired.managed and not observed.managed:
        changes.append(Change(ChangeKind.ADOPT_DATABASE, database=desired.name, username=desired.owner))
    changes += _diff_grants(observed.grants, desired, facts)
    changes += [
        Change(ChangeKind.CREATE_EXTENSION, database=desired.name, username=desired.owner, subject=extension)
        for extension in sorted(desired.extensions - observed.extensions)
    ]
    return changes


def _to_be_created(name: str, ownership: Ownership) -> DatabaseFacts | None:
    owner = ownership.declared_owner(name)
    # Not for a role that is not ours: a blocker says so.
    if not owner or not ownership.manages(owner):
        return None
    return replace(new_database(name, owner, ownership.server), allows_connections=False)


def new_database(name: str, owner: str, server: Server) -> DatabaseFacts:
    """What CREATE DATABASE makes from template0: PUBLIC may connect, and `public` belongs to whom the version says."""
    schema_owner = DATABASE_OWNER if server.public_schema_follows_owner else server.bootstrap
    everybody = ("USAGE",) if server.public_schema_follows_owner else ("CREATE", "USAGE")
    return DatabaseFacts(
        name=name,
        owner=owner,
        groups=(
            ObjectGroup(
                Target(ObjectKind.DATABASE, owner=owner),
                (
                    *_items(owner, owner, ("CONNECT", "CREATE", "TEMPORARY")),
                    *_items(owner, PUBLIC, ("CONNECT", "TEMPORARY")),
                ),
            ),
            ObjectGroup(
                Target(ObjectKind.SCHEMA, schema="public", owner=schema_owner),
                (
                    *_items(schema_owner, schema_owner, ("CREATE", "USAGE")),
                    *_items(schema_owner, PUBLIC, everybody),
                ),
            ),
        ),
    )


def as_created(ownership: Ownership) -> Server:
    """The server, with what stands in the databases that an interrupted run left closed: nobody has been in them."""
    left = {
        name: replace(facts, groups=new_database(name, facts.owner, ownership.server).groups)
        for name, facts in ownership.server.databases.items()
        if name in ownership.by_database and ownership.is_left_closed(facts)
    }
    return replace(ownership.server, databases={**ownership.server.databases, **left})


def _items(grantor: str, grantee: str, privileges: Iterable[str]) -> tuple[AclItem, ...]:
    return tuple(AclItem(grantor, grantee, privilege) for privilege in privileges)


def _diff_grants(observed: frozenset[Grant], desired: Database, facts: DatabaseFacts) -> Iterable[Change]:
    missing, extra = desired.grants - observed, observed - desired.grants
    # Revoking a privilege takes its grant option with it.
    extra -= {grant for grant in extra if grant.option and replace(grant, option=False) in extra}
    yield from _merge_grants(missing, desired, facts, ChangeKind.GRANT, ChangeKind.GRANT_DEFAULT)
    yield from _merge_grants(extra, desired, facts, ChangeKind.REVOKE, ChangeKind.REVOKE_DEFAULT)


def _merge_grants(
    grants: Iterable[Grant],
    database: Database,
    facts: DatabaseFacts,
    now: ChangeKind,
    in_future: ChangeKind,
) -> Iterable[Change]:
    """One change for each grantee and set of privileges in a schema: first by target, then the targets together."""
    privileges: dict[tuple[Target, str, str, bool, int], set[str]] = defaultdict(set)
    givers = _grant_option_holders(facts)
    for grant in grants:
        distance = _distance(grant, givers)
        privileges[grant.target, grant.grantee, grant.grantor, grant.option, distance].add(grant.privilege)
    targets: dict[tuple[ObjectKind, str, str, str, str, bool, int, tuple[str, ...]], set[Target]] = defaultdict(set)
    for (target, grantee, grantor, option, distance), names in privileges.items():
        key = (target.kind, target.schema, target.creator, grantee, grantor, option, distance, tuple(sorted(names)))
        targets[key].add(target)
    counts = {group.target: group.count for group in facts.groups}
    peers: dict[tuple[ObjectKind, str], set[Target]] = defaultdict(set)
    for group in facts.groups:
        if not group.target.creator:
            peers[group.target.kind, group.target.schema].add(group.target)
    for (kind, schema, creator, grantee, grantor, option, distance, words), members in targets.items():
        yield Change(
            in_future if creator else now,
            database=database.name,
            username=grantee,
            owner=database.owner,
            grantor=grantor,
            privileges=words,
            targets=tuple(sorted(members)),
            grant_option=option,
            object_count=sum(counts.get(target, 1) for target in members),
            covers_schema=not creator and members >= peers[kind, schema],
            grant_depth=distance,
        )


_Givers = Mapping[tuple[Target, str, str], frozenset[str]]


def _grant_option_holders(facts: DatabaseFacts) -> _Givers:
    """From whom each role has the right to pass on a privilege."""
    givers: dict[tuple[Target, str, str], frozenset[str]] = {}
    for group in facts.groups:
        for item in group.items:
            if item.grantable:
                key = (group.target, item.grantee, item.privilege)
                givers[key] = givers.get(key, frozenset()) | {item.grantor}
    return givers


def _distance(grant: Grant, givers: _Givers) -> int:
    """How many hands a grant went through; PostgreSQL lets no grants go round in a circle."""
    if grant.grantor == grant.target.owner:
        return 0
    before = givers.get((grant.target, grant.grantor, grant.privilege), frozenset()) - {grant.grantor}
    return 1 + max((_distance(replace(grant, grantor=giver), givers) for giver in before), default=0)
