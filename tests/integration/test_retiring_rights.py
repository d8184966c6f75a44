"""A role that leaves tries to keep a foot in: code that would run for who gets it, grants passed on, held locks."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from provisioner.core.errors import ApplyFailed
from stack.aws import Aws
from stack.leaver import (
    LONG_AGO,
    OWNER,
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


def may_create(world: World, database: str = "shop") -> None:
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", database)


def leave_as_it_came(world: World, database: str = "shop") -> None:
    """Without what a superuser granted it, which is not ours to revoke."""
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver", database)
    leave(world)


def messages(world: World) -> str:
    return "\n".join(item["message"] for item in blocked(world))


# --- code that would run for somebody else --------------------------------------------------------------------------


def test_no_definer_passes_to_another_tenant_however_closed_it_is(world: World) -> None:
    """A trigger or an aggregate calls it, and asks nobody who inserts or counts whether they may execute it."""
    may_create(world)
    run(world, "leaver", "shop", "CREATE FUNCTION sum_it(int, int) RETURNS int SECURITY DEFINER LANGUAGE sql"
        " AS 'SELECT 1'; REVOKE ALL ON FUNCTION sum_it(int, int) FROM PUBLIC")  # fmt: skip
    leave_as_it_came(world)
    assert "sum_it" in messages(world)
    query(world, "ALTER ROUTINE sum_it(int, int) OWNER TO shop_user", "shop")
    retired(world)


@pytest.mark.parametrize(
    "attached",
    [
        "CREATE TRIGGER t BEFORE DELETE ON trap FOR EACH ROW EXECUTE FUNCTION evil()",
        "ALTER TABLE trap ADD note text DEFAULT evil_text()",
        "ALTER TABLE trap ADD CHECK (evil_text() <> id::text)",
        "CREATE POLICY p ON trap USING (evil_text() <> '')",
        "CREATE RULE r AS ON DELETE TO trap DO ALSO SELECT evil_text()",
        "CREATE INDEX ON trap ((id::text || evil_text())); ALTER TABLE trap SET (autovacuum_enabled = false)",
    ],
    ids=["trigger", "default", "check", "policy", "rule", "index"],
)
def test_code_of_a_tenants_on_a_table_does_not_pass_to_another(world: World, attached: str) -> None:
    """A foreign key deletes as who owns the table; so a trigger there runs with the rights of who gets it."""
    may_create(world)
    run(world, "leaver", "shop", "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END';"
        "CREATE FUNCTION evil_text() RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT 'x'$$;"
        "CREATE TABLE parent (id serial PRIMARY KEY);"
        "CREATE TABLE trap (id int REFERENCES parent ON DELETE CASCADE)")  # fmt: skip
    run(world, "leaver", "shop", attached)
    leave_as_it_came(world)
    [blocker] = blocked(world)
    assert "trap" in blocker["message"]
    assert "parent" not in blocker["message"]
    assert 'OWNER TO "shop_user"' in blocker["next_step"]
    query(world, "ALTER TABLE trap OWNER TO shop_user", "shop")
    retired(world)


def test_a_function_that_passed_on_before_is_a_tenants_still(world: World) -> None:
    """Two leave, one after the other: the table of the second has an index with the function of the first."""
    query(world, "GRANT CONNECT ON DATABASE old TO reporter; ")
    query(world, "GRANT CREATE ON SCHEMA public TO reporter", "old")
    run(world, "leaver", "old", "CREATE FUNCTION evil(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    run(world, "reporter", "old", "CREATE TABLE trap (id int); CREATE INDEX ON trap (evil(id))")
    leave(world)
    retired(world)
    world.declare_entries({"shop": OWNER}, with_secrets=False)
    assert world.apply(quarantine=["reporter"])["status"] == "applied"
    quarantined_since(world, "reporter", LONG_AGO)
    found = world.dry_run(retire=["reporter"])["blockers"]
    assert any("trap" in item["message"] for item in found)


def test_a_view_that_is_open_by_its_columns_or_acts_by_a_rule_blocks(world: World) -> None:
    may_create(world)
    run(world, "shop_user", "shop", "CREATE TABLE hidden (id int); REVOKE ALL ON hidden FROM leaver;"
        "CREATE TABLE seen (id int); GRANT SELECT ON seen TO leaver; REVOKE DELETE ON seen FROM leaver")  # fmt: skip
    run(world, "leaver", "shop", "CREATE VIEW window_ AS TABLE hidden; GRANT SELECT (id) ON window_ TO reporter;"
        "CREATE VIEW lever AS SELECT 1 AS id;"
        "CREATE RULE pull AS ON INSERT TO lever DO INSTEAD DELETE FROM seen; GRANT INSERT ON lever TO reporter;"
        "CREATE VIEW harmless AS SELECT * FROM seen; GRANT SELECT ON harmless TO reporter")  # fmt: skip
    leave_as_it_came(world)
    text = messages(world)
    assert "and 1 more" in text
    assert "harmless" not in text


def test_nothing_passes_to_the_administrator_where_others_may_enter(world: World) -> None:
    with contextlib.closing(world.server.connect(world.admin.username, world.admin.password, "postgres")) as me:
        me.run("CREATE DATABASE commons")
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "commons")
    run(world, "leaver", "commons", "CREATE TABLE its (id int)")
    leave_as_it_came(world, "commons")
    assert '1 table in database "commons"' in messages(world)
    query(world, "ALTER TABLE its OWNER TO reporter", "commons")
    retired(world)


def test_what_was_hidden_in_an_extension_passes_to_the_new_owner_too(world: World) -> None:
    """Else a routine of the leaver's would run as the administrator for everybody whom the new owner lets in."""
    run(world, "leaver", "old", "CREATE EXTENSION hstore; CREATE FUNCTION evil() RETURNS int SECURITY DEFINER"
        " LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION hstore ADD FUNCTION evil()")  # fmt: skip
    leave(world)
    retired(world)
    world.put_secret("heirs", "heir", "old")
    heirs = {"heirs": {"database_name": "old", "username": "heir"}}
    world.declare_entries({**STAYING, **heirs}, with_secrets=False)
    assert world.apply(adopt=["heirs"])["status"] == "applied"
    assert query(world, "SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'evil'", "old") == [["heir"]]


