"""No change means that nothing differed, applied that it is as declared, drifted names what differs."""

import contextlib
import random
from typing import Any

import pg8000.native
import pytest

from stack.access import attempts_in, expected, try_all, written_rows
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

ENTRIES = {
    "shop": {"database_name": "shop", "username": "shop_owner"},
    "editor": {"database_name": "shop", "username": "editor_role", "access_level": "editor"},
    "reader": {"database_name": "shop", "username": "reader_role", "access_level": "reader"},
}
LEVELS = {"shop_owner": "owner", "editor_role": "editor", "reader_role": "reader"}
OBJECTS = """
    CREATE TABLE public.orders (id int); CREATE SEQUENCE public.numbers; CREATE SCHEMA app;
    CREATE TABLE app.customers (id int); CREATE SEQUENCE app.numbers;"""


@pytest.fixture
def world(latest_server: Server, admin: Login, aws: Aws) -> World:
    with World(latest_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        return world


def make_objects(world: World) -> None:
    with contextlib.closing(world.login("shop_owner", "shop")) as owner:
        owner.run(OBJECTS)


def changes(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(change["action"], change["username"], change["detail"]) for change in answer["changes"]]


def test_the_whole_story(world: World) -> None:
    assert world.drift()["status"] == "drifted"
    assert world.apply()["status"] == "applied"
    assert world.drift()["status"] == "in_sync"
    make_objects(world)
    assert world.drift()["status"] == "in_sync"
    with contextlib.closing(world.login("shop_owner", "shop")) as owner:
        owner.run("GRANT DELETE ON public.orders TO reader_role")
        owner.run("REVOKE SELECT ON app.customers FROM editor_role")
    answer = world.drift()
    assert answer["status"] == "drifted"
    assert changes(answer) == [
        ("grant", "editor_role", 'SELECT on 1 table in schema "app"'),
        ("revoke", "reader_role", 'DELETE on 1 table in schema "public"'),
    ]
    answer = world.apply()
    assert answer["status"] == "applied"
    assert [change["status"] for change in answer["changes"]] == ["success", "success"]
    assert world.drift()["status"] == "in_sync"
    assert world.apply()["status"] == "no_change"


def test_a_check_for_drift_and_a_dry_run_write_nothing(world: World) -> None:
    rows, mark = written_rows(world.server), world.server.mark()
    assert world.drift()["status"] == "drifted"
    assert world.dry_run()["status"] == "planned"
    assert written_rows(world.server) == rows
    words = {each.statement.split()[0] for each in world.server.log_statements(mark, user=world.admin.username)}
    assert words == {"SELECT", "WITH"}


def test_every_entry_and_thing_has_a_row_also_when_nothing_changed(world: World) -> None:
    world.apply()
    answer = world.apply()
    assert answer["summary"] == {
        "create": 0, "change": 0, "revoke": 0, "unchanged": 12, "blocked": 0, "warnings": 0, "errors": 0
    }  # fmt: skip
    bucket, _, key = answer["audit"]["run"].removeprefix("s3://").partition("/")
    rows = [line.split(",") for line in world.aws.read_object(bucket, key).decode().splitlines()[1:]]
    assert sorted((row[5], row[6], row[7]) for row in rows) == sorted(
        (role, action, "no_change")
        for role, level in LEVELS.items()
        for action in ("role", "password", "privileges", "database" if level == "owner" else "default_privileges")
    )


def test_an_attribute_that_is_no_longer_declared_goes(world: World) -> None:
    world.declare_entries({"shop": {**ENTRIES["shop"], "createdb": True, "connection_limit": 4}})
    world.apply()
    world.declare_entries({"shop": ENTRIES["shop"]})
    answer = world.apply()
    assert changes(answer) == [("alter_role", "shop_owner", "may no longer create databases, no connection limit")]
    assert [each for each in answer["warnings"] if each["username"] == "shop_owner"] == []
    assert world.drift()["status"] == "in_sync"


def test_a_role_that_may_create_databases_keeps_those_it_made_to_itself(world: World) -> None:
    world.declare_entries({"shop": {**ENTRIES["shop"], "createdb": True}})
    world.apply()
    with contextlib.closing(world.login("shop_owner", "shop")) as owner:
        owner.run("CREATE DATABASE plugin TEMPLATE template0")
    assert world.apply()["status"] == "no_change"
    assert world.server.run_as_superuser("SELECT datacl FROM pg_database WHERE datname = 'plugin'") == [[None]]


# --- whatever somebody did --------------------------------------------------------------------------------------------

PRIVILEGES = {
    "DATABASE shop": ("CONNECT", "TEMPORARY", "CREATE"),
    "SCHEMA public": ("USAGE", "CREATE"),
    "SCHEMA app": ("USAGE", "CREATE"),
    "TABLE public.orders": ("SELECT", "INSERT", "TRUNCATE", "UPDATE (id)"),
    "TABLE app.customers": ("SELECT", "DELETE", "REFERENCES"),
    "SEQUENCE public.numbers": ("USAGE", "SELECT", "UPDATE"),
    "SEQUENCE app.numbers": ("USAGE", "SELECT"),
}
DEFAULTS = ("SELECT ON TABLES", "DELETE ON TABLES", "USAGE ON SEQUENCES", "USAGE ON SCHEMAS", "CREATE ON SCHEMAS")


def random_statement(chance: random.Random) -> str:
    # What an owner takes from itself on its own objects is its own business: it can take it back at any time.
    role = chance.choice(["editor_role", "reader_role"])
    if chance.random() < 0.25:
        verb = chance.choice(["GRANT {} TO {}", "REVOKE {} FROM {}"]).format(chance.choice(DEFAULTS), role)
        return f"ALTER DEFAULT PRIVILEGES {chance.choice(['', 'IN SCHEMA app '])}{verb}"
    target = chance.choice(sorted(PRIVILEGES))
    privilege = chance.choice(PRIVILEGES[target])
    if chance.random() < 0.5:
        others = [role, "PUBLIC", "shop_owner"] if target == "DATABASE shop" else [role, "PUBLIC"]
        return f"REVOKE {privilege} ON {target} FROM {chance.choice(others)} CASCADE"
    return f"GRANT {privilege} ON {target} TO {role}{chance.choice(['', ' WITH GRANT OPTION'])}"


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_granted_and_revoked_by_hand_the_next_apply_leads_back(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.apply()
    make_objects(world)
    for _ in range(30):
        # Each role passes on what it may; what it may not is refused, and that is fine.
        actor = chance.choice(["shop_owner", "shop_owner", "editor_role", "reader_role"])
        with (
            contextlib.closing(world.server.superuser("shop")) as connection,
            contextlib.suppress(pg8000.native.DatabaseError),
        ):
            connection.run(f"SET SESSION AUTHORIZATION {actor}")
            connection.run(random_statement(chance))
    assert world.apply()["status"] == "applied"
    attempts = attempts_in(world.server, "shop")
    for role, level in LEVELS.items():
        may = try_all(world.server, Login(role, world.passwords[role]), "shop", attempts)
        assert (role, may) == (role, expected(level, attempts))
    rows = written_rows(world.server)
    assert world.apply()["status"] == "no_change"
    assert written_rows(world.server) == rows
