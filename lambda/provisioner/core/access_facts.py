"""What effective access is worked out from: capabilities, kinds of things, and what was observed of one database."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from provisioner.core.state import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.core.state import Grant

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


class Thing(StrEnum):
    """The kinds of things that access is to; the values are words for one of them."""

    DATABASE = "database"
    SCHEMA = "schema"
    TABLE = "table"  # and partitioned and foreign table
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    SEQUENCE = "sequence"
    COLUMN = "column"
    FIXED_COLUMN = "materialized view column"  # nobody writes one
    ROUTINE = "routine"
    DEFINER = "SECURITY DEFINER routine"
    TYPE = "type"
    LARGE_OBJECT = "large object"
    ROLE = "role"
    EVERYTHING = "everything"


# The things that are reached by name through their schema, so that it takes USAGE on that as well.
IN_SCHEMAS = frozenset(
    {
        Thing.TABLE,
        Thing.VIEW,
        Thing.MATERIALIZED_VIEW,
        Thing.SEQUENCE,
        Thing.COLUMN,
        Thing.FIXED_COLUMN,
        Thing.ROUTINE,
        Thing.DEFINER,
    }
)

_ROWS = {
    "SELECT": Capability.READ,
    "INSERT": Capability.WRITE,
    "UPDATE": Capability.WRITE,
    "DELETE": Capability.WRITE,
    "TRUNCATE": Capability.WRITE,
    "MAINTAIN": Capability.MAINTAIN,
    "TRIGGER": Capability.TRIGGER,
    "REFERENCES": Capability.REFERENCE,
}
COLUMNS = frozenset({Thing.COLUMN, Thing.FIXED_COLUMN})
# What each privilege lets a role do. One that is not here gives nothing by itself, such as USAGE on a schema.
GIVES: Mapping[Thing, Mapping[str, Capability]] = {
    Thing.DATABASE: {
        "CONNECT": Capability.CONNECT,
        "TEMPORARY": Capability.TEMPORARY,
        "CREATE": Capability.CREATE,
    },
    Thing.SCHEMA: {"CREATE": Capability.CREATE},
    Thing.TABLE: _ROWS,
    Thing.VIEW: {name: _ROWS[name] for name in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRIGGER")},
    Thing.MATERIALIZED_VIEW: {name: _ROWS[name] for name in ("SELECT", "MAINTAIN")},
    Thing.SEQUENCE: {"SELECT": Capability.READ, "USAGE": Capability.WRITE, "UPDATE": Capability.WRITE},
    Thing.COLUMN: {name: _ROWS[name] for name in ("SELECT", "INSERT", "UPDATE", "REFERENCES")},
    Thing.FIXED_COLUMN: {"SELECT": Capability.READ},
    Thing.ROUTINE: {},
    Thing.DEFINER: {"EXECUTE": Capability.EXECUTE},
    Thing.TYPE: {},
    Thing.LARGE_OBJECT: {"SELECT": Capability.READ, "UPDATE": Capability.WRITE},
}
FUTURE = {
    Capability.READ: Capability.FUTURE_READ,
    Capability.WRITE: Capability.FUTURE_WRITE,
    Capability.CREATE: Capability.FUTURE_CREATE,
    Capability.EXECUTE: Capability.FUTURE_EXECUTE,
}


@dataclass(frozen=True, slots=True)
class AccessGroup:
    """All objects of one kind in one schema with one owner and one access control list.

    `names` holds the first of them. `narrowed` is how many have row-level security; `undecided` says of views that it
    is for the rights of others whether they can be read, `undecided_writes` whether they can be written. Where
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
    undecided: bool = False
    undecided_writes: bool = False
    creator: str = ""


@dataclass(frozen=True, slots=True)
class DatabaseAccess:
    """One database: what was found in it, or in `unknown` why nothing could be."""

    name: str
    owner: str
    groups: tuple[AccessGroup, ...] = ()
    unknown: str = ""
    # Nobody gets in, not even a superuser.
    closed: bool = False
    connection_limit: int = -1


