"""What effective access needs from inside a database, each query beside what is made of its rows.

One message for each database; the answer follows the number of schemas and of distinct access control lists, not that
of the objects, of which each list names the first few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from provisioner.core.access_facts import MAX_NAMED, AccessGroup, Thing
from provisioner.core.access_rows import AccessRow, build_access_rows
from provisioner.core.acl import parse_acl
from provisioner.core.effective_access import Access, Dormant
from provisioner.core.errors import OutOfTime
from provisioner.core.ownership import Ownership
from provisioner.core.role_graph import RoleGraph
from provisioner.core.state import Database, Unreadable
from provisioner.edges.database_catalogs import (
    FIRST_OBJECT,
    IN_EFFECT,
    IS_DEFINER,
    LARGE_OBJECTS,
    NOT_SYSTEM,
    RELATIONS_LIST,
    TEMPORARY_IN_REACH,
    in_extension,
    list_in_force,
    refuse_too_many,
    within_bounds,
)
from provisioner.edges.observe import look
from provisioner.edges.postgres import Connection, Login
from provisioner.edges.sqlstates import LOCK_NOT_AVAILABLE, SqlError

# A database, the rows of its access, and what is held in it without effect.
Told = tuple[Database, list[AccessRow], list[Dormant]]


def read_access(login: Login, databases: Iterable[Database], ownership: Ownership, workers: int) -> list[Told]:
    """Look into each database, the declared ones first; one that cannot be looked into says why.

    Who may create databases may mark any number, and keep each look waiting: for those no time may be left.

    Raises:
        OutOfTime: there was not time enough for what is declared.
        DatabaseUnavailable: the server broke off.
    """
    graph = RoleGraph(ownership.server)
    first = sorted(databases, key=lambda each: (each.name not in ownership.by_database, each.name))
    with ThreadPoolExecutor(workers) as pool:
        return sorted(pool.map(partial(_read_one, login, graph, ownership), first), key=lambda each: each[0].name)


def _read_one(login: Login, graph: RoleGraph, ownership: Ownership, facts: Database) -> Told:
    def tell(database: Database, groups: Sequence[AccessGroup] = ()) -> Told:
        access = Access(graph, database, groups)
        return database, build_access_rows(access, ownership), list(access.dormant())

    def unreadable(reason: str) -> Told:
        return tell(replace(facts, unreadable_reason=reason))

    def read() -> Told:
        with login.connect(facts.name) as connection:
            rows = _read_rows(connection)
        try:
            refuse_too_many([acl for _, _, _, acl, *_ in rows])
            # The server groups in whatever order it likes.
            return tell(facts, [_group(*row) for row in sorted(rows)])
        except Unreadable as error:
            return tell(facts.refused(error))

    if facts.invalid:
        return unreadable("its DROP DATABASE was interrupted; drop it")
    if not facts.allows_connections:
        return unreadable("it allows no connections, so nobody gets in, nor does this look")
    try:
        return tell(facts) if facts.unreadable_reason else look(login, f'database "{facts.name}"', read, unreadable)
    except OutOfTime:
        if facts.name in ownership.by_database:
            raise
        return unreadable("no time was left for what nobody declares")


def _read_rows(connection: Connection) -> list[list[Any]]:
    try:
        return connection.run(_ACCESS_QUERY)
    except SqlError as error:
        if error.sqlstate != LOCK_NOT_AVAILABLE:
            raise
        return connection.run(_WITHOUT_LOCKS)


def _group(thing: str, schema: str, owner: str, acl: str, count: int, names: list[str], *facts: Any) -> AccessGroup:
    return AccessGroup(Thing(thing), schema, owner, parse_acl(acl), count, tuple(names), *facts)


# --- the query ------------------------------------------------------------------------------------------------------


# A view reads with its owner's rights, so who may select from it reads only what its owner may, and through a view on
# another view that one's owner; with security_invoker (from 15; any beginning of a word for true is one) the rights are
# the reader's. So are those with which all runs that a view or a row-level policy calls, by name, by an operator or by
# the check of a domain: to execute it, and of what is neither C nor SECURITY DEFINER to do what it does. The same goes
# for writing: where all that a view reads belongs to its owner, nothing is left to ask. A view that locks rows (FOR
# UPDATE) takes UPDATE on what it reads as well. Of a foreign table another server decides.
_CALLED = f"""SELECT d.refobjid FROM pg_depend AS d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
              AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= {FIRST_OBJECT}"""
_DOUBTS = f"""WITH RECURSIVE needs AS (
        SELECT DISTINCT w.ev_class AS oid, d.refclassid, d.refobjid FROM pg_rewrite AS w
        JOIN pg_class AS v ON v.oid = w.ev_class AND v.relkind = 'v' AND v.relpersistence <> 't'
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> w.ev_class
        WHERE w.ev_class >= {FIRST_OBJECT} AND w.ev_type = '1'
    ),
    reads AS (SELECT oid AS view, refobjid AS oid FROM needs WHERE refclassid = 'pg_class'::regclass),
    locks AS (
        SELECT r.view, r.oid FROM reads AS r JOIN pg_rewrite AS w ON w.ev_class = r.view AND w.ev_type = '1'
        WHERE w.ev_action::text LIKE '%{{ROWMARKCLAUSE%'
    ),
    policies AS (
        SELECT p.polrelid AS oid, d.refclassid, d.refobjid FROM pg_policy AS p
        JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refobjid <> p.polrelid
    ),
    asks AS (TABLE needs UNION TABLE policies),
    calls AS (
        SELECT oid, refobjid AS routine FROM asks WHERE refclassid = 'pg_proc'::regclass
        UNION
        SELECT a.oid, o.oprcode FROM asks AS a JOIN pg_operator AS o ON o.oid = a.refobjid
        WHERE a.refclassid = 'pg_operator'::regclass
    ),
    doubts AS (
        SELECT v.oid, 2 AS doubt FROM pg_class AS v
        WHERE v.oid >= {FIRST_OBJECT} AND (
            v.relkind = 'f' OR v.relkind = 'v' AND (
                v.reloptions::text ~* 'security_invoker=(t|y|on|1)'
                OR EXISTS (SELECT FROM reads AS r
                           WHERE r.view = v.oid AND NOT has_table_privilege(v.relowner, r.oid, 'SELECT'))
                OR EXISTS (SELECT FROM locks AS r JOIN pg_class AS t ON t.oid = r.oid
                           WHERE r.view = v.oid AND (t.relkind NOT IN ('r', 'p')
                                                     OR NOT has_table_privilege(v.relowner, r.oid, 'UPDATE')))))
        UNION
        SELECT c.oid, 2
        FROM calls AS c JOIN pg_proc AS p ON p.oid = c.routine JOIN pg_language AS l ON l.oid = p.prolang
        WHERE p.proacl IS NOT NULL OR NOT p.prosecdef AND p.oid >= {FIRST_OBJECT} AND l.lanname NOT IN ('c', 'internal')
        UNION
        SELECT a.oid, 2 FROM asks AS a JOIN pg_type AS t ON t.oid = a.refobjid AND t.typtype = 'd'
        WHERE a.refclassid = 'pg_type'::regclass AND (t.typbasetype >= {FIRST_OBJECT} OR EXISTS (
            SELECT FROM pg_constraint AS k WHERE k.contypid = t.oid AND EXISTS ({_CALLED})))
        UNION
        SELECT oid, 2 FROM policies WHERE refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
        UNION
        SELECT v.oid, 1 FROM pg_class AS v JOIN reads AS r ON r.view = v.oid JOIN pg_class AS t ON t.oid = r.oid
        WHERE v.oid >= {FIRST_OBJECT} AND t.relowner <> v.relowner
        UNION
        SELECT r.view, b.doubt FROM doubts AS b JOIN reads AS r ON r.oid = b.oid
    ),
    doubtful AS (SELECT oid, max(doubt) AS doubt FROM doubts GROUP BY oid)"""
# As a statement names it, among those of the same name.
_ROUTINE = (
    "CASE WHEN p.prosecdef OR p.prokind = 'a' "
    "THEN quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' ELSE p.proname::text END"
)
# For all that is known of it.
_ANYBODYS = "ARRAY[makeaclitem(0, l.lomowner, 'SELECT', false), makeaclitem(0, l.lomowner, 'UPDATE', false)]::text"
# What only a trigger may call takes a table to hang that on.
_FOR_TRIGGERS = "p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)"
# By an operator, a cast, a domain, a view or a routine whose body was parsed when it was made: by none of them it takes
# USAGE on the routine's schema. A trigger asks nobody for EXECUTE.
_CALLED_ELSEWHERE = """EXISTS (
    SELECT FROM pg_depend AS u WHERE u.refclassid = 'pg_proc'::regclass AND u.refobjid = p.oid
    AND u.deptype IN ('n', 'a') AND u.classid <> 'pg_trigger'::regclass)"""
# INSERT, UPDATE or DELETE, by triggers and rules too. It waits for who has locked the view or what it reads.
_UPDATABLE = "pg_relation_is_updatable(c.oid, true)"
_RELATION = f"""CASE WHEN c.relkind = 'v' THEN CASE {_UPDATABLE} & 28 WHEN 0 THEN '{Thing.FIXED_VIEW}'
                                              WHEN 16 THEN '{Thing.DELETE_VIEW}' ELSE '{Thing.VIEW}' END
                 WHEN c.relkind = 'm' THEN '{Thing.MATERIALIZED_VIEW}' WHEN c.relkind = 'S' THEN '{Thing.SEQUENCE}'
                 ELSE '{Thing.TABLE}' END"""
_COLUMN = f"""CASE WHEN c.relkind = 'm' OR c.relkind = 'v' AND {_UPDATABLE} & 12 = 0
              THEN '{Thing.FIXED_COLUMN}' ELSE '{Thing.COLUMN}' END"""
_COLUMN_UPDATABLE = "pg_column_is_updatable(c.oid, a.attnum, true)"
# What will be made may run with its owner's rights; a type gives nothing.
_DEFAULT = f"""CASE d.defaclobjtype WHEN 'n' THEN '{Thing.SCHEMA}' WHEN 'S' THEN '{Thing.SEQUENCE}'
               WHEN 'f' THEN '{Thing.DEFINER}' WHEN 'L' THEN '{Thing.LARGE_OBJECT}' ELSE '{Thing.TABLE}' END"""
_DOUBT = "coalesce(b.doubt, 0)"
# A row for each object: what it is, schema, owner, list, name, extension's or not, narrowed, doubt, creator, number.
_OBJECTS = f"""
    SELECT '{Thing.DATABASE}', ''::text, d.datdba, {list_in_force("d.datacl", "'d'", "d.datdba")}, ''::text, false,
           false, 0, 0::oid, 1::bigint
    FROM pg_database AS d WHERE d.datname = current_database()
    UNION ALL
    SELECT '{Thing.SCHEMA}', n.nspname, n.nspowner, {list_in_force("n.nspacl", "'n'", "n.nspowner")}, n.nspname,
           {in_extension("pg_namespace", "n")}, false, 0, 0, 1
    FROM pg_namespace AS n WHERE {NOT_SYSTEM}
    UNION ALL
    SELECT {_RELATION}, n.nspname, c.relowner, {RELATIONS_LIST}, c.relname,
           {in_extension("pg_class", "c")}, c.relrowsecurity, {_DOUBT}, 0, 1
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN doubtful AS b ON b.oid = c.oid
    WHERE c.oid >= {FIRST_OBJECT} AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {NOT_SYSTEM}
    UNION ALL
    SELECT {_COLUMN}, n.nspname, c.relowner, a.attacl::text, format('%I(%I)', c.relname, a.attname),
           {in_extension("pg_class", "c")}, c.relrowsecurity,
           greatest({_DOUBT}, CASE WHEN c.relkind = 'v' AND NOT {_COLUMN_UPDATABLE} THEN 1 ELSE 0 END), 0, 1
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN doubtful AS b ON b.oid = c.oid
    WHERE a.attrelid >= {FIRST_OBJECT} AND a.attacl IS NOT NULL AND NOT a.attisdropped AND {NOT_SYSTEM}
    UNION ALL
    SELECT CASE WHEN {IS_DEFINER} THEN '{Thing.DEFINER}' ELSE '{Thing.ROUTINE}' END, n.nspname, p.proowner,
           CASE WHEN {IS_DEFINER} THEN {list_in_force("p.proacl", "'f'", "p.proowner")} ELSE '{{}}' END,
           {_ROUTINE}, {in_extension("pg_proc", "p")}, false,
           CASE WHEN NOT {IS_DEFINER} THEN 0 WHEN {_FOR_TRIGGERS} THEN 2 WHEN {_CALLED_ELSEWHERE} THEN 1 ELSE 0 END,
           0, 1
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid >= {FIRST_OBJECT} AND ({NOT_SYSTEM} OR {TEMPORARY_IN_REACH})
    UNION ALL
    SELECT '{Thing.LARGE_OBJECT}', '', l.lomowner, coalesce(l.acl, {_ANYBODYS}), o.oid::text, false, false,
           CASE WHEN l.acl IS NULL THEN 2 ELSE 0 END, 0,
           CASE o.place WHEN 1 THEN l.number - cardinality(l.oids) + 1 ELSE 1 END
    FROM {LARGE_OBJECTS} AS l, unnest(l.oids) WITH ORDINALITY AS o(oid, place)
    UNION ALL
    SELECT {_DEFAULT}, coalesce(n.nspname, ''), d.defaclrole, d.defaclacl::text, '', false, false, 0, d.defaclrole, 1
    FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
    WHERE d.defaclobjtype <> 'T' AND {IN_EFFECT}"""
# The server holds of the names only those that are told: an owner makes millions of routines.
_GROUPS = f"""
    SELECT thing, schema, pg_get_userbyid(owner), acl, sum(number)::bigint,
           json_agg(name ORDER BY place) FILTER (WHERE place <= {MAX_NAMED}), extension,
           CASE WHEN narrowed THEN sum(number)::bigint ELSE 0 END, doubt,
           CASE creator WHEN 0 THEN '' ELSE pg_get_userbyid(creator) END
    FROM (SELECT *, row_number() OVER (PARTITION BY thing, schema, owner, acl, extension, narrowed, doubt, creator
                                       ORDER BY name) AS place
          FROM ({_OBJECTS}) AS every(thing, schema, owner, acl, name, extension, narrowed, doubt, creator, number)
         ) AS object GROUP BY thing, schema, owner, acl, extension, narrowed, doubt, creator"""
_COLUMNS = "thing, schema, owner, acl, count, names, extension, narrowed, doubt, creator"
_ACCESS_QUERY = _DOUBTS + within_bounds(_COLUMNS, _GROUPS)
# An editor may lock every table: whether a view can be written is undecided then.
_WITHOUT_LOCKS = (
    _ACCESS_QUERY.replace(_UPDATABLE, "28")
    .replace(_COLUMN_UPDATABLE, "true")
    .replace(_DOUBT, "greatest(b.doubt, CASE c.relkind WHEN 'v' THEN 1 ELSE 0 END)")
)
