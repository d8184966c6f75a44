"""Each file in events/ is understood by the parser, as what its name says."""

import json
from typing import Any

import pytest

from integration.infra.deployed_template import REPOSITORY, deploy
from provisioner.core.model import Approval, Mode, Trigger
from provisioner.core.request import parse_request
from provisioner.core.snapshot import parse_snapshot
from provisioner.settings import read_settings

EVENTS = REPOSITORY / "events"
EXPECTED = {
    "apply-dev": (Mode.APPLY, Trigger.DIRECT),
    "apply-prod-approved": (Mode.APPLY, Trigger.DIRECT),
    "dry-run": (Mode.DRY_RUN, Trigger.DIRECT),
    "dry-run-inline": (Mode.DRY_RUN, Trigger.DIRECT),
    "access-schedule": (Mode.ACCESS, Trigger.DIRECT),
    "drift-schedule": (Mode.DRIFT, Trigger.DIRECT),
    "s3-object-created": (Mode.APPLY, Trigger.SNAPSHOT_EVENT),
    "s3-approval-created": (Mode.APPLY, Trigger.APPROVAL_EVENT),
    "secret-rotated": (Mode.APPLY, Trigger.SECRET_EVENT),
    "break-glass": (Mode.APPLY, Trigger.DIRECT),
    "adopt": (Mode.APPLY, Trigger.DIRECT),
}


def read_event(name: str) -> dict[str, Any]:
    return json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))


def parse(name: str) -> Any:
    event = read_event(name)
    environment = event.get("environment", "prod" if "approval" in name else "dev")
    return parse_request(event, read_settings(deploy(Environment=environment).function_environment()))


def test_there_is_no_event_that_no_test_knows() -> None:
    assert {file.stem for file in EVENTS.glob("*.json")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_event_is_understood_as_what_its_name_says(name: str) -> None:
    request = parse(name)
    assert (request.mode, request.trigger) == EXPECTED[name]


def test_the_s3_event_pins_the_version_that_was_put() -> None:
    assert parse("s3-object-created").snapshot.version_id == "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"


def test_the_calls_for_prod_name_the_approved_plan_and_say_nothing_else_of_an_approval() -> None:
    for name in ("apply-prod-approved", "break-glass", "s3-approval-created"):
        assert parse(name).approval == Approval(plan_digest=parse("break-glass").approval.plan_digest)


def test_the_break_glass_call_goes_on_past_the_first_failure() -> None:
    assert parse("break-glass").fail_fast is False


def test_the_adopting_call_names_the_applications() -> None:
    assert parse("adopt").adopt == ("keycloak", "backstage")


def test_the_schedule_of_the_template_sends_the_event_of_the_file() -> None:
    schedule = deploy().properties("ProvisionerFunctionDriftCheck")
    assert json.loads(schedule["Target"]["Input"]) == read_event("drift-schedule")


def test_the_text_that_a_dry_run_brings_declares_something() -> None:
    snapshot = parse("dry-run-inline").snapshot
    declaration, _ = parse_snapshot(snapshot.inline, snapshot.key, environment="dev")
    assert [entry.database for entry in declaration.entries] == ["keycloak"]
