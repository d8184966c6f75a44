"""AWS fails at each call of a run that changes something: no trail, no change; a change without a trail is told."""

import csv
from collections.abc import Iterator

import pytest

from stack.aws import ALWAYS, Aws
from stack.dump import dump
from stack.postgres import Server
from stack.world import AUDIT, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
TRAIL = "governance/dev/rds_provision_audit.csv"


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as made:
        made.declare_entries(SHOP)
        yield made


def unheard_of(world: World) -> set[tuple[str, str, str]]:
    """Database, user and action of the successes that the trail tells of the run whose trail was denied."""
    rows = csv.DictReader(world.aws.read_object(AUDIT, TRAIL).decode().splitlines())
    mine = [row for row in rows if (row["run_id"], row["status"]) == ("unheard", "success")]
    return {(row["database"], row["username"], row["action"]) for row in mine}


# Every call up to the first change, in order.
BEFORE_THE_FIRST_CHANGE = [
    ("s3:GetObject", "terraform.tfvars", "InvalidSnapshot"),
    ("secretsmanager:*", "", "SecretUnavailable"),
    ("s3:GetObject", "open_run.json", "AuditUnavailable"),
    ("s3:PutObject", ".json", "AuditUnavailable"),
    ("s3:PutObject", ".md", "AuditUnavailable"),
    ("s3:PutObject", "open_run.json", "AuditUnavailable"),
]


@pytest.mark.parametrize(("operation", "matching", "error"), BEFORE_THE_FIRST_CHANGE)
def test_denied_before_the_first_change_nothing_is_changed(
    world: World, operation: str, matching: str, error: str
) -> None:
    started = dump(world.server)
    world.aws.fail(operation, times=9, kind="access_denied", matching=matching)
    with pytest.raises(Exception, match="AccessDenied") as caught:
        world.apply()
    assert type(caught.value).__name__ == error
    assert dump(world.server) == started
    world.aws.heal()
    assert world.apply()["status"] == "applied"


@pytest.mark.parametrize("matching", ["/audit/governance/dev/runs/", TRAIL])
def test_a_change_whose_trail_is_denied_is_in_the_log_and_the_next_run_completes_the_trail(
    world: World, matching: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.aws.fail("s3:PutObject", times=9, kind="access_denied", matching=matching)
    with pytest.raises(Exception, match="the audit cannot be written: AccessDenied") as caught:
        world.apply(run_id="unheard")
    assert type(caught.value).__name__ == "AuditUnavailable"
    logged = [vars(record)["row"] for record in caplog.records if record.message == "audit_row_not_stored"]
    assert {"create_role", "create_database"} <= {row["action"] for row in logged}
    world.aws.heal()
    assert world.apply(run_id="next")["status"] == "no_change"
    told = unheard_of(world)
    assert told >= {
        ("", "shop_user", "create_role"),
        ("shop", "shop_user", "create_database"),
        ("shop", "public", "revoke"),
        ("shop", "rds_provisioner", "grant"),
    }
    trail = world.aws.read_object(AUDIT, TRAIL).decode()
    assert world.apply(run_id="third")["status"] == "no_change"
    assert world.aws.read_object(AUDIT, TRAIL).decode().count(",unheard,") == trail.count(",unheard,")


def test_the_note_that_cannot_be_taken_away_costs_nothing(world: World) -> None:
    world.aws.fail("s3:PutObject", times=9, kind="access_denied", after=1, matching="open_run.json")
    assert world.apply()["status"] == "applied"
    world.aws.heal()
    before = world.aws.read_object(AUDIT, TRAIL).decode().count(",success,")
    assert world.apply()["status"] == "no_change"
    assert world.aws.read_object(AUDIT, TRAIL).decode().count(",success,") == before


@pytest.mark.parametrize("kind", ["server_error", "throttling", "drop", "lost_answer"])
def test_a_passing_failure_of_each_kind_of_call_is_not_noticed(world: World, kind: str) -> None:
    for operation in ("s3:GetObject", "secretsmanager:BatchGetSecretValue", "s3:PutObject"):
        world.aws.fail(operation, kind=kind)  # type: ignore[arg-type]
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_a_retry_budget_that_is_spent_ends_in_a_clear_error(world: World) -> None:
    calls = len(world.aws.calls())
    world.aws.fail("s3:GetObject", times=99, kind="drop", matching="terraform.tfvars")
    with pytest.raises(Exception, match="check the way to the service") as caught:
        world.apply()
    assert type(caught.value).__name__ == "InvalidSnapshot"
    tries = [
        call for call in world.aws.calls()[calls:] if str(call.parameters.get("Key", "")).endswith("terraform.tfvars")
    ]
    assert len(tries) == 5


@pytest.mark.parametrize(("operation", "matching", "error"), BEFORE_THE_FIRST_CHANGE)
def test_a_budget_that_is_spent_at_any_call_before_the_first_change_changes_nothing(
    world: World, operation: str, matching: str, error: str
) -> None:
    started = dump(world.server)
    world.aws.fail(operation, times=ALWAYS, kind="server_error", matching=matching)
    with pytest.raises(Exception, match="try again") as caught:
        world.apply()
    assert type(caught.value).__name__ == error
    assert dump(world.server) == started
