"""What effective access is worked out from: capabilities, kinds of things, and what was observed of one database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from provisioner.core.access_levels import OWN
from provisioner.core.kinds import ObjectKind
from provisioner.core.state import PUBLIC, Grant

# What a list of names holds at most; of more objects their number is told and the first of them.
MAX_NAMED = 20


class Capability(StrEnum):
    """What a role can do; the words of the report, in its order. `future_` is what a default privilege will give."""

    CONNECT = "connect"
    READ = "read"
    WRITE = "write"
    CREATE = "create"
    TEMPORARY = "temporary"
    OWN = "own"
    EXECUTE = "execute"
    MAINTAIN = "maintain"
    TRIGGER = "trigger"
    REFERENCE = "reference"
    ADMINISTER = "administer"
    FUTURE_READ = "future_read"
    FUTURE_WRITE = "future_write"
    FUTURE_CREATE = "future_create"
    FUTURE_EXECUTE = "future_execute"
    UNKNOWN = "unknown"


# What each privilege lets a role do, on things that it means something on.
CAPABILITIES: Mapping[str, Capability] = {
    "CONNECT": Capability.CONNECT,
    "TEMPORARY": Capability.TEMPORARY,
    "CREATE": Capability.CREATE,
    "SELECT": Capability.READ,
    "INSERT": Capability.WRITE,
    "UPDATE": Capability.WRITE,
    "DELETE": Capability.WRITE,
    "TRUNCATE": Capability.WRITE,
    "USAGE": Capability.WRITE,
    "EXECUTE": Capability.EXECUTE,
    "MAINTAIN": Capability.MAINTAIN,
    "TRIGGER": Capability.TRIGGER,
    "REFERENCES": Capability.REFERENCE,
}
# What they will be on objects that are made from now on.
FUTURE = {Capability(each.removeprefix("future_")): each for each in Capability if each.startswith("future_")}


class Thing(StrEnum):
    """The kinds of things that access is to; the values are words for one of them, and what the query calls it.

    `kind` is what SQL and the levels take it for. A privilege that is not among `privileges` gives nothing by itself,
    such as USAGE on a schema.
    """

    kind: ObjectKind
    privileges: frozenset[str]

    DATABASE = "database", ObjectKind.DATABASE, "CONNECT TEMPORARY CREATE"
    SCHEMA = "schema", ObjectKind.SCHEMA, "CREATE"
    # And partitioned and foreign table.
    TABLE = "table", ObjectKind.TABLE, "SELECT INSERT UPDATE DELETE TRUNCATE MAINTAIN TRIGGER REFERENCES"
    VIEW = "view", ObjectKind.TABLE, "SELECT INSERT UPDATE DELETE TRIGGER"
    DELETE_VIEW = "delete-only view", ObjectKind.TABLE, "SELECT DELETE TRIGGER"  # all of its columns are computed
    FIXED_VIEW = "read-only view", ObjectKind.TABLE, "SELECT TRIGGER"
    MATERIALIZED_VIEW = "materialized view", ObjectKind.TABLE, "SELECT MAINTAIN"
    SEQUENCE = "sequence", ObjectKind.SEQUENCE, "SELECT USAGE UPDATE"
    COLUMN = "column", ObjectKind.COLUMN, "SELECT INSERT UPDATE REFERENCES"
    # Of a materialized, a read-only or a delete-only view.
    FIXED_COLUMN = "read-only column", ObjectKind.COLUMN, "SELECT"
    ROUTINE = "routine", ObjectKind.ROUTINE
    DEFINER = "SECURITY DEFINER routine", ObjectKind.ROUTINE, "EXECUTE"
    LARGE_OBJECT = "large object", ObjectKind.LARGE_OBJECT, "SELECT UPDATE"
    # What is had without a grant on anything.
    ROLE = "role"
    EVERYTHING = "everything"

    def __new__(cls, words: str, kind: ObjectKind = ObjectKind.DATABASE, privileges: str = "") -> Self:
        """One row of the table."""
        thing = str.__new__(cls, words)
        thing._value_, thing.kind, thing.privileges = words, kind, frozenset(privileges.split())
        return thing

    @property
    def is_in_schema(self) -> bool:
        """Whether it is reached by name through its schema, so that it takes USAGE on that as well."""
        return self.kind not in {ObjectKind.DATABASE, ObjectKind.SCHEMA, ObjectKind.LARGE_OBJECT}


# The predefined roles that hold more than any list says, on all that has rows: since 14, 14 and 17.
PREDEFINED = {
    "pg_read_all_data": ("SELECT",),
    "pg_write_all_data": ("DELETE", "INSERT", "UPDATE"),
    "pg_maintain": ("MAINTAIN",),
}


@dataclass(frozen=True, slots=True)
class AccessGroup:
    """All objects of one kind in one schema with one owner and one access control list.

    `names` holds the first of them. `narrowed` is how many have row-level security. `doubt` says of views that it is
    for the rights of others whether they can be written (1), or read as well (2); of routines that something else than
    their name leads to them (1), or only a trigger (2); of large objects that their lists are too many (2). Where
    `creator` is set, these are the default privileges for what that role creates.
    """

    thing: Thing
    schema: str
    owner: str
    items: tuple[Grant, ...]
    count: int = 1
    names: tuple[str, ...] = ()
    extension: bool = False
    narrowed: int = 0
    doubt: int = 0
    creator: str = ""

    def held(self, capability: Capability, holder: str, **facts: Any) -> Holding:
        objects: dict[str, Any] = {"count": self.count, "names": self.names, "narrowed": self.narrowed}
        return Holding(capability, self.thing, self.schema, holder, **objects, **facts)


@dataclass(frozen=True, slots=True, order=True)
class Holding:
    """One capability that somebody holds on the things of one kind in one schema, by a grant or (no grantor) by owning.

    `privileges` are those it rests on, each with whether it may be passed on. `owner` is told of routines, which act as
    who owns them, and `called_elsewhere` that it may take no USAGE on their schema to reach them. The last three are of
    the groups that it is held on, see `AccessGroup`, and set no two apart.
    """

    capability: Capability
    thing: Thing
    schema: str
    holder: str
    grantor: str = ""
    privileges: tuple[tuple[str, bool], ...] = ()
    extension: bool = False
    undecided: bool = False
    called_elsewhere: bool = False
    creator: str = ""
    owner: str = ""
    count: int = field(default=0, compare=False)
    names: tuple[str, ...] = field(default=(), compare=False)
    narrowed: int = field(default=0, compare=False)


def sum_up(held: Iterable[Holding]) -> list[Holding]:
    """What is held on each group in, one for all groups of which it is the same out, in order."""
    found: dict[Holding, tuple[int, tuple[str, ...], int]] = {}
    for holding in held:
        count, names, narrowed = found.get(holding, (0, (), 0))
        together = (*names, *holding.names)[:MAX_NAMED]
        found[holding] = (count + holding.count, together, narrowed + holding.narrowed)
    return [
        replace(holding, count=count, names=names, narrowed=narrowed)
        for holding, (count, names, narrowed) in sorted(found.items())
    ]


def holdings_of(group: AccessGroup) -> Iterable[Holding]:
    """What a group's list gives, and its ownership."""
    held: dict[tuple[Capability, str, str], dict[str, bool]] = {}
    for item in group.items:
        if item.privilege in group.thing.privileges:
            given = held.setdefault((CAPABILITIES[item.privilege], item.grantee, item.grantor), {})
            given[item.privilege] = given.get(item.privilege, False) or item.grant_option
    for (capability, holder, grantor), given in held.items():
        # What a creator gets of its own objects it has by owning them.
        if not group.creator or (capability in FUTURE and holder != group.creator):
            yield group.held(
                FUTURE[capability] if group.creator else capability,
                holder,
                grantor=grantor,
                privileges=tuple(sorted(given.items())),
                extension=group.extension,
                undecided=_is_undecided(group, capability, holder, given),
                called_elsewhere=group.thing is Thing.DEFINER and group.doubt == 1,
                creator=group.creator,
                owner=group.owner if group.thing is Thing.DEFINER else "",
            )
    if not group.creator and group.thing.kind is not ObjectKind.COLUMN:
        yield group.held(Capability.OWN, group.owner, privileges=((OWN, False),), extension=group.extension)
    is_covered = group.thing.kind in {ObjectKind.TABLE, ObjectKind.SEQUENCE} and not group.creator
    for role, privileges in PREDEFINED.items():
        if is_covered and not group.thing.privileges.isdisjoint(privileges):
            capability = CAPABILITIES[privileges[0]]
            undecided = _is_undecided(group, capability, role, privileges)
            yield group.held(
                capability, role, privileges=tuple((name, False) for name in privileges), undecided=undecided
            )


def _is_undecided(group: AccessGroup, capability: Capability, holder: str, privileges: Iterable[str]) -> bool:
    if group.narrowed and {*privileges} == {"INSERT"} and holder != group.owner:
        # Row-level security lets UPDATE and DELETE pass over rows, and refuses INSERT.
        return True
    if group.thing is Thing.LARGE_OBJECT and capability is Capability.WRITE:
        # To open one for writing takes SELECT as well, which may come from elsewhere.
        readers = {item.grantee for item in group.items if item.privilege == "SELECT"}
        return group.doubt > 1 or not readers & {holder, PUBLIC}
    return group.doubt > (0 if capability is Capability.WRITE else 1)
