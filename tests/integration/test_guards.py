"""What is found and left alone: each finding that tells a statement is followed here, and is gone after it."""

import contextlib
import re
from typing import Any

import pytest

from provisioner.core.errors import InvalidSnapshot, PlanBlocked
from stack.access import written_rows
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

ENTRIES = {
    "shop": {"database_name": "shop", "username": "shop_owner"},
    "reader": {"database_name": "shop", "username": "reader_role", "access_level": "reader"},
    "strong": {"database_name": "shop", "username": "strong_role", "access_level": "reader"},
    "off": {"database_name": "off", "username": "off_owner"},
    "deaf": {"database_name": "deaf", "username": "deaf_owner"},
}
# A statement, up to where the sentence goes on.
TOLD = re.compile(r"(?:^|: )((?:ALTER|GRANT|REVOKE|CREATE|REASSIGN) .*?)(?=$|; (?:or|then) )")


@pytest.fixture
def world(pg_server: Server, aws: Aws) -> World:
    with World(pg_server, aws, pg_server.create_delegated_admin()) as world:
        world.declare_entries(ENTRIES)
        return world


def findings(answer: dict[str, Any]) -> list[dict[str, str]]:
    return [*answer["blockers"], *answer["warnings"]]


def identities(found: list[dict[str, str]]) -> set[tuple[str, str, str]]:
    return {(finding["code"], finding["database"], finding["username"]) for finding in found}


def test_every_statement_that_is_told_helps(world: World) -> None:
    world.apply()
    server = world.server
    server.run_as_superuser(
        "ALTER ROLE reader_role NOLOGIN; ALTER ROLE shop_owner VALID UNTIL '2099-01-01';"
        "CREATE ROLE stranger LOGIN; GRANT stranger TO reader_role; GRANT shop_owner TO stranger;"
        "GRANT deaf_owner TO reader_role; ALTER ROLE strong_role REPLICATION BYPASSRLS;"
    )
    server.run_as_superuser("ALTER DATABASE off ALLOW_CONNECTIONS false")
    server.run_as_superuser(
        "CREATE SCHEMA strange AUTHORIZATION stranger; ALTER SCHEMA public OWNER TO rdsadmin;"
        "REVOKE ALL ON SCHEMA public FROM reader_role; REVOKE USAGE ON SCHEMA public FROM PUBLIC;"
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "shop",
    )
    server.run_as_superuser(f"REVOKE CONNECT ON DATABASE deaf FROM {world.admin.username}")
    answer = world.dry_run()
    told = [finding for finding in findings(answer) if TOLD.search(finding["next_step"])]
    assert {finding["code"] for finding in told} == {
        "nologin", "expiry", "foreign_membership", "foreign_objects", "member_of_owner", "public_can_create",
        "level_out_of_reach", "privileged_role", "database_closed", "database_unreadable",
        *(["membership_of_another_grantor"] if server.version >= 16 else []),
    }  # fmt: skip
    for finding in told:
        database = "postgres" if finding["code"] == "database_closed" else finding["database"] or "postgres"
        for statement in TOLD.search(finding["next_step"])[1].split("; "):  # type: ignore[index]
            server.run_as_superuser(statement, database)
    # A member of the owner stays one; what it creates from now on is the owner's.
    left = identities(findings(world.dry_run())) & identities(told)
    assert {code for code, _, _ in left} == {"member_of_owner"}
    assert server.run_as_superuser("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'stranger'::regrole") == [
        [["role=shop_owner"]]
    ]


def test_the_administrator_itself_can_not_be_declared(world: World) -> None:
    world.declare_entries({"me": {"database_name": "shop", "username": world.admin.username}})
    rows = written_rows(world.server)
    with pytest.raises(InvalidSnapshot, match=world.admin.username):
        world.apply()
    assert written_rows(world.server) == rows


def test_the_master_is_not_taken_over_even_by_name(world: World) -> None:
    """Up to 15 CREATEROLE is enough to change who has it, the password too."""
    master = world.server.master.username
    world.declare_entries({"app": {"database_name": "app", "username": master}, "shop": ENTRIES["shop"]})
    with pytest.raises(PlanBlocked, match=f'role "{master}" has CREATEROLE'):
        world.apply(adopt=["app"])
    world.server.connect(*world.server.master).close()
    assert world.server.run_as_superuser(f"SELECT rolcreaterole FROM pg_roles WHERE rolname = '{master}'") == [[True]]
    assert world.dry_run()["summary"]["unchanged"]


def test_a_mark_of_another_environment_blocks(world: World) -> None:
    world.apply()
    world.server.run_as_superuser(
        """COMMENT ON ROLE shop_owner IS '{"managed_by": "rds-provisioner", "environment": "prod"}'"""
    )
    with pytest.raises(PlanBlocked, match='its mark names environment "prod"'):
        world.apply()


def test_a_tenant_cannot_offer_its_own_database_by_marking_it(world: World) -> None:
    world.apply()
    world.server.run_as_superuser("CREATE ROLE tenant LOGIN CREATEDB")
    world.server.run_as_superuser("CREATE DATABASE trap OWNER tenant")
    world.server.run_as_superuser(
        """COMMENT ON DATABASE trap IS '{"managed_by": "rds-provisioner", "environment": "dev"}'"""
    )
    world.declare_entries({**ENTRIES, "trap": {"database_name": "trap", "username": "tenant"}})
    with pytest.raises(PlanBlocked) as refused:
        world.apply()
    assert sorted((each.code, each.database) for each in refused.value.findings) == [
        ("foreign_database", "trap"),
        ("foreign_role", ""),
    ]


def test_adopting_keeps_the_comment_that_stood_there(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.master) as world:
        with contextlib.closing(latest_server.connect(*latest_server.master)) as master:
            master.run("CREATE ROLE shop_owner LOGIN")
            master.run("COMMENT ON ROLE shop_owner IS 'of the shop'")
        world.declare_entries({"shop": ENTRIES["shop"]})
        world.apply(adopt=["shop"])
        comment = (
            "SELECT shobj_description(oid, 'pg_authid')::json ->> 'comment' FROM pg_roles WHERE rolname = 'shop_owner'"
        )
        assert latest_server.run_as_superuser(comment) == [["of the shop"]]
        assert world.apply()["status"] == "no_change"


def test_an_administrator_that_may_grant_a_privilege_in_two_names_grants_it_in_the_owners(
    latest_server: Server, admin: Login, aws: Aws
) -> None:
    with World(latest_server, aws, admin) as world:
        # Older than the owner, so that the server comes to it first when it looks for somebody who may grant.
        latest_server.run_as_superuser(f"CREATE ROLE older; GRANT older TO {admin.username}")
        world.declare_entries({"shop": ENTRIES["shop"]})
        world.apply()
        latest_server.run_as_superuser(
            "SET ROLE shop_owner; CREATE SCHEMA app; CREATE TABLE app.t (id int);"
            "GRANT SELECT ON app.t TO older WITH GRANT OPTION",
            "shop",
        )
        world.declare_entries({"shop": ENTRIES["shop"], "reader": ENTRIES["reader"]})
        world.apply()
        acl = "SELECT relacl::text FROM pg_class WHERE relname = 't'"
        assert "reader_role=r/shop_owner" in str(latest_server.run_as_superuser(acl, "shop"))
