"""What the audit says of each entry, whatever kept it back, and of a run that has nothing to say."""

import csv
import io
from collections.abc import Iterator

import pytest

from provisioner.core.errors import AuditUnavailable, PlanBlocked
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import AUDIT, World

TRAIL = "governance/dev/rds_provision_audit.csv"
ENTRIES = {
    "wiki": {"database_name": "wiki", "username": "wiki_app"},
    "wiki-reader": {"database_name": "wiki", "username": "wiki_reader", "access_level": "reader"},
    "blog": {"database_name": "blog", "username": "blog_app"},
}
EVERY_ASPECT = {"role", "password", "privileges"}


@pytest.fixture
def worlds(pg_server: Server, aws: Aws, admin: Login) -> Iterator[World]:
    """An environment in which three entries of two databases are declared, with either administrator."""
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        yield world


def rows_of(world: World, key: str = TRAIL) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(world.aws.read_object(AUDIT, key).decode())))


def newest_run(world: World) -> list[dict[str, str]]:
    return rows_of(world, world.aws.list_keys(AUDIT, "governance/dev/runs/")[-1])


def blocked(rows: list[dict[str, str]], status: str) -> dict[tuple[str, str], set[str]]:
    """What was held back of each entry, by the action."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row["status"] == status and row["message"].startswith("blocked: "):
            found.setdefault((row["database"], row["username"]), set()).add(row["action"])
    return found


def test_what_a_foreign_owner_keeps_back_of_its_own_entry_and_of_others_has_its_rows(worlds: World) -> None:
    worlds.server.run_as_superuser("CREATE ROLE wiki_app LOGIN")
    kept_back = {
        ("wiki", "wiki_app"): EVERY_ASPECT | {"database"},
        ("wiki", "wiki_reader"): {"privileges", "default_privileges"},
    }
    worlds.dry_run()
    assert blocked(newest_run(worlds), "dry_run") == kept_back
    with pytest.raises(PlanBlocked):
        worlds.apply()
    rows = newest_run(worlds)
    assert blocked(rows, "skipped") == kept_back
    [reason] = {row["message"] for row in rows if row["status"] == "skipped"}
    assert reason == 'blocked: role "wiki_app" exists but is not managed here'
    # The trail is told the same, and of what is not blocked that it was done.
    assert blocked(rows_of(worlds), "skipped") == kept_back
    assert {("", "blog_app", "success"), ("", "wiki_reader", "success")} <= {
        (row["database"], row["username"], row["status"]) for row in rows
    }


def test_what_a_closed_database_keeps_back_has_its_rows(worlds: World) -> None:
    worlds.apply()
    worlds.server.run_as_superuser("ALTER DATABASE wiki ALLOW_CONNECTIONS false")
    with pytest.raises(PlanBlocked):
        worlds.apply()
    assert blocked(newest_run(worlds), "skipped") == {
        ("wiki", "wiki_app"): {"database", "privileges"},
        ("wiki", "wiki_reader"): {"privileges", "default_privileges"},
    }


@pytest.mark.parametrize("mode", ["apply", "dry_run", "drift", "access"])
def test_a_run_that_has_nothing_to_tell_has_a_row_that_says_so(world: World, mode: str) -> None:
    world.declare("application_databases = {}\n")
    answer = world.call(mode=mode)
    [row] = newest_run(world)
    assert (row["action"], row["status"]) == (mode, "no_change")
    [told] = rows_of(world, answer["audit"]["trail"].removeprefix(f"s3://{AUDIT}/"))
    assert (told["action"], told["message"]) == (mode, row["message"])


def move_to_archive(world: World, key: str) -> None:
    """As a lifecycle rule does it; nothing gives such an object before somebody has restored it."""
    content = world.aws.read_object(AUDIT, key)
    world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=content, StorageClass="GLACIER")


def test_a_report_of_access_in_an_archive_is_named_and_stops_no_later_one(world: World) -> None:
    world.declare_entries(ENTRIES)
    world.apply()
    key = world.call(mode="access")["audit"]["access_json"].removeprefix(f"s3://{AUDIT}/")
    move_to_archive(world, key)
    answer = world.call(mode="access")
    assert answer["status"] == "reported"
    [warning] = answer["warnings"]
    assert warning["code"] == "access_report_unreadable"
    assert key in warning["message"]


def test_a_trail_in_an_archive_cannot_be_put_aside_and_says_what_to_do(world: World) -> None:
    world.declare_entries(ENTRIES)
    world.apply()
    move_to_archive(world, TRAIL)
    with pytest.raises(AuditUnavailable, match="restore the object, and let the bucket's lifecycle archive neither"):
        world.apply()
