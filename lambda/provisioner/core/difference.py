"""The difference of one database: what stands in it in, changes to what is declared and findings out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import attrgetter

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.grants import DatabasePolicy
from provisioner.core.kinds import ObjectKind
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.state import DATABASE_OWNER, PUBLIC, Database, Grant, ObjectGroup, Server, Target

# ALL TABLES IN SCHEMA has the server read all of pg_class several times for each schema. Of more schemas than these the
# objects are named instead, unless there are too many to be named.
MAX_WHOLE_SCHEMAS, MAX_OBJECTS_FOR_SCHEMAS = 100, 50_000


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be done to one database, in order, and what has to stay there though it should not.

    `database` is what it was worked out over: what stands, or what CREATE DATABASE will make.
    """

    database: Database
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()


def of(database: Database, ownership: Ownership) -> Difference:
    """The difference of a declared database; none where it is not ours to change, which a blocker says."""
    if not ownership.may_change(database):
        return Difference(database)
    policy, findings = DatabasePolicy(database, ownership), dict[Finding, None]()
    change = partial(Change, database=database.name, username=policy.owner)
    changes: list[Change] = []
    if database.name not in ownership.server.databases:
        changes.append(change(ChangeKind.CREATE_DATABASE))
    elif not has_marker(database, ownership.environment):
        changes.append(change(ChangeKind.ADOPT_DATABASE))
    stands = replace(database, groups=policy.all_groups())

    def wanted() -> Iterator[tuple[ObjectGroup, frozenset[Grant]]]:
        for group in stands.groups:
            told: list[Finding] = []
            grants = policy.wanted_grants(group, told)
            # Thousands of groups say the same.
            findings.update(dict.fromkeys(told))
            yield group, grants

    changes += name_objects(grant_changes(stands, policy.owner, wanted()))
    declared = {extension for entry in ownership.by_database[database.name] for extension in entry.extensions}
    for extension in sorted(declared - database.extensions):
        changes.append(change(ChangeKind.CREATE_EXTENSION, subject=extension))
    return Difference(database, tuple(sorted(changes, key=attrgetter("order"))), tuple(findings))


def of_new(ownership: Ownership) -> tuple[Difference, ...]:
    """The differences of the declared databases that do not exist yet; none for an owner that is not ours."""
    missing = sorted(ownership.by_database.keys() - ownership.server.databases.keys())
    owners = {name: owner for name in missing if (owner := ownership.declared_owner(name)) and ownership.manages(owner)}
    databases = (new_database(name, owner, ownership.server) for name, owner in owners.items())
    return tuple(of(replace(database, allows_connections=False), ownership) for database in databases)


def of_closed(database: Database, ownership: Ownership) -> Difference:
    """The difference of one that is not looked into: none is known, but where an interrupted run left it closed.

    Nobody has been in such a one. What is known of any other from outside could not be changed, as a blocker says.
    """
    if not ownership.is_left_closed(database):
        return Difference(database)
    return of(replace(database, groups=new_database(database.name, database.owner, ownership.server).groups), ownership)


def new_database(name: str, owner: str, server: Server) -> Database:
    """What CREATE DATABASE makes from template0: PUBLIC may connect, and `public` belongs to whom the version says."""
    schema_owner = DATABASE_OWNER if server.public_schema_follows_owner else server.bootstrap
    everybody = ("USAGE",) if server.public_schema_follows_owner else ("CREATE", "USAGE")
    of_database = {owner: ("CONNECT", "CREATE", "TEMPORARY"), PUBLIC: ObjectKind.DATABASE.public_by_default}
    of_schema = {schema_owner: ("CREATE", "USAGE"), PUBLIC: everybody}
    return Database(
        name=name,
        owner=owner,
        groups=(
            _group(Target(ObjectKind.DATABASE, owner=owner), of_database),
            _group(Target(ObjectKind.SCHEMA, schema="public", owner=schema_owner), of_schema),
        ),
    )


def _group(target: Target, privileges: Mapping[str, tuple[str, ...]]) -> ObjectGroup:
    grants = (Grant(target.owner, grantee, privilege) for grantee, held in privileges.items() for privilege in held)
    return ObjectGroup(target, tuple(grants))


