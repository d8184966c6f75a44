"""The queries for what a role owns and where it is named: on the server, and inside one database.

`pg_shdepend` is what the server itself asks before it drops a role, so what it does not know keeps no role from going.
"""

from __future__ import annotations

from provisioner.core.quoting import Literal

# What owners hold locks of while it passes on may take so much of the server's lock table, which all sessions share.
LOCK_SHARE = 4
_BOOTSTRAP = 10
# The column that has the access lists of a class; those of large objects stand beside what `pg_shdepend` names.
_ACCESS_LISTS = {
    "pg_class": "relacl", "pg_namespace": "nspacl", "pg_proc": "proacl", "pg_type": "typacl", "pg_language": "lanacl",
    "pg_foreign_data_wrapper": "fdwacl", "pg_foreign_server": "srvacl", "pg_largeobject": "lomacl",
}  # fmt: skip
_LISTS = "\n".join(
    f"UNION ALL SELECT o.{acl}, '' FROM {catalog} AS o WHERE named.classid = '{name}'::regclass AND o.oid = named.objid"
    for name, acl in _ACCESS_LISTS.items()
    for catalog in [name.replace("object", "object_metadata")]
)
GRANTEE = "CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END"


def _here(role: str) -> str:
    """What the queries inside a database begin with; `successor` is who will own what the role owns in it."""
    return f"""
gone AS (SELECT oid, rolname FROM pg_roles WHERE rolname = {Literal(role).sql()}),
here AS (
    SELECT d.oid, d.datdba = gone.oid OR d.datdba = me.oid AS is_mine,
           d.datdba = gone.oid OR d.datdba = me.oid AND NOT EXISTS (
               SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x WHERE x.grantee <> me.oid
           ) AS is_closed,
           CASE WHEN d.datdba = gone.oid THEN me.oid ELSE d.datdba END AS successor
    FROM pg_database AS d, gone, pg_roles AS me WHERE d.datname = current_database() AND me.rolname = current_user
),
dep AS (
    SELECT s.classid, s.objid, s.objsubid, s.deptype FROM pg_shdepend AS s, gone, here
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = gone.oid AND s.dbid = here.oid
),
lists AS (
    SELECT DISTINCT named.classid, named.objid, list.part, x.grantor
    FROM gone, (SELECT DISTINCT classid, objid FROM dep WHERE deptype = 'a') AS named, LATERAL (
        SELECT a.attacl AS acl, quote_ident(a.attname) AS part FROM pg_attribute AS a
        WHERE named.classid = 'pg_class'::regclass AND a.attrelid = named.objid AND a.attacl IS NOT NULL
        {_LISTS}
    ) AS list, aclexplode(list.acl) AS x
    WHERE x.grantee = gone.oid
)"""


def grants_query(role: str) -> str:
    """A row for each grant to a role on an object or its column: kind's keyword, name, grantor, column."""
    return f"""
WITH {_here(role)}
SELECT CASE lists.classid::regclass::text
           WHEN 'pg_class' THEN (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END FROM pg_class AS c
                                 WHERE c.oid = lists.objid)
           WHEN 'pg_namespace' THEN 'SCHEMA' WHEN 'pg_proc' THEN 'ROUTINE' WHEN 'pg_type' THEN 'TYPE'
           WHEN 'pg_language' THEN 'LANGUAGE' WHEN 'pg_foreign_data_wrapper' THEN 'FOREIGN DATA WRAPPER'
           WHEN 'pg_foreign_server' THEN 'FOREIGN SERVER' ELSE 'LARGE OBJECT' END,
       (pg_identify_object(lists.classid, lists.objid, 0)).identity, pg_get_userbyid(lists.grantor), lists.part
FROM lists ORDER BY 3, 1, 4, 2"""


