"""A role that logs in by IAM takes along who is its member: the administrator does not become one."""

from collections.abc import Iterator

import pytest

from provisioner.core.errors import PlanBlocked
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

ENTRIES = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
    "blog": {"database_name": "blog", "username": "blog_user"},
    "feed": {"database_name": "blog", "username": "blog_reader", "access_level": "reader"},
}
BANK = {"bank": {"database_name": "bank", "username": "bank_user"}}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply()["status"] == "applied"
        yield world


def is_usable_member(world: World, role: str) -> bool:
    """Whether the administrator is a member in a way that a run makes: not the row of who created the role."""
    sql = f"SELECT pg_has_role('{world.admin.username}', '{role}', 'USAGE')"
    return bool(world.server.run_as_superuser(sql)[0][0])


@pytest.mark.parametrize("group", ["rds_iam", "iam_users"])
def test_a_role_of_iam_blocks_itself_and_what_it_owns_and_is_never_borrowed(world: World, group: str) -> None:
    server = world.server
    server.run_as_superuser("CREATE ROLE iam_users; GRANT rds_iam TO iam_users")
    server.run_as_superuser(f"GRANT {group} TO shop_user, blog_reader; ALTER ROLE shop_user PASSWORD 'of no use'")
    server.run_as_superuser("REVOKE CONNECT ON DATABASE shop FROM shop_reader")
    server.run_as_superuser("REVOKE CONNECT ON DATABASE blog FROM blog_reader")
    world.declare_entries(ENTRIES | BANK)
    answer = world.dry_run()
    assert [(item["code"], item["database"], item["username"]) for item in answer["blockers"]] == [
        ("iam_login", "", "blog_reader"),
        ("iam_login", "", "shop_user"),
    ]
    remedies = [item["next_step"].partition(": ")[2].partition("; or")[0] for item in answer["blockers"]]
    assert remedies == [f'REVOKE "{group}" FROM "{role}"' for role in ("blog_reader", "shop_user")]
    with pytest.raises(PlanBlocked, match='"shop_user" is a member of "rds_iam"'):
        world.apply()
    assert not is_usable_member(world, "shop_user")
    world.login("bank_user", "bank").close()
    for remedy in remedies:
        server.run_as_superuser(remedy)
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_the_owner_of_a_database_that_is_declared_for_readers_only_is_never_borrowed_from_iam(world: World) -> None:
    readers = {name: entry for name, entry in ENTRIES.items() if name != "shop"}
    world.server.run_as_superuser("GRANT rds_iam TO shop_user; REVOKE CONNECT ON DATABASE shop FROM shop_reader")
    world.declare_entries(readers)
    assert [(item["code"], item["database"]) for item in world.dry_run()["blockers"]] == [("iam_login", "shop")]
    with pytest.raises(PlanBlocked):
        world.apply()
    assert not is_usable_member(world, "shop_user")


def test_what_another_role_of_iam_owns_in_a_database_is_left_alone_and_said(world: World) -> None:
    world.declare_entries(ENTRIES | {"more": {"database_name": "more", "username": "more_user"}})
    world.apply()
    world.server.run_as_superuser(
        "GRANT rds_iam TO more_user; CREATE TABLE shop_of_more (); ALTER TABLE shop_of_more OWNER TO more_user", "shop"
    )
    world.declare_entries(ENTRIES)
    answer = world.apply()
    assert ("foreign_objects", "more_user") in {(item["code"], item["username"]) for item in answer["warnings"]}
    assert not is_usable_member(world, "more_user")


def test_an_administrator_in_rds_iam_that_is_let_in_says_so_and_serves_everybody(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE iam_users; GRANT rds_iam TO iam_users")
    world.server.run_as_superuser(f"GRANT iam_users TO {world.admin.username}")
    world.declare_entries(ENTRIES | BANK)
    answer = world.apply()
    (found,) = [item for item in answer["warnings"] if item["code"] == "iam_administrator"]
    assert 'is a member of "iam_users", by which RDS takes tokens of IAM' in found["message"]
    assert answer["status"] == "applied"
    world.server.run_as_superuser(found["next_step"].partition(": ")[2].partition("; or")[0])
    assert "iam_administrator" not in {item["code"] for item in world.apply()["warnings"]}


def test_a_tenant_of_iam_that_grants_itself_to_the_administrator_is_named(world: World) -> None:
    world.server.run_as_superuser("GRANT rds_iam TO shop_user")
    grant = f"GRANT shop_user TO {world.admin.username}"
    if world.server.version < 15:
        with world.server.connect("shop_user", world.passwords["shop_user"], "shop") as tenant:
            tenant.run(grant)
    else:
        # From 15 on no role has the ADMIN option on itself; from 16 on the creator is a member already, of no use.
        options = " WITH INHERIT TRUE, SET TRUE" if world.server.version >= 16 else ""
        world.server.run_as_superuser(grant + options)
    with pytest.raises(PlanBlocked):
        world.apply()
    answer = world.dry_run()
    assert [item["username"] for item in answer["blockers"]] == ["shop_user"]
    (found,) = [item for item in answer["warnings"] if item["code"] == "iam_administrator"]
    assert f'REVOKE "shop_user" FROM "{world.admin.username}"' in found["next_step"]
