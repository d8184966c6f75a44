"""The report of access says yes if and only if an attempt succeeds: logging in, perhaps SET ROLE, and trying."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stack import access_servers
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import AUDIT, World

ENTRIES: dict[str, dict[str, Any]] = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "desk": {"database_name": "shop", "username": "shop_editor", "access_level": "editor"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
# Which servers are generated: numbers to begin the seeds with. THEOREM_SEEDS=100-120 tries others.
SEEDS = os.environ.get("THEOREM_SEEDS", "1")


def seeds() -> list[int]:
    first, _, last = SEEDS.partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply()["status"] == "applied"
        yield world


@pytest.mark.parametrize("seed", seeds())
def test_the_report_says_yes_if_and_only_if_an_attempt_succeeds(
    world: World, seed: int, tell: Callable[[str], None]
) -> None:
    made = access_servers.generate(world, "shop", ["shop_user", "shop_editor", "shop_reader"], seed)
    address = world.call(mode="access")["audit"]["access_json"]
    document = json.loads(world.aws.read_object(AUDIT, address.removeprefix(f"s3://{AUDIT}/")))
    rows = document["access"]
    claimed, undecided = access_servers.said(made, rows), access_servers.said(made, rows, ("unknown",))
    # Who holds nothing in the database is no way to anything there, so nobody is told to administer it.
    held = {row["role"] for row in rows} | {item["role"] for item in document["dormant"]}
    held |= {"pg_read_all_data", "pg_write_all_data", "pg_maintain"}
    # What is beyond a level of a declared role, drift names as well, by a change or a warning.
    drift = world.drift()
    named = {item["username"] for item in (*drift["changes"], *drift["warnings"], *drift["blockers"])}
    beyond = {row["role"]: row for row in rows if row["declared_level"] and row["expected"] == "no"}
    unnamed = {role: row for role, row in beyond.items() if role not in named and "PUBLIC" not in row["path"]}
    assert not unnamed, f"seed {seed}: drift does not name {unnamed}\n" + "\n".join(made.sent)
    total = 0
    for role in made.logins:
        done, attempts = access_servers.tried(made, role)
        total += attempts
        mine = {fact for fact in claimed if fact[0] == role}
        judged = access_servers.possible(made, role)
        judged |= {fact for fact in mine | done if fact[1] == "administer" and fact[3] in held}
        if any(row["role"] == role and row["scope"] == "everything in the database" for row in rows):
            # What is said of superusers are the capabilities that levels speak of; a view is no better than its owner.
            apart = {"administer", "trigger", "maintain", "view"}
            judged = {fact for fact in judged if not apart & set(fact)}
        wrong = ((done ^ mine) & judged) - undecided
        assert not wrong, f"seed {seed}\n{access_servers.explain(made, rows, wrong, done)}"
    tell(f"seed {seed}: {total} attempts")
