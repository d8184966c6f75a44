"""A run that failed or was interrupted: the next apply tells what the server shows of it; nothing stops that."""

import contextlib
import csv
import io
import json
from typing import Any

import pytest

from provisioner.core import audit
from provisioner.core.errors import PlanBlocked
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import AUDIT, World

ENTRY: dict[str, dict[str, Any]] = {"keycloak": {"database_name": "keycloak", "username": "kc"}}
NOTE = "governance/dev/open_run.json"
OPEN = {"run_token": "tok", "plan": "governance/dev/plans/p.json", "run": "governance/dev/runs/x.csv"}


COLUMNS = ",".join(audit.COLUMNS)


def trail(world: World) -> list[dict[str, str]]:
    content = world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv")
    return list(csv.DictReader(io.StringIO(content.decode())))


def told(world: World, run_id: str) -> list[tuple[str, str]]:
    return [(row["action"], row["status"]) for row in trail(world) if row["run_id"] == run_id]


def leave_a_note(world: World, entries: dict[str, dict[str, Any]] = ENTRY) -> None:
    """An apply whose note stays although it did everything: as if it had been interrupted at its end."""
    world.declare_entries(entries)
    answer = world.apply(run_id="first")
    plan, run = (answer["audit"][name].removeprefix(f"s3://{AUDIT}/") for name in ("plan", "run"))
    world.aws.put_snapshot(AUDIT, NOTE, json.dumps({"run_token": "tok", "plan": plan, "run": run + ".gone.csv"}))


def test_what_the_server_does_not_show_any_more_is_unknown_whatever_is_declared(
    latest_server: Server, aws: Aws
) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        leave_a_note(world)
        latest_server.run_as_superuser("DROP DATABASE keycloak")
        latest_server.run_as_superuser("DROP ROLE kc")
        world.declare("application_databases = {}")
        before = len(told(world, "first"))
        answer = world.apply(run_id="second")
        assert [item["code"] for item in answer["warnings"]] == ["cut_off_run"]
        later = told(world, "first")[before:]
        assert {status for _, status in later} == {"unknown"}
        assert ("create_role", "unknown") in later
        assert world.apply()["warnings"] == []


LEVELS = ENTRY | {
    "editor": {"database_name": "keycloak", "username": "kc_editor", "access_level": "editor", "connection_limit": 5},
    "reader": {"database_name": "keycloak", "username": "kc_reader", "access_level": "reader"},
}


@pytest.mark.parametrize("why", ["declared no more", "not to be looked into"])
def test_what_was_taken_away_where_nobody_can_look_is_unknown(latest_server: Server, aws: Aws, why: str) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare_entries(LEVELS)
        world.apply()
        beyond = "GRANT CREATE ON DATABASE keycloak TO kc_reader;"
        beyond += "ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO kc_reader"
        world.login("kc", "keycloak").run(beyond)
        leave_a_note(world, LEVELS)
        world.login("kc", "keycloak").run(beyond)
        if why == "declared no more":
            world.declare("application_databases = {}")
        else:
            latest_server.run_as_superuser("ALTER DATABASE keycloak CONNECTION LIMIT 0")
        before = len(told(world, "first"))
        with contextlib.suppress(PlanBlocked):
            world.apply(run_id="second")
        of_databases = {each for each in told(world, "first")[before:] if each[0].startswith("revoke")}
        assert of_databases == {("revoke", "unknown"), ("revoke_default", "unknown")}


def test_what_stands_is_told_and_only_an_apply_tells_it(pg_server: Server, aws: Aws, admin: Login) -> None:
    with World(pg_server, aws, admin) as world:
        leave_a_note(world, LEVELS)
        note, before = aws.read_object(AUDIT, NOTE), told(world, "first")
        world.dry_run()
        world.drift()
        assert aws.read_object(AUDIT, NOTE) == note
        assert told(world, "first") == before
        world.apply(run_id="second")
        later = told(world, "first")[len(before) :]
        assert sorted(later) == sorted(item for item in before if item[1] == "success")
        assert aws.read_object(AUDIT, NOTE) == b"{}\n"


