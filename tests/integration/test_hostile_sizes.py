"""A tenant makes what is read of it as large as it can: it stands against its own database, and costs little."""

import contextlib
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import PlanBlocked
from provisioner.edges import access_catalogs, database_catalogs
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

SHOP: dict[str, Any] = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
BANK = {"bank": {"database_name": "bank", "username": "bank_user"}}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(SHOP)
        assert world.apply()["status"] == "applied"
        yield world


def run_as_owner(world: World, *statements: str) -> None:
    with world.login("shop_user", "shop") as connection:
        for statement in statements:
            connection.run(statement)


def apply_blocked(world: World) -> str:
    """Declare another application beside the tenant: it is served, and what is blocked is said."""
    world.declare_entries(SHOP | BANK)
    with pytest.raises(PlanBlocked) as blocked:
        world.apply()
    world.login("bank_user", "bank").close()
    return str(blocked.value)


def test_a_comment_of_many_megabytes_is_no_marker_and_is_not_fetched(world: World) -> None:
    run_as_owner(
        world,
        "DO $$ BEGIN EXECUTE 'COMMENT ON DATABASE shop IS '"
        " || quote_literal('rds-provisioner' || repeat(chr(1), 20000000)); END $$",
    )
    tracemalloc.start()
    problem = apply_blocked(world)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert 'database "shop" exists but is not managed here' in problem
    world.declare_entries(SHOP | BANK)
    assert world.apply(adopt=["shop", "reports"])["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_a_database_whose_drop_was_interrupted_is_told_to_be_dropped(world: World) -> None:
    world.server.run_as_superuser("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'shop'")
    problem = apply_blocked(world)
    # Else nobody could clear the server for the next test.
    world.server.run_as_superuser("UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'shop'")
    assert 'database "shop" is invalid' in problem
    assert 'DROP DATABASE "shop"' in problem


def test_many_schemas_are_healed_at_once(world: World) -> None:
    run_as_owner(
        world,
        "DO $$ BEGIN FOR i IN 1..101 LOOP EXECUTE format('CREATE SCHEMA s%1$s', i);"
        " EXECUTE format('CREATE TABLE s%1$s.t (); REVOKE ALL ON s%1$s.t FROM shop_reader', i); END LOOP; END $$",
    )
    assert world.apply()["status"] == "applied"
    seen = "SELECT count(*) FROM generate_series(1, 101) AS i WHERE has_table_privilege(format('s%s.t', i), 'SELECT')"
    with world.login("shop_reader", "shop") as reader:
        assert reader.run(seen) == [[101]]
    assert world.apply()["status"] == "no_change"


def test_many_small_access_lists_are_healed_in_one_look(world: World) -> None:
    run_as_owner(
        world,
        """DO $$ DECLARE r text; k int; BEGIN FOR i IN 1..600 LOOP EXECUTE format('CREATE TABLE t%s ()', i); k := i;
        FOREACH r IN ARRAY ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] LOOP
            IF k % 2 = 1 THEN EXECUTE format('GRANT %s ON t%s TO pg_monitor', r, i); END IF; k := k / 2; END LOOP;
        EXECUTE format('GRANT INSERT ON t%s TO shop_reader', i); END LOOP; CREATE TABLE plain (); END $$""",
    )
    assert world.drift()["status"] == "drifted"
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_lists_that_are_too_long_together_are_the_business_of_their_own_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.edges import database_catalogs

    monkeypatch.setattr(database_catalogs, "MAX_ACL_CHARACTERS", 2_000)
    run_as_owner(
        world,
        "DO $$ BEGIN FOR i IN 1..30 LOOP EXECUTE format('CREATE SCHEMA s%1$s', i);"
        " EXECUTE format('CREATE TABLE s%1$s.t ()', i); END LOOP; END $$",
    )
    assert "its access control lists are longer than 2000 characters" in apply_blocked(world)


def test_large_objects_of_a_reader_are_its_own_business_however_many_lists_they_have(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.edges import database_catalogs

    monkeypatch.setattr(database_catalogs, "MAX_GROUPS", 300)
    for number in range(9):
        world.server.run_as_superuser(f"CREATE ROLE other{number}")
    with world.login("shop_reader", "shop") as reader:
        reader.run(
            "DO $$ DECLARE made oid; BEGIN FOR i IN 1..500 LOOP made := lo_create(0); FOR k IN 0..8 LOOP"
            " IF (i >> k) & 1 = 1 THEN EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO other%s', made, k);"
            " END IF; END LOOP; END LOOP; END $$"
        )
    desk = {"desk": {"database_name": "shop", "username": "shop_desk", "access_level": "editor"}}
    world.declare_entries(SHOP | desk)
    answer = world.apply()
    assert answer["status"] == "applied"
    assert '500 large objects belong to "shop_reader"' in str(answer["warnings"])
    world.login("shop_desk", "shop").close()
    answer = world.call(mode="access")
    assert [item for item in answer["warnings"] if item["code"] == "access_unknown"] == []


def peak_of_session(world: World, query: str) -> int:
    """The most memory, in kilobytes, that a session of the server had while it answered a query."""
    with contextlib.closing(world.server.superuser("shop")) as session:
        [[pid]] = session.run("SELECT pg_backend_pid()")
        session.run("SET work_mem = '4MB'; SET hash_mem_multiplier = 2; SET jit = off")
        session.run("SET max_parallel_workers_per_gather = 0")
        session.run(query)
        return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


def test_large_objects_without_number_take_little_of_the_servers_memory(world: World) -> None:
    """A reader makes millions in minutes: a report that had the server hold all of them would be everybody's end."""
    world.server.run_as_superuser(
        "INSERT INTO pg_largeobject_metadata SELECT 1000000 + i, 'shop_reader'::regrole, NULL"
        " FROM generate_series(1, 600000) AS i",
        "shop",
    )
    least = peak_of_session(world, "SELECT count(*) FROM pg_largeobject_metadata")
    for query in (access_catalogs._ACCESS_QUERY, database_catalogs._database_query(database_catalogs._RARE_PARTS)):
        assert peak_of_session(world, query) < least + 25_000
    assert "access_unknown" not in {each["code"] for each in world.call(mode="access")["warnings"]}


def test_changes_without_number_are_the_business_of_their_own_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.edges import observe

    monkeypatch.setattr(observe, "MAX_CHANGES", 50)
    run_as_owner(
        world,
        "DO $$ BEGIN FOR i IN 1..30 LOOP EXECUTE format('CREATE SCHEMA s%1$s', i); EXECUTE format("
        "'CREATE TABLE s%1$s.t (); GRANT INSERT ON s%1$s.t TO shop_reader, PUBLIC', i); END LOOP; END $$",
    )
    problem = apply_blocked(world)
    assert "more than 50 changes would have to be made in it" in problem
    assert "as its owner: take back there what no entry of the snapshot asks for" in problem
    run_as_owner(
        world,
        "DO $$ BEGIN FOR i IN 1..30 LOOP EXECUTE format("
        "'REVOKE INSERT ON s%1$s.t FROM shop_reader, PUBLIC', i); END LOOP; END $$",
    )
    assert world.apply()["status"] == "no_change"


def test_names_without_number_are_the_business_of_their_own_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.edges import database_catalogs

    monkeypatch.setattr(database_catalogs, "MAX_NAMES", 20)
    run_as_owner(
        world,
        "DO $$ BEGIN FOR i IN 1..30 LOOP EXECUTE format('CREATE TABLE t%1$s ()', i);"
        " EXECUTE format('GRANT INSERT ON t%1$s TO shop_reader', i); END LOOP; CREATE TABLE plain (); END $$",
    )
    assert "more than 20 of its objects would have to be changed one by one" in apply_blocked(world)
