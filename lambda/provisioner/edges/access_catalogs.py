"""What effective access needs from inside a database, each query beside what is made of its rows.

One message for each database; the answer follows the number of schemas and of distinct access control lists, not that
of the objects, of which each list names the first few.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from provisioner.core.access_facts import MAX_NAMED, AccessGroup, DatabaseAccess, Thing
from provisioner.core.acl import parse_acl
from provisioner.core.state import Database
from provisioner.edges.database_catalogs import FIRST_OBJECT, IS_DEFINER, NOT_SYSTEM, in_extension
from provisioner.edges.observe import Login, look
from provisioner.edges.postgres import Connection

# As for a plan: beyond this a database is somebody's experiment, and is unknown rather than held in memory.
MAX_GROUPS, MAX_ACL_CHARACTERS = 20_000, 32_000_000

_THINGS = {
    "d": Thing.DATABASE,
    "n": Thing.SCHEMA,
    "r": Thing.TABLE,
    "v": Thing.VIEW,
    "w": Thing.FIXED_VIEW,
    "m": Thing.MATERIALIZED_VIEW,
    "s": Thing.SEQUENCE,
    "S": Thing.SEQUENCE,
    "c": Thing.COLUMN,
    "k": Thing.FIXED_COLUMN,
    "f": Thing.ROUTINE,
    "F": Thing.DEFINER,
    "T": Thing.TYPE,
    "L": Thing.LARGE_OBJECT,
}


class _Row(NamedTuple):
    """A group as the query has it; see `AccessGroup`. `number` of the database itself is its connection limit."""

    letter: str
    schema: str
    owner: str
    creator: str
    extension: bool
    acl: str
    number: int
    narrowed: int
    undecided: int
    names: str


def read_access(login: Login, databases: Iterable[Database], workers: int) -> list[DatabaseAccess]:
    """Look into each database; one that cannot be looked into says why.

    Raises:
        OutOfTime: there was not time enough.
        DatabaseUnavailable: the server broke off.
    """
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(partial(_read_one, login), databases))


def _read_one(login: Login, facts: Database) -> DatabaseAccess:
    access = DatabaseAccess(facts.name, facts.owner)
    if facts.invalid:
        return replace(access, unknown="its DROP DATABASE was interrupted; drop it")
    if not facts.allows_connections:
        return replace(access, unknown="it allows no connections, so nobody gets in, nor does this look")
    if facts.unreadable_reason:
        return replace(access, unknown=facts.unreadable_reason)

    def read() -> DatabaseAccess:
        with login.connect(facts.name) as connection:
            return _read_inside(connection, access)

    return look(login, f'database "{facts.name}"', read, lambda reason: replace(access, unknown=reason))


def _read_inside(connection: Connection, access: DatabaseAccess) -> DatabaseAccess:
    rows = [_Row(*row) for row in connection.run(_ACCESS_QUERY)]
    if len(rows) > MAX_GROUPS:
        return replace(access, unknown=f"its objects have more than {MAX_GROUPS} different access control lists")
    if sum(len(row.acl) for row in rows) > MAX_ACL_CHARACTERS:
        return replace(access, unknown=f"its access control lists are longer than {MAX_ACL_CHARACTERS} characters")
    limit = next((row.number for row in rows if row.letter == "d"), -1)
    # The server groups in whatever order it likes.
    groups = tuple(_group(row) for row in sorted(rows))
    return replace(access, groups=groups, connection_limit=limit)


def _group(row: _Row) -> AccessGroup:
    names: list[Any] = json.loads(row.names)
    return AccessGroup(
        thing=_THINGS[row.letter],
        schema=row.schema,
        owner=row.owner,
        items=parse_acl(row.acl),
        count=1 if row.letter == "d" else row.number,
        names=tuple(map(str, names)),
        extension=row.extension,
        narrowed=row.narrowed,
        undecided=row.undecided > 1,
        undecided_writes=row.undecided > 0,
        creator=row.creator,
    )


# --- the query ------------------------------------------------------------------------------------------------------

_NO_NAMES = "'[]'"


def _names(name: str) -> str:
    return f"array_to_json((array_agg({name} ORDER BY {name}))[1:{MAX_NAMED}])::text"


# A view reads with its owner's rights, so who may select from it reads only what its owner may, and through a view on
# another view that one's owner; with security_invoker (from 15) the rights are the reader's, as are those to execute
# what a view or a row-level policy calls. The same goes for writing: where all that a view reads belongs to its owner,
# nothing is left to ask. Of a foreign table another server decides.
_DOUBTS = f"""WITH RECURSIVE needs AS (
        SELECT DISTINCT w.ev_class AS oid, d.refclassid, d.refobjid FROM pg_rewrite AS w
        JOIN pg_class AS v ON v.oid = w.ev_class AND v.relkind = 'v'
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> w.ev_class
        WHERE w.ev_class >= {FIRST_OBJECT} AND w.ev_type = '1'
    ),
    reads AS (SELECT oid AS view, refobjid AS oid FROM needs WHERE refclassid = 'pg_class'::regclass),
    doubts AS (
        SELECT v.oid, 2 AS doubt FROM pg_class AS v
        WHERE v.oid >= {FIRST_OBJECT} AND (
            v.relkind = 'f' OR v.relkind = 'v' AND (
                v.reloptions::text ~* 'security_invoker=(true|on|yes|1)'
                OR EXISTS (SELECT FROM reads AS r
                           WHERE r.view = v.oid AND NOT has_table_privilege(v.relowner, r.oid, 'SELECT'))))
        UNION
        SELECT n.oid, 2 FROM needs AS n JOIN pg_proc AS p ON p.oid = n.refobjid AND p.proacl IS NOT NULL
        WHERE n.refclassid = 'pg_proc'::regclass
        UNION
        SELECT p.polrelid, 2 FROM pg_policy AS p
        JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refobjid <> p.polrelid
        WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
        UNION
        SELECT v.oid, 1 FROM pg_class AS v JOIN reads AS r ON r.view = v.oid JOIN pg_class AS t ON t.oid = r.oid
        WHERE v.oid >= {FIRST_OBJECT} AND t.relowner <> v.relowner
        UNION
        SELECT r.view, b.doubt FROM doubts AS b JOIN reads AS r ON r.oid = b.oid
    ),
    doubtful AS (SELECT oid, max(doubt) AS doubt FROM doubts GROUP BY oid)"""
# As a statement names it, among those of the same name.
_ROUTINE = (
    "CASE WHEN p.prosecdef THEN quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' "
    "ELSE p.proname::text END"
)
# INSERT, UPDATE or DELETE, by triggers and rules too.
_READ_ONLY = "c.relkind = 'v' AND pg_relation_is_updatable(c.oid, true) & 28 = 0"


_LETTER = f"""CASE WHEN {_READ_ONLY} THEN 'w' WHEN c.relkind IN ('v', 'm') THEN c.relkind::text
                    WHEN c.relkind = 'S' THEN 's' ELSE 'r' END"""
_DEFAULT_LETTER = """CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END"""
_PARTS = f"""
    SELECT 'd', ''::text, pg_get_userbyid(d.datdba)::text, ''::text, false,
           coalesce(d.datacl, acldefault('d', d.datdba))::text, d.datconnlimit::bigint, 0::bigint, 0, {_NO_NAMES}
    FROM pg_database AS d WHERE d.datname = current_database()
    UNION ALL
    SELECT 'n', n.nspname, pg_get_userbyid(n.nspowner), '', {in_extension("pg_namespace", "n")},
           coalesce(n.nspacl, acldefault('n', n.nspowner))::text, 1, 0, 0, array_to_json(ARRAY[n.nspname])::text
    FROM pg_namespace AS n WHERE {NOT_SYSTEM}
    UNION ALL
    (SELECT {_LETTER}, n.nspname, pg_get_userbyid(c.relowner), '', {in_extension("pg_class", "c")} AS extension,
            coalesce(c.relacl, acldefault({_DEFAULT_LETTER}, c.relowner))::text, count(*),
            count(*) FILTER (WHERE c.relrowsecurity), coalesce(b.doubt, 0), {_names("c.relname::text")}
     FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN doubtful AS b ON b.oid = c.oid
     WHERE c.oid >= {FIRST_OBJECT} AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {NOT_SYSTEM}
     GROUP BY 1, 2, 3, 5, 6, 9, c.relrowsecurity LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT CASE WHEN c.relkind = 'm' OR {_READ_ONLY} THEN 'k' ELSE 'c' END, n.nspname, pg_get_userbyid(c.relowner), '',
            {in_extension("pg_class", "c")}, a.attacl::text, count(*),
            count(*) FILTER (WHERE c.relrowsecurity), coalesce(b.doubt, 0),
            {_names("c.relname || '(' || a.attname || ')'")}
     FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
     LEFT JOIN doubtful AS b ON b.oid = c.oid
     WHERE a.attrelid >= {FIRST_OBJECT} AND a.attacl IS NOT NULL AND NOT a.attisdropped AND {NOT_SYSTEM}
     GROUP BY 1, 2, 3, 5, 6, 9, c.relrowsecurity LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT CASE WHEN {IS_DEFINER} THEN 'F' ELSE 'f' END, n.nspname, pg_get_userbyid(p.proowner), '',
            {in_extension("pg_proc", "p")},
            CASE WHEN {IS_DEFINER} THEN coalesce(p.proacl, acldefault('f', p.proowner))::text ELSE '{{}}' END,
            count(*), 0, 0, {_names(_ROUTINE)}
     FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
     WHERE p.oid >= {FIRST_OBJECT} AND {NOT_SYSTEM}
     GROUP BY 1, 2, 3, 5, 6 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'L', '', pg_get_userbyid(l.lomowner), '', false, coalesce(l.lomacl, acldefault('L', l.lomowner))::text,
            count(*), 0, 0, {_names("l.oid::text")}
     FROM pg_largeobject_metadata AS l GROUP BY 3, 6 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT d.defaclobjtype::text, coalesce(n.nspname, ''), pg_get_userbyid(d.defaclrole),
            pg_get_userbyid(d.defaclrole), false, d.defaclacl::text, 1, 0, 0, {_NO_NAMES}
     FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace LIMIT {MAX_GROUPS + 1})"""
_COLUMNS = "letter, schema, owner, creator, extension, acl, number, narrowed, undecided, names"
# What is told stops with the row that makes it too much; the server holds one row at a time.
_ACCESS_QUERY = f"""{_DOUBTS}
    SELECT {_COLUMNS} FROM (
        SELECT part.*, sum(length(acl)) OVER (ROWS UNBOUNDED PRECEDING) AS total
        FROM ({_PARTS}) AS part({_COLUMNS})) AS told
    WHERE total - length(acl) <= {MAX_ACL_CHARACTERS} LIMIT {MAX_GROUPS + 1}"""
