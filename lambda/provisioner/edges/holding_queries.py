"""The queries for what a role owns and where it is named inside one database.

`pg_shdepend` is what the server itself asks before it drops a role, so what it does not know keeps no role from going.
"""

from __future__ import annotations

from provisioner.core.quoting import Literal

# What owners hold locks of while it passes on may take so much of the server's lock table, which all sessions share.
LOCKS = """current_setting('max_locks_per_transaction')::int
    * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 4"""
# The column that has the access lists of a class; those of large objects stand beside what `pg_shdepend` names.
_ACCESS_LISTS = {
    "pg_database": "datacl", "pg_namespace": "nspacl", "pg_class": "relacl", "pg_proc": "proacl", "pg_type": "typacl",
    "pg_language": "lanacl", "pg_largeobject": "lomacl", "pg_foreign_data_wrapper": "fdwacl",
    "pg_foreign_server": "srvacl",
}  # fmt: skip
_LISTS = "\n".join(
    f"UNION ALL SELECT o.{acl}, '' FROM {catalog} AS o WHERE named.classid = '{name}'::regclass AND o.oid = named.objid"
    for name, acl in _ACCESS_LISTS.items()
    for catalog in [name.replace("object", "object_metadata")]
)
# What is granted on a database `d`, and who else than us is in it.
DATABASE_LIST = "aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x"
VISITORS = """pg_stat_activity AS a JOIN pg_roles AS r ON r.oid = a.usesysid
    WHERE a.datid = d.oid AND NOT r.rolsuper AND a.usename <> current_user"""
GRANTEE = "CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END"


def passed_on(acl: str) -> str:
    """What was passed on, by however many hands, of what `given` says that the role which is `gone` has.

    Each is a `PassedOn`. Revoked from the role, all of it goes too.
    """
    return f"""(
        WITH RECURSIVE passed AS (
            SELECT x.* FROM aclexplode({acl}) AS own, aclexplode({acl}) AS x
            WHERE own.grantee = gone.oid AND own.is_grantable AND x.grantor = gone.oid
              AND own.grantor = given.grantor AND own.privilege_type = x.privilege_type
            UNION
            SELECT x.* FROM passed, aclexplode({acl}) AS x
            WHERE passed.is_grantable AND x.grantor = passed.grantee AND x.privilege_type = passed.privilege_type
        )
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array({GRANTEE}, x.privilege_type, x.is_grantable,
            CASE x.grantor WHEN gone.oid THEN '' ELSE pg_get_userbyid(x.grantor) END)), '[]') FROM passed AS x)"""


def begin(role: str, passed_to: str = "") -> str:
    """What the queries inside a database begin with; `successor` is who will own what the role owns in it.

    What the role was granted on the database itself counts as granted in it.
    With `passed_to` the role's is what this transaction has passed to that one, whose rows nobody else can change now.
    """
    passed = "AND s.deptype = 'o' AND s.xmin = pg_current_xact_id()::xid" if passed_to else ""
    return f"""
gone AS (SELECT oid, rolname FROM pg_roles WHERE rolname = {Literal(role).sql()}),
here AS (
    SELECT d.oid, d.datdba = gone.oid OR d.datdba = me.oid AS is_mine,
           d.datdba = gone.oid
               OR d.datdba = me.oid AND NOT EXISTS (SELECT FROM {DATABASE_LIST} WHERE x.grantee <> me.oid)
                  AND NOT EXISTS (SELECT FROM {VISITORS}) AS is_closed,
           CASE WHEN d.datdba = gone.oid THEN me.oid ELSE d.datdba END AS successor
    FROM pg_database AS d, gone, pg_roles AS me WHERE d.datname = current_database() AND me.rolname = current_user
),
dep AS (
    SELECT s.classid, s.objid, s.objsubid, s.deptype FROM pg_shdepend AS s, pg_roles AS owner, here
    WHERE owner.rolname = {Literal(passed_to or role).sql()} AND s.refobjid = owner.oid
      AND s.refclassid = 'pg_authid'::regclass {passed}
      AND (s.dbid = here.oid OR s.deptype = 'a' AND s.classid = 'pg_database'::regclass AND s.objid = here.oid)
),
lists AS (
    SELECT DISTINCT named.classid, named.objid, list.part, given.grantor, {passed_on("list.acl")} AS passed_on
    FROM gone, (SELECT DISTINCT classid, objid FROM dep WHERE deptype = 'a') AS named, LATERAL (
        SELECT a.attacl AS acl, quote_ident(a.attname) AS part FROM pg_attribute AS a
        WHERE named.classid = 'pg_class'::regclass AND a.attrelid = named.objid AND a.attacl IS NOT NULL
        {_LISTS}
    ) AS list, aclexplode(list.acl) AS given
    WHERE given.grantee = gone.oid
)"""