# --- grants ---------------------------------------------------------------------------------------------------------


def grant_changes(
    database: Database, owner: str, wanted: Iterable[tuple[ObjectGroup, frozenset[Grant]]]
) -> Iterable[Change]:
    """The changes that leave what is wanted on each group, as few as can be; `owner` owns the database.

    Of thousands of groups only what differs is held in memory.
    """
    missing: dict[Target, frozenset[Grant]] = {}
    extra: dict[Target, frozenset[Grant]] = {}
    for group, grants in wanted:
        held, target = frozenset(group.items), group.target
        if held == grants:
            continue
        missing[target] = grants - held
        # Revoking a privilege takes its grant option with it.
        beyond = held - grants
        extra[target] = frozenset(
            grant for grant in beyond if not grant.grant_option or grant.privilege_alone not in beyond
        )
    yield from _merge_grants(missing, database, owner, (ChangeKind.GRANT, ChangeKind.GRANT_DEFAULT))
    yield from _merge_grants(extra, database, owner, (ChangeKind.REVOKE, ChangeKind.REVOKE_DEFAULT))


def name_objects(changes: Iterable[Change]) -> list[Change]:
    """Name the objects where all of many schemas are meant, as the server would look for them in each of those."""
    every = list(changes)
    whole = [change for change in every if change.covers_schema and change.target.kind.named_by]
    is_many = len({change.target.schema for change in whole}) > MAX_WHOLE_SCHEMAS
    if not is_many or sum(each.object_count for each in whole) > MAX_OBJECTS_FOR_SCHEMAS:
        return every
    return [replace(change, covers_schema=False) for change in every]


def _merge_grants(
    grants: Mapping[Target, frozenset[Grant]],
    database: Database,
    owner: str,
    kinds: tuple[ChangeKind, ChangeKind],
) -> Iterable[Change]:
    """One change for each grantee and set of privileges in a schema: first by target, then the targets together.

    The first of the `kinds` is for what stands, the second for what is created from now on.
    """
    depth_of = _grant_depths(database)
    privileges: dict[tuple[Target, tuple[str, str, bool, int]], set[str]] = defaultdict(set)
    for target, each in grants.items():
        for grant in each:
            depth = depth_of(target, grant.grantor, grant.privilege)
            privileges[target, (grant.grantee, grant.grantor, grant.grant_option, depth)].add(grant.privilege)
    alike = defaultdict(set)
    for (target, terms), each_name in privileges.items():
        alike[target.kind, target.schema, target.creator, terms, tuple(sorted(each_name))].add(target)
    counts = {group.target: group.object_count for group in database.groups}
    peers: dict[tuple[ObjectKind, str, str], set[Target]] = defaultdict(set)
    for target in counts:
        peers[target.kind, target.schema, target.creator].add(target)
    for (kind, schema, creator, (grantee, grantor, grant_option, depth), names), targets in alike.items():
        yield Change(
            kinds[bool(creator)],
            database=database.name,
            username=grantee,
            owner=owner,
            grantor=grantor,
            privileges=names,
            targets=tuple(sorted(targets)),
            grant_option=grant_option,
            object_count=sum(counts.get(target, 1) for target in targets),
            covers_schema=not creator and targets >= peers[kind, schema, ""],
            grant_depth=depth,
        )


def _grant_depths(database: Database) -> Callable[[Target, str, str], int]:
    """Through how many hands a grant on a target went, by its grantor and its privilege.

    Each is worked out once: the ways on which so many roles pass a privilege on to each other double with every role.
    """
    # From whom each role has the right to pass on a privilege.
    holders: dict[tuple[Target, str, str], set[str]] = defaultdict(set)
    for group in database.groups:
        for grant in group.items:
            if grant.grant_option:
                holders[group.target, grant.grantee, grant.privilege].add(grant.grantor)

    @cache
    def depth(target: Target, grantor: str, privilege: str) -> int:
        # PostgreSQL lets no grants go round in a circle.
        if grantor == target.owner:
            return 0
        before = holders.get((target, grantor, privilege), set()) - {grantor}
        return 1 + max((depth(target, giver, privilege) for giver in before), default=0)

    return depth
