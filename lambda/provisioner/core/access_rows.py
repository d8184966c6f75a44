"""Ways in, the rows of the report out: one for each path, with what the declared level says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice

from provisioner.core.access_facts import Capability, DatabaseAccess
from provisioner.core.access_levels import OWN, AccessLevel, allows
from provisioner.core.access_words import describe_path, describe_scope, take_away
from provisioner.core.effective_access import Access, Way
from provisioner.core.state import PUBLIC

# Beyond this many paths of one role, or rows of one database, the rest is named as unknown, so that one tenant fills
# nobody's memory.
MAX_ROWS = 20_000
# More paths than this that differ in their schema alone are one row.
MAX_ALIKE = 10
YES, NO, UNKNOWN = "yes", "no", "unknown"


@dataclass(frozen=True, slots=True, order=True)
class AccessRow:
    """One path; the first eight fields are the columns of the CSV. `statement` takes it away."""

    database: str
    role: str
    capability: str
    scope: str
    path: str
    declared_level: str
    managed: str
    expected: str
    statement: str = ""


COLUMNS = tuple(each.name for each in fields(AccessRow))[:-1]


@dataclass(frozen=True, slots=True)
class Declared:
    """What a way is judged by: levels by database and role, the managed roles, the administrator."""

    levels: Mapping[tuple[str, str], AccessLevel]
    managed: frozenset[str]
    administrator: str


def build_rows(access: Access, declared: Declared) -> list[AccessRow]:
    """Every path into one database, by role and capability; that it could not be looked into is a row, too."""
    database = access.database
    rows: list[AccessRow] = []
    unknown = f"could not be looked into: {database.unknown}" if database.unknown else ""
    for role in () if unknown else (PUBLIC, *access.roles()):
        ways = list(islice(access.ways(role), MAX_ROWS + 1))
        rows += [_row(alike, database, declared, access.version) for alike in _alike(ways)]
        if max(len(ways), len(rows)) > MAX_ROWS:
            unknown = f"more than {MAX_ROWS} paths: what the roles after {role} can do is not listed"
            break
    order = list(Capability)
    rows.sort(key=lambda row: (row.role, order.index(Capability(row.capability)), row.path, row.scope))
    if unknown:
        rows.insert(0, AccessRow(database.name, "", Capability.UNKNOWN, "the database", unknown, "", NO, UNKNOWN))
    return rows


def _alike(ways: Iterable[Way]) -> Iterator[list[Way]]:
    """Ways that differ in their schema alone, together: nobody reads three hundred rows of one kind."""
    found: dict[Way, list[Way]] = {}
    for way in ways:
        found.setdefault(replace(way, holding=replace(way.holding, schema="")), []).append(way)
    for alike in found.values():
        yield from [alike] if len(alike) > MAX_ALIKE else ([way] for way in alike)


def _row(ways: list[Way], database: DatabaseAccess, declared: Declared, version: int) -> AccessRow:
    way = ways[0]
    level = declared.levels.get((database.name, way.role))
    is_given = all(is_expected(each, level, declared.administrator) for each in ways)
    path = describe_path(way)
    return AccessRow(
        database=database.name,
        role=way.role,
        capability=way.holding.capability,
        scope=describe_scope(ways),
        path=f"level {level}: {path}" if is_given and level else path,
        declared_level=level or "",
        managed=YES if way.role in declared.managed else NO,
        expected=UNKNOWN if way.holding.undecided else YES if is_given else NO,
        statement=take_away(ways, version, database.name),
    )


def is_expected(way: Way, level: AccessLevel | None, administrator: str) -> bool:
    """Whether a declared level, or what PUBLIC and the administrator keep, gives a way (`access_levels.allows`)."""
    holding = way.holding
    is_own_way = not (way.attribute or way.admin or way.set_role or way.chain)
    if way.role == administrator and not level:
        # What the function itself works with.
        is_connect = is_own_way and holding.capability is Capability.CONNECT and holding.holder == administrator
        return is_connect or holding.capability is Capability.ADMINISTER
    if not is_own_way or (way.role != PUBLIC and level is None):
        return False
    if holding.capability is Capability.OWN:
        return allows(level, holding.thing.kind, OWN)
    # A routine that everybody may execute acts with its owner's rights, which no level has.
    to_public = holding.holder == PUBLIC and (way.role == PUBLIC or holding.capability is not Capability.EXECUTE)
    return all(
        allows(level, holding.thing.kind, name, option=option, to_public=to_public)
        for name, option in holding.privileges
    )