def grants_query(role: str) -> str:
    """A row for each grant to a role on an object or its column.

    The kind's keyword, the name, grantor and column, and what it has passed on of that, as JSON.
    """
    return f"""
WITH {begin(role)}
SELECT CASE lists.classid WHEN 'pg_class'::regclass THEN 'TABLE' WHEN 'pg_proc'::regclass THEN 'ROUTINE'
            WHEN 'pg_foreign_server'::regclass THEN 'FOREIGN SERVER' ELSE upper(replace(named.type, '-', ' ')) END,
       named.identity, pg_get_userbyid(lists.grantor), lists.part, lists.passed_on::text
FROM lists, pg_identify_object(lists.classid, lists.objid, 0) AS named ORDER BY 3, 1, 4, 2"""


def defaults_query(role: str) -> str:
    """A row for each default privilege that is a role's own or names it: creator, schema, kind's letter, grantees."""
    return f"""
WITH gone AS (SELECT oid FROM pg_roles WHERE rolname = {Literal(role).sql()})
SELECT pg_get_userbyid(d.defaclrole), coalesce(n.nspname, ''), d.defaclobjtype,
       ARRAY(SELECT DISTINCT {GRANTEE}::text FROM aclexplode(d.defaclacl) AS x ORDER BY 1)
FROM gone, pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
WHERE d.defaclrole = gone.oid
   OR EXISTS (SELECT FROM aclexplode(d.defaclacl) AS x WHERE x.grantee = gone.oid) ORDER BY 1, 2, 3"""


def given_query(role: str) -> str:
    """A row for each object that a role owns in this database: keyword of its kind, quoted name, number of its part.

    A part takes no more of the server's locks than a transaction may. Schemas come first: who gets the rest has to be
    able to create in them. Not what follows another object (the sequence of a column), nor extensions, which no
    statement gives away alone.
    """
    return f"""
WITH {begin(role)}
SELECT CASE named.type WHEN 'statistics object' THEN 'STATISTICS' WHEN 'aggregate' THEN 'ROUTINE'
            ELSE upper(named.type) END, named.identity,
       sum(3 + (SELECT count(*) FROM pg_index AS i
                WHERE dep.classid = 'pg_class'::regclass AND i.indrelid = dep.objid))
           OVER (ORDER BY named.type <> 'schema', dep.classid, dep.objid)::bigint / ({LOCKS})
FROM dep, pg_identify_object(dep.classid, dep.objid, 0) AS named
WHERE dep.deptype = 'o' AND dep.classid NOT IN ('pg_extension'::regclass, 'pg_default_acl'::regclass)
  AND NOT EXISTS (
    SELECT FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = dep.classid AND d.objid = dep.objid AND d.classid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 AND d.refclassid = 'pg_class'::regclass)
ORDER BY 3, named.type <> 'schema', dep.classid, dep.objid"""


def left_query(role: str) -> str:
    """How much still belongs to a role or names it here, with the databases that it owns or just did, and one of it.

    The row of this database is ours where grants on it were revoked.
    """
    return f"""
WITH {begin(role)}
SELECT count(*), min(each)
FROM (SELECT pg_describe_object(dep.classid, dep.objid, dep.objsubid) AS each FROM dep
      UNION ALL
      SELECT pg_describe_object('pg_database'::regclass, d.oid, 0) FROM pg_database AS d, gone, here
      WHERE d.datdba = gone.oid OR d.xmin = pg_current_xact_id_if_assigned()::xid AND d.oid <> here.oid) AS items"""
