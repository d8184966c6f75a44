"""What stands in one database: a connection into it in, groups of objects with their access control lists out.

Asked in one message, and in a second one where there are kinds of objects that most databases have none of. The answer
follows the number of schemas and distinct access control lists in size, not the number of tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from provisioner.core.access_facts import MAX_NAMED
from provisioner.core.acl import parse_acl
from provisioner.core.kinds import ObjectKind
from provisioner.core.quoting import Statement, array
from provisioner.core.state import Database, ObjectGroup, Target, TooLarge, Unreadable
from provisioner.edges.postgres import Connection

# Beyond this many distinct access control lists, this length of them together, or this many objects to be changed one
# by one, a database is somebody's experiment; it is refused, not held in memory.
MAX_GROUPS, MAX_ACL_CHARACTERS, MAX_NAMES = 20_000, 4_000_000, 100_000

# Beside the letters of `ObjectKind`: the rows of what is installed, and the one that says that there is more to ask.
_EXTENSION = "e"
_MORE = "+"
_DEFINER = "F"
_NO_SCHEMA = 0


def read_database(
    connection: Connection, facts: Database, *before: Statement | str, with_extensions: bool = False
) -> Database:
    """Ask the connected database for everything that `facts` does not know from outside.

    Statements that are to run first go into the first message. Without `with_extensions`, those installed stay unknown.

    Raises SqlError: a statement failed or the connection was lost.
    """
    parts = _PARTS + (_EXTENSION_PART if with_extensions else "")
    rows = [GroupRow(*row) for row in connection.run(*before, _database_query(parts))]
    if any(each.letter == _MORE for each in rows):
        rows = [each for each in rows if each.letter != _MORE]
        rows += [GroupRow(*row) for row in connection.run(_database_query(_RARE_PARTS))]
    try:
        return _with_groups(facts, rows)
    except Unreadable as error:
        return facts.refused(error)


def _with_groups(facts: Database, rows: Sequence[GroupRow]) -> Database:
    refuse_too_many([each.acl for each in rows])
    schemas = {each.schema: each.name for each in rows if each.letter == "n" and not each.is_default}
    schemas[_NO_SCHEMA] = ""
    # What stands in a schema of the system, or of a session, belongs to no application.
    ours = [each for each in rows if each.letter != _EXTENSION and each.schema in schemas]
    return replace(
        facts,
        groups=tuple(_group(each, schemas) for each in ours if each.letter != _DEFINER),
        extensions=frozenset(each.name for each in rows if each.letter == _EXTENSION),
        definers=tuple(_group(each, schemas) for each in ours if each.letter == _DEFINER),
    )


def refuse_too_many(lists: Sequence[str]) -> None:
    """Raise TooLarge where the lists of a database are too many, or too long together, to be taken apart."""
    if len(lists) > MAX_GROUPS:
        raise TooLarge(f"its objects have more than {MAX_GROUPS} different access control lists")
    if sum(map(len, lists)) > MAX_ACL_CHARACTERS:
        raise TooLarge(f"its access control lists are longer than {MAX_ACL_CHARACTERS} characters")


def read_object_names(connection: Connection, facts: Database, targets: Sequence[Target]) -> Database:
    """Add the names behind groups of tables, sequences or columns, in order: (name,), or (table, column).

    Raises SqlError: the statement failed or the connection was lost.
    """
    if not targets:
        return facts
    names: dict[Target, list[tuple[str, ...]]] = {target: [] for target in targets}
    rows = connection.run(_names_query(targets))
    if len(rows) > MAX_NAMES:
        return facts.refused(TooLarge(f"more than {MAX_NAMES} of its objects would have to be changed one by one"))
    for number, *name in rows:
        names[targets[number]].append(tuple(part for part in name if part))
    return replace(facts, names={target: tuple(found) for target, found in names.items()})


class GroupRow(NamedTuple):
    """A row of what stands in a database, its columns in the order of `_database_query`.

    `schema` is the id of one, and `name` what that one is called, or an extension. `is_default` marks a default
    privilege, not an object.
    """

    letter: str
    schema: int
    owner: str
    acl: str
    name: str
    extension: bool
    is_default: bool
    number: int


def _group(found: GroupRow, schemas: Mapping[int, str]) -> ObjectGroup:
    kind = ObjectKind.ROUTINE if found.letter == _DEFINER else ObjectKind.of_letter(found.letter)
    target = Target(
        kind,
        schema=schemas[found.schema],
        owner=found.owner,
        acl=found.acl if kind.named_by and not found.is_default else "",
        extension=found.extension,
        creator=found.owner if found.is_default else "",
    )
    example = found.name if found.letter == _DEFINER else ""
    return ObjectGroup(target, parse_acl(found.acl), found.number, example)


# Objects of the system's schemas belong to no application. An object of an extension follows its extension.
NOT_SYSTEM = "left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'"
# A routine `p` that is SECURITY DEFINER, or an aggregate over one: for that the server asks its owner alone.
IS_DEFINER = """(p.prosecdef OR p.prokind = 'a' AND EXISTS (
    SELECT FROM pg_depend AS u JOIN pg_proc AS f ON f.oid = u.refobjid AND f.prosecdef
    WHERE u.refclassid = 'pg_proc'::regclass AND u.classid = 'pg_proc'::regclass AND u.objid = p.oid))"""
# A routine `p` of a session's own, by an operator, a domain or a trigger in everybody's reach while that lasts. Of the
# owner's only: an editor makes any number, and nothing that stays to call them.
TEMPORARY_IN_REACH = """(p.prosecdef AND pg_is_other_temp_schema(p.pronamespace)
    AND p.proowner = (SELECT d.datdba FROM pg_database AS d WHERE d.datname = current_database())
    AND EXISTS (SELECT FROM pg_depend AS u WHERE u.refclassid = 'pg_proc'::regclass AND u.refobjid = p.oid
                AND u.deptype IN ('n', 'a')))"""
# The server makes the constructors of a range type; they belong to the bootstrap superuser, whoever owns the type.
_MADE_WITH_A_TYPE = """EXISTS (
    SELECT FROM pg_depend AS i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')"""
_TABLE_KINDS = "('r', 'p', 'v', 'm', 'f')"
# Object ids below this are initdb's (FirstNormalObjectId): by it the catalogs' own relations are passed over unread.
FIRST_OBJECT = 16384


# Whoever may connect can make large objects and grant on them whatever there is. Of another role than the owner of the
# database a few lists are told (`acl`), so that it stands in nobody's way; of the rest that they are its. However many
# there are, they are counted by their lists before anything else is asked of them, and the server remembers no more of
# each list than the first in each of so many turns (`oids`, those of a few in a row).
_TURNS = 251
LARGE_OBJECTS = f"""(
    SELECT l.lomowner, l.acl, sum(l.number)::bigint AS number, min(l.oids) AS oids
    FROM (SELECT p.lomowner, p.number, p.oids, CASE WHEN p.is_owners OR length(p.list) <= 1000 THEN p.list END AS acl
          FROM (SELECT o.*, CASE WHEN o.is_owners OR o.place <= 200
                                 THEN coalesce(o.lomacl, acldefault('L', o.lomowner))::text END AS list
                FROM (SELECT g.*, g.lomowner = d.datdba AS is_owners,
                             row_number() OVER (PARTITION BY g.lomowner ORDER BY g.oids) AS place
                      FROM (SELECT lomowner, lomacl, sum(number) AS number,
                                   ARRAY(SELECT unnest(array_agg(first)) ORDER BY 1 LIMIT {MAX_NAMED}) AS oids
                            FROM (SELECT lomowner, lomacl, count(*) AS number, min(oid) AS first
                                  FROM pg_largeobject_metadata GROUP BY 1, 2, oid::bigint % {_TURNS}) AS turns
                            GROUP BY 1, 2) AS g
                      JOIN pg_database AS d ON d.datname = current_database()) AS o) AS p) AS l
    GROUP BY 1, 2)"""
# Who may not create in a schema has default privileges there to no effect, and may write any number of them.
IN_EFFECT = "(d.defaclnamespace = 0 OR has_schema_privilege(d.defaclrole, d.defaclnamespace, 'CREATE'))"


def in_extension(catalog: str, row: str) -> str:
    of_class = f"e.classid = '{catalog}'::regclass"
    return f"EXISTS (SELECT FROM pg_depend AS e WHERE {of_class} AND e.objid = {row}.oid AND e.deptype = 'e')"


def list_in_force(acl: str, kind: str, owner: str) -> str:
    """An access control list as text; where it is NULL, what holds then."""
    return f"coalesce({acl}, acldefault({kind}, {owner}))::text"


def within_bounds(columns: str, groups: str) -> str:
    """Groups with their list as `acl`: told up to the row that makes it too much, the server holding one at a time."""
    return f"""
    SELECT {columns}
    FROM (SELECT part.*, sum(length(acl)) OVER (ROWS UNBOUNDED PRECEDING) AS total
          FROM ({groups}) AS part({columns})) AS told
    WHERE total - length(acl) <= {MAX_ACL_CHARACTERS} LIMIT {MAX_GROUPS + 1}"""


_LETTER = """CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END"""
RELATIONS_LIST = list_in_force("c.relacl", _LETTER, "c.relowner")
# What is a session's own is nobody else's: an editor makes as many temporary tables as it likes.
_STAYS = "c.relpersistence <> 't'"
# A row for each group, its columns those of `GroupRow`.
_PARTS = f"""
    SELECT 'd'::"char", 0::oid, pg_get_userbyid(d.datdba), {list_in_force("d.datacl", "'d'", "d.datdba")}, ''::text,
           false, false, 1::bigint
    FROM pg_database AS d WHERE d.datname = current_database()
    UNION ALL
    SELECT 'n', n.oid, pg_get_userbyid(n.nspowner), {list_in_force("n.nspacl", "'n'", "n.nspowner")}, n.nspname,
           {in_extension("pg_namespace", "n")}, false, 1
    FROM pg_namespace AS n WHERE {NOT_SYSTEM}
    UNION ALL
    (SELECT {_LETTER}, c.relnamespace, pg_get_userbyid(c.relowner), {RELATIONS_LIST}, '',
            {in_extension("pg_class", "c")}, false, count(*)
     FROM pg_class AS c WHERE c.oid >= {FIRST_OBJECT} AND {_STAYS} AND (c.relkind IN {_TABLE_KINDS} OR c.relkind = 'S')
     GROUP BY 1, 2, 3, 4, 6 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    SELECT d.defaclobjtype, d.defaclnamespace, pg_get_userbyid(d.defaclrole), d.defaclacl::text, '', false, true, 1
    FROM pg_default_acl AS d WHERE {IN_EFFECT}
    UNION ALL
    SELECT '{_MORE}', 0, '', '', '', false, false, 1
    WHERE EXISTS (SELECT FROM pg_proc WHERE oid >= {FIRST_OBJECT}) OR EXISTS (SELECT FROM pg_largeobject_metadata)
          OR EXISTS (SELECT FROM pg_attribute WHERE attrelid >= {FIRST_OBJECT} AND attacl IS NOT NULL)"""
_RARE_PARTS = f"""
    (SELECT 'c'::"char", c.relnamespace, pg_get_userbyid(c.relowner), a.attacl::text, ''::text,
            {in_extension("pg_class", "c")}, false, count(*)
     FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
     WHERE a.attrelid >= {FIRST_OBJECT} AND a.attacl IS NOT NULL AND NOT a.attisdropped AND {_STAYS}
     GROUP BY 2, 3, 4, 6 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'F', CASE WHEN pg_is_other_temp_schema(p.pronamespace) THEN {_NO_SCHEMA}::oid ELSE p.pronamespace END,
            pg_get_userbyid(p.proowner), {list_in_force("p.proacl", "'f'", "p.proowner")}, min(p.proname::text),
            false, false, count(*)
     FROM pg_proc AS p
     WHERE p.oid >= {FIRST_OBJECT} AND {IS_DEFINER}
       AND (NOT pg_is_other_temp_schema(p.pronamespace) OR {TEMPORARY_IN_REACH})
     GROUP BY 2, 3, 4 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'F', p.pronamespace, pg_get_userbyid(p.proowner),
            array_agg(DISTINCT makeaclitem(x.grantee, p.proowner, 'EXECUTE', false)::text)::text, p.proname::text,
            false, false, 1
     FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid AND p.prosecdef
     JOIN pg_class AS c ON c.oid = t.tgrelid, aclexplode(c.relacl) AS x
     WHERE x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE') AND p.proacl IS NOT NULL AND {_STAYS}
       AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) AS y WHERE y.grantee IN (0, x.grantee))
     GROUP BY p.oid, 2, 3, 5 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'f', p.pronamespace, pg_get_userbyid(p.proowner), '{{}}', '', {in_extension("pg_proc", "p")}, false,
            count(*)
     FROM pg_proc AS p WHERE p.oid >= {FIRST_OBJECT}
          AND p.proowner <> (SELECT d.datdba FROM pg_database AS d WHERE d.datname = current_database())
          AND NOT {_MADE_WITH_A_TYPE}
     GROUP BY 2, 3, 6 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'L', 0, pg_get_userbyid(l.lomowner), coalesce(l.acl, '{{}}'), '', false, false, l.number
     FROM {LARGE_OBJECTS} AS l LIMIT {MAX_GROUPS + 1})"""
_EXTENSION_PART = """
    UNION ALL
    SELECT 'e', 0, '', '', e.extname, true, false, 1 FROM pg_extension AS e"""


def _database_query(parts: str) -> str:
    """What stands in a database, of these parts.

    Each database has a session of its own, so this is parsed and planned every time, by a server that has not yet read
    the catalogs it names: every join, function and further catalog costs more than all the rows do. So schemas are
    matched and access control lists taken apart here, and what is rare is asked for only where there is any of it.
    """
    return within_bounds("letter, schema, owner, acl, name, extension, is_default, number", parts)


def _names_query(targets: Sequence[Target]) -> str:
    """The names behind groups, by the position of each group: one scan, joined with the groups by hash.

    A join rather than a part for each group, of which 2,500 cost the server 800 MB.
    """
    columns = (
        ("text", [target.kind.letter for target in targets]),
        ("text", [target.schema for target in targets]),
        ("text", [target.owner for target in targets]),
        ("text", [target.acl for target in targets]),
        ("bool", [str(target.extension).lower() for target in targets]),
    )
    arrays = ", ".join(array(values, kind) for kind, values in columns)
    group = f"unnest({arrays}) WITH ORDINALITY AS w(letter, schema, owner, acl, extension, number)"
    matches = (
        f"w.schema = n.nspname::text AND w.owner = pg_get_userbyid(c.relowner)::text "
        f"AND w.extension = {in_extension('pg_class', 'c')}"
    )
    relations = "pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    return f"""
    SELECT (w.number - 1)::int, c.relname, ''::name
    FROM {relations} JOIN {group} ON {matches} AND w.acl = {RELATIONS_LIST}
         AND w.letter = CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END
    WHERE c.oid >= {FIRST_OBJECT} AND (c.relkind IN {_TABLE_KINDS} OR c.relkind = 'S')
    UNION ALL
    SELECT (w.number - 1)::int, c.relname, a.attname
    FROM {relations} JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    JOIN {group} ON {matches} AND w.letter = 'c' AND w.acl = a.attacl::text
    WHERE c.oid >= {FIRST_OBJECT}
    ORDER BY 1, 2, 3 LIMIT {MAX_NAMES + 1}"""
