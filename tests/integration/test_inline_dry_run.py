"""A dry run that brings the file's text itself: a pull request sees its plan before anything is put anywhere."""

import csv
import io
import json

import pytest

from provisioner.core.errors import ApprovalRequired, InvalidRequest, InvalidSnapshot
from provisioner.core.snapshot import MAX_BYTES
from stack.aws import Aws
from stack.postgres import Server
from stack.world import AUDIT, SNAPSHOTS, World, render_tfvars

ENTRIES = {"keycloak": {"database_name": "keycloak", "username": "keycloak_user"}}
TEXT = render_tfvars("prod", ENTRIES) + 'some_token = "not-to-be-seen"\n'


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> World:
    world = World(latest_server, aws, latest_server.create_delegated_admin(), "prod").__enter__()
    world.put_secret("keycloak", "keycloak_user", "keycloak")
    return world


def test_a_text_is_planned_with_no_snapshot_in_the_bucket_and_none_is_made(world: World) -> None:
    answer = world.dry_run(tfvars={"inline": TEXT})
    assert answer["status"] == "planned"
    assert "+ create_database    keycloak_user" in answer["plan_text"]
    assert world.aws.list_keys(SNAPSHOTS) == []
    assert world.server.run_as_superuser("SELECT 1 FROM pg_roles WHERE rolname = 'keycloak_user'") == []


def test_its_stored_plan_and_its_rows_claim_no_version(world: World) -> None:
    answer = world.dry_run(tfvars={"inline": TEXT})
    plan = json.loads(world.aws.read_object(AUDIT, answer["audit"]["plan"].removeprefix(f"s3://{AUDIT}/")))
    assert plan["snapshot_version"] == ""
    run = world.aws.read_object(AUDIT, answer["audit"]["run"].removeprefix(f"s3://{AUDIT}/")).decode()
    assert {row["snapshot_version"] for row in csv.DictReader(io.StringIO(run))} == {""}


def test_a_text_that_is_too_long_is_refused_as_a_file_would_be(world: World) -> None:
    with pytest.raises(InvalidSnapshot, match=r"^mine\.tfvars: the file has 1048577 bytes"):
        world.dry_run(tfvars={"inline": "#" * (MAX_BYTES + 1), "name": "mine.tfvars"})


def test_its_digest_approves_the_same_content_once_that_is_the_snapshot(world: World) -> None:
    digest = world.dry_run(tfvars={"inline": TEXT})["plan_digest"]
    with pytest.raises(InvalidSnapshot):
        world.apply(approval={"plan_digest": digest})
    world.declare(TEXT)
    with pytest.raises(ApprovalRequired):
        world.apply()
    world.approve(digest)
    assert world.apply(approval={"plan_digest": digest})["status"] == "applied"


def test_it_is_json_where_its_name_says_so_and_its_problems_begin_with_that_name(world: World) -> None:
    text = '{"application_databases": {"a": {"database_name": "a", "user": "b"}}}'
    with pytest.raises(InvalidSnapshot, match=r"^2 problems:\n1\. envs/prod/mine\.tfvars\.json"):
        world.dry_run(tfvars={"inline": text, "name": "envs/prod/mine.tfvars.json"})


def test_nothing_else_takes_it(world: World) -> None:
    for call in (world.apply, world.drift):
        with pytest.raises(InvalidRequest, match="planned and nothing else"):
            call(tfvars={"inline": TEXT})


def test_the_rest_of_the_text_is_written_nowhere(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.dry_run(tfvars={"inline": TEXT})
    with pytest.raises(InvalidSnapshot):
        world.dry_run(tfvars={"inline": TEXT + "}"})
    kept = [world.aws.read_object(AUDIT, key).decode() for key in world.aws.list_keys(AUDIT)]
    assert kept
    for text in (*kept, "".join(capfd.readouterr())):
        assert "not-to-be-seen" not in text
