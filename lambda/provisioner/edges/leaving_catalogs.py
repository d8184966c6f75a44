"""What roles that leave still hold: each query beside what is made of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from provisioner.core.holdings import DatabaseGrant, Holding, Leaving, Obstacle, PassedOn, RoleHoldings
from provisioner.core.quoting import Literal, Statement, array, statement
from provisioner.core.state import Server
from provisioner.edges.holding_obstacles import inside_query
from provisioner.edges.holding_queries import GRANTEE, passed_on
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
    found = json.loads(connection.run(_leaving_query(names, kept))[0][0])
    return replace(leaving, **found)


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
        inside = tuple(_look_inside(login, server, role, holding) for holding in found.databases)
        return replace(found, databases=inside)

    return look(login, f'role "{role}"', read, lambda reason: RoleHoldings(refusal=reason))


def outside_databases(connection: Connection, role: str) -> RoleHoldings:
    """What a role has on the server, without what is in the databases."""
    found = json.loads(connection.run(_shared_query(role, connection.version))[0][0])
    return RoleHoldings(
        tuple(_holding(row) for row in found["databases"]),
        on_databases=tuple(
            DatabaseGrant(database, grantor, tuple(PassedOn(*item) for item in passed))
            for database, grantor, passed in found["on_databases"]
        ),
        granted=tuple((granted, member) for granted, member in found["granted"]),
        shared=tuple(Obstacle(*row) for row in found["shared"]),
    )


def _holding(row: list[Any]) -> Holding:
    database, owner, comment, holders, visitors = row
    return Holding(database, owner, comment=comment, holders=tuple(holders), visitors=tuple(visitors))


def _look_inside(login: Login, server: Server, role: str, holding: Holding) -> Holding:
    if holder := server.locked_databases.get(holding.database):
        return replace(holding, refusal=f"{holder} holds a lock that lets nobody in")

    def read() -> Holding:
        with login.connect(holding.database) as connection:
            found = json.loads(connection.run(inside_query(role, connection.version))[0][0])
        return replace(
            holding,
            owned=tuple((kind, count) for kind, count in found["owned"]),
            grantors=tuple(grantor for grantor, _ in found["grants"]),
            grants=sum(count for _, count in found["grants"]),
            passed_on=tuple((name, privilege, count) for name, privilege, count in found["passed_on"]),
            creators=tuple(creator for creator, _ in found["defaults"]),
            defaults=sum(count for _, count in found["defaults"]),
            obstacles=tuple(Obstacle(*row) for row in found["obstacles"]),
        )

    return look(login, f'database "{holding.database}"', read, lambda reason: replace(holding, refusal=reason))


# --- the queries ----------------------------------------------------------------------------------------------------


def _leaving_query(roles: Iterable[str], kept: Iterable[str]) -> str:
    leaving = array(sorted(roles))
    return f"""
