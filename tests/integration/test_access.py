"""The report of who can do what: reads only, beside a run, in three formats, with what is beyond a level named."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import AUDIT, World

ENTRIES: dict[str, dict[str, Any]] = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "desk": {"database_name": "shop", "username": "shop_editor", "access_level": "editor"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
COLUMNS = ["database", "role", "capability", "scope", "path", "declared_level", "managed", "expected"]


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply(run_id="4711", build_id="b-1")["status"] == "applied"
        with world.login("shop_user", "shop") as owner:
            owner.run("CREATE TABLE items (id serial, name text)")
        yield world


def report(world: World, **fields: Any) -> tuple[dict[str, Any], list[dict[str, str]], dict[str, Any], str]:
    """The answer, the rows of the CSV, the JSON, the HTML."""
    answer = world.call(mode="access", **fields)
    stored = {name: read(world, answer["audit"][f"access_{name}"]) for name in ("csv", "json", "html")}
    return answer, list(csv.DictReader(io.StringIO(stored["csv"]))), json.loads(stored["json"]), stored["html"]


def read(world: World, address: str) -> str:
    return world.aws.read_object(AUDIT, address.removeprefix(f"s3://{AUDIT}/")).decode()


def can(rows: list[dict[str, str]], role: str, database: str = "shop") -> dict[str, str]:
    """What a role can do, each with the worst verdict."""
    found: dict[str, str] = {}
    for row in rows:
        if (row["role"], row["database"]) == (role, database) and not row["capability"].startswith("future"):
            found[row["capability"]] = min(found.get(row["capability"], "yes"), row["expected"])
    return found


def test_what_the_levels_give_is_told_and_expected(world: World) -> None:
    answer, rows, document, html = report(world, run_id="4712")
    assert (answer["status"], answer["mode"], answer["changes"], answer["warnings"]) == ("reported", "access", [], [])
    assert list(rows[0]) == COLUMNS
    # Up to 14 CREATE on public is everybody's, and not ours to take away.
    of_public = {"create": "no"} if world.server.version < 15 else {}
    assert can(rows, "public") == of_public
    assert can(rows, "shop_reader") == {"connect": "yes", "read": "yes"} | of_public
    assert can(rows, "shop_editor") == {"connect": "yes", "temporary": "yes", "read": "yes", "write": "yes"} | of_public
    owner = can(rows, "shop_user")
    anyway = {"maintain", "trigger", "reference"}
    assert owner.keys() - anyway == {"connect", "temporary", "read", "write", "create", "own"}
    assert set(owner.values()) == {"yes"}
    assert document["access"][0].keys() == {*COLUMNS, "statement"}
    assert [{name: row[name] for name in COLUMNS} for row in document["access"]] == rows
    assert "<script" not in html
    assert "shop_reader" in html
