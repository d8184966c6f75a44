"""What a role makes, writes and locks in the database of another that lets it in: it keeps that one from nothing."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.errors import ApplyFailed
from provisioner.edges import database_catalogs, postgres
from stack.aws import Aws
from stack.held import HeldRun
from stack.postgres import Login, Server
from stack.world import World

SHOP: dict[str, Any] = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "desk": {"database_name": "shop", "username": "shop_editor", "access_level": "editor"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
LATE = {"late": {"database_name": "shop", "username": "late_reader", "access_level": "reader"}}
FRIENDS = "(SELECT string_agg('friend' || f, ', ') FROM generate_series(0, 5) AS f WHERE (i >> f) & 1 = 1)"


def each_with_a_list_of_its_own(*statements: str) -> str:
    """What makes and grants sixty of them; `format` has the number and whom to grant to."""
    made = "; ".join(f"EXECUTE format($f${statement}$f$, i, {FRIENDS})" for statement in statements)
    return f"DO $$ BEGIN FOR i IN 1..60 LOOP {made}; END LOOP; END $$"


TABLE = "CREATE TEMP TABLE t%1$s (a int)"
ATTACKS = {
    "tables": (TABLE, "GRANT SELECT ON t%1$s TO %2$s"),
    "columns": (TABLE, "GRANT UPDATE (a) ON t%1$s TO %2$s"),
    "sequences": ("CREATE TEMP SEQUENCE t%1$s", "GRANT SELECT ON SEQUENCE t%1$s TO %2$s"),
    "routines": (
        "CREATE FUNCTION pg_temp.t%1$s() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "GRANT EXECUTE ON FUNCTION pg_temp.t%1$s TO %2$s",
    ),
}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(SHOP)
        assert world.apply()["status"] == "applied"
        pg_server.run_as_superuser("; ".join(f"CREATE ROLE friend{number}" for number in range(6)))
        yield world


@pytest.mark.parametrize("attack", ATTACKS)
def test_temporary_objects_do_not_make_a_database_too_large_to_be_read(
    world: World, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_catalogs, "MAX_GROUPS", 50)
    with contextlib.closing(world.login("shop_editor", "shop")) as session:
        session.run(each_with_a_list_of_its_own(*ATTACKS[attack]))
        world.declare_entries(SHOP | LATE)
        assert world.apply()["status"] == "applied"
        assert world.drift()["status"] == "in_sync"
        report = world.call(mode="access")
        assert "access_unknown" not in {each["code"] for each in report["warnings"]}
    world.login("late_reader", "shop").close()


# --- default privileges, which everybody has of its own in every database that it may enter --------------------------

HOLDS = {
    "its default privileges": "ALTER DEFAULT PRIVILEGES GRANT DELETE ON TABLES TO PUBLIC",
    "itself": "GRANT {0} TO {1}",
}


@pytest.mark.parametrize("held", HOLDS)
def test_who_holds_what_is_its_own_in_the_database_of_another_keeps_back_nothing_else(world: World, held: str) -> None:
    if held == "itself" and world.server.version >= 15:
        pytest.skip("up to 14 a role may grant itself")
    with contextlib.closing(world.login("shop_reader", "shop")) as guest:
        guest.run("ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC")
        guest.run("BEGIN")
        guest.run(HOLDS[held].format("shop_reader", world.admin.username))
        world.declare_entries(SHOP | LATE)
        with pytest.raises(ApplyFailed, match="55P03") as caught:
            world.apply()
        assert [(each.database, each.username) for each in caught.value.findings] == [("shop", "shop_reader")]
        assert 'what belongs to role "shop_reader" in database "shop" could not be changed' in str(caught.value)
        world.login("late_reader", "shop").close()
        assert [each["action"] for each in world.drift()["changes"]] == ["revoke_default"]
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_who_drops_all_that_it_was_granted_and_leaves_that_open_is_named(world: World) -> None:
    """Up to its commit whoever grants on the same objects, and on the database itself, waits for it."""
    bank = {"bank": {"database_name": "bank", "username": "bank_user"}}
    with contextlib.closing(world.login("shop_reader", "shop")) as guest:
        guest.run("BEGIN")
        guest.run("DROP OWNED BY CURRENT_USER")
        world.declare_entries(SHOP | LATE | bank)
        with pytest.raises(
            ApplyFailed, match=r'55P03.*; session \d+ of "shop_reader" holds what it waited for'
        ) as caught:
            world.apply()
        assert [each.database for each in caught.value.findings] == ["shop"]
        world.login("bank_user", "bank").close()
    assert world.apply()["status"] == "applied"
    world.login("late_reader", "shop").close()


def test_default_privileges_where_a_role_creates_nothing_make_no_database_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_catalogs, "MAX_GROUPS", 100)
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("DO $$ BEGIN FOR i IN 1..40 LOOP EXECUTE format('CREATE SCHEMA s%1$s', i); END LOOP; END $$")
    with contextlib.closing(world.login("shop_reader", "shop")) as guest:
        guest.run(
            """DO $$ DECLARE what text; BEGIN FOR i IN 1..40 LOOP
            FOREACH what IN ARRAY ARRAY['TRUNCATE ON TABLES', 'USAGE ON SEQUENCES', 'EXECUTE ON ROUTINES'] LOOP
                EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA s%s GRANT %s TO shop_editor', i, what);
            END LOOP; END LOOP; END $$"""
        )
    world.declare_entries(SHOP | LATE)
    assert world.apply()["status"] == "applied"
    report = world.call(mode="access")
    assert "access_unknown" not in {each["code"] for each in report["warnings"]}
    # Where it does create something they have an effect, and go.
    world.server.run_as_superuser("GRANT CREATE ON SCHEMA s1 TO shop_reader", "shop")
    assert {(each["action"], each["username"]) for each in world.drift()["changes"]} == {
        ("revoke", "shop_reader"),
        ("revoke_default", "shop_editor"),
    }


# --- what a level lets it lock and make ------------------------------------------------------------------------------


def test_a_view_that_an_editor_locks_keeps_no_report_of_access_back(world: World) -> None:
    """Whether it can be written the server says only to who waits for the lock."""
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("CREATE TABLE items (id int); CREATE VIEW shown AS TABLE items")
    world.apply()
    with contextlib.closing(world.login("shop_editor", "shop")) as guest:
        guest.run("BEGIN; LOCK TABLE shown IN ACCESS EXCLUSIVE MODE")
        report = world.call(mode="access")
    assert "access_unknown" not in {each["code"] for each in report["warnings"]}
    assert "unknown: 0 databases" in report["plan_text"]


def test_temporary_views_on_each_other_keep_no_report_of_access_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first it is to be asked who may read the table; followed, that goes through all of them, step by step."""
    monkeypatch.setitem(postgres._CONNECTION_SETTINGS, "statement_timeout", "5000")
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("CREATE TABLE items (id int)")
    world.apply()
    with contextlib.closing(world.login("shop_editor", "shop")) as session:
        session.run(
            """DO $$ BEGIN CREATE TEMP VIEW v0 AS SELECT id AS a FROM items; FOR i IN 1..1000 LOOP
            EXECUTE format('CREATE TEMP VIEW v%s AS ', i) || (
                SELECT string_agg('SELECT a FROM v' || j, ' UNION ALL ')
                FROM generate_series(greatest(i - 100, 0), i - 1) AS j);
            END LOOP; END $$"""
        )
        report = world.call(mode="access")
    assert "access_unknown" not in {each["code"] for each in report["warnings"]}


def test_a_table_that_somebody_makes_in_public_while_a_run_is_at_work_fetches_nobody(world: World) -> None:
    """GRANT on ALL TABLES is refused for one of somebody else's; up to 14 everybody creates there."""
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("CREATE TABLE items (id int)")
    world.apply()
    if world.server.version >= 15:
        world.server.run_as_superuser("GRANT CREATE ON SCHEMA public TO friend0; GRANT friend0 TO shop_reader", "shop")
    world.declare_entries(SHOP | LATE)
    with contextlib.closing(world.login("shop_reader", "shop")) as guest, HeldRun(world) as run:
        guest.run("SET ROLE friend0" if world.server.version >= 15 else "SELECT 1")
        guest.run("CREATE TABLE its (id int)")
    assert run.error is None
    with contextlib.closing(world.login("late_reader", "shop")) as reader:
        assert reader.run("TABLE items") == []
