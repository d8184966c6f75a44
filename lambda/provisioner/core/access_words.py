"""A way in, words out that a person can act on: what it is to, by which path, and the statement that takes it away."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.core.access_facts import COLUMNS, Capability, Thing
from provisioner.core.effective_access import Way
from provisioner.core.quoting import Identifier, Keywords, statement
from provisioner.core.role_graph import OPTIONS_VERSION
from provisioner.core.state import DATABASE_OWNER, PUBLIC, Membership
from provisioner.core.text import join_names, sanitize

# Names told of the things of one path, schemas of one path, and statements that take one away.
_MAX_NAMES, _MAX_SCHEMAS, _MAX_STATEMENTS = 5, 10, 5

_UNDECIDED = {
    Thing.TABLE: "for which row-level security, or another server, decides",
    Thing.COLUMN: "for which row-level security, another server, or the rights of a view's owner decide",
    Thing.VIEW: "whether it succeeds is for the rights of the view's owner on what the view reads",
    Thing.LARGE_OBJECT: "which takes SELECT on it as well",
}
_ON = {
    Thing.DATABASE: "DATABASE",
    Thing.SCHEMA: "SCHEMA",
    Thing.TABLE: "TABLE",
    Thing.VIEW: "TABLE",
    Thing.FIXED_VIEW: "TABLE",
    Thing.MATERIALIZED_VIEW: "TABLE",
    Thing.COLUMN: "TABLE",
    Thing.FIXED_COLUMN: "TABLE",
    Thing.SEQUENCE: "SEQUENCE",
    Thing.DEFINER: "ROUTINE",
    Thing.LARGE_OBJECT: "LARGE OBJECT",
}
_ALL = {"TABLE": "TABLES", "SEQUENCE": "SEQUENCES", "ROUTINE": "ROUTINES", "SCHEMA": "SCHEMAS"}


def describe_scope(ways: Sequence[Way]) -> str:
    """What the ways of one path are to: kind, number, schemas, the first names."""
    holding = ways[0].holding
    if holding.thing is Thing.EVERYTHING:
        return "everything in the database"
    if holding.thing is Thing.ROLE:
        return f"role {_name(holding.holder)}"
    schemas = sorted({way.holding.schema for way in ways})
    if holding.creator:
        where = "" if schemas == [""] else f" in {_in_schemas(schemas)}"
        return f"{_plural(holding.thing)} that {_name(holding.creator)} creates from now on{where}"
    count = sum(way.holding.count for way in ways)
    if holding.thing is Thing.DATABASE:
        return "the database"
    if holding.thing is Thing.SCHEMA:
        return _in_schemas(schemas)
    names = [name for way in ways for name in way.holding.names]
    text = f"{count} {_plural(holding.thing) if count != 1 else holding.thing.value}"
    if holding.owner:
        text += f" of {_name(holding.owner)}"
    if schemas != [""]:
        text += f" in {_in_schemas(schemas)}"
    if names:
        text += f": {join_names(names, _MAX_NAMES)}" if len(names) == count else f", such as {join_names(names[:3])}"
    narrowed = sum(way.holding.narrowed for way in ways)
    if narrowed and holding.capability in {Capability.READ, Capability.WRITE}:
        text += f" (row-level security may narrow {narrowed} of them)"
    return f"{text} (of an extension)" if holding.extension else text


def describe_path(way: Way) -> str:
    """How a role comes to it, from the role on."""
    steps = [f"SET ROLE {_name(item.role)}{_by(item)}" for item in way.set_role[-1:]]
    if len(way.set_role) > 1:
        steps.append("through " + " and ".join(_name(item.role) for item in way.set_role[:-1]))
    steps += [_member(item) for item in way.chain]
    if way.admin:
        steps.append(f"ADMIN on {_name(way.admin.role)}{_by(way.admin)}")
    elif way.attribute:
        steps.append(f"attribute {way.attribute}")
    else:
        steps.append(_last(way))
    if way.holding.undecided:
        steps.append(_UNDECIDED.get(way.holding.thing, _UNDECIDED[Thing.VIEW]))
    return ", ".join(steps)


def take_away(ways: Sequence[Way], version: int, database: str) -> str:
    """The SQL that takes a path away; a comment says as whom where that matters."""
    way = ways[0]
    first = (way.set_role or way.chain)[:1]
    if first and first[0].grantor:
        return _revoke_membership(first[0], version)
    if way.attribute:
        role = way.set_role[-1].role if way.set_role else way.role
        return str(statement("ALTER ROLE {} {}", Identifier(role), Keywords(f"NO{way.attribute}")))
    if way.admin:
        text = statement("REVOKE ADMIN OPTION FOR {} FROM {}", Identifier(way.admin.role), Identifier(way.admin.member))
        return f"{text}{_granted_by(way.admin, version)}"
    if way.holding.capability is Capability.OWN:
        return _disown(way, database)
    texts = [_revoke(each, database) for each in ways[:_MAX_STATEMENTS]]
    more = [f"-- and {len(ways) - len(texts)} more of the same"] if len(ways) > len(texts) else []
    return "; ".join([*texts, *more]) + f"; -- as {_name(way.holding.grantor)}"


def _revoke_membership(item: Membership, version: int) -> str:
    text = statement("REVOKE {} FROM {}", Identifier(item.role), Identifier(item.member))
    return f"{text}{_granted_by(item, version)}"


def _granted_by(item: Membership, version: int) -> str:
    return str(statement(" GRANTED BY {}", Identifier(item.grantor))) if version >= OPTIONS_VERSION else ""


def _disown(way: Way, database: str) -> str:
    holding = way.holding
    if holding.thing is Thing.DATABASE:
        return str(statement("ALTER DATABASE {} OWNER TO ...", Identifier(database)))
    if holding.thing is Thing.SCHEMA:
        return str(statement("ALTER SCHEMA {} OWNER TO ...", Identifier(holding.schema)))
    return str(statement("REASSIGN OWNED BY {} TO ...", Identifier(holding.holder)))


def _revoke(way: Way, database: str) -> str:
    holding = way.holding
    privileges = Keywords(", ".join(privilege for privilege, _ in holding.privileges))
    grantee = Keywords("PUBLIC") if holding.holder == PUBLIC else Identifier(holding.holder)
    words = _ON[holding.thing]
    if holding.creator:
        where = statement(" IN SCHEMA {}", Identifier(holding.schema)) if holding.schema else ""
        creator = statement("ALTER DEFAULT PRIVILEGES FOR ROLE {}", Identifier(holding.creator))
        return f"{creator}{where} {statement('REVOKE {} ON {} FROM {}', privileges, Keywords(_ALL[words]), grantee)}"
    if holding.thing is Thing.DATABASE:
        return str(statement("REVOKE {} ON DATABASE {} FROM {}", privileges, Identifier(database), grantee))
    if holding.thing is Thing.SCHEMA:
        return str(statement("REVOKE {} ON SCHEMA {} FROM {}", privileges, Identifier(holding.schema), grantee))
    if holding.thing in COLUMNS:
        # PostgreSQL has one statement for each table; the first says how.
        table, _, column = holding.names[0].rpartition("(")
        each = ", ".join(f"{name} ({Identifier(column[:-1]).sql()})" for name, _ in holding.privileges)
        return f"REVOKE {each} ON TABLE {_quoted(holding.thing, holding.schema, table)} FROM {grantee.sql()}"
    if holding.names and len(holding.names) == holding.count:
        what = f"{words} {', '.join(_quoted(holding.thing, holding.schema, name) for name in holding.names)}"
    else:
        what = f"ALL {_ALL.get(words, 'LARGE OBJECTS')} IN SCHEMA {Identifier(holding.schema).sql()}"
    return f"REVOKE {privileges} ON {what} FROM {grantee.sql()}"


def _quoted(thing: Thing, schema: str, name: str) -> str:
    if thing is Thing.LARGE_OBJECT:
        return name
    if thing is Thing.DEFINER:
        # The server has quoted it, with the types of its arguments.
        return f"{Identifier(schema).sql()}.{name}"
    return f"{Identifier(schema).sql()}.{Identifier(name).sql()}"


def _last(way: Way) -> str:
    holding = way.holding
    if holding.capability is Capability.OWN:
        return "owner"
    privileges = _privileges(way)
    if not holding.grantor:
        return f"{privileges} on everything, which is what {_name(holding.holder)} is for"
    to = " to PUBLIC" if holding.holder == PUBLIC else ""
    default = "default privilege: " if holding.creator else ""
    return f"{default}{privileges} granted{to} by {_name(holding.grantor)}"


def _privileges(way: Way) -> str:
    return ", ".join(f"{name} with grant option" if option else name for name, option in way.holding.privileges)


def _member(item: Membership) -> str:
    if item.role == DATABASE_OWNER and not item.grantor:
        return f"as the database's owner in {DATABASE_OWNER}"
    return f"member of {_name(item.role)}{_by(item)}"


def _by(item: Membership) -> str:
    return f" (granted by {_name(item.grantor)})" if item.grantor else ""


def _in_schemas(schemas: Sequence[str]) -> str:
    if len(schemas) == 1:
        return f"schema {_name(schemas[0])}"
    return f"{len(schemas)} schemas ({join_names(schemas, _MAX_SCHEMAS)})"


def _plural(thing: Thing) -> str:
    return f"{thing.value}s"


def _name(name: str) -> str:
    return f'"{sanitize(name, 63)}"'
