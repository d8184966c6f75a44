"""A dry run stores the very statements that the apply then sends: compared with the server's log, one by one."""

import json
import re
from typing import Any

import pytest

from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import AUDIT, World

FIRST = {
    "shop": {"database_name": "shop", "username": "shop_owner", "createdb": True, "connection_limit": 9},
    "editor": {"database_name": "shop", "username": "editor_role", "access_level": "editor"},
    "reader": {"database_name": "shop", "username": "reader_role", "access_level": "reader"},
    "ledger": {"database_name": "ledger", "username": "ledger_owner", "extensions": ["citext"]},
}
THEN = {
    **FIRST,
    "shop": {"database_name": "shop", "username": "shop_owner", "connection_limit": 5},
    "editor": {"database_name": "shop", "username": "editor_role", "access_level": "reader"},
    "reader": {"database_name": "shop", "username": "reader_role", "access_level": "editor"},
    "archive": {
        "database_name": "archive",
        "username": "ledger_owner",
        "secret_name": "goldenpath/dev/ledger/postgres",
    },
}
THEN["ledger"] = {**FIRST["ledger"], "secret_name": "goldenpath/dev/ledger/postgres"}

VERIFIER = re.compile(r"'SCRAM-SHA-256\$[^']+'")


def stored_statements(world: World, answer: dict[str, Any]) -> dict[str, list[str]]:
    """By database, in order; those of the roles under the administrator's own."""
    key = answer["audit"]["plan"].removeprefix(f"s3://{AUDIT}/")
    statements = json.loads(world.aws.read_object(AUDIT, key))["statements"]
    creates = [text for item in statements["databases"] if item["create"] for text in (item["create"], *item["open"])]
    found = {item["database"]: item["statements"] for item in statements["databases"]}
    return {
        name: list(texts) for name, texts in {"postgres": [*statements["roles"], *creates], **found}.items() if texts
    }


def sent_statements(server: Server, since: int, user: str) -> dict[str, list[str]]:
    """What the log has, by database, less queries, the words of transactions, and settings of a session."""
    found: dict[str, list[str]] = {}
    for entry in server.log_statements(since, user=user):
        for text in entry.statement.split(";\n"):
            statement = VERIFIER.sub("'********'", text.strip())
            if not re.match(r"(SELECT|WITH|BEGIN|COMMIT|SET (LOCAL )?\w+ =)", statement):
                found.setdefault(entry.database, []).append(statement)
    return found


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> World:
    # One worker, so that the log of the one connection that creates databases has an order.
    with World(pg_server, aws, admin, settings={"MAX_WORKERS": "1"}) as world:
        return world


def test_the_apply_sends_what_the_dry_run_stored_and_nothing_else(world: World) -> None:
    for entries in (FIRST, THEN):
        world.declare_entries(entries)
        planned = world.dry_run()
        mark = world.server.mark()
        applied = world.apply()
        assert applied["plan_digest"] == planned["plan_digest"]
        stored = stored_statements(world, planned)
        assert sent_statements(world.server, mark, world.admin.username) == stored
        assert stored_statements(world, applied) == stored


def test_two_dry_runs_say_the_same_to_the_byte(world: World) -> None:
    world.declare_entries(FIRST)
    first, second = world.dry_run(), world.dry_run()
    assert first["plan_text"] == second["plan_text"]
    assert first["plan_digest"] == second["plan_digest"]
    assert stored_statements(world, first) == stored_statements(world, second)


def test_the_order_of_the_entries_does_not_matter(world: World) -> None:
    world.declare_entries(FIRST)
    first = world.dry_run()
    world.declare_entries(dict(reversed(FIRST.items())))
    assert world.dry_run()["plan_digest"] == first["plan_digest"]


def test_a_digest_is_not_changed_by_what_an_application_creates(world: World) -> None:
    world.declare_entries(FIRST)
    world.apply()
    world.server.run_as_superuser("CREATE TABLE one (id int); ALTER TABLE one OWNER TO shop_owner", "shop")
    world.server.run_as_superuser("GRANT INSERT ON one TO reader_role", "shop")
    first = world.dry_run()
    world.server.run_as_superuser("CREATE TABLE two (id int); ALTER TABLE two OWNER TO shop_owner", "shop")
    world.server.run_as_superuser("GRANT INSERT ON two TO reader_role", "shop")
    second = world.dry_run()
    assert "on 2 tables" in second["plan_text"]
    assert second["plan_digest"] == first["plan_digest"]


def test_no_secret_is_in_a_plan(world: World) -> None:
    world.declare_entries(FIRST)
    answer = world.dry_run()
    key = answer["audit"]["plan"].removeprefix(f"s3://{AUDIT}/")
    text = world.aws.read_object(AUDIT, key).decode()
    assert "PASSWORD '********'" in text
    assert [name for name, password in world.passwords.items() if password in text] == []
    assert "SCRAM-SHA-256" not in text
