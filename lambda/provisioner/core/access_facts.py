"""What effective access is worked out from: capabilities, kinds of things, and what was observed of one database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

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


class Thing(StrEnum):
    """The kinds of things that access is to; the values are words for one of them."""

    DATABASE = "database"
    SCHEMA = "schema"
    TABLE = "table"  # and partitioned and foreign table
    VIEW = "view"
    FIXED_VIEW = "read-only view"
    MATERIALIZED_VIEW = "materialized view"
    SEQUENCE = "sequence"
    COLUMN = "column"
    FIXED_COLUMN = "read-only column"  # of a materialized or a read-only view
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
        Thing.FIXED_VIEW,
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
    Thing.FIXED_VIEW: {name: _ROWS[name] for name in ("SELECT", "TRIGGER")},
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
    connection_limit: int = -1


@dataclass(frozen=True, slots=True, order=True)
class Holding:
    """One capability that somebody holds on the things of one kind in one schema, by a grant or (no grantor) by owning.

    `privileges` are those it rests on, each with whether it may be passed on. `owner` is told of routines, which act as
    who owns them. The last three sum up the groups that it is held on; see `AccessGroup`.
    """

    capability: Capability
    thing: Thing
    schema: str
    holder: str
    grantor: str = ""
    privileges: tuple[tuple[str, bool], ...] = ()
    extension: bool = False
    undecided: bool = False
    creator: str = ""
    owner: str = ""
    count: int = 0
    names: tuple[str, ...] = ()
    narrowed: int = 0


def sum_up(held: Iterable[tuple[Holding, AccessGroup]]) -> list[Holding]:
    """What is held on each group in, one for all groups of which it is the same out, in order."""
    found: dict[Holding, list[AccessGroup]] = {}
    for holding, group in held:
        found.setdefault(holding, []).append(group)
    return [
        replace(
            holding,
            count=sum(group.count for group in found[holding]),
            names=tuple(islice((name for group in found[holding] for name in group.names), MAX_NAMED)),
            narrowed=sum(group.narrowed for group in found[holding]),
        )
        for holding in sorted(found)
    ]


def holdings_of(group: AccessGroup) -> Iterable[Holding]:
    """What a group's list gives, and its ownership."""
    # A routine that will be made may be one that runs with its owner's rights.
    thing = Thing.DEFINER if group.creator and group.thing is Thing.ROUTINE else group.thing
    held: dict[tuple[Capability, str, str], dict[str, bool]] = {}
    for item in group.items:
        capability = GIVES[thing].get(item.privilege)
        if group.creator:
            # What the creator gets of its own objects it has by owning them.
            capability = FUTURE.get(capability) if capability and item.grantee != group.creator else None
        if capability:
            privileges = held.setdefault((capability, item.grantee, item.grantor), {})
            privileges[item.privilege] = privileges.get(item.privilege, False) or item.grant_option
    for (capability, holder, grantor), privileges in held.items():
        yield Holding(
            capability,
            thing,
            group.schema,
            holder,
            grantor,
            privileges=tuple(sorted(privileges.items())),
            extension=group.extension,
            undecided=_is_undecided(group, capability, holder, privileges),
            creator=group.creator,
            owner=group.owner if thing is Thing.DEFINER else "",
        )
    if not group.creator and group.thing not in COLUMNS:
        yield Holding(Capability.OWN, group.thing, group.schema, group.owner, extension=group.extension)


def _is_undecided(group: AccessGroup, capability: Capability, holder: str, privileges: Iterable[str]) -> bool:
    if group.narrowed and {*privileges} == {"INSERT"} and holder != group.owner:
        # Row-level security lets UPDATE and DELETE pass over rows, and refuses INSERT.
        return True
    if group.thing is Thing.LARGE_OBJECT and capability is Capability.WRITE:
        # To open one for writing takes SELECT as well, which may come from elsewhere.
        readers = {item.grantee for item in group.items if item.privilege == "SELECT"}
        return not readers & {holder, PUBLIC}
    return group.undecided_writes if capability is Capability.WRITE else group.undecided
