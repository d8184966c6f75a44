"""The administrator is no usable member of the applications' roles but for the time of a statement that needs it."""

from collections.abc import Iterator

import pytest

from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

SECRET = "goldenpath/dev/shop/postgres"
ENTRIES = {
    "shop": {"database_name": "shop", "username": "shop_user", "secret_name": SECRET},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
BANK = {"bank": {"database_name": "bank", "username": "bank_user"}}
MORE = {"database_name": "more", "username": "shop_user", "secret_name": SECRET}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        yield world


def memberships(world: World) -> list[str]:
    """The roles of applications of which the administrator is a member in any way but as who created them."""
    options = "AND (inherit_option OR set_option)" if world.server.version >= 16 else ""
    sql = (
        "SELECT DISTINCT roleid::regrole::text FROM pg_auth_members WHERE roleid::regrole::text ~ '^(shop|bank)_' "
        f"AND member = '{world.admin.username}'::regrole {options} ORDER BY 1"
    )
    return [name for (name,) in world.server.run_as_superuser(sql)]


def test_a_new_role_gets_the_administrator_as_no_usable_member_whatever_is_set_for_it(world: World) -> None:
    if world.server.version >= 16:
        world.server.run_as_superuser(f"ALTER ROLE {world.admin.username} SET createrole_self_grant = 'set, inherit'")
    assert world.apply()["status"] == "applied"
    assert memberships(world) == []
    assert world.apply()["status"] == "no_change"


def test_a_membership_that_the_administrator_gave_itself_is_given_back_once(world: World) -> None:
    world.apply()
    with world.server.connect(*world.admin) as administrator:
        administrator.run("GRANT shop_user, shop_reader TO CURRENT_USER")
    world.server.run_as_superuser("REVOKE CONNECT ON DATABASE shop FROM shop_reader")
    assert memberships(world) == ["shop_reader", "shop_user"]
    world.declare_entries(ENTRIES | BANK | {"more": MORE})
    finished = [item["username"] for item in world.drift()["changes"] if item["action"] == "finish"]
    assert finished == ["shop_reader", "shop_user"]
    answer = world.apply()
    assert answer["status"] == "applied"
    assert {item["status"] for item in answer["changes"]} == {"success"}
    assert memberships(world) == []
    assert world.apply()["status"] == "no_change"


def test_a_membership_that_somebody_else_gave_the_administrator_is_named_with_the_statement(world: World) -> None:
    world.apply()
    options = " WITH INHERIT TRUE, SET TRUE" if world.server.version >= 16 else ""
    world.server.run_as_superuser(f"GRANT shop_user TO {world.admin.username}{options}")
    answer = world.apply()
    assert answer["status"] == "no_change"
    (found,) = [item for item in answer["warnings"] if item["code"] == "administrator_membership"]
    assert found["username"] == "shop_user"
    for statement in found["next_step"].partition(": ")[2].split("; "):
        world.server.run_as_superuser(statement)
    assert memberships(world) == []
    world.server.run_as_superuser("REVOKE CONNECT ON DATABASE shop FROM shop_reader")
    answer = world.apply()
    assert answer["status"] == "applied"
    assert "administrator_membership" not in {item["code"] for item in answer["warnings"]}
