"""The query for what a role has in a database, and for what of it stands in the way of another owner."""

from __future__ import annotations

from provisioner.edges.database_catalogs import FIRST_OBJECT
from provisioner.edges.holding_queries import LOCKS, begin

_BOOTSTRAP = 10
# What is only a superuser's or only the role's to have.
_UNPASSABLE = """
    SELECT CASE dep.classid::regclass::text WHEN 'pg_event_trigger' THEN 'event_trigger'
                WHEN 'pg_user_mapping' THEN 'user_mapping' ELSE 'wrapper' END AS kind,
           count(*), min(pg_describe_object(dep.classid, dep.objid, 0)) AS example
    FROM dep WHERE dep.deptype = 'o'
      AND dep.classid::regclass::text IN ('pg_event_trigger', 'pg_user_mapping', 'pg_foreign_data_wrapper') GROUP BY 1
    UNION ALL
    SELECT CASE dep.deptype WHEN 'r' THEN 'policy' ELSE 'initial_privilege' END, count(*),
           min(pg_describe_object(dep.classid, dep.objid, 0))
    FROM dep WHERE dep.deptype IN ('r', 'i') AND NOT EXISTS (
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
    WHERE s.dbid = here.oid AND s.classid = lists.classid AND s.objid = lists.objid AND s.deptype = 'o'
      AND lists.grantor NOT IN (s.refobjid, owner.oid) AND pg_has_role(lists.grantor, owner.oid, 'USAGE')"""
# What would run, or reach something, with the rights of who would get it.
_WITH_RIGHTS = """
    UNION ALL
    SELECT kind, count(*), min(example) FROM code GROUP BY kind
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
    'owned', (
        SELECT coalesce(json_agg(json_build_array(type, count) ORDER BY type), '[]') FROM (
            SELECT named.type, count(*) FROM dep, pg_identify_object(dep.classid, dep.objid, 0) AS named
            WHERE dep.deptype = 'o' AND dep.classid <> 'pg_default_acl'::regclass GROUP BY 1
        ) AS kinds
    ),
    'grants', (
        SELECT coalesce(json_agg(json_build_array(pg_get_userbyid(g.grantor), g.count)), '[]')
        FROM (SELECT grantor, count(*) FROM lists GROUP BY 1) AS g
    ),
    'passed_on', (
        SELECT coalesce(json_agg(json_build_array(name, privilege, count) ORDER BY name, privilege), '[]') FROM (
            SELECT item ->> 0 AS name, item ->> 1 AS privilege, count(DISTINCT (classid, objid))
            FROM lists, jsonb_array_elements(lists.passed_on) AS item GROUP BY 1, 2
        ) AS names
    ),
    'defaults', (
        SELECT coalesce(json_agg(json_build_array(creator, count) ORDER BY creator), '[]') FROM (
            SELECT pg_get_userbyid(d.defaclrole) AS creator, count(*)
            FROM pg_default_acl AS d WHERE d.oid IN (
                SELECT objid FROM dep WHERE classid = 'pg_default_acl'::regclass) GROUP BY 1) AS rows
    ),
    'obstacles', (
        SELECT coalesce(json_agg(json_build_array(kind, count, example) ORDER BY kind), '[]') FROM obstacles
        WHERE count > 0
    )
)::text"""


def inside_query(role: str, version: int, passed_to: str = "") -> str:
    """One row, one JSON: what a role owns in this database by kind, who grants it what, and what stands in the way.

    With `passed_to` it is asked of what this transaction has passed to that role.
    """
    of_schemas = (
        "OR EXISTS (SELECT FROM pg_publication_namespace AS n WHERE n.pnpubid = p.oid)" if version >= 15 else ""
    )
    return f"""
WITH {begin(role, passed_to)},
relations AS (
    SELECT c.* FROM dep JOIN pg_class AS c ON dep.classid = 'pg_class'::regclass AND c.oid = dep.objid
    WHERE dep.deptype = 'o'
),
{_code(version)},
obstacles AS ({_UNPASSABLE}
    UNION ALL
    SELECT 'publication', count(*), min(quote_ident(p.pubname))
    FROM dep JOIN pg_publication AS p ON dep.classid = 'pg_publication'::regclass AND p.oid = dep.objid
    WHERE dep.deptype = 'o' AND (p.puballtables {of_schemas}){_MISPLACED}{_GRANTED_BY_MEMBERS}{_WITH_RIGHTS}{_HELD}
){_ANSWER}"""


_RANGES = f"""
ranges AS (WITH RECURSIVE every AS (
        SELECT unnest(ARRAY[r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid]) AS oid
        FROM pg_range AS r JOIN pg_proc AS p ON p.oid IN (r.rngsubdiff::oid, r.rngcanonical::oid)
        WHERE p.proowner <> {_BOOTSTRAP}
        UNION SELECT t.oid FROM every, pg_type AS t WHERE t.typtype = 'd' AND t.typbasetype = every.oid) TABLE every)"""