def defaults_query(role: str) -> str:
    """A row for each default privilege that is a role's own or names it: creator, schema, kind's letter, grantees."""
    return f"""
WITH gone AS (SELECT oid FROM pg_roles WHERE rolname = {Literal(role).sql()})
SELECT pg_get_userbyid(d.defaclrole), coalesce(n.nspname, ''), d.defaclobjtype,
       (SELECT coalesce(json_agg(DISTINCT {GRANTEE}), '[]')
        FROM aclexplode(d.defaclacl) AS x)::text
FROM gone, pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
WHERE d.defaclrole = gone.oid
   OR EXISTS (SELECT FROM aclexplode(d.defaclacl) AS x WHERE x.grantee = gone.oid) ORDER BY 1, 2, 3"""


def schemas_query(role: str) -> str:
    """The schemas that a role owns: who gets its routines has to be able to create in them."""
    return (
        f"SELECT n.nspname FROM pg_namespace AS n WHERE pg_get_userbyid(n.nspowner) = {Literal(role).sql()} ORDER BY 1"
    )


def given_query(role: str) -> str:
    """A row for each object of a role's in this database that can have another owner: keyword of its kind, quoted name.

    Not what follows another object (the sequence of a column) or belongs to an extension, nor extensions themselves,
    which no statement gives away alone. Schemas come first: who gets the rest has to be able to create in them.
    """
    return f"""
WITH {_here(role)}
SELECT kinds.keyword, (pg_identify_object(dep.classid, dep.objid, 0)).identity
FROM dep JOIN (VALUES
    ('pg_namespace', 'SCHEMA'), ('pg_class', 'TABLE'), ('pg_type', 'TYPE'), ('pg_proc', 'ROUTINE'),
    ('pg_largeobject', 'LARGE OBJECT'), ('pg_foreign_server', 'SERVER'), ('pg_publication', 'PUBLICATION'),
    ('pg_statistic_ext', 'STATISTICS'), ('pg_operator', 'OPERATOR'), ('pg_collation', 'COLLATION'),
    ('pg_conversion', 'CONVERSION'), ('pg_ts_config', 'TEXT SEARCH CONFIGURATION'),
    ('pg_ts_dict', 'TEXT SEARCH DICTIONARY')
) AS kinds(catalog, keyword) ON kinds.catalog = dep.classid::regclass::text
WHERE dep.deptype = 'o' AND NOT EXISTS (
    SELECT FROM pg_depend AS d WHERE d.classid = dep.classid AND d.objid = dep.objid
      AND (d.deptype = 'e' OR d.deptype IN ('a', 'i') AND d.refobjsubid > 0 AND d.refclassid = 'pg_class'::regclass
           AND EXISTS (SELECT FROM pg_class AS s WHERE s.oid = dep.objid AND s.relkind = 'S')))
ORDER BY dep.classid <> 'pg_namespace'::regclass, 1, 2"""


def guests_query(database: str) -> str:
    """What others than the administrator have on a database, and how many sessions in it."""
    return f"""
SELECT (SELECT count(*) FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x
        WHERE x.grantee = 0 OR pg_get_userbyid(x.grantee) <> current_user),
       (SELECT count(*) FROM pg_stat_activity AS a JOIN pg_roles AS r ON r.oid = a.usesysid
        WHERE a.datid = d.oid AND NOT r.rolsuper AND a.usename <> current_user)
FROM pg_database AS d WHERE d.datname = {Literal(database).sql()}"""


