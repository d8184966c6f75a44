"""What roles that leave still hold: each query beside what is made of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.holdings import DatabaseHoldings, Leaving, Obstacle, RoleHoldings
from provisioner.core.quoting import Literal, array
from provisioner.core.state import Server
from provisioner.edges.holding_obstacles import inside_query
from provisioner.edges.holding_queries import DATABASE_LIST, GRANTEE, VISITORS
from provisioner.edges.observe import look
from provisioner.edges.postgres import Connection, Login
from provisioner.edges.server_catalogs import DATABASE_COMMENT


def observe_leaving(connection: Connection, server: Server, leaving: Leaving) -> Leaving:
    """Ask what is known of the roles that the event names, of those that are quarantined and of kept databases.

    Raises:
        SqlError: the connection was lost.
    """
    quarantined = {name for name, role in server.roles.items() if role.marker.quarantined}
    kept = {
        name
        for name, database in server.databases.items()
        if database.marker.kept and database.owner == server.administrator
    }
    names = quarantined | leaving.quarantine | leaving.retire
    if not names | kept:
        return leaving
    found = connection.run(_leaving_query(names, kept))[0][0]
    # An aggregate of nothing is null.
    return replace(leaving, **{name: {} if value is None else value for name, value in found.items()})


def observe_holdings(
    connection: Connection, login: Login, server: Server, roles: Iterable[str]
) -> dict[str, RoleHoldings]:
    """Look for what roles own and where they are named, in every database that has anything of them.

    Raises:
        DatabaseUnavailable: the server broke off.
        OutOfTime: there was not time enough.
    """
    return {name: _observe_role(connection, login, server, name) for name in sorted(roles)}


def _observe_role(connection: Connection, login: Login, server: Server, role: str) -> RoleHoldings:
    def read() -> RoleHoldings:
        found = outside_databases(connection, role)
        return replace(found, databases=[_look_inside(login, server, role, each) for each in found.databases])

    return look(login, f'role "{role}"', read, lambda reason: RoleHoldings(refusal=reason))


def outside_databases(connection: Connection, role: str) -> RoleHoldings:
    """What a role has on the server, without what is in the databases."""
    found = connection.run(_shared_query(role))[0][0]
    return RoleHoldings(
        databases=[DatabaseHoldings(**item) for item in found["databases"]],
        granted=found["granted"],
        shared=[Obstacle(*item) for item in found["shared"]],
    )


def _look_inside(login: Login, server: Server, role: str, holding: DatabaseHoldings) -> DatabaseHoldings:
    if holder := server.locked_databases.get(holding.database):
        return replace(holding, refusal=f"{holder} holds a lock that lets nobody in")

    def read() -> DatabaseHoldings:
        with login.connect(holding.database) as connection:
            found = connection.run(inside_query(role))[0][0]
        obstacles = [Obstacle(*item) for item in found.pop("obstacles")]
        return replace(holding, obstacles=obstacles, **found)

    return look(login, f'database "{holding.database}"', read, lambda reason: replace(holding, refusal=reason))


# --- the queries: one row, one JSON, whose keys are the fields of what is made of it ---------------------------------


def _leaving_query(roles: Iterable[str], kept: Iterable[str]) -> str:
    leaving, databases = array(sorted(roles)), array(sorted(kept))
    return f"""
SELECT json_build_object(
    'now', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'may_signal', pg_has_role('pg_signal_backend', 'USAGE'),
    'sessions', (
        SELECT json_object_agg(a.usename, a.count)
        FROM (SELECT usename, count(*) FROM pg_stat_activity WHERE usename = ANY ({leaving}) GROUP BY 1) AS a
    ),
    'subscriptions', (
        SELECT json_object_agg(r.rolname, ARRAY(
            SELECT s.subname FROM pg_subscription AS s WHERE s.subowner = r.oid AND s.subenabled ORDER BY 1))
        FROM pg_roles AS r WHERE r.rolname = ANY ({leaving})
    ),
    'sizes', (
        SELECT json_object_agg(d.datname, pg_database_size(d.oid))
        FROM pg_database AS d WHERE d.datname = ANY ({databases})
    ),
    'opened', (
        SELECT json_object_agg(d.datname, ARRAY(
            SELECT DISTINCT {GRANTEE} FROM {DATABASE_LIST} WHERE x.grantee <> d.datdba ORDER BY 1))
        FROM pg_database AS d WHERE d.datname = ANY ({databases})
    )
)"""


_SHARED = """
    SELECT 'superuser', count(*), min(pg_describe_object(dep.classid, dep.objid, 0))
    FROM dep WHERE dep.classid::regclass::text IN ('pg_tablespace', 'pg_subscription', 'pg_parameter_acl')
    GROUP BY dep.classid
    UNION ALL
    SELECT 'prepared', count(*), min(format('%L in database %I', p.gid, p.database))
    FROM pg_prepared_xacts AS p, gone WHERE p.owner = gone.rolname
    UNION ALL
    SELECT 'held', count(*), min(coalesce('session ' || a.pid || ' of ' || quote_ident(a.usename), 'prepared'))
    FROM gone, pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'object' AND l.classid = 'pg_authid'::regclass AND l.objid = gone.oid
      AND l.pid IS DISTINCT FROM pg_backend_pid() AND a.usename IS DISTINCT FROM gone.rolname
    UNION ALL
    SELECT 'membership', count(*), min(format('%I granted %I to %I', pg_get_userbyid(p.grantor),
                                              pg_get_userbyid(p.roleid), pg_get_userbyid(p.member)))
    FROM granted AS m JOIN pg_auth_members AS p ON p.roleid = m.roleid AND p.grantor = m.member WHERE m.admin_option"""


def _shared_query(role: str) -> str:
    """The databases that a role owns, or that name it or hold what does, and what is in no database."""
    # From 16 on, a membership depends on who granted it.
    return f"""
WITH gone AS (SELECT oid, rolname FROM pg_roles WHERE rolname = {Literal(role).sql()}),
dep AS (
    SELECT s.* FROM pg_shdepend AS s, gone WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = gone.oid
),
granted AS (
    SELECT m.* FROM gone, pg_auth_members AS m
    WHERE m.grantor = gone.oid AND current_setting('server_version_num')::int >= 160000
),
obstacles(kind, count, example) AS ({_SHARED}
)
SELECT json_build_object(
    'databases', ARRAY(
        SELECT json_build_object(
            'database', d.datname, 'owner', pg_get_userbyid(d.datdba), 'comment', {DATABASE_COMMENT},
            'holders', ARRAY(
                SELECT DISTINCT {GRANTEE} FROM {DATABASE_LIST}
                WHERE d.datdba = gone.oid AND x.grantee <> d.datdba AND pg_get_userbyid(x.grantee) <> current_user
                ORDER BY 1),
            'visitors', ARRAY(
                SELECT DISTINCT a.usename::text FROM {VISITORS}
                  AND d.datdba = gone.oid AND a.usesysid <> gone.oid ORDER BY 1))
        FROM gone, pg_database AS d
        WHERE d.oid IN (SELECT CASE dep.classid WHEN 'pg_database'::regclass THEN dep.objid ELSE dep.dbid END FROM dep)
        ORDER BY d.datname),
    'granted', ARRAY(
        SELECT DISTINCT ARRAY[pg_get_userbyid(m.roleid), pg_get_userbyid(m.member)]::text[]
        FROM granted AS m ORDER BY 1),
    'shared', ARRAY(
        SELECT json_build_array(kind, count, example) FROM obstacles WHERE count > 0 ORDER BY kind)
)"""
