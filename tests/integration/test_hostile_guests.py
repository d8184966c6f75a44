"""An editor makes temporary objects without number in the database of another: they keep it from nothing."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.edges import access_catalogs, database_catalogs
from stack.aws import Aws
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
    for catalogs in (database_catalogs, access_catalogs):
        monkeypatch.setattr(catalogs, "MAX_GROUPS", 50)
    with contextlib.closing(world.login("shop_editor", "shop")) as session:
        session.run(each_with_a_list_of_its_own(*ATTACKS[attack]))
        world.declare_entries(SHOP | LATE)
        assert world.apply()["status"] == "applied"
        assert world.drift()["status"] == "in_sync"
        report = world.call(mode="access")
        assert "access_unknown" not in {each["code"] for each in report["warnings"]}
    world.login("late_reader", "shop").close()
