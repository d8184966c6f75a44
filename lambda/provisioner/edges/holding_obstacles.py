"""The query for what a role has in a database, and for what of it stands in the way of another owner."""

from __future__ import annotations

from provisioner.edges.database_catalogs import FIRST_OBJECT
from provisioner.edges.holding_queries import LOCKS, begin

_BOOTSTRAP = 10
# What is only a superuser's or only the role's to have.
_UNPASSABLE = """
    SELECT 'superuser' AS kind, count(*), min(pg_describe_object(dep.classid, dep.objid, 0)) AS example
    FROM dep WHERE dep.deptype = 'o' AND (
        dep.classid IN ('pg_event_trigger'::regclass, 'pg_foreign_data_wrapper'::regclass)
        OR dep.classid = 'pg_publication'::regclass AND (
            EXISTS (SELECT FROM pg_publication AS p WHERE p.oid = dep.objid AND p.puballtables)
            OR EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = to_regclass('pg_publication_namespace')
                       AND d.refclassid = dep.classid AND d.refobjid = dep.objid)))
    GROUP BY dep.classid
    UNION ALL
    SELECT CASE dep.deptype WHEN 'r' THEN 'policy' WHEN 'i' THEN 'initial_privilege' ELSE 'user_mapping' END, count(*),
           min(pg_describe_object(dep.classid, dep.objid, 0))
    FROM dep WHERE dep.classid = 'pg_user_mapping'::regclass OR dep.deptype IN ('r', 'i') AND NOT EXISTS (
        SELECT FROM dep AS o WHERE o.deptype = 'o' AND o.classid = dep.classid AND o.objid = dep.objid) GROUP BY 1"""
# What who would get it may not have, or may not have where it is.
_MISPLACED = """
    UNION ALL
    SELECT 'server', count(*), min(quote_ident(s.srvname))
    FROM here, dep JOIN pg_foreign_server AS s ON dep.classid = 'pg_foreign_server'::regclass AND s.oid = dep.objid
    WHERE dep.deptype = 'o' AND NOT has_foreign_data_wrapper_privilege(here.successor, s.srvfdw, 'USAGE')
    UNION ALL
    SELECT 'schema', count(*), min(format('%s in schema %I', pg_describe_object(dep.classid, dep.objid, 0), n.nspname))
    FROM here, gone, dep, pg_identify_object(dep.classid, dep.objid, 0) AS named
    JOIN pg_namespace AS n ON quote_ident(n.nspname) = named.schema
    WHERE dep.deptype = 'o' AND dep.classid NOT IN ('pg_class'::regclass, 'pg_type'::regclass)
      AND n.nspowner <> gone.oid AND NOT has_schema_privilege(here.successor, n.oid, 'CREATE')
      AND NOT (here.is_mine AND has_schema_privilege(gone.oid, n.oid, 'CREATE'))
    UNION ALL
    SELECT 'database', count(*), min(pg_describe_object(dep.classid, dep.objid, 0))
    FROM here, dep
    WHERE dep.deptype = 'o' AND dep.classid IN ('pg_namespace'::regclass, 'pg_publication'::regclass)
      AND NOT here.is_mine AND NOT has_database_privilege(here.successor, here.oid, 'CREATE')"""
# Who revokes as a member of the owner revokes what the owner granted, and not what it granted itself.
_GRANTED_BY_MEMBERS = """
    UNION ALL
    SELECT 'grantor', count(*), min(format('by %I on %s', pg_get_userbyid(lists.grantor),
                                           pg_describe_object(lists.classid, lists.objid, 0)))
    FROM here, gone, lists, pg_shdepend AS s,
    LATERAL (SELECT CASE s.refobjid WHEN gone.oid THEN here.successor ELSE s.refobjid END AS oid) AS owner
    WHERE s.dbid IN (here.oid, 0) AND s.classid = lists.classid AND s.objid = lists.objid AND s.deptype = 'o'
      AND lists.grantor NOT IN (s.refobjid, owner.oid) AND pg_has_role(lists.grantor, owner.oid, 'USAGE')"""
# Of the server's own functions those that may run a text, or a view, with the rights of who calls them. No dependency
# on what is the server's own is kept: they stand in the tree of an expression alone.
_RUNS_A_TEXT = """p.proname ~ '_to_xml' OR p.provolatile = 'v' AND p.proname NOT IN (
        'nextval', 'random', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'clock_timestamp', 'timeofday')"""
