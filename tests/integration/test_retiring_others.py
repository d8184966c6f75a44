"""A role leaves, and others act meanwhile or before: what they opened, granted or passed on is seen, and never lost."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from provisioner.core.errors import ApplyFailed, PlanBlocked
from stack.aws import Aws
from stack.leaver import (
    EDITOR,
    LONG_AGO,
    OWNER,
    READER,
    STAYING,
    blocked,
    is_there,
    leave,
    owners,
    quarantined_since,
    query,
    retired,
    run,
    world_of_a_leaver,
)
from stack.postgres import Login, Server
from stack.world import World


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with world_of_a_leaver(pg_server, admin, aws) as world:
        yield world


def between_plan_and_apply(world: World, act: Callable[[], object]) -> list[ApplyFailed]:
    """Retire, with an act in between: the first step waits for a lock, when all is planned."""
    failed: list[ApplyFailed] = []

    def retire() -> None:
        try:
            world.apply(retire=["leaver"])
        except ApplyFailed as error:
            failed.append(error)

    with contextlib.closing(world.server.superuser("old")) as holder:
        holder.run("BEGIN; LOCK TABLE job")
        runner = threading.Thread(target=retire)
        runner.start()
        while not query(world, "SELECT FROM pg_locks WHERE NOT granted"):
            assert runner.is_alive()
            time.sleep(0.02)
        act()
        holder.run("ROLLBACK")
        runner.join()
    return failed


# --- a kept database that somebody opens ----------------------------------------------------------------------------


def test_a_kept_database_that_somebody_opened_is_named_with_what_closes_it(world: World) -> None:
    """What the leaver wrote there runs with the administrator's rights for whoever enters."""
    leave(world)
    retired(world)
    me = world.admin
    with contextlib.closing(world.server.connect(me.username, me.password, "postgres")) as administrator:
        query(world, 'CREATE ROLE "its ""guest"""')
        administrator.run('GRANT CONNECT ON DATABASE old TO PUBLIC; GRANT CONNECT ON DATABASE old TO "its ""guest"""')
        for answer in (world.drift(), world.dry_run(), world.apply()):
            [warning] = [item for item in answer["warnings"] if item["code"] == "kept_database_open"]
            assert "everybody" in warning["message"]
            assert 'its "guest"' in warning["message"]
            assert "only" not in next(i["message"] for i in answer["warnings"] if i["code"] == "kept_database")
        administrator.run(warning["next_step"].partition(": ")[2])
    assert "kept_database_open" not in [item["code"] for item in world.drift()["warnings"]]
    [[acl]] = query(world, "SELECT datacl::text FROM pg_database WHERE datname = 'old'")
    assert "guest" not in acl


def test_one_that_is_declared_and_not_adopted_is_named_too(world: World) -> None:
    leave(world)
    retired(world)
    query(world, "GRANT CONNECT ON DATABASE old TO reporter")
    world.put_secret("heirs", "heir", "old")
    new = {"heirs": {"database_name": "old", "username": "heir"}}
    world.declare_entries({"shop": {"database_name": "shop", "username": "shop_user"}, **new}, with_secrets=False)
    assert "kept_database_open" in [item["code"] for item in world.dry_run()["warnings"]]
    assert "kept_database_open" not in [item["code"] for item in world.dry_run(adopt=["heirs"])["warnings"]]


# --- grants that cannot be taken back as who granted them -----------------------------------------------------------


def test_a_grant_of_the_administrators_own_goes_where_objects_pass_on_too(world: World) -> None:
    """As a member of the table's owner, the administrator would revoke in the owner's name."""
    me = world.admin.username
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "shop")
    run(world, "leaver", "shop", "CREATE TABLE its (id int)")
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver; CREATE ROLE stranger", "shop")
    run(world, "shop_user", "shop", f'CREATE TABLE customer (id int); CREATE SCHEMA more;'
        f'GRANT SELECT ON customer TO "{me}" WITH GRANT OPTION; GRANT USAGE ON SCHEMA more TO "{me}" WITH GRANT OPTION;'
        f'GRANT TEMPORARY ON DATABASE shop TO "{me}" WITH GRANT OPTION')  # fmt: skip
    with contextlib.closing(world.server.connect(me, world.admin.password, "shop")) as administrator:
        administrator.run("GRANT SELECT ON customer TO leaver WITH GRANT OPTION; GRANT USAGE ON SCHEMA more TO leaver;"
                          "GRANT TEMPORARY ON DATABASE shop TO leaver")  # fmt: skip
    run(world, "leaver", "shop", "GRANT SELECT ON customer TO stranger")
    leave(world)
    retired(world)
    assert query(world, "SELECT has_table_privilege('stranger', 'customer', 'SELECT')", "shop") == [[True]]