@dataclass(frozen=True, slots=True)
class Holding:
    """One capability that somebody holds on the things of one kind in one schema, by a grant or (no grantor) by owning.

    `privileges` are those it rests on, each with the number of things; `passable` those with grant option. `owner` is
    told of routines, which act as who owns them.
    """

    capability: Capability
    thing: Thing
    schema: str
    holder: str
    grantor: str = ""
    extension: bool = False
    undecided: bool = False
    creator: str = ""
    owner: str = ""
    privileges: tuple[tuple[str, int], ...] = ()
    passable: frozenset[str] = frozenset()
    count: int = 0
    names: tuple[str, ...] = ()
    narrowed: int = 0


@dataclass(slots=True)
class _Sum:
    """What is added up of a holding while the groups are read."""

    privileges: dict[str, int] = field(default_factory=dict)
    passable: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    count: int = 0
    narrowed: int = 0

    def add(self, group: AccessGroup, privileges: Mapping[str, bool]) -> None:
        for privilege, passable in privileges.items():
            self.privileges[privilege] = self.privileges.get(privilege, 0) + group.count
            self.passable |= {privilege} if passable else set()
        self.count += group.count
        self.narrowed += group.narrowed
        self.names += group.names[: MAX_NAMED - len(self.names)]


def holdings(database: DatabaseAccess) -> tuple[Holding, ...]:
    """What is held in a database, one for each capability, kind, schema, holder and grantor; in order."""
    sums: dict[_Key, _Sum] = {}
    for group in database.groups:
        for key, privileges in _held(group).items():
            sums.setdefault(key, _Sum()).add(group, privileges)
    return tuple(
        Holding(
            *key,
            privileges=tuple(sorted(total.privileges.items())),
            passable=frozenset(total.passable),
            count=total.count,
            names=tuple(total.names),
            narrowed=total.narrowed,
        )
        for key, total in sorted(sums.items())
    )


_Key = tuple[Capability, Thing, str, str, str, bool, bool, str, str]


def _held(group: AccessGroup) -> dict[_Key, dict[str, bool]]:
    """What a group's list gives: the first fields of `Holding`, with each privilege and its grant option."""
    found: dict[_Key, dict[str, bool]] = {}
    # A routine that will be made may be one that runs with its owner's rights.
    thing = Thing.DEFINER if group.creator and group.thing is Thing.ROUTINE else group.thing
    for item in group.items:
        capability = GIVES[thing].get(item.privilege)
        if group.creator:
            # What the creator gets of its own objects it has by owning them.
            capability = FUTURE.get(capability) if capability and item.grantee != group.creator else None
        if capability:
            undecided = _is_undecided(group, capability, item.grantee)
            marks = group.extension, undecided, group.creator, group.owner if thing is Thing.DEFINER else ""
            key = capability, thing, group.schema, item.grantee, item.grantor, *marks
            privileges = found.setdefault(key, {})
            privileges[item.privilege] = privileges.get(item.privilege, False) or item.grant_option
    if group.narrowed:
        found = {_narrowed(key, privileges, group.owner): privileges for key, privileges in found.items()}
    if not group.creator and group.thing not in COLUMNS:
        found[Capability.OWN, group.thing, group.schema, group.owner, "", group.extension, False, "", ""] = {}
    return found


def _narrowed(key: _Key, privileges: Mapping[str, bool], owner: str) -> _Key:
    """Row-level security lets UPDATE and DELETE pass over rows, and refuses INSERT: alone, that cannot be decided."""
    capability, thing, schema, holder, grantor, extension, undecided, *more = key
    is_insert = capability is Capability.WRITE and privileges.keys() == {"INSERT"} and holder != owner
    return capability, thing, schema, holder, grantor, extension, undecided or is_insert, *more  # type: ignore[return-value]


def _is_undecided(group: AccessGroup, capability: Capability, grantee: str) -> bool:
    if group.thing is Thing.LARGE_OBJECT and capability is Capability.WRITE:
        # To open one for writing takes SELECT as well, which may come from elsewhere.
        readers = {item.grantee for item in group.items if item.privilege == "SELECT"}
        return not readers & {grantee, PUBLIC}
    return group.undecided_writes if capability is Capability.WRITE else group.undecided