GARBAGE = {
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "not UTF-8": b"\xff\xfe\x00",
    "empty": "",
    "huge": "x" * 20_000,
    "an empty key": json.dumps(OPEN | {"run": ""}),
    "another environment's": json.dumps(OPEN | {"run": "governance/prod/runs/x.csv"}),
    "no such plan": json.dumps(OPEN),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_note_that_cannot_be_read_is_put_aside_and_named(
    latest_server: Server, aws: Aws, content: str | bytes
) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare("application_databases = {}")
        aws.put_snapshot(AUDIT, NOTE, content)
        answer = world.apply()
        assert answer["status"] == "no_change"
        (warning,) = answer["warnings"]
        (kept,) = aws.list_keys(AUDIT, "governance/dev/unreadable/")
        assert warning["code"] == "cut_off_run"
        assert kept in warning["message"]
        assert aws.read_object(AUDIT, kept) == (content.encode() if isinstance(content, str) else content)
        assert world.apply()["warnings"] == []


ROW = "2026-11-22T12:00:00.000Z,{},b,r,keycloak,kc,grant,{},{},{},,,,"
LINES = {
    "another status": ROW.format("dev", "SUCCESS", 1, "m"),
    "a duration with a fraction": ROW.format("dev", "success", "1.5", "m"),
    "a huge field": ROW.format("dev", "success", 1, "m" * 200_000),
    "a formula": ROW.format("dev", "success", 1, "=cmd()"),
    "of another environment": ROW.format("prod", "success", 1, "m"),
}


@pytest.mark.parametrize("which", ["", "-settled"], ids=["run", "settled"])
@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_lines_that_no_run_wrote_stay_out_of_the_trail_and_are_named(
    latest_server: Server, aws: Aws, line: str, which: str
) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        leave_a_note(world)
        run = json.loads(aws.read_object(AUDIT, NOTE))["run"]
        key = run.removesuffix(".csv") + which + ".csv"
        aws.put_snapshot(AUDIT, key, f"{COLUMNS}\n{line}\n")
        before = len(told(world, "first"))
        answer = world.apply(run_id="second")
        assert {item["code"] for item in answer["warnings"]} == {"cut_off_run", "audit_unreadable"}
        assert any(key in item["message"] for item in answer["warnings"])
        assert {status for _, status in told(world, "first")[before:]} == {"success"}
        assert told(world, "r") == []
        assert aws.read_object(AUDIT, NOTE) == b"{}\n"


def test_a_failed_apply_whose_entry_is_removed_is_never_told_as_success(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare_entries(ENTRY)
        plan = world.dry_run(run_id="first")["audit"]["plan"].removeprefix(f"s3://{AUDIT}/")
        aws.put_snapshot(AUDIT, NOTE, json.dumps(OPEN | {"plan": plan}))
        error = "2026-11-22T12:00:00.000Z,dev,b,first,,kc,create_role,error,1,42501: permission denied,,,,"
        skipped = "2026-11-22T12:00:00.000Z,dev,b,first,keycloak,{},{},skipped,0,an earlier change failed,,,,"
        lines = [error, skipped.format("kc", "create_database"), skipped.format("public", "revoke")]
        aws.put_snapshot(AUDIT, OPEN["run"], "\n".join([COLUMNS, *lines, ""]))
        world.declare("application_databases = {}")
        world.apply(run_id="second")
        assert told(world, "first")[1:] == [
            ("create_role", "error"),
            ("create_database", "skipped"),
            ("revoke", "skipped"),
            ("create_role", "unknown"),
            ("grant", "unknown"),
        ]


def test_a_lone_surrogate_in_a_comment_and_controls_in_a_name_break_no_run(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare_entries(ENTRY | {"r": {"database_name": "keycloak", "username": "r", "access_level": "reader"}})
        world.apply()
        schema = r'U&"a\009B2J\202Eb"'
        latest_server.run_as_superuser(f"SET ROLE kc; CREATE SCHEMA {schema}", "keycloak")
        comment = r'{"managed_by": "rds-provisioner", "environment": "other", "comment": "\ud800"}'
        latest_server.run_as_superuser(f"COMMENT ON DATABASE keycloak IS '{comment}'")
        answer = world.dry_run(adopt=["keycloak"])
        plan = aws.read_object(AUDIT, answer["audit"]["plan"].removeprefix(f"s3://{AUDIT}/"))
        assert plan.isascii()
        markdown = aws.read_object(AUDIT, answer["audit"]["plan_markdown"].removeprefix(f"s3://{AUDIT}/")).decode()
        assert answer["plan_digest"] in markdown
        assert "\x9b" not in markdown
        assert world.apply(adopt=["keycloak"])["status"] == "applied"