def test_a_grant_in_a_database_of_the_administrators_goes_though_others_may_enter(world: World) -> None:
    """Nothing passes on there, so nobody has to be kept out."""
    me = world.admin
    with contextlib.closing(world.server.connect(me.username, me.password, "postgres")) as administrator:
        administrator.run("CREATE DATABASE commons")
        administrator.run("GRANT TEMPORARY ON DATABASE commons TO leaver")
    with contextlib.closing(world.server.connect(me.username, me.password, "commons")) as administrator:
        administrator.run("CREATE TABLE its (id int); GRANT SELECT ON its TO leaver")
    leave(world)
    with contextlib.closing(world.login("reporter", "commons")):
        retired(world)


def test_a_grant_on_public_goes_though_the_owner_of_the_database_may_pass_that_on_by_a_grant_too(world: World) -> None:
    """Whoever gets what was the leaver's in its database, and the owner of the other one, were granted it as well."""
    owner = "pg_database_owner" if world.server.version >= 14 else "{}"
    for database, user, heir in (("shop", "shop_user", "shop_user"), ("old", "leaver", world.admin.username)):
        query(world, f"ALTER SCHEMA public OWNER TO {owner.format(user)}", database)
        to = "leaver" if database == "shop" else "reporter"
        run(world, user, database, f"GRANT ALL ON SCHEMA public TO {to}; GRANT ALL ON SCHEMA public TO {heir}"
            " WITH GRANT OPTION")  # fmt: skip
    leave(world)
    retired(world)


def test_a_grant_by_a_member_of_the_owner_blocks_and_the_owner_revokes_it(world: World) -> None:
    """What such a member revokes, it revokes in the owner's name: its own grant stays."""
    query(world, "GRANT CONNECT ON DATABASE shop TO reporter")
    run(world, "shop_user", "shop", "CREATE TABLE customer (id int); GRANT SELECT ON customer TO reporter"
        " WITH GRANT OPTION")  # fmt: skip
    run(world, "reporter", "shop", "GRANT SELECT ON customer TO leaver")
    leave(world)
    query(world, "GRANT shop_user TO reporter")
    before = query(world, "SELECT relacl::text FROM pg_class WHERE relname = 'customer'", "shop")
    assert any("customer" in item["message"] and "reporter" in item["message"] for item in blocked(world))
    assert query(world, "SELECT relacl::text FROM pg_class WHERE relname = 'customer'", "shop") == before
    query(world, "REVOKE shop_user FROM reporter")
    retired(world)


# --- what is passed on meanwhile ------------------------------------------------------------------------------------


def test_who_follows_what_is_told_of_default_privileges_of_a_stranger_takes_them_away(world: World) -> None:
    query(world, "CREATE ROLE stranger")
    query(world, "ALTER DEFAULT PRIVILEGES FOR ROLE stranger GRANT SELECT ON TABLES TO leaver", "shop")
    leave(world)
    [found] = blocked(world)
    assert 'in that database, as "stranger": ' in found["next_step"]
    [statement] = [each for each in found["next_step"].split("; ") if each.startswith("ALTER DEFAULT")]
    query(world, f"SET ROLE stranger; {statement.replace('...', 'TABLES')}", "shop")
    retired(world)


def test_what_is_passed_on_of_a_database_between_plan_and_apply_is_not_lost(world: World) -> None:
    """A member of the role acts in its place: the plan did not say what becomes of that."""
    run(world, "leaver", "old", "CREATE TABLE job (id int)")
    run(world, "shop_user", "shop", "GRANT TEMPORARY ON DATABASE shop TO leaver WITH GRANT OPTION")
    query(world, "CREATE ROLE stranger")
    leave(world)
    query(world, "GRANT leaver TO reporter")
    with contextlib.closing(world.login("reporter", "shop")) as member:
        member.run("SET ROLE leaver")
        [failed] = between_plan_and_apply(world, lambda: member.run("GRANT TEMPORARY ON DATABASE shop TO stranger"))
    # What was done before is not said to be missing.
    assert len(failed.findings) == 1
    assert '"shop"' in str(failed)
    assert is_there(world)
    assert query(world, "SELECT has_database_privilege('stranger', 'shop', 'TEMPORARY')") == [[True]]
    assert "stranger" in world.dry_run(retire=["leaver"])["plan_text"]
    retired(world)
    assert query(world, "SELECT has_database_privilege('stranger', 'shop', 'TEMPORARY')") == [[True]]


