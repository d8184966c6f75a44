"""What roles that leave still hold: each query beside what is made of its rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.core.ddl import Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from provisioner.core.holdings import Leaving
    from provisioner.core.state import Server
    from provisioner.edges.postgres import Connection


def observe_leaving(connection: Connection, server: Server, leaving: Leaving) -> Leaving:
    """Ask what is known of the roles that the event names, and of those that are quarantined.

    Raises:
        SqlError: the connection was lost.
    """
    quarantined = {name for name, role in server.roles.items() if role.marker and role.marker.quarantined}
    names = quarantined | leaving.quarantine | leaving.retire
    if not names:
        return leaving
    found = json.loads(connection.run(_shared_query(names))[0][0])
    subscriptions: dict[str, tuple[str, ...]] = {}
    for owner, name in found["subscriptions"]:
        subscriptions[owner] = (*subscriptions.get(owner, ()), name)
    return replace(
        leaving,
        now=found["now"],
        sessions=found["sessions"],
        subscriptions=subscriptions,
        may_signal=found["may_signal"],
    )


# --- the queries ----------------------------------------------------------------------------------------------------


def _names(names: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(Literal(name).sql() for name in sorted(names)) + "]::text[]"


def _shared_query(roles: Iterable[str]) -> str:
    return f"""
SELECT json_build_object(
    'now', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'may_signal', pg_has_role('pg_signal_backend', 'USAGE'),
    'sessions', (
        SELECT coalesce(json_object_agg(s.usename, s.count), '{{}}')
        FROM (SELECT a.usename, count(*) FROM pg_stat_activity AS a WHERE a.usename = ANY ({_names(roles)}) GROUP BY 1)
             AS s
    ),
    'subscriptions', (
        SELECT coalesce(json_agg(json_build_array(r.rolname, s.subname) ORDER BY 1), '[]')
        FROM pg_subscription AS s JOIN pg_roles AS r ON r.oid = s.subowner
        WHERE s.subenabled AND r.rolname = ANY ({_names(roles)})
    )
)::text"""


def sessions_query(role: str) -> str:
    """How many sessions a role has."""
    return f"SELECT count(*) FROM pg_stat_activity AS a WHERE a.usename = {Literal(role).sql()}"


def terminate_query(role: str) -> str:
    """Tell the sessions of a role to end; takes a membership in it, or in pg_signal_backend."""
    return (
        f"SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a WHERE a.usename = {Literal(role).sql()}"
    )
