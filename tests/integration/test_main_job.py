"""The main job: an event and a tfvars file go in; roles, databases, grants and an audit stand; a second run: nothing.

On every PostgreSQL version, as the delegated administrator; what each access level may do is proved by logging in.
"""

import contextlib
import csv
import io
import json
import re
from typing import Any

import pytest
from pg8000.native import DatabaseError

from provisioner.core.errors import ApprovalRequired, PlanChanged
from stack.aws import Aws
from stack.binaries import ROOT
from stack.postgres import Server
from stack.world import AUDIT, SNAPSHOTS, World

SAMPLES = ROOT / "tests/samples"
ENTRIES: dict[str, dict[str, Any]] = {
    "shop": {"database_name": "shop", "username": "shop_app"},
    "shop-desk": {"database_name": "shop", "username": "shop_desk", "access_level": "editor"},
    "shop-reports": {"database_name": "shop", "username": "shop_reports", "access_level": "reader"},
}


def try_as(world: World, username: str, sql: str, database: str = "shop") -> Any:
    """What a role gets: the rows, or the SQLSTATE with which it is refused."""
    try:
        with contextlib.closing(world.login(username, database)) as connection:
            return connection.run(sql)
    except DatabaseError as error:
        return error.args[0]["C"]


def trail(world: World) -> list[dict[str, str]]:
    key = f"governance/{world.environment}/rds_provision_audit.csv"
    return list(csv.DictReader(io.StringIO(world.aws.read_object(AUDIT, key).decode())))


def databases(world: World) -> list[list[str]]:
    """Each database with its owner, the system's own left out."""
    return world.server.run_as_superuser(
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database "
        "WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
    )


def event_of_s3(version: str, key: str = "dev/terraform.tfvars") -> dict[str, Any]:
    """The event in `events/`, as it comes for this bucket."""
    event: dict[str, Any] = json.loads((ROOT / "events/s3-object-created.json").read_text())
    event["detail"]["bucket"]["name"] = SNAPSHOTS
    event["detail"]["object"] |= {"key": key, "version-id": version}
    return event


def test_owner_editor_and_reader_stand_and_a_second_run_changes_nothing(pg_server: Server, aws: Aws) -> None:
    with World(pg_server, aws, pg_server.create_delegated_admin()) as world:
        world.declare_entries(ENTRIES)
        answer = world.apply(build_id="16-01-26-01", run_id="4711", requested_by="terraform")
        assert answer["status"] == "applied", answer["plan_text"]
        assert {change["status"] for change in answer["changes"]} == {"success"}
        assert databases(world) == [["shop", "shop_app"]]

        assert try_as(world, "shop_app", "CREATE TABLE orders (id serial PRIMARY KEY, what text)") is None
        assert try_as(world, "shop_desk", "INSERT INTO orders (what) VALUES ('tea') RETURNING id") == [[1]]
        assert try_as(world, "shop_reports", "SELECT what FROM orders") == [["tea"]]
        assert try_as(world, "shop_reports", "DELETE FROM orders") == "42501"
        assert try_as(world, "shop_desk", "DROP TABLE orders") == "42501"

        mark = pg_server.mark()
        again = world.apply()
        assert (again["status"], again["changes"], again["summary"]["unchanged"]) == ("no_change", [], 12)
        said = [each.statement for each in pg_server.log_statements(mark)]
        assert [statement for statement in said if not re.match(r"\s*(SELECT|WITH)\b", statement)] == []


def test_the_readme_shows_the_plan_that_is_printed(world: World) -> None:
    readme = (ROOT / "README.md").read_text()
    tfvars, plan = (
        readme.split(f"<!-- shown: {name} -->\n")[1].split("```")[1].split("\n", 1)[1]
        for name in ("terraform.tfvars", "plan")
    )
    world.put_secret("keycloak", "keycloak_user", "keycloak")
    world.put_secret("analytics_readonly", "analytics_reader", "keycloak")
    world.declare(tfvars)
    answer = world.dry_run()
    assert plan.startswith(f"{answer['plan_text']}\nstatus: {answer['status']}, digest: sha256:")


