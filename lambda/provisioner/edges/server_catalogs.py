"""The shared catalogs of a server: a connection and names in, roles, memberships and databases from outside out.

Asked once, in one message.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from provisioner.core.acl import parse_acl
from provisioner.core.errors import DatabaseUnavailable, Finding
from provisioner.core.kinds import ObjectKind
from provisioner.core.marker import MAX_COMMENT_CHARACTERS, MAX_ROLE_COMMENT_CHARACTERS, parse_marker
from provisioner.core.quoting import array
from provisioner.core.state import (
    ITS_OWNER,
    PUBLIC,
    RDS_MASTER,
    Database,
    Membership,
    ObjectGroup,
    Role,
    Server,
    Target,
    TooLarge,
    UnmanagedPrivilege,
    Unreadable,
)
from provisioner.edges.database_catalogs import FIRST_OBJECT
from provisioner.edges.postgres import Connection

OLDEST_VERSION = 13
# Beyond this length the list of one database, seen from outside, is somebody's experiment: refused, not held in memory.
MAX_DATABASE_ACL_CHARACTERS = 500_000
# A session reads all that is stored for its database and its role, and a hundred megabytes cost it five hundred. They
# are stored compressed, to one part in a hundred or so, and need not be unpacked to see that they are too long.
MAX_SETTINGS_BYTES = 100_000
# A lock that keeps everybody out of a database counts once it outlived this: a VACUUM FULL passes, a tenant stays. So
# does a session that is seen each time: for a moment everybody can lock any database (ALTER DATABASE ... RENAME takes
# its lock first and then sees whose it is), again and again.
LOCK_SECONDS, LOCK_LOOKS = 1.0, 20

Row = list[Any]


def observe_server(connection: Connection, databases: Collection[str], *, with_extensions: bool = False) -> Server:
    """Read the shared catalogs: roles, memberships, and the named and the marked databases from outside.

    `with_extensions` asks for the extensions that this server could install too.

    Raises:
        DatabaseUnavailable: the server is a standby or too old.
        SqlError: the connection was lost.
    """
    query = _server_query(databases, connection.version, with_extensions=with_extensions)
    found = connection.run(query)[0][0]
    locked = _lasting(connection, found["locked"])
    version = int(found["version"]) // 10_000
    if found["standby"]:
        raise DatabaseUnavailable(
            Finding("standby", "the server is a standby and cannot be written", "point DB_HOST at the writer")
        )
    if version < OLDEST_VERSION:
        raise DatabaseUnavailable(
            Finding("version", f"PostgreSQL {version} is older than {OLDEST_VERSION}", "upgrade the instance")
        )
    memberships = {Membership(*row) for row in found["memberships"]}
    of_its_own = {item for item in memberships if item.member == found["administrator"]}
    administered = {item for item in of_its_own if item.admin_option and not item.confers_privileges}
    return Server(
        version=version,
        **{name: found[name] for name in ("administrator", "bootstrap", "system_identifier")},
        roles={row[0]: _role(row) for row in found["roles"]},
        databases={row[0]: _database(row, locked) for row in found["databases"]},
        memberships=tuple(sorted(memberships - administered)),
        administered=tuple(sorted(administered)),
        other_privileges=tuple(UnmanagedPrivilege(*row) for row in found["other"]),
        held_elsewhere={role: (number, example) for role, (number, example) in found["elsewhere"].items()},
        available_extensions={name: creator for name, creator, _ in found["extensions"]},
        extension_requirements={name: tuple(needed) for name, _, needed in found["extensions"] if needed},
        available_connections=found["available_connections"],
        locks_per_session=found["locks_per_session"],
        locked_databases=locked,
        limited_databases={name: (allows, limit) for name, allows, limit in found["limited"]},
    )


def _lasting(connection: Connection, locked: Mapping[str, list[str]]) -> dict[str, str]:
    """Of the databases that nobody gets into those that the same one keeps locked all the while, by who that is."""
    for _ in range(LOCK_LOOKS):
        if locked:
            time.sleep(LOCK_SECONDS / LOCK_LOOKS)
            now = read_locked(connection)
            still = {name: [each for each in holders if each in now.get(name, ())] for name, holders in locked.items()}
            locked = {name: holders for name, holders in still.items() if holders}
    return {name: min(holders) for name, holders in locked.items()}


def read_locked(connection: Connection) -> dict[str, list[str]]:
    """The databases that nobody gets into at the moment, each with who holds a lock there."""
    return dict(connection.run(f"SELECT {_LOCKED}")[0][0])


def _role(row: Row) -> Role:
    # The row has the fields of `Role` in their order, with the comment in the place of the marker.
    return Role(*[*row[:10], parse_marker(row[10]), *row[11:]])


def _database(row: Row, locked: Mapping[str, str]) -> Database:
    name, owner, allows_connections, is_template, comment, acl, limit, has_large_settings = row
    facts = Database(
        name=name,
        owner=owner,
        allows_connections=allows_connections,
        is_template=is_template,
        # What is cut is no marker.
        marker=parse_marker(comment[:MAX_COMMENT_CHARACTERS]),
        connection_limit=limit,
        unreadable_reason=f"{locked[name]} holds a lock that lets nobody in" if name in locked else "",
    )
    try:
        return replace(facts, groups=_groups(owner, acl, has_large_settings=has_large_settings))
    except Unreadable as error:
        return facts.refused(error)


def _groups(owner: str, acl: str, *, has_large_settings: bool) -> tuple[ObjectGroup, ...]:
    if len(acl) > MAX_DATABASE_ACL_CHARACTERS:
        raise TooLarge(f"its access control list is longer than {MAX_DATABASE_ACL_CHARACTERS} characters")
    if has_large_settings:
        raise TooLarge(f"its own settings take more than {MAX_SETTINGS_BYTES} bytes: ALTER DATABASE RESET")
    # Of one that is not named it was not asked for; one without any privilege is not empty, but {}.
    return (ObjectGroup(Target(ObjectKind.DATABASE, owner=owner), parse_acl(acl)),) if acl else ()


# An owner may write hundreds of megabytes on its database: what is too long for a marker is not fetched. By its bytes,
# since those of a session in SQL_ASCII need be no text, and what counts or cuts characters ends with an error there.
_SHORT_COMMENT = f"CASE WHEN octet_length(c.description) <= {4 * MAX_COMMENT_CHARACTERS} THEN c.description END"
# The comment of a database `d`, empty where there is none.
DATABASE_COMMENT = f"""coalesce((SELECT {_SHORT_COMMENT} FROM pg_shdescription AS c
                      WHERE c.classoid = 'pg_database'::regclass AND c.objoid = d.oid), '')"""
_DATABASE_ROW = f"""json_build_array(
            d.datname, pg_get_userbyid(d.datdba), d.datallowconn, d.datistemplate, {DATABASE_COMMENT},
            CASE WHEN d.is_named
                 THEN left(coalesce(d.datacl, acldefault('d', d.datdba))::text, {MAX_DATABASE_ACL_CHARACTERS + 1})
                 ELSE '' END,
            d.datconnlimit,
            EXISTS (SELECT FROM large_settings AS s WHERE s.setdatabase = d.oid AND s.setrole = 0))"""


# Reads a directory of the server, so it is asked only where an extension is declared. The script of one that takes a
# superuser and is trusted runs as the bootstrap superuser, and nothing that it calls can SET ROLE. One that takes none,
# trusted or not, runs as who calls it: what the owner has made in `public` could RESET ROLE, and be the administrator.
_AVAILABLE_EXTENSIONS = f"""(
        SELECT coalesce(json_agg(json_build_array(v.name, v.creator, v.needed)), '[]') FROM (
            SELECT name, json_agg(DISTINCT n) FILTER (WHERE n > '') AS needed, CASE WHEN bool_and(trusted AND superuser)
                   THEN '' WHEN bool_or(superuser AND NOT trusted) THEN '{RDS_MASTER}' ELSE '{ITS_OWNER}' END AS creator
            FROM pg_available_extension_versions LEFT JOIN unnest(requires) AS n ON true GROUP BY name
        ) AS v
    )"""

_AVAILABLE_CONNECTIONS = """(
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0)
               - count(*) FILTER (WHERE datid IS NOT NULL) FROM pg_stat_get_activity(NULL)
    )"""

# From 16 it takes ADMIN on a role to alter or grant it; before, CREATEROLE, but never over a superuser. To act with a
# role's privileges takes INHERIT, and to act in its place, as some statements must, SET (from 16).
_ROLES = f"""(
        SELECT json_agg(json_build_array(
            r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
            r.rolconnlimit,
            CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil::text ELSE '' END,
            coalesce(r.rolvaliduntil < now(), false), coalesce(left(c.description, {MAX_ROLE_COMMENT_CHARACTERS}), ''),
            me.rolsuper OR (NOT r.rolsuper AND CASE
                WHEN current_setting('server_version_num')::int >= 160000
                THEN me.rolcreaterole AND given.roleid IS NOT NULL
                ELSE me.rolcreaterole OR given.roleid IS NOT NULL END),
            pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid, CASE
                WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END),
            r.rolinherit, r.oid IN (SELECT setrole FROM large_settings)))
        FROM me, pg_roles AS r
        LEFT JOIN pg_shdescription AS c ON c.classoid = 'pg_authid'::regclass AND c.objoid = r.oid
        LEFT JOIN given ON given.roleid = r.oid
    )"""

# Columns that older versions lack are read through to_jsonb.
_MEMBERSHIPS = """(
        SELECT coalesce(json_agg(json_build_array(
            pg_get_userbyid(m.roleid), pg_get_userbyid(m.member), pg_get_userbyid(m.grantor), m.admin_option,
            coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true),
            coalesce((to_jsonb(m) ->> 'set_option')::bool, true))), '[]')
        FROM pg_auth_members AS m
    )"""

# What no access level speaks of (routines, types, ..., and what is the system's own) and names a role in its access
# control list, or belongs to one that does not own the database. A mapping of a user belongs to that user whoever made
# it. Tablespaces and (from 15) parameters are of no database. Of `public` levels speak: initdb numbers it 2200.
_OTHER_PRIVILEGES = f"""
            SELECT coalesce(d.datname, ''), r.rolname, s.classid::regclass::text, count(*), s.deptype = 'o'
            FROM pg_shdepend AS s
            LEFT JOIN wanted AS d ON d.oid = s.dbid
            JOIN pg_roles AS r ON r.oid = s.refobjid
            WHERE s.refclassid = 'pg_authid'::regclass
              AND (d.oid IS NOT NULL OR s.classid IN ('pg_tablespace'::regclass, to_regclass('pg_parameter_acl')))
              AND (s.deptype = 'a' OR s.deptype = 'o' AND r.oid <> d.datdba AND s.classid <> 'pg_proc'::regclass)
              AND CASE WHEN s.classid IN ('pg_class'::regclass, 'pg_namespace'::regclass)
                       THEN s.objid < {FIRST_OBJECT} AND s.objid <> 2200
                       ELSE s.classid NOT IN ('pg_default_acl'::regclass, 'pg_largeobject'::regclass,
                                              'pg_user_mapping'::regclass) END
            GROUP BY 1, 2, 3, 5"""
# How many databases that nobody declares a role has something in, with one of them. One that it owns itself is told as
# orphaned, or is what CREATEDB is for.
_ELSEWHERE = """(
        SELECT coalesce(json_object_agg(e.rolname, json_build_array(e.number, d.datname) ORDER BY e.rolname), '{{}}')
        FROM (
            SELECT rolname, count(*) AS number, min(oid) AS example FROM (
                SELECT DISTINCT r.rolname, d.oid FROM pg_shdepend AS s
                JOIN pg_roles AS r ON r.oid = s.refobjid
                JOIN pg_database AS d
                     ON d.oid = CASE s.classid WHEN 'pg_database'::regclass THEN s.objid ELSE s.dbid END
                WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype IN ('a', 'o') AND NOT {named}
                  AND NOT (d.datdba = r.oid AND (r.rolcreatedb OR d.oid IN (SELECT oid FROM wanted)))
            ) AS every GROUP BY 1
        ) AS e JOIN pg_database AS d ON d.oid = e.example
    )"""
# Everybody is no role, so there is no dependency: the lists themselves are asked.
_EVERYBODYS = """
            UNION ALL
            SELECT '', '{public}', '{catalog}', count(*), false FROM {catalog} AS p
            WHERE EXISTS (SELECT FROM aclexplode(p.{acl}) AS x WHERE x.grantee = 0) HAVING count(*) > 0"""


# A login takes a lock of its database, then reads its catalogs. Who keeps either from it (ALTER DATABASE ... RENAME in
# an open transaction, a VACUUM FULL that waits for one) holds it without a limit, even where its client has left. Who
# only waits for such a lock keeps out everybody behind it too, for as long as another holds a lesser one.
_LOCKED = f"""(
        SELECT coalesce(json_object_agg(o.datname, o.holders), '{{}}') FROM (
            SELECT d.datname, json_agg(DISTINCT CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
                                                ELSE format('session %s of "%s"', l.pid, a.usename) END) AS holders
            FROM (SELECT k.*, bool_or(
                      (k.locktype = 'object' AND k.classid = 'pg_database'::regclass
                       AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
                      OR (k.locktype = 'relation' AND k.relation < {FIRST_OBJECT} AND k.mode = 'AccessExclusiveLock')
                  ) OVER (PARTITION BY k.locktype, k.database, k.relation, k.classid, k.objid) AS shuts
                  FROM pg_locks AS k) AS l
            JOIN pg_database AS d ON d.oid = CASE l.locktype WHEN 'object' THEN l.objid ELSE l.database END
            LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
            WHERE l.shuts AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
            GROUP BY 1
        ) AS o
    )"""


def _server_query(databases: Collection[str], version: int, *, with_extensions: bool) -> str:
    lists = {"pg_tablespace": "spcacl"} | ({"pg_parameter_acl": "paracl"} if version >= 15 else {})
    everybodys = "".join(_EVERYBODYS.format(public=PUBLIC, catalog=name, acl=acl) for name, acl in lists.items())
    named = f"d.datname = ANY ({array(sorted(databases))})"
    return f"""
WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user),
given AS (
    SELECT DISTINCT m.roleid FROM pg_auth_members AS m WHERE m.admin_option AND pg_has_role(m.member, 'MEMBER')
),
large_settings AS (
    SELECT setdatabase, setrole FROM pg_db_role_setting WHERE pg_column_size(setconfig) > {MAX_SETTINGS_BYTES}
),
wanted AS (
    SELECT d.*, {named} AS is_named FROM pg_database AS d
    WHERE {named}
       OR d.oid IN (SELECT c.objoid FROM pg_shdescription AS c
                    WHERE c.classoid = 'pg_database'::regclass AND {_SHORT_COMMENT} LIKE '%rds-provisioner%')
       OR d.datdba IN (SELECT c.objoid FROM pg_shdescription AS c
                       WHERE c.classoid = 'pg_authid'::regclass AND c.description LIKE '%"creating"%')
)
SELECT json_build_object(
    'version', current_setting('server_version_num'),
    'locks_per_session', current_setting('max_locks_per_transaction')::int,
    'standby', pg_is_in_recovery(),
    'administrator', current_user,
    'bootstrap', (SELECT rolname FROM pg_roles WHERE oid = 10),
    'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
    'available_connections', {_AVAILABLE_CONNECTIONS},
    'roles', {_ROLES},
    'memberships', {_MEMBERSHIPS},
    'databases', (SELECT coalesce(json_agg({_DATABASE_ROW}), '[]') FROM wanted AS d),
    'extensions', {_AVAILABLE_EXTENSIONS if with_extensions else "'[]'::json"},
    'locked', {_LOCKED},
    'limited', (SELECT coalesce(json_agg(json_build_array(datname, datallowconn, datconnlimit)), '[]')
                FROM pg_database WHERE NOT datallowconn OR datconnlimit >= 0),
    'other', (
        SELECT coalesce(json_agg(json_build_array(datname, rolname, catalog, count, is_owned)
                                 ORDER BY datname, rolname, catalog, is_owned), '[]')
        FROM ({_OTHER_PRIVILEGES}{everybodys}) AS o(datname, rolname, catalog, count, is_owned)),
    'elsewhere', {_ELSEWHERE.format(named=named)})"""