# The tables that run code of a tenant's with the rights of who owns the table. Where nobody else can enter that is
# autovacuum: indexes and statistics over expressions, and differences of ranges (domains, multiranges). It comes to a
# table with `autovacuum_enabled=false` too when that is old enough. Elsewhere a foreign key acts as the owner as well,
# and fires triggers, defaults, checks, casts, what a rule reaches, and all that of partitions, whosever they are. What
# the bootstrap superuser owns is of the server's making; in an extension it acts on what it is told (`lo_manage`).
_RUNNING = f"""
ranges AS (WITH RECURSIVE every AS (
        SELECT unnest(ARRAY[r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid]) AS oid
        FROM pg_range AS r JOIN pg_proc AS p ON p.oid IN (r.rngsubdiff::oid, r.rngcanonical::oid)
        WHERE p.proowner <> {_BOOTSTRAP}
        UNION SELECT t.oid FROM every, pg_type AS t WHERE t.typtype = 'd' AND t.typbasetype = every.oid) TABLE every),
attached AS (
    SELECT every.* FROM relations, (
        SELECT i.indrelid AS relid, 'pg_class'::regclass AS classid, i.indexrelid AS objid, NULL AS tree
        FROM pg_index AS i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
        UNION ALL SELECT s.stxrelid, 'pg_statistic_ext'::regclass, s.oid, to_jsonb(s) ->> 'stxexprs'
        FROM pg_statistic_ext AS s
        UNION ALL SELECT acting.* FROM here, (
            SELECT t.tgrelid, 'pg_trigger'::regclass, t.oid, t.tgqual::text
            FROM pg_trigger AS t WHERE NOT t.tgisinternal
            UNION ALL SELECT a.adrelid, 'pg_attrdef'::regclass, a.oid, a.adbin::text FROM pg_attrdef AS a
            UNION ALL SELECT k.conrelid, 'pg_constraint'::regclass, k.oid, k.conbin::text FROM pg_constraint AS k
            UNION ALL SELECT w.ev_class, 'pg_rewrite'::regclass, w.oid, concat(w.ev_qual, w.ev_action)
            FROM pg_rewrite AS w
            UNION ALL SELECT p.polrelid, 'pg_policy'::regclass, p.oid, concat(p.polqual, p.polwithcheck)
            FROM pg_policy AS p
            UNION ALL SELECT side, 'pg_class'::regclass, reached, NULL FROM pg_constraint AS k,
                unnest(ARRAY[k.conrelid, k.confrelid]) AS side, unnest(ARRAY[k.conrelid, k.confrelid]) AS reached
            WHERE k.contype = 'f'
        ) AS acting WHERE NOT here.is_closed
    ) AS every WHERE every.relid = relations.oid
),
running AS (
    SELECT e.relid FROM here, attached AS e JOIN pg_depend AS d ON d.classid = e.classid AND d.objid = e.objid
    LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
    LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    LEFT JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
    WHERE coalesce(p.proowner, o.oprowner, t.typowner, {_BOOTSTRAP}) <> {_BOOTSTRAP}
       OR p.oid >= {FIRST_OBJECT} AND NOT here.is_closed
    UNION
    SELECT e.relid FROM attached AS e, regexp_matches(e.tree, 'funcid ([0-9]+)', 'g') AS called
    JOIN pg_proc AS p ON p.oid = called[1]::oid WHERE {_RUNS_A_TEXT}
    UNION
    SELECT w.ev_class FROM here, pg_rewrite AS w WHERE w.rulename <> '_RETURN' AND NOT here.is_closed
    UNION
    SELECT i.inhparent FROM here, gone, pg_inherits AS i JOIN pg_class AS part ON part.oid = i.inhrelid
    WHERE part.relowner NOT IN (gone.oid, here.successor) AND NOT here.is_closed
    UNION
    SELECT a.attrelid FROM ranges JOIN pg_attribute AS a ON a.atttypid = ranges.oid AND NOT a.attisdropped
)"""
# What would run, or reach something, with the rights of who would get it.
_WITH_RIGHTS = """
    UNION ALL
    SELECT 'code', count(*), min(c.oid::regclass::text) FROM here, relations AS c
    WHERE (c.relkind IN ('r', 'm') OR c.relkind IN ('p', 'f') AND NOT here.is_closed)
      AND c.oid IN (SELECT relid FROM running)
    UNION ALL
    SELECT 'definer', count(*), min(format('%I.%I', n.nspname, p.proname))
    FROM here, dep JOIN pg_proc AS p ON dep.classid = 'pg_proc'::regclass AND p.oid = dep.objid
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE dep.deptype = 'o' AND p.prosecdef AND NOT here.is_closed
    UNION ALL
    SELECT 'view', count(*), min(c.oid::regclass::text)
    FROM here, gone, relations AS c
    WHERE (c.relkind = 'v' OR c.relhasrules) AND NOT here.is_closed
      AND EXISTS (
        SELECT FROM pg_rewrite AS w JOIN pg_depend AS d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
        JOIN pg_class AS t ON t.oid = d.refobjid AND t.relkind IN ('r', 'v', 'm', 'f', 'p'),
        LATERAL (
            SELECT 'SELECT' AS privilege
            UNION SELECT unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) WHERE w.rulename <> '_RETURN'
            UNION SELECT x.privilege_type
            FROM (SELECT c.relacl UNION ALL SELECT a.attacl FROM pg_attribute AS a WHERE a.attrelid = c.oid)
                AS lists(acl), aclexplode(lists.acl) AS x
            WHERE x.grantee NOT IN (gone.oid, here.successor)
              AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
        ) AS asked
        WHERE w.ev_class = c.oid AND t.oid <> c.oid AND t.oid NOT IN (SELECT r.oid FROM relations AS r)
          AND (NOT has_table_privilege(gone.oid, t.oid, asked.privilege)
               OR t.relrowsecurity OR t.reloptions::text LIKE '%security_invoker%'))"""