# --- files as they are kept -------------------------------------------------------------------------------------------


def test_a_standalone_file_is_provisioned_as_it_is(world: World) -> None:
    world.put_secret("wiki", "wiki_user", "wiki")
    world.put_secret("tracker", "tracker_user", "tracker")
    world.declare(SAMPLES / "standalone-dev.tfvars")
    assert world.apply()["status"] == "applied"
    assert databases(world) == [["tracker", "tracker_user"], ["wiki", "wiki_user"]]
    assert try_as(world, "wiki_user", "SELECT current_database()", "wiki") == [["wiki"]]


def test_a_coupled_file_says_that_its_block_is_inactive(world: World) -> None:
    world.declare(SAMPLES / "coupled-dev.tfvars")
    answer = world.apply()
    assert answer["status"] == "no_change"
    [warning] = answer["warnings"]
    assert warning["code"] == "inactive"
    assert warning["where"] == "terraform.tfvars:60 rds_config.application_databases"
    assert databases(world) == []


def test_a_coupled_file_is_provisioned_where_it_is_enabled(world: World) -> None:
    world.put_secret("wiki", "wiki_app", "wiki")
    world.put_secret("tracker", "tracker_app", "tracker_plugin_search")
    text = (SAMPLES / "coupled-dev.tfvars").read_text()
    world.declare(text.replace("enabled               = false", "enabled               = true", 1))
    assert world.apply()["status"] == "applied"
    assert databases(world) == [["tracker_plugin_search", "tracker_app"], ["wiki", "wiki_app"]]


def test_a_file_in_json_is_provisioned(world: World) -> None:
    world.settings["SNAPSHOT_KEY"] = "dev/terraform.tfvars.json"
    for application, entry in ENTRIES.items():
        world.put_secret(application, entry["username"], entry["database_name"])
    world.declare(json.dumps({"environment": "dev", "application_databases": ENTRIES}))
    assert world.apply()["status"] == "applied"
    assert databases(world) == [["shop", "shop_app"]]


# --- the modes and the gate -------------------------------------------------------------------------------------------


def test_the_three_modes_see_one_plan_and_only_an_apply_changes_anything(world: World) -> None:
    world.declare_entries(ENTRIES)
    planned, drifted = world.dry_run(), world.drift()
    assert (planned["status"], drifted["status"]) == ("planned", "drifted")
    assert databases(world) == []
    applied = world.apply()
    assert planned["plan_digest"] == drifted["plan_digest"] == applied["plan_digest"]
    assert planned["plan_text"] == drifted["plan_text"] == applied["plan_text"]
    assert (world.dry_run()["status"], world.drift()["status"]) == ("no_change", "in_sync")


def test_a_gated_environment_is_changed_by_the_approved_plan_and_by_no_other(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin(), "staging") as world:
        world.declare_entries(ENTRIES)
        digest = world.dry_run()["plan_digest"]
        with pytest.raises(ApprovalRequired, match=digest):
            world.apply()
        approval = {"allow_db_provision": True, "approved_by": "alice", "plan_digest": digest}
        world.declare_entries({**ENTRIES, "blog": {"database_name": "blog", "username": "blog_app"}})
        with pytest.raises(PlanChanged):
            world.apply(approval=approval)
        assert databases(world) == []
        world.declare_entries(ENTRIES)
        assert world.apply(approval=approval)["status"] == "applied"
        assert {row["approved_by"] for row in trail(world) if row["status"] == "success"} == {"alice"}


def test_an_event_of_s3_applies_the_version_that_it_names(world: World) -> None:
    version = world.declare_entries(ENTRIES)
    answer = world.call(event_of_s3(version))
    assert (answer["status"], answer["mode"]) == ("applied", "apply")
    assert {row["snapshot_version"] for row in trail(world)} == {version}
    assert {row["requested_by"] for row in trail(world)} == {"eventbridge"}