def left_query(role: str) -> str:
    """How much in this database still belongs to a role or names it, and how many databases it owns."""
    return f"""
WITH {_here(role)}
SELECT (SELECT count(*) FROM dep), (SELECT count(*) FROM pg_database AS d, gone WHERE d.datdba = gone.oid),
       (SELECT min(pg_describe_object(dep.classid, dep.objid, dep.objsubid)) FROM dep)"""


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
    SELECT 'schema', count(*), min(format('%s in schema %I', pg_describe_object(o.classid, o.objid, 0), n.nspname))
    FROM here, gone, dep AS o, LATERAL (
        SELECT p.pronamespace AS oid FROM pg_proc AS p WHERE o.classid = 'pg_proc'::regclass AND p.oid = o.objid
        UNION ALL SELECT p.oprnamespace FROM pg_operator AS p
        WHERE o.classid = 'pg_operator'::regclass AND p.oid = o.objid
        UNION ALL SELECT p.collnamespace FROM pg_collation AS p
        WHERE o.classid = 'pg_collation'::regclass AND p.oid = o.objid
        UNION ALL SELECT p.connamespace FROM pg_conversion AS p
        WHERE o.classid = 'pg_conversion'::regclass AND p.oid = o.objid
        UNION ALL SELECT p.cfgnamespace FROM pg_ts_config AS p
        WHERE o.classid = 'pg_ts_config'::regclass AND p.oid = o.objid
        UNION ALL SELECT p.dictnamespace FROM pg_ts_dict AS p
        WHERE o.classid = 'pg_ts_dict'::regclass AND p.oid = o.objid
        UNION ALL SELECT p.stxnamespace FROM pg_statistic_ext AS p
        WHERE o.classid = 'pg_statistic_ext'::regclass AND p.oid = o.objid
    ) AS place JOIN pg_namespace AS n ON n.oid = place.oid
    WHERE o.deptype = 'o' AND n.nspowner <> gone.oid AND NOT has_schema_privilege(here.successor, n.oid, 'CREATE')
      AND NOT (here.is_mine AND has_schema_privilege(gone.oid, n.oid, 'CREATE'))"""
# What would run, or reach something, with the rights of who would get it.
_WITH_RIGHTS = """
    UNION ALL
    SELECT 'maintenance', count(*), min(example) FROM code
    UNION ALL
    SELECT 'definer', count(*), min(format('%I.%I', n.nspname, p.proname))
    FROM here, gone, dep JOIN pg_proc AS p ON dep.classid = 'pg_proc'::regclass AND p.oid = dep.objid
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE dep.deptype = 'o' AND p.prosecdef AND NOT here.is_closed AND EXISTS (
        SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
        WHERE x.grantee NOT IN (gone.oid, here.successor))
    UNION ALL
    SELECT 'view', count(*), min(c.oid::regclass::text)
    FROM here, gone, relations AS c
    WHERE (c.relkind = 'v' OR c.relhasrules) AND NOT here.is_closed
      AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)
      AND EXISTS (
        SELECT FROM aclexplode(c.relacl) AS x, pg_rewrite AS w JOIN pg_depend AS d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
        JOIN pg_class AS t ON t.oid = d.refobjid
        WHERE w.ev_class = c.oid AND t.oid <> c.oid AND t.relowner <> gone.oid
          AND x.grantee NOT IN (gone.oid, here.successor)
          AND x.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
          AND NOT has_table_privilege(gone.oid, t.oid, x.privilege_type))"""
_HELD = f"""
    UNION ALL
    SELECT 'prepared_lock', count(DISTINCT c.oid), min(c.oid::regclass::text)
    FROM here, relations AS c JOIN pg_locks AS l ON l.relation = c.oid WHERE l.pid IS NULL AND l.database = here.oid
    UNION ALL
    SELECT 'locks', count(*), ''
    FROM (SELECT objid FROM dep WHERE deptype = 'o'
          UNION ALL SELECT i.indexrelid FROM pg_index AS i JOIN relations AS c ON c.oid = i.indrelid
          UNION ALL SELECT c.reltoastrelid FROM relations AS c, generate_series(1, 2) WHERE c.reltoastrelid <> 0
         ) AS held
    HAVING count(*) > current_setting('max_locks_per_transaction')::int
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
        / {LOCK_SHARE}"""
_KINDS = """
            SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                        WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind, count(*)
            FROM relations AS c GROUP BY 1
            UNION ALL
            SELECT CASE dep.classid::regclass::text WHEN 'pg_proc' THEN 'routine' WHEN 'pg_namespace' THEN 'schema'
                        WHEN 'pg_largeobject' THEN 'large object' WHEN 'pg_foreign_server' THEN 'foreign server'
                        WHEN 'pg_ts_config' THEN 'text search configuration' WHEN 'pg_statistic_ext' THEN 'statistics'
                        WHEN 'pg_ts_dict' THEN 'text search dictionary'
                        ELSE replace(substr(dep.classid::regclass::text, 4), '_', ' ') END, count(*)
            FROM dep WHERE dep.deptype = 'o' AND dep.classid::regclass::text NOT IN ('pg_class', 'pg_default_acl')
            GROUP BY 1"""


def inside_query(role: str, version: int) -> str:
    """One row, one JSON: what a role owns in this database by kind, who grants it what, and what stands in the way."""
    of_schemas = (
        "OR EXISTS (SELECT FROM pg_publication_namespace AS n WHERE n.pnpubid = p.oid)" if version >= 15 else ""
    )
    return f"""