_HELD = f"""
    UNION ALL
    SELECT 'prepared_lock', count(DISTINCT c.oid), min(c.oid::regclass::text)
    FROM here, relations AS c JOIN pg_locks AS l ON l.relation = c.oid WHERE l.pid IS NULL AND l.database = here.oid
    UNION ALL
    SELECT 'locks', count(*), ''
    FROM here, (SELECT objid FROM dep WHERE deptype = 'o'
          UNION ALL SELECT i.indexrelid FROM pg_index AS i JOIN relations AS c ON c.oid = i.indrelid
          UNION ALL SELECT c.reltoastrelid FROM relations AS c, generate_series(1, 2) WHERE c.reltoastrelid <> 0
         ) AS held
    WHERE NOT here.is_closed
    HAVING count(*) > {LOCKS}"""
_ANSWER = """
SELECT json_build_object(
    'owned', ARRAY(
        SELECT json_build_array(named.type, count(*)) FROM dep, pg_identify_object(dep.classid, dep.objid, 0) AS named
        WHERE dep.deptype = 'o' AND dep.classid <> 'pg_default_acl'::regclass GROUP BY named.type ORDER BY named.type),
    'grants', ARRAY(SELECT json_build_array(pg_get_userbyid(grantor), count(*)) FROM lists GROUP BY grantor),
    'passed_on', ARRAY(
        SELECT json_build_array(item ->> 0, item ->> 1, count(DISTINCT (classid, objid)))
        FROM lists, jsonb_array_elements(lists.passed_on) AS item
        GROUP BY item ->> 0, item ->> 1 ORDER BY item ->> 0, item ->> 1),
    'defaults', ARRAY(
        SELECT json_build_array(pg_get_userbyid(d.defaclrole), count(DISTINCT d.oid))
        FROM dep JOIN pg_default_acl AS d ON dep.classid = 'pg_default_acl'::regclass AND d.oid = dep.objid
        GROUP BY d.defaclrole),
    'obstacles', ARRAY(SELECT json_build_array(kind, count, example) FROM obstacles WHERE count > 0 ORDER BY kind)
)"""


def inside_query(role: str, passed_to: str = "") -> str:
    """One row, one JSON: what a role has in this database, and what of it stands in the way of another owner.

    With `passed_to` it is asked of what this transaction has passed to that role.
    """
    return f"""
WITH {begin(role, passed_to)},
relations AS (
    SELECT c.* FROM dep JOIN pg_class AS c ON dep.classid = 'pg_class'::regclass AND c.oid = dep.objid
    WHERE dep.deptype = 'o'
),{_RUNNING},
obstacles AS ({_UNPASSABLE}{_MISPLACED}{_GRANTED_BY_MEMBERS}{_WITH_RIGHTS}{_HELD}
){_ANSWER}"""
