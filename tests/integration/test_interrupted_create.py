"""A database that was created and then failed: what was borrowed goes back, and the next run still knows it as ours."""

import contextlib
from collections.abc import Iterator

import pytest

from provisioner.core.errors import ApplyFailed, PlanBlocked
from stack.aws import Aws
from stack.leaver import LONG_AGO, quarantined_since, say_as_administrator
from stack.postgres import Login, Server
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


OTHER = {"other": {"database_name": "other", "username": "other_user"}}
MARK = '{"managed_by": "rds-provisioner", "environment": "dev", "creating": ["app"], "borrowed": true}'


@pytest.fixture
def cut_off(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    """A run was killed between CREATE DATABASE and what follows."""
    with World(pg_server, aws, admin) as world, contextlib.closing(pg_server.connect(*admin)) as administrator:
        world.declare_entries(OTHER)
        world.apply()
        options = " WITH INHERIT TRUE, SET TRUE" if pg_server.version >= 16 else ""
        for statement in (
            "CREATE ROLE app_user LOGIN",
            f"COMMENT ON ROLE app_user IS '{MARK}'",
            f"GRANT app_user TO CURRENT_USER{options}",
            "CREATE DATABASE app OWNER app_user TEMPLATE template0 ALLOW_CONNECTIONS false",
        ):
            administrator.run(statement)
        yield world


@pytest.mark.parametrize(
    "declared",
    [{}, {"app": {"database_name": "renamed", "username": "app_user"}}],
    ids=["the entry is gone", "the entry has another database"],
)
def test_what_a_cut_off_run_borrowed_goes_back_whatever_is_declared_since(
    cut_off: World, declared: dict[str, dict[str, str]]
) -> None:
    cut_off.declare_entries(OTHER | declared)
    assert "finish" in {change["action"] for change in cut_off.dry_run()["changes"]}
    for status in ("applied", "no_change"):
        answer = cut_off.apply()
        assert answer["status"] == status
        assert [item["database"] for item in answer["warnings"] if item["code"] == "orphaned_database"] == ["app"]
        assert memberships_to_act_with(cut_off.server) == []
    # What was created is known, and goes on where it is declared again.
    cut_off.put_secret("app", "app_user", "app")
    assert_it_goes_on(cut_off)


def test_a_database_that_was_created_stays_known_while_something_stands_against_it(cut_off: World) -> None:
    cut_off.put_secret("app", "app_user", "app")
    cut_off.declare_entries(OTHER | {"app": {**ENTRY["app"], "extensions": ["nowhere"]}})
    for _ in range(2):
        with pytest.raises(PlanBlocked, match='extension "nowhere" is not available') as caught:
            cut_off.apply()
        assert len(caught.value.findings) == 1
        assert memberships_to_act_with(cut_off.server) == []
    assert_it_goes_on(cut_off)


def test_a_plan_that_finishes_what_was_created_is_approved_as_any_other(cut_off: World) -> None:
    cut_off.settings["REQUIRE_PLAN_DIGEST"] = "dev"
    cut_off.declare_entries(OTHER | ENTRY)
    planned = cut_off.dry_run()
    assert "adopt_database" in {change["action"] for change in planned["changes"]}
    cut_off.approve(planned["plan_digest"])
    assert cut_off.apply()["status"] == "applied"
    assert cut_off.login("app_user", "app").run("SELECT 1") == [[1]]


def test_the_owner_of_what_was_created_is_quarantined_at_once(cut_off: World) -> None:
    for status in ("applied", "no_change"):
        assert cut_off.apply(quarantine=["app_user"])["status"] == status
        assert memberships_to_act_with(cut_off.server) == []
    cut_off.put_secret("app", "app_user", "app")
    assert_it_goes_on(cut_off)


def test_what_was_created_and_never_opened_is_opened_as_the_blocker_says_and_its_owner_retired(cut_off: World) -> None:
    cut_off.declare_entries(OTHER)
    cut_off.apply(quarantine=["app_user"])
    quarantined_since(cut_off, "app_user", LONG_AGO)
    [blocker] = cut_off.dry_run(retire=["app_user"])["blockers"]
    assert 'database "app" cannot be looked into' in blocker["message"]
    say_as_administrator(cut_off, blocker["next_step"])
    assert memberships_to_act_with(cut_off.server) == []
    assert cut_off.apply(retire=["app_user"])["status"] == "applied"
    assert [item["database"] for item in cut_off.drift()["warnings"] if item["code"] == "kept_database"] == ["app"]


def assert_it_goes_on(world: World) -> None:
    """What was created is taken up where it is declared as it was."""
    world.declare_entries(OTHER | ENTRY)
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"
    assert world.login("app_user", "app").run("SELECT 1") == [[1]]


def memberships_to_act_with(server: Server) -> list[list[str]]:
    """The roles that the administrator could act as; from 16 its implicit row only administers, and is none."""
    return server.run_as_superuser(
        "SELECT m.roleid::regrole::text FROM pg_auth_members AS m "
        "JOIN pg_roles AS r ON r.oid = m.member AND r.rolcreaterole WHERE m.roleid = 'app_user'::regrole "
        "AND coalesce((to_jsonb(m) ->> 'set_option')::bool, true)"
    )