SELECT json_build_object(
    'now', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'may_signal', pg_has_role('pg_signal_backend', 'USAGE'),
    'sessions', (
        SELECT coalesce(json_object_agg(s.usename, s.count), '{{}}')
        FROM (SELECT a.usename, count(*) FROM pg_stat_activity AS a WHERE a.usename = ANY ({leaving}) GROUP BY 1)
             AS s
    ),
    'subscriptions', (
        SELECT coalesce(json_object_agg(o.rolname, o.names), '{{}}') FROM (
            SELECT r.rolname, json_agg(s.subname ORDER BY s.subname) AS names
            FROM pg_subscription AS s JOIN pg_roles AS r ON r.oid = s.subowner
            WHERE s.subenabled AND r.rolname = ANY ({leaving}) GROUP BY 1) AS o
    ),
    'sizes', (
        SELECT coalesce(json_object_agg(d.datname, pg_database_size(d.oid)), '{{}}')
        FROM pg_database AS d WHERE d.datname = ANY ({array(sorted(kept))})
    ),
    'opened', (
        SELECT coalesce(json_object_agg(o.datname, o.names), '{{}}') FROM (
            SELECT d.datname, json_agg(DISTINCT {GRANTEE}) AS names
            FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x
            WHERE d.datname = ANY ({array(sorted(kept))}) AND x.grantee <> d.datdba GROUP BY 1) AS o
    )
)::text"""


_DATABASES = f"""
    'databases', (
        SELECT coalesce(json_agg(json_build_array(
            d.datname, pg_get_userbyid(d.datdba),
            {DATABASE_COMMENT},
            CASE WHEN d.datdba = gone.oid THEN (
                SELECT coalesce(json_agg(DISTINCT {GRANTEE}), '[]')
                FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x
                WHERE x.grantee <> d.datdba AND pg_get_userbyid(x.grantee) <> current_user
            ) ELSE '[]' END,
            CASE WHEN d.datdba = gone.oid THEN (
                SELECT coalesce(json_agg(DISTINCT a.usename), '[]')
                FROM pg_stat_activity AS a JOIN pg_roles AS r ON r.oid = a.usesysid
                WHERE a.datid = d.oid AND NOT r.rolsuper AND a.usename <> current_user AND a.usesysid <> gone.oid
            ) ELSE '[]' END) ORDER BY d.datname), '[]')
        FROM gone, pg_database AS d
        WHERE d.datdba = gone.oid OR d.oid IN (SELECT dep.dbid FROM dep)
    )"""
_SHARED = """
    'shared', (
        SELECT coalesce(json_agg(json_build_array(kind, count, example) ORDER BY kind), '[]') FROM (
            SELECT CASE dep.classid::regclass::text WHEN 'pg_tablespace' THEN 'tablespace'
                        WHEN 'pg_subscription' THEN 'subscription' ELSE 'parameter' END AS kind,
                   count(*), min(pg_describe_object(dep.classid, dep.objid, 0)) AS example
            FROM dep
            WHERE dep.dbid = 0
              AND dep.classid::regclass::text IN ('pg_tablespace', 'pg_subscription', 'pg_parameter_acl')
            GROUP BY 1
            UNION ALL
            SELECT 'grantor', count(*), min(format('by %I on database %I', pg_get_userbyid(x.grantor), d.datname))
            FROM gone, pg_database AS d, aclexplode(d.datacl) AS x
            WHERE x.grantee = gone.oid AND x.grantor <> d.datdba AND d.datdba <> gone.oid
              AND pg_has_role(x.grantor, d.datdba, 'USAGE')
            HAVING count(*) > 0
            UNION ALL
            SELECT 'prepared', count(*), min(format('%L in database %I', p.gid, p.database))
            FROM pg_prepared_xacts AS p, gone WHERE p.owner = gone.rolname HAVING count(*) > 0
            UNION ALL
            SELECT 'held', count(*), min(coalesce(format('session %s of %I', a.pid, a.usename), 'prepared'))
            FROM gone, pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
            WHERE l.locktype = 'object' AND l.classid = 'pg_authid'::regclass AND l.objid = gone.oid
              AND l.pid IS DISTINCT FROM pg_backend_pid() AND a.usename IS DISTINCT FROM gone.rolname
            HAVING count(*) > 0
            UNION ALL
            SELECT 'membership', count(*), min(format('%I granted %I to %I', pg_get_userbyid(p.grantor),
                                                      pg_get_userbyid(p.roleid), pg_get_userbyid(p.member)))
            FROM gone, pg_auth_members AS m JOIN pg_auth_members AS p ON p.roleid = m.roleid AND p.grantor = m.member
            WHERE m.grantor = gone.oid AND m.admin_option AND {granted}
            HAVING count(*) > 0
        ) AS found
    )"""


def _shared_query(role: str, version: int) -> str:
    """One row, one JSON: the databases that a role owns or that something in it names, and what is in no database."""
    # From 16 on, a membership depends on who granted it.
    granted = "m.grantor = gone.oid" if version >= 16 else "false"
    return f"""
WITH gone AS (SELECT oid, rolname FROM pg_roles WHERE rolname = {Literal(role).sql()}),
dep AS (
    SELECT s.* FROM pg_shdepend AS s, gone WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = gone.oid
)
SELECT json_build_object({_DATABASES},
    'on_databases', (
        SELECT coalesce(json_agg(DISTINCT jsonb_build_array(
            d.datname, pg_get_userbyid(given.grantor), {passed_on("d.datacl")})), '[]')
        FROM gone, pg_database AS d, aclexplode(d.datacl) AS given
        WHERE given.grantee = gone.oid AND d.datdba <> gone.oid
    ),
    'granted', (
        SELECT coalesce(json_agg(DISTINCT jsonb_build_array(pg_get_userbyid(m.roleid), pg_get_userbyid(m.member))),
                        '[]')
        FROM gone, pg_auth_members AS m WHERE {granted}
    ),{_SHARED.format(granted=granted)}
)::text"""


# The logins that are under way: they hold locks, and no session shows whose they are.
UNNAMED_LOGINS = """
SELECT DISTINCT l.pid FROM pg_locks AS l WHERE l.pid NOT IN (
    SELECT a.pid FROM pg_stat_activity AS a WHERE a.usename IS NOT NULL OR a.backend_type <> 'client backend')"""


def sessions_query(role: str) -> str:
    """How many sessions a role has."""
    return f"SELECT count(*) FROM pg_stat_activity AS a WHERE a.usename = {Literal(role).sql()}"


def terminate_query(role: str) -> Statement:
    """Tell the sessions of a role to end; takes a membership in it, or in pg_signal_backend."""
    end = "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a WHERE a.usename = {}"
    return statement(end, Literal(role))


def guests_query(database: str) -> str:
    """What others than the administrator have on a database, and how many sessions in it."""
    return f"""
SELECT (SELECT count(*) FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x
        WHERE x.grantee = 0 OR pg_get_userbyid(x.grantee) <> current_user),
       (SELECT count(*) FROM pg_stat_activity AS a JOIN pg_roles AS r ON r.oid = a.usesysid
        WHERE a.datid = d.oid AND NOT r.rolsuper AND a.usename <> current_user)
FROM pg_database AS d WHERE d.datname = {Literal(database).sql()}"""


def logins_query(database: str) -> str:
    """How many are about to enter a database: a login is to be seen as a session before it lets go of this lock."""
    return f"""
SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.objid
WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND d.datname = {Literal(database).sql()}"""