WITH {_here(role)},
relations AS (
    SELECT c.* FROM dep JOIN pg_class AS c ON dep.classid = 'pg_class'::regclass AND c.oid = dep.objid
    WHERE dep.deptype = 'o'
),
{_code(version)},
obstacles AS ({_UNPASSABLE}
    UNION ALL
    SELECT 'publication', count(*), min(quote_ident(p.pubname))
    FROM dep JOIN pg_publication AS p ON dep.classid = 'pg_publication'::regclass AND p.oid = dep.objid
    WHERE dep.deptype = 'o' AND (p.puballtables {of_schemas}){_MISPLACED}{_WITH_RIGHTS}{_HELD}
)
SELECT json_build_object(
    'owned', (
        SELECT coalesce(json_agg(json_build_array(kind, count) ORDER BY kind), '[]') FROM ({_KINDS}
        ) AS kinds
    ),
    'grants', (
        SELECT coalesce(json_agg(json_build_array(pg_get_userbyid(g.grantor), g.count)), '[]')
        FROM (SELECT grantor, count(*) FROM lists GROUP BY 1) AS g
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


_RANGES = f"""
ranges AS (WITH RECURSIVE every AS (
        SELECT unnest(ARRAY[r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid]) AS oid
        FROM here, pg_range AS r JOIN pg_proc AS p ON p.oid IN (r.rngsubdiff::oid, r.rngcanonical::oid)
        WHERE p.proowner NOT IN ({_BOOTSTRAP}, here.successor)
        UNION SELECT t.oid FROM every, pg_type AS t WHERE t.typtype = 'd' AND t.typbasetype = every.oid) TABLE every)"""


def _code(version: int) -> str:
    """The tables whose own maintenance (autovacuum) runs code of a tenant's with the rights of who owns the table.

    Indexes and statistics over expressions, and differences of ranges (domains, multiranges): what the bootstrap
    superuser owns is of the server's making. `autovacuum_enabled=false` on the table takes it out.
    """
    statistics = (
        """UNION ALL
        SELECT s.stxrelid, 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext AS s
        WHERE s.stxexprs IS NOT NULL"""
        if version >= 14
        else ""
    )
    return f"""
{_RANGES},
code AS (
    SELECT c.oid::regclass::text AS example
    FROM here, relations AS c WHERE c.relkind IN ('r', 'm', 'p')
      AND NOT coalesce(c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off'], false)
      AND (EXISTS (
        SELECT FROM (
            SELECT i.indrelid AS relid, 'pg_class'::regclass AS classid, i.indexrelid AS objid FROM pg_index AS i
            WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
            {statistics}
        ) AS e
        JOIN pg_depend AS d ON d.classid = e.classid AND d.objid = e.objid
        LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
        LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
        LEFT JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
        WHERE e.relid = c.oid
          AND coalesce(p.proowner, o.oprowner, t.typowner, {_BOOTSTRAP}) NOT IN ({_BOOTSTRAP}, here.successor))
       OR EXISTS (
        SELECT FROM pg_attribute AS a JOIN ranges ON ranges.oid = a.atttypid
        WHERE a.attrelid = c.oid AND NOT a.attisdropped))
)"""