def test_an_event_of_s3_that_comes_late_is_superseded(world: World) -> None:
    old = world.declare_entries({"blog": {"database_name": "blog", "username": "blog_app"}})
    world.declare_entries(ENTRIES)
    assert world.call(event_of_s3(old))["status"] == "superseded"
    assert databases(world) == []


# --- what is left behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dry_run", "drift"])
def test_a_look_is_one_row_of_the_trail_and_has_all_its_rows_in_its_own_file(world: World, mode: str) -> None:
    world.declare_entries({"shop": {"database_name": "shop", "username": "shop_user"}})
    answer = world.call(mode=mode, run_id="look")
    (row,) = trail(world)
    assert (row["action"], row["status"], row["run_id"]) == (mode, "dry_run", "look")
    assert row["message"] == answer["plan_text"].splitlines()[-1]
    assert row["plan_digest"] == answer["plan_digest"]
    run = world.aws.read_object(AUDIT, answer["audit"]["run"].removeprefix(f"s3://{AUDIT}/")).decode()
    assert run.count(",dry_run,") == len(answer["changes"])


def test_a_look_that_is_refused_leaves_a_row_for_each_refusal(world: World) -> None:
    world.declare_entries({"shop": {"database_name": "shop", "username": "shop_user"}})
    with pytest.raises(Exception, match="no-such"):
        world.dry_run(adopt=["no-such"])
    assert [(row["action"], row["status"]) for row in trail(world)] == [("refuse", "error")]


def test_the_audit_has_a_row_for_every_change_and_for_everything_that_needed_none(world: World) -> None:
    world.declare_entries({"shop": ENTRIES["shop"]})
    answer = world.apply(build_id="16-01-26-01", run_id="4711", requested_by="terraform")
    rows = trail(world)
    assert [(row["action"], row["database"], row["username"], row["status"]) for row in rows] == [
        ("create_role", "", "shop_app", "success"),
        ("create_database", "shop", "shop_app", "success"),
        ("grant", "shop", "rds_provisioner", "success"),
        ("revoke", "shop", "public", "success"),
    ]
    assert {(row["environment"], row["build_id"], row["run_id"], row["requested_by"]) for row in rows} == {
        ("dev", "16-01-26-01", "4711", "terraform")
    }
    assert {row["plan_digest"] for row in rows} == {answer["plan_digest"]}
    run = world.aws.read_object(AUDIT, answer["audit"]["run"].removeprefix(f"s3://{AUDIT}/"))
    assert run == world.aws.read_object(AUDIT, answer["audit"]["trail"].removeprefix(f"s3://{AUDIT}/"))
    world.apply()
    later = trail(world)[len(rows) :]
    assert [(row["action"], row["database"], row["username"], row["status"]) for row in later] == [
        ("database", "shop", "shop_app", "no_change"),
        ("password", "shop", "shop_app", "no_change"),
        ("privileges", "shop", "shop_app", "no_change"),
        ("role", "shop", "shop_app", "no_change"),
    ]


def test_the_plan_is_stored_with_its_statements_before_anything_is_changed(world: World) -> None:
    world.declare_entries({"shop": ENTRIES["shop"]})
    key = world.apply()["audit"]["plan"].removeprefix(f"s3://{AUDIT}/")
    stored = json.loads(world.aws.read_object(AUDIT, key))
    assert (
        stored["statements"]["databases"][0]["create"]
        == 'CREATE DATABASE "shop" OWNER "shop_app" TEMPLATE template0 ALLOW_CONNECTIONS false'
    )
    assert stored["statements"]["roles"][0] == "CREATE ROLE \"shop_app\" LOGIN PASSWORD '********'"
    assert world.aws.read_object(AUDIT, key.replace(".json", ".md")).startswith(b"### Plan: 3 to create")


def test_every_line_of_the_log_is_json_and_the_last_one_is_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.telemetry import logger

    world.declare_entries(ENTRIES)
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    answer = world.apply()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert lines[-1]["answer"] == answer
    assert len([line for line in lines if line["message"] == "outcome"]) == len(trail(world))