def test_a_membership_that_is_passed_on_between_plan_and_apply_is_not_lost(world: World) -> None:
    if world.server.version < 16:
        pytest.skip("a membership does not depend on who granted it")
    run(world, "leaver", "old", "CREATE TABLE job (id int)")
    query(world, "CREATE ROLE team; CREATE ROLE friend; CREATE ROLE third; GRANT team TO leaver WITH ADMIN OPTION")
    query(world, "SET SESSION AUTHORIZATION leaver; GRANT team TO friend WITH ADMIN OPTION")
    leave(world)
    passed_on = "SET SESSION AUTHORIZATION friend; GRANT team TO third"
    [failed] = between_plan_and_apply(world, lambda: query(world, passed_on))
    assert "leaver" in str(failed)
    assert query(world, "SELECT pg_has_role('third', 'team', 'MEMBER')") == [[True]]
    assert any("friend granted team to third" in item["message"] for item in blocked(world))


# --- several at once, and names that are declared again --------------------------------------------------------------


def test_who_was_granted_something_by_another_that_is_retired_waits(world: World) -> None:
    """Nothing can be done in the place of who is gone, in whosever database."""
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "shop")
    run(world, "leaver", "shop", "CREATE TABLE its (id int); GRANT SELECT ON its TO reporter")
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver", "shop")
    leave(world)
    world.declare_entries({"shop": OWNER}, with_secrets=False)
    world.apply(quarantine=["reporter"])
    quarantined_since(world, "reporter", LONG_AGO)
    with pytest.raises(PlanBlocked) as refused:
        world.apply(retire=["leaver", "reporter"])
    assert {each.username for each in refused.value.findings} == {"reporter"}
    assert [is_there(world, role) for role in ("leaver", "reporter")] == [False, True]
    assert world.apply(retire=["reporter"])["status"] == "applied"


def test_a_database_that_is_declared_again_by_another_owner_blocks_until_its_own_is_gone(world: World) -> None:
    run(world, "leaver", "old", "CREATE TABLE job (id int)")
    leave(world)
    world.put_secret("heirs", "heir", "old")
    heirs = {"heirs": {"database_name": "old", "username": "heir"}}
    world.declare_entries({"shop": OWNER, "report": READER, **heirs}, with_secrets=False)
    with pytest.raises(PlanBlocked) as refused:
        world.apply(retire=["leaver"])
    assert "retire_blocked" in {each.code for each in refused.value.findings}
    assert is_there(world)
    assert owners(world, "old") - {"rdsadmin"} == {"leaver"}
    world.declare_entries(STAYING, with_secrets=False)
    retired(world)
    world.declare_entries({"shop": OWNER, "report": READER, **heirs}, with_secrets=False)
    assert world.apply(adopt=["heirs"])["status"] == "applied"


def test_declared_again_elsewhere_and_with_another_level_it_is_given_back_as_that(world: World) -> None:
    run(world, "shop_user", "shop", "CREATE TABLE customer (id int)")
    leave(world)
    again = EDITOR | {"access_level": "reader"}
    world.declare_entries({**STAYING, "reading": again}, with_secrets=False)
    assert world.apply()["status"] == "applied"
    assert run(world, "leaver", "shop", "SELECT count(*) FROM customer") == [[0]]
    assert query(world, "SELECT has_table_privilege('leaver', 'customer', 'INSERT')", "shop") == [[False]]
    assert "orphaned_database" in [item["code"] for item in world.drift()["warnings"]]
    assert world.apply()["status"] == "no_change"


def test_thousands_of_grants_take_no_lock_from_anybody(postgres_version: int, aws: Aws) -> None:
    """From 18 on each object that a REVOKE names is locked until the commit."""
    few = {"max_locks_per_transaction": "10", "max_connections": "40"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(postgres_version, parameters=few))
        world = stack.enter_context(world_of_a_leaver(server, server.create_delegated_admin(), aws))
        with contextlib.closing(world.login("shop_user", "shop")) as owner:
            for first in range(0, 2000, 25):
                many = f"FOR i IN {first + 1}..{first + 25} LOOP EXECUTE format('CREATE TABLE t%s (id int)', i)"
                owner.run(f"DO $$ BEGIN {many}; END LOOP; END $$")
        leave(world)
        assert query(world, "SELECT count(*) FROM pg_class WHERE relacl::text LIKE '%leaver%'", "shop")[0][0] >= 2000
        retired(world)