def test_what_a_member_makes_dangerous_during_the_run_is_not_passed_on(world: World) -> None:
    """A member of the role can act in its place until it is gone: what has passed on is looked at once more."""
    may_create(world)
    run(world, "leaver", "shop", "CREATE FUNCTION late() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    run(world, "leaver", "old", "CREATE TABLE job (id int)")
    leave_as_it_came(world)
    query(world, "GRANT leaver TO reporter")
    with (
        contextlib.closing(world.server.superuser("old")) as holder,
        contextlib.closing(world.login("reporter", "shop")) as member,
    ):
        member.run("SET ROLE leaver")
        holder.run("BEGIN; LOCK TABLE job")
        failed: list[BaseException] = []

        def retire() -> None:
            try:
                world.apply(retire=["leaver"])
            except ApplyFailed as error:
                failed.append(error)

        runner = threading.Thread(target=retire)
        runner.start()
        while not query(world, "SELECT FROM pg_locks WHERE NOT granted"):
            assert runner.is_alive()
            time.sleep(0.02)
        member.run("ALTER FUNCTION late() SECURITY DEFINER")
        holder.run("ROLLBACK")
        runner.join()
    assert "late" in str(failed[0])
    assert is_there(world)
    assert query(world, "SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'late'", "shop") == [["leaver"]]


# --- what it passed on ----------------------------------------------------------------------------------------------


def test_what_it_passed_on_to_roles_that_nobody_declares_stays_with_them(world: World) -> None:
    query(world, "CREATE ROLE stranger; CREATE ROLE friend; CREATE ROLE passer_by")
    run(world, "shop_user", "shop", 'CREATE TABLE customer (id int, "its ""name""" text); CREATE SCHEMA more;'
        "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_create(4711);"
        "GRANT SELECT, INSERT, UPDATE ON customer TO leaver WITH GRANT OPTION;"
        'GRANT UPDATE ("its ""name""") ON customer TO leaver WITH GRANT OPTION;'
        "GRANT USAGE ON SCHEMA more TO leaver WITH GRANT OPTION;"
        "GRANT EXECUTE ON FUNCTION f(int) TO leaver WITH GRANT OPTION;"
        "GRANT SELECT ON LARGE OBJECT 4711 TO leaver WITH GRANT OPTION;"
        "GRANT TEMPORARY ON DATABASE shop TO leaver WITH GRANT OPTION")  # fmt: skip
    run(world, "leaver", "shop", "GRANT SELECT ON customer TO stranger WITH GRANT OPTION;"
        'GRANT UPDATE ("its ""name""") ON customer TO stranger;'
        "GRANT USAGE ON SCHEMA more TO PUBLIC; GRANT EXECUTE ON FUNCTION f(int) TO friend;"
        "GRANT SELECT ON LARGE OBJECT 4711 TO friend;"
        "GRANT TEMPORARY ON DATABASE shop TO friend")  # fmt: skip
    leave(world)
    query(world, "SET SESSION AUTHORIZATION stranger; GRANT SELECT ON customer TO passer_by", "shop")
    query(world, "SET SESSION AUTHORIZATION leaver; GRANT INSERT ON customer TO reporter WITH GRANT OPTION;"
          "GRANT TEMPORARY ON DATABASE shop TO reporter WITH GRANT OPTION", "shop")  # fmt: skip
    query(world, "SET SESSION AUTHORIZATION reporter; GRANT INSERT ON customer TO passer_by;"
          "GRANT TEMPORARY ON DATABASE shop TO passer_by", "shop")  # fmt: skip
    planned = world.dry_run(retire=["leaver"])
    details = "\n".join(item["detail"] for item in planned["changes"])
    for words in (
        'grants to "stranger" stay: SELECT (1 object), UPDATE (1 object)',
        "grants to everybody stay: USAGE (1 object)",
        'grants to "friend" stay: EXECUTE (1 object), SELECT (1 object), TEMPORARY (1 object)',
        'grants to "reporter" go: INSERT (1 object), TEMPORARY (1 object)',
        'grants to "passer_by" stay: INSERT (1 object), SELECT (1 object), TEMPORARY (1 object)',
    ):
        assert words in details, details
    assert retired(world)["plan_digest"] == planned["plan_digest"]
    assert query(
        world,
        "SELECT has_table_privilege('stranger', 'customer', 'SELECT WITH GRANT OPTION'),"
        " has_table_privilege('passer_by', 'customer', 'SELECT'),"
        " has_column_privilege('stranger', 'customer', 2::smallint, 'UPDATE'),"
        " has_column_privilege('stranger', 'customer', 1::smallint, 'UPDATE'),"
        " has_function_privilege('friend', 'f(int)', 'EXECUTE'),"
        " has_database_privilege('friend', 'shop', 'TEMPORARY'),"
        " has_table_privilege('reporter', 'customer', 'INSERT'),"
        " has_database_privilege('reporter', 'shop', 'TEMPORARY'),"
        " has_table_privilege('passer_by', 'customer', 'INSERT'),"
        " has_database_privilege('passer_by', 'shop', 'TEMPORARY')",
        "shop",
    ) == [[True, True, True, False, True, True, False, False, True, True]]
    [[lists]] = query(world, "SELECT lomacl::text FROM pg_largeobject_metadata WHERE oid = 4711", "shop")
    assert "friend=r/shop_user" in lists


def test_memberships_that_were_passed_on_block_and_are_named(world: World) -> None:
    """From 16 on a membership depends on who granted it; before, it stays."""
    query(world, "CREATE ROLE team; CREATE ROLE friend; CREATE ROLE third")
    query(world, "GRANT team TO leaver WITH ADMIN OPTION")
    query(world, "SET SESSION AUTHORIZATION leaver; GRANT team TO friend WITH ADMIN OPTION")
    query(world, "SET SESSION AUTHORIZATION friend; GRANT team TO third")
    leave(world)
    if world.server.version >= 16:
        assert "friend granted team to third" in messages(world)
        query(world, "GRANT team TO third; SET SESSION AUTHORIZATION friend; REVOKE team FROM third")
    retired(world)
    assert query(world, "SELECT pg_has_role('third', 'team', 'MEMBER')") == [[True]]


# --- who holds it up ------------------------------------------------------------------------------------------------


def change_password(session: Any) -> None:
    with contextlib.suppress(pg8000.native.DatabaseError, pg8000.native.InterfaceError):
        session.run("ALTER ROLE CURRENT_USER PASSWORD 'a third'")


def test_a_role_that_holds_its_own_row_is_quarantined_all_the_same(world: World) -> None:
    world.declare_entries(STAYING, with_secrets=False)
    holding, waiting = (world.login("leaver", "old") for _ in range(2))
    holding.run("BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '5MB'; ALTER ROLE CURRENT_USER PASSWORD 'another'")
    queued = threading.Thread(target=change_password, args=(waiting,))
    queued.start()
    while not query(world, "SELECT FROM pg_locks WHERE NOT granted"):
        time.sleep(0.02)
    assert world.apply(quarantine=["leaver"])["status"] == "applied"
    queued.join()
    assert query(world, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'leaver'") == [[False]]


def test_who_acts_in_its_place_is_named(world: World) -> None:
    query(world, "CREATE SCHEMA its AUTHORIZATION leaver", "shop")
    leave(world)
    query(world, "GRANT leaver TO reporter")
    with contextlib.closing(world.login("reporter", "shop")) as member:
        member.run("BEGIN; SET LOCAL ROLE leaver; CREATE TABLE its.late (id int)")
        text = messages(world)
        assert "open transactions" in text
        assert "reporter" in text
    retired(world)


def test_an_owner_that_took_from_itself_what_an_owner_has_is_retired(world: World) -> None:
    run(world, "leaver", "old", "CREATE SCHEMA works; CREATE TABLE works.job (id int)")
    run(world, "leaver", "old", "REVOKE ALL ON DATABASE old FROM leaver")
    leave(world)
    retired(world)
    assert owners(world, "old") - {"rdsadmin"} == {world.admin.username}


def test_a_schema_does_not_pass_to_who_may_not_create_in_its_database(world: World) -> None:
    query(world, "GRANT CREATE ON DATABASE shop TO leaver")
    run(world, "leaver", "shop", "CREATE SCHEMA works")
    run(world, "shop_user", "shop", "REVOKE CREATE ON DATABASE shop FROM shop_user")
    leave(world)
    query(world, "REVOKE CREATE ON DATABASE shop FROM shop_user")
    assert "may not create in that database" in messages(world)
    query(world, "GRANT CREATE ON DATABASE shop TO shop_user")
    retired(world)