# What acts with the rights of a table's owner where a foreign key does, beside its indexes.
_ACTING = """UNION ALL SELECT acting.* FROM here, (
        SELECT t.tgrelid, 'pg_trigger'::regclass, t.oid, t.tgqual::text FROM pg_trigger AS t WHERE NOT t.tgisinternal
        UNION ALL SELECT a.adrelid, 'pg_attrdef'::regclass, a.oid, a.adbin::text FROM pg_attrdef AS a
        UNION ALL SELECT k.conrelid, 'pg_constraint'::regclass, k.oid, k.conbin::text FROM pg_constraint AS k
        UNION ALL SELECT w.ev_class, 'pg_rewrite'::regclass, w.oid, concat(w.ev_qual, w.ev_action) FROM pg_rewrite AS w
        UNION ALL SELECT p.polrelid, 'pg_policy'::regclass, p.oid, concat(p.polqual, p.polwithcheck) FROM pg_policy AS p
        UNION ALL SELECT side.relid, 'pg_class'::regclass, side.other, NULL FROM pg_constraint AS k, LATERAL (VALUES
            (k.conrelid, k.conrelid), (k.conrelid, k.confrelid), (k.confrelid, k.conrelid), (k.confrelid, k.confrelid)
        ) AS side(relid, other) WHERE k.contype = 'f'
    ) AS acting WHERE NOT here.is_closed"""
# Of the server's own functions those that may run a text, or a view, with the rights of who calls them. No dependency
# on what is the server's own is kept: they stand in the tree of an expression alone.
_RUNNING = """p.proname ~ '_to_xml' OR p.provolatile = 'v' AND p.proname NOT IN (
        'nextval', 'random', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'clock_timestamp', 'timeofday')"""
# The tables whose expressions, triggers, rules or partitions are code of a tenant's.
_RUNS = f"""
running AS (
    SELECT e.relid FROM here, attached AS e JOIN pg_depend AS d ON d.classid = e.classid AND d.objid = e.objid
    LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
    LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    LEFT JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
    WHERE coalesce(p.proowner, o.oprowner, t.typowner, {_BOOTSTRAP}) <> {_BOOTSTRAP}
       OR p.oid >= {FIRST_OBJECT} AND NOT here.is_closed
    UNION
    SELECT e.relid FROM attached AS e, regexp_matches(e.tree, 'funcid ([0-9]+)', 'g') AS called
    JOIN pg_proc AS p ON p.oid = called[1]::oid WHERE {_RUNNING}
    UNION
    SELECT w.ev_class FROM here, pg_rewrite AS w WHERE w.rulename <> '_RETURN' AND NOT here.is_closed
    UNION
    SELECT i.inhparent FROM here, gone, pg_inherits AS i JOIN pg_class AS part ON part.oid = i.inhrelid
    WHERE part.relowner NOT IN (gone.oid, here.successor) AND NOT here.is_closed
    UNION
    SELECT a.attrelid FROM ranges JOIN pg_attribute AS a ON a.atttypid = ranges.oid AND NOT a.attisdropped)"""


def _code(version: int) -> str:
    """The tables that run code of a tenant's with the rights of who owns the table.

    Where nobody else can enter that is autovacuum: indexes and statistics over expressions, and differences of ranges
    (domains, multiranges). It comes to a table with `autovacuum_enabled=false` too when that is old enough. Elsewhere a
    foreign key acts as the owner as well, and fires triggers, defaults, checks, casts, what a rule reaches, and all
    that of partitions, whosever they are. What the bootstrap superuser owns is of the server's making; in an extension
    it acts on what it is told (`lo_manage`).
    """
    statistics = (
        """UNION ALL
        SELECT s.stxrelid, 'pg_statistic_ext'::regclass, s.oid, s.stxexprs::text FROM pg_statistic_ext AS s
        WHERE s.stxexprs IS NOT NULL"""
        if version >= 14
        else ""
    )
    return f"""
{_RANGES},
attached AS (
    SELECT every.* FROM relations, (
        SELECT i.indrelid AS relid, 'pg_class'::regclass AS classid, i.indexrelid AS objid, NULL AS tree
        FROM pg_index AS i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
        {statistics}
        {_ACTING}) AS every WHERE every.relid = relations.oid),
{_RUNS},
code AS (
    SELECT CASE WHEN here.is_closed THEN 'maintenance' ELSE 'code' END AS kind, c.oid::regclass::text AS example
    FROM here, relations AS c
    WHERE (c.relkind IN ('r', 'm') OR c.relkind IN ('p', 'f') AND NOT here.is_closed)
      AND c.oid IN (SELECT relid FROM running)
)"""
