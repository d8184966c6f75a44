"""A database that was created and then failed: what was borrowed goes back, and the next run still knows it as ours."""

from collections.abc import Iterator

import pytest

from provisioner.core.errors import ApplyFailed
from stack.aws import Aws
from stack.postgres import Server
from stack.world import World

ENTRY = {"app": {"database_name": "app", "username": "app_user", "extensions": ["citext"]}}
# An object in the way of the extension, in every database that is created from here on.
OBSTACLE = "CREATE TYPE public.citext AS (in_the_way int)"


@pytest.fixture
def pg_server_with_obstacle(pg_server: Server) -> Iterator[Server]:
    """A server on which creating the extension in a new database fails, until the obstacle is removed there."""
    pg_server.run_as_superuser("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    pg_server.run_as_superuser(OBSTACLE, "template0")
    yield pg_server
    pg_server.run_as_superuser("DROP TYPE public.citext", "template0")
    pg_server.run_as_superuser("ALTER DATABASE template0 ALLOW_CONNECTIONS false")


def test_a_failure_after_create_database_leaves_nothing_borrowed_and_the_next_run_continues(
    pg_server_with_obstacle: Server, aws: Aws
) -> None:
    server = pg_server_with_obstacle
    with World(server, aws, server.create_delegated_admin()) as world:
        world.declare_entries(ENTRY)
        with pytest.raises(ApplyFailed, match='database "app" could not be changed'):
            world.apply()
        assert memberships_to_act_with(server) == []
        server.run_as_superuser("DROP TYPE public.citext", "app")
        assert world.apply()["status"] == "applied"
        assert world.apply()["status"] == "no_change"


def memberships_to_act_with(server: Server) -> list[list[str]]:
    """The roles that the administrator could act as; from 16 its implicit row only administers, and is none."""
    return server.run_as_superuser(
        "SELECT m.roleid::regrole::text FROM pg_auth_members AS m "
        "WHERE m.member = 'rds_provisioner'::regrole AND m.roleid = 'app_user'::regrole "
        "AND coalesce((to_jsonb(m) ->> 'set_option')::bool, true)"
    )
