"""Who may change what: the gate lets through, answers, or refuses with the next step."""

import json
from dataclasses import replace

import pytest

from provisioner.core.errors import ApprovalRequired, PlanChanged
from provisioner.core.gate import Decision, decide
from provisioner.core.model import Approval, Mode, Request, RunStatus, Settings, Trigger
from provisioner.core.request import parse_request
from provisioner.settings import read_settings

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
APPROVED = Approval(allow_db_provision=True, approved_by="alice")


def settings_of(environment: str, **more: str) -> Settings:
    buckets = {"SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit"}
    return read_settings({"ENVIRONMENT": environment, **buckets, **more})


def ask(
    environment: str, *, has_changes: bool = True, settings: Settings | None = None, **fields: object
) -> Decision | RunStatus:
    settings = settings or settings_of(environment)
    request: Request = replace(parse_request({"environment": environment}, settings), **fields)  # type: ignore[arg-type]
    return decide(request, settings, DIGEST, has_changes=has_changes)


def test_an_ungated_apply_proceeds() -> None:
    assert ask("dev") is Decision.PROCEED


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_a_plan_without_changes_needs_no_approval(environment: str) -> None:
    assert ask(environment, has_changes=False) is RunStatus.NO_CHANGE


def test_a_plan_without_changes_is_none_also_where_another_one_was_approved() -> None:
    approval = replace(APPROVED, plan_digest=OTHER_DIGEST)
    assert ask("prod", has_changes=False, approval=approval) is RunStatus.NO_CHANGE


@pytest.mark.parametrize(
    ("mode", "has_changes", "decision"),
    [
        (Mode.DRY_RUN, True, RunStatus.PLANNED),
        (Mode.DRY_RUN, False, RunStatus.NO_CHANGE),
        (Mode.DRIFT, True, RunStatus.DRIFTED),
        (Mode.DRIFT, False, RunStatus.IN_SYNC),
    ],
)
@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_what_only_looks_needs_no_approval(
    environment: str,
    mode: Mode,
    has_changes: bool,  # noqa: FBT001
    decision: RunStatus,
) -> None:
    assert ask(environment, mode=mode, has_changes=has_changes) is decision


def test_a_dry_run_stops_although_it_carries_the_whole_approval() -> None:
    assert ask("prod", mode=Mode.DRY_RUN, approval=replace(APPROVED, plan_digest=DIGEST)) is RunStatus.PLANNED


def test_a_gated_apply_with_approval_proceeds() -> None:
    assert ask("staging", approval=APPROVED) is Decision.PROCEED


@pytest.mark.parametrize(
    ("approval", "missing"),
    [
        (Approval(), "approval.allow_db_provision, approval.approved_by"),
        (Approval(allow_db_provision=True), "approval.approved_by"),
        (Approval(allow_db_provision=True, approved_by="  "), "approval.approved_by"),
        (Approval(approved_by="alice"), "approval.allow_db_provision"),
        (Approval(plan_digest=DIGEST), "approval.allow_db_provision, approval.approved_by"),
    ],
)
def test_a_gated_apply_without_its_approval_is_refused_with_what_it_lacks(approval: Approval, missing: str) -> None:
    with pytest.raises(ApprovalRequired) as error:
        ask("staging", approval=approval)
    assert f"lacks {missing};" in str(error.value)


@pytest.mark.parametrize("approval", [Approval(), APPROVED, replace(APPROVED, plan_digest=DIGEST)])
@pytest.mark.parametrize("trigger", [Trigger.DIRECT, Trigger.APPROVAL_EVENT])
def test_where_the_digest_is_required_an_object_decides_whatever_the_event_says(
    approval: Approval, trigger: Trigger
) -> None:
    assert ask("prod", approval=approval, trigger=trigger) is Decision.BY_APPROVAL


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_another_digest_than_the_approved_one_is_refused_where_the_event_approves(environment: str) -> None:
    with pytest.raises(PlanChanged) as error:
        ask(environment, approval=replace(APPROVED, plan_digest=OTHER_DIGEST))
    assert DIGEST in str(error.value)
    assert OTHER_DIGEST in str(error.value)


@pytest.mark.parametrize("approval", [Approval(), replace(APPROVED, plan_digest=OTHER_DIGEST)])
def test_the_refusal_holds_the_field_to_send(approval: Approval) -> None:
    with pytest.raises((ApprovalRequired, PlanChanged)) as error:
        ask("staging", approval=approval)
    field = error.value.findings[0].next_step.partition("call again with ")[2]
    assert json.loads("{" + field + "}") == {
        "approval": {"allow_db_provision": True, "approved_by": "<who approves>", "plan_digest": DIGEST}
    }


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_an_s3_event_in_a_gated_environment_is_answered_and_not_refused(environment: str) -> None:
    assert ask(environment, trigger=Trigger.SNAPSHOT_EVENT) is RunStatus.APPROVAL_REQUIRED


def test_an_s3_event_in_an_ungated_environment_proceeds() -> None:
    assert ask("dev", trigger=Trigger.SNAPSHOT_EVENT) is Decision.PROCEED


def test_the_environment_is_the_functions_own_whatever_the_request_says() -> None:
    request = replace(parse_request({"environment": "prod"}, settings_of("prod")), environment="dev")
    assert decide(request, settings_of("prod"), DIGEST, has_changes=True) is Decision.BY_APPROVAL


def test_in_an_environment_that_both_settings_name_an_object_decides() -> None:
    settings = settings_of("prod", UNGATED_ENVIRONMENTS="dev,prod")
    assert ask("prod", settings=settings) is Decision.BY_APPROVAL
    assert ask("prod", settings=settings, trigger=Trigger.SNAPSHOT_EVENT) is RunStatus.APPROVAL_REQUIRED


def test_with_no_ungated_environment_dev_is_gated_too() -> None:
    with pytest.raises(ApprovalRequired):
        ask("dev", settings=settings_of("dev", UNGATED_ENVIRONMENTS=""))
