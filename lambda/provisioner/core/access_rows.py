"""Ways in, the rows of the report out: one for each path, what the level says of it, words that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice

from provisioner.core.access_facts import Capability, Holding, Thing
from provisioner.core.access_levels import AccessLevel, allows
from provisioner.core.effective_access import Access, Way
from provisioner.core.kinds import ObjectKind
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import quote
from provisioner.core.state import DATABASE_OWNER, PUBLIC, Membership
from provisioner.core.text import join_names, sanitize

# Beyond this many paths of one role, or rows of one database, the rest is named as unknown, so that one tenant fills
# nobody's memory.
MAX_ROWS = 20_000
# More paths than this that differ in their schema alone are one row.
MAX_ALIKE = 10
YES, NO, UNKNOWN = "yes", "no", "unknown"
# Names told of the things of one path, schemas of one path, and statements that take one away.
_MAX_NAMES, _MAX_SCHEMAS, _MAX_STATEMENTS = 5, 10, 5

_OTHER_RIGHTS = "whether it succeeds is for other rights: on what the view reads, and on what it calls"
_UNDECIDED = {
    Thing.TABLE: "for which row-level security, or another server, decides",
    Thing.COLUMN: "for which row-level security, another server, or other rights than those on a view decide",
    Thing.LARGE_OBJECT: "which takes SELECT on it as well, or has lists that are too many to be told",
    Thing.DEFINER: "whether it succeeds is for what calls it: a trigger, or an operator of another schema",
}


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


def build_access_rows(access: Access, ownership: Ownership) -> list[AccessRow]:
    """Every path into one database, by role and capability; that it could not be looked into is a row, too."""
    rows: list[AccessRow] = []
    reason = access.database.unreadable_reason
    unknown = f"could not be looked into: {reason}" if reason else ""
    for role in () if unknown else (PUBLIC, *access.roles()):
        ways = list(islice(access.ways(role), MAX_ROWS + 1))
        rows += [_row(alike, access, ownership) for alike in _alike(ways)]
        if max(len(ways), len(rows)) > MAX_ROWS:
            unknown = f"more than {MAX_ROWS} paths: what the roles after {role} can do is not listed"
            break
    order = list(Capability)
    rows.sort(key=lambda row: (row.role, order.index(Capability(row.capability)), row.path, row.scope))
    if unknown:
        rows.insert(
            0, AccessRow(access.database.name, "", Capability.UNKNOWN, "the database", unknown, "", NO, UNKNOWN)
        )
    return rows


def _alike(ways: Iterable[Way]) -> Iterator[list[Way]]:
    """Ways that differ in their schema alone, together: nobody reads three hundred rows of one kind."""
    found: dict[Way, list[Way]] = {}
    for way in ways:
        found.setdefault(replace(way, holding=replace(way.holding, schema="")), []).append(way)
    for alike in found.values():
        yield from [alike] if len(alike) > MAX_ALIKE else ([way] for way in alike)


def _row(ways: list[Way], access: Access, ownership: Ownership) -> AccessRow:
    way, database = ways[0], access.database.name
    level = ownership.levels.get(database, {}).get(way.role)
    is_given = all(_is_expected(each, level, ownership.server.administrator) for each in ways)
    path = _describe_path(way)
    return AccessRow(
        database=database,
        role=way.role,
        capability=way.holding.capability,
        scope=_describe_scope(ways),
        path=f"level {level}: {path}" if is_given and level else path,
        declared_level=level or "",
        managed=YES if ownership.manages(way.role) else NO,
        expected=UNKNOWN if way.holding.undecided else YES if is_given else NO,
        statement=_take_away(ways, access),
    )


def _is_expected(way: Way, level: AccessLevel | None, administrator: str) -> bool:
    """Whether a declared level, or what PUBLIC and the administrator keep, gives a way (`access_levels.allows`)."""
    holding = way.holding
    # Up to 15 an owner that does not inherit has to SET ROLE to what it is by owning the database.
    set_role = [item for item in way.set_role if (item.role, item.member) != (DATABASE_OWNER, way.role)]
    is_own_way = not (way.attribute or way.admin or set_role or way.chain)
    if way.role == administrator and not level:
        # What the function itself works with.
        is_connect = is_own_way and holding.capability is Capability.CONNECT and holding.holder == administrator
        return is_connect or holding.capability is Capability.ADMINISTER
    if not is_own_way or (way.role != PUBLIC and level is None):
        return False
    # A routine that everybody may execute acts with its owner's rights, which no level has.
    to_public = holding.holder == PUBLIC and (way.role == PUBLIC or holding.capability is not Capability.EXECUTE)
    return all(
        allows(level, holding.thing.kind, name, option=option, to_public=to_public)
        for name, option in holding.privileges
    )


# --- the words: what a way is to, by which path, what takes it away --------------------------------------------------


def _describe_scope(ways: Sequence[Way]) -> str:
    """What the ways of one path are to: kind, number, schemas, the first names."""
    holding = ways[0].holding
    schemas = sorted({way.holding.schema for way in ways})
    if holding.thing is Thing.EVERYTHING:
        return "everything in the database"
    if holding.thing is Thing.ROLE:
        return f"role {_name(holding.holder)}"
    if holding.creator:
        return f"{holding.thing}s that {_name(holding.creator)} creates from now on{_in_schemas(' in ', schemas)}"
    if holding.thing is Thing.DATABASE:
        return "the database"
    if holding.thing is Thing.SCHEMA:
        return _in_schemas("", schemas)
    count = sum(way.holding.count for way in ways)
    text = f"{count} {holding.thing}{'' if count == 1 else 's'}"
    text += f" of {_name(holding.owner)}" if holding.owner else ""
    text += _in_schemas(" in ", schemas)
    names = [name for way in ways for name in way.holding.names]
    text += f": {join_names(names, _MAX_NAMES)}" if len(names) == count else f", such as {join_names(names[:3])}"
    narrowed = sum(way.holding.narrowed for way in ways)
    if narrowed and holding.capability in {Capability.READ, Capability.WRITE}:
        text += f" (row-level security may narrow {narrowed} of them)"
    return f"{text} (of an extension)" if holding.extension else text


def _describe_path(way: Way) -> str:
    """How a role comes to it, from the role on."""
    holding = way.holding
    steps = [f"SET ROLE {_granted(item)}" for item in way.set_role[-1:]]
    if len(way.set_role) > 1:
        steps.append("through " + " and ".join(_name(item.role) for item in way.set_role[:-1]))
    steps += [f"member of {_granted(item)}" for item in way.chain]
    if way.admin:
        steps.append(f"ADMIN on {_granted(way.admin)}")
    elif way.attribute:
        steps.append(f"attribute {way.attribute}")
    else:
        if DATABASE_OWNER == holding.holder != way.acting:
            steps.append(f"as the database's owner in {DATABASE_OWNER}")
        steps.append("owner" if holding.capability is Capability.OWN else _describe_grant(holding))
    if holding.undecided:
        steps.append(_UNDECIDED.get(holding.thing, _OTHER_RIGHTS))
    return ", ".join(steps)


def _describe_grant(holding: Holding) -> str:
    privileges = ", ".join(f"{name} with grant option" if option else name for name, option in holding.privileges)
    if not holding.grantor:
        return f"{privileges} on everything, which is what {_name(holding.holder)} is for"
    default = "default privilege: " if holding.creator else ""
    to = " to PUBLIC" if holding.holder == PUBLIC else ""
    return f"{default}{privileges} granted{to} by {_name(holding.grantor)}"


def _take_away(ways: Sequence[Way], access: Access) -> str:
    """The SQL that takes a path away; a comment says as whom where that matters."""
    way, holding, database = ways[0], ways[0].holding, access.database.name
    first = (*way.set_role, *way.chain)[:1]
    if first and first[0].grantor:
        return _revoke_role("REVOKE", first[0], access)
    if way.attribute:
        return f"ALTER ROLE {quote(way.acting)} NO{way.attribute}"
    if way.admin:
        return _revoke_role("REVOKE ADMIN OPTION FOR", way.admin, access)
    if holding.capability is Capability.OWN:
        name = {Thing.DATABASE: database, Thing.SCHEMA: holding.schema}.get(holding.thing)
        one = f"ALTER {holding.thing.kind.keyword} {quote(name)} OWNER TO ..." if name else ""
        return one or f"REASSIGN OWNED BY {quote(holding.holder)} TO ..."
    texts = [_revoke(each.holding, database) for each in ways[:_MAX_STATEMENTS]]
    texts += [f"-- and {len(ways) - len(texts)} more of the same"] if len(ways) > len(texts) else []
    return f"{'; '.join(texts)}; -- as {_name(holding.grantor)}"


def _revoke_role(revoke: str, item: Membership, access: Access) -> str:
    by = f" GRANTED BY {quote(item.grantor)}" if access.graph.has_options else ""
    return f"{revoke} {quote(item.role)} FROM {quote(item.member)}{by}"


# A table or a column, as the server quotes it where that is needed.
_IDENTIFIER = re.compile(r'"(?:[^"]|"")*"|[^"()]+')


def _revoke(holding: Holding, database: str) -> str:
    privileges, keyword = ", ".join(name for name, _ in holding.privileges), holding.thing.kind.keyword
    grantee = "PUBLIC" if holding.holder == PUBLIC else quote(holding.holder)
    schema = quote(holding.schema)
    if holding.creator:
        where = f" IN SCHEMA {schema}" if holding.schema else ""
        creator = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote(holding.creator)}{where}"
        return f"{creator} REVOKE {privileges} ON {keyword}S FROM {grantee}"
    if holding.thing.kind is ObjectKind.COLUMN:
        # PostgreSQL has one statement for each table; the first says how.
        parts = _IDENTIFIER.findall(holding.names[0])
        table, column = (part if part.startswith('"') else quote(part) for part in parts)
        privileges = ", ".join(f"{name} ({column})" for name, _ in holding.privileges)
        return f"REVOKE {privileges} ON TABLE {schema}.{table} FROM {grantee}"
    names = {
        Thing.DATABASE: [quote(database)],
        Thing.SCHEMA: [schema],
        Thing.LARGE_OBJECT: holding.names,
        # The server has quoted them, with the types of their arguments.
        Thing.DEFINER: [f"{schema}.{name}" for name in holding.names],
    }.get(holding.thing, [f"{schema}.{quote(name)}" for name in holding.names])
    has_more = holding.thing.is_in_schema and len(names) < holding.count
    what = f"ALL {keyword}S IN SCHEMA {schema}" if has_more else f"{keyword} {', '.join(names)}"
    return f"REVOKE {privileges} ON {what} FROM {grantee}"


def _granted(item: Membership) -> str:
    return _name(item.role) + (f" (granted by {_name(item.grantor)})" if item.grantor else "")


def _in_schemas(before: str, schemas: Sequence[str]) -> str:
    """What stands in no schema is in none of them."""
    if len(schemas) > 1:
        return f"{before}{len(schemas)} schemas ({join_names(schemas, _MAX_SCHEMAS)})"
    return f"{before}schema {_name(schemas[0])}" if schemas[0] else ""


def _name(name: str) -> str:
    return f'"{sanitize(name, 63)}"'
