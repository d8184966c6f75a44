"""Events become requests, or every problem in them is named at once."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import InvalidRequest
from provisioner.core.model import Approval, Mode, Request, Settings, SnapshotReference, Trigger
from provisioner.core.request import parse_request
from provisioner.settings import read_settings

EVENTS = Path(__file__).resolve().parents[3] / "events"


def settings_of(environment: str, **more: str) -> Settings:
    buckets = {"SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-governance"}
    return read_settings({"ENVIRONMENT": environment, **buckets, **more})


DEV = settings_of("dev")


def refused(event: object, settings: Settings = DEV) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        parse_request(event, settings)
    assert all(finding.next_step for finding in error.value.findings)
    return sorted(finding.where for finding in error.value.findings)


def s3_event(**changes: Any) -> dict[str, Any]:
    event = json.loads((EVENTS / "s3-object-created.json").read_text())
    event["detail"]["object"].update(changes.pop("object", {}))
    event["detail"]["bucket"].update(changes.pop("bucket", {}))
    return {**event, **changes}


def test_the_environment_alone_is_an_apply_of_the_newest_configured_snapshot() -> None:
    assert parse_request({"environment": "dev"}, DEV) == Request(
        environment="dev",
        mode=Mode.APPLY,
        trigger=Trigger.DIRECT,
        snapshot=SnapshotReference("acme-tfvars", "dev/terraform.tfvars", ""),
        build_id="",
        run_id="",
        requested_by="",
        approval=Approval(allow_db_provision=False, approved_by="", plan_digest=""),
        fail_fast=False,
        adopt=(),
    )


def test_every_field_of_a_direct_event_is_taken() -> None:
    digest = "sha256:" + "0a" * 32
    event = {
        "environment": "dev",
        "mode": "dry_run",
        "tfvars": {"bucket": "acme-tfvars", "key": "dev/terraform.tfvars", "version_id": "3HL4kqtJ"},
        "build_id": "16-01-26-01",
        "run_id": "12345678",
        "requested_by": "terraform",
        "approval": {"allow_db_provision": True, "approved_by": "alice", "plan_digest": digest},
        "fail_fast": True,
        "adopt": ["keycloak", "backstage", "keycloak"],
    }
    assert parse_request(event, DEV) == Request(
        environment="dev",
        mode=Mode.DRY_RUN,
        trigger=Trigger.DIRECT,
        snapshot=SnapshotReference("acme-tfvars", "dev/terraform.tfvars", "3HL4kqtJ"),
        build_id="16-01-26-01",
        run_id="12345678",
        requested_by="terraform",
        approval=Approval(allow_db_provision=True, approved_by="alice", plan_digest=digest),
        fail_fast=True,
        adopt=("keycloak", "backstage"),
    )


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_sample_event_is_understood_by_the_function_that_it_is_for(path: Path) -> None:
    event = json.loads(path.read_text())
    environment = event.get("environment", "prod" if "approval" in path.stem else "dev")
    assert parse_request(event, settings_of(environment)).environment == environment


def test_the_schedule_asks_for_drift() -> None:
    request = parse_request(json.loads((EVENTS / "drift-schedule.json").read_text()), DEV)
    assert (request.mode, request.requested_by) == (Mode.DRIFT, "schedule")


def test_an_s3_event_is_an_apply_of_exactly_its_version() -> None:
    request = parse_request(s3_event(), DEV)
    assert request == Request(
        environment="dev",
        mode=Mode.APPLY,
        trigger=Trigger.SNAPSHOT_EVENT,
        snapshot=SnapshotReference("acme-tfvars", "dev/terraform.tfvars", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"),
        build_id="17793124-05d4-b198-2fde-7ededc63b103",
        run_id="17793124-05d4-b198-2fde-7ededc63b103",
        requested_by="eventbridge",
    )


def test_an_s3_event_takes_the_environment_of_the_function_and_carries_no_approval() -> None:
    event = s3_event(object={"key": "prod/terraform.tfvars"}, environment="dev", approval={"allow_db_provision": True})
    request = parse_request(event, settings_of("prod"))
    assert (request.environment, request.approval) == ("prod", Approval())


def test_fields_that_aws_adds_to_its_event_are_no_mistake() -> None:
    assert parse_request(s3_event(object={"storage-class": "STANDARD"}, replay="1"), DEV).run_id


@pytest.mark.parametrize(
    ("event", "where"),
    [
        (s3_event(bucket={"name": "other-tfvars"}), ["detail.bucket.name"]),
        (s3_event(object={"key": "prod/terraform.tfvars"}), ["detail.object.key"]),
        (s3_event(object={"key": "dev/another.tfvars"}), ["detail.object.key"]),
        (s3_event(object={"version-id": 7}), ["detail.object.version-id"]),
        (s3_event(source="aws.ec2"), ["detail-type"]),
        (s3_event(**{"detail-type": "Object Deleted"}), ["detail-type"]),
        (s3_event(detail="x"), ["detail", "detail.bucket.name", "detail.object.key"]),
        (s3_event(detail={"bucket": [], "object": {}}), ["detail.bucket", "detail.bucket.name", "detail.object.key"]),
    ],
)
def test_an_s3_event_for_anything_but_the_configured_snapshot_is_refused(event: object, where: list[str]) -> None:
    assert refused(event) == where


@pytest.mark.parametrize("event", [None, "dev", [], 7, [{"environment": "dev"}]])
def test_what_is_no_object_is_refused(event: object) -> None:
    assert refused(event) == ["event"]


@pytest.mark.parametrize("environment", ["prod", "DEV", " dev", "", None, 1, ["dev"], {"dev": 1}])
def test_another_environment_is_refused(environment: object) -> None:
    assert refused({"environment": environment}) == ["environment"]


def test_an_event_without_environment_is_refused() -> None:
    assert refused({}) == ["environment"]


def test_unknown_fields_are_named_with_their_place() -> None:
    event = {
        "environment": "dev",
        "dryrun": True,
        "Mode": "drift",
        "tfvars": {"version": "1"},
        "approval": {"approver": "alice"},
    }
    with pytest.raises(InvalidRequest) as error:
        parse_request(event, DEV)
    text = str(error.value)
    assert all(name in text for name in ("Mode, dryrun", "tfvars.version", "approval.approver"))


def test_a_thousand_unknown_fields_do_not_make_a_thousand_lines() -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_request({"environment": "dev"} | {f"x{number}": 1 for number in range(1000)}, DEV)
    assert len(str(error.value)) < 1000
    assert "and 990 more" in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "plan"),
        ("mode", "APPLY"),
        ("mode", None),
        ("mode", ["apply"]),
        ("tfvars", "dev/terraform.tfvars"),
        ("tfvars", None),
        ("build_id", 16),
        ("run_id", None),
        ("requested_by", "a" * 257),
        ("requested_by", "alice\nbob"),
        ("requested_by", "alice\u202ebob"),
        ("requested_by", "\ud800"),
        ("approval", True),
        ("fail_fast", "false"),
        ("fail_fast", 0),
        ("adopt", "keycloak"),
        ("adopt", ["a"] * 1001),
    ],
)
def test_a_field_of_the_wrong_type_or_shape_is_refused(field: str, value: object) -> None:
    assert refused({"environment": "dev", field: value}) == [field]


def test_each_wrong_item_of_a_list_is_refused_by_its_number() -> None:
    assert refused({"environment": "dev", "adopt": ["keycloak", 1, ""]}) == ["adopt[1]", "adopt[2]"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allow_db_provision", "true"),
        ("allow_db_provision", 1),
        ("approved_by", ["alice"]),
        ("plan_digest", "sha256:12"),
        ("plan_digest", "0a" * 32),
        ("plan_digest", "sha256:" + "0A" * 32),
    ],
)
def test_an_approval_of_the_wrong_type_or_shape_is_refused(field: str, value: object) -> None:
    assert refused({"environment": "dev", "approval": {field: value}}) == [f"approval.{field}"]


@pytest.mark.parametrize("field", ["quarantine", "retire"])
@pytest.mark.parametrize("mode", ["drift", "access", "preflight"])
def test_a_mode_that_only_looks_refuses_who_is_to_leave(mode: str, field: str) -> None:
    assert refused({"environment": "dev", "mode": mode, field: ["old_user"]}) == [field]


@pytest.mark.parametrize("mode", ["access", "preflight"])
def test_a_mode_that_makes_no_plan_refuses_what_is_to_be_adopted(mode: str) -> None:
    assert refused({"environment": "dev", "mode": mode, "adopt": ["keycloak"]}) == ["adopt"]


@pytest.mark.parametrize("mode", ["apply", "dry_run", "drift"])
def test_a_plan_may_name_what_is_to_be_adopted(mode: str) -> None:
    assert parse_request({"environment": "dev", "mode": mode, "adopt": ["keycloak"]}, DEV).adopt == ("keycloak",)


@pytest.mark.parametrize("mode", ["apply", "dry_run"])
def test_a_plan_may_name_who_is_to_leave(mode: str) -> None:
    event = {"environment": "dev", "mode": mode, "quarantine": ["old_user"], "retire": ["older_user"]}
    request = parse_request(event, DEV)
    assert (request.quarantine, request.retire) == (("old_user",), ("older_user",))


def test_all_problems_are_named_at_once() -> None:
    event = {
        "environment": "prod",
        "mode": "yolo",
        "tfvars": {"bucket": "evil", "key": "prod/terraform.tfvars", "version_id": 1},
        "approval": {"allow_db_provision": "yes"},
        "extra": 1,
    }
    assert refused(event) == [
        "approval.allow_db_provision",
        "environment",
        "extra",
        "mode",
        "tfvars.bucket",
        "tfvars.key",
        "tfvars.version_id",
    ]


def test_a_dry_run_may_bring_the_text_itself() -> None:
    tfvars = {"inline": "application_databases = {}\n", "name": "envs/dev/terraform.tfvars"}
    snapshot = parse_request({"environment": "dev", "mode": "dry_run", "tfvars": tfvars}, DEV).snapshot
    assert snapshot == SnapshotReference("", "envs/dev/terraform.tfvars", inline=b"application_databases = {}\n")
    del tfvars["name"]
    unnamed = parse_request({"environment": "dev", "mode": "dry_run", "tfvars": tfvars}, DEV).snapshot
    assert unnamed.key == "terraform.tfvars"


@pytest.mark.parametrize(
    ("mode", "tfvars", "problems"),
    [
        ("apply", {"inline": ""}, ["tfvars.inline"]),
        ("drift", {"inline": ""}, ["tfvars.inline"]),
        ("dry_run", {"inline": None}, ["tfvars.inline"]),
        ("dry_run", {"inline": "", "name": "a\nb"}, ["tfvars.name"]),
        ("dry_run", {"inline": "", "bucket": "acme-tfvars", "version_id": "1"}, ["tfvars.bucket"]),
        ("dry_run", {"name": "terraform.tfvars"}, ["tfvars.name"]),
    ],
)
def test_a_text_goes_with_a_dry_run_alone_and_with_no_place(
    mode: str, tfvars: dict[str, object], problems: list[str]
) -> None:
    assert refused({"environment": "dev", "mode": mode, "tfvars": tfvars}) == problems


def test_another_bucket_is_refused() -> None:
    assert refused({"environment": "dev", "tfvars": {"bucket": "acme-tfvars-2"}}) == ["tfvars.bucket"]


@pytest.mark.parametrize("key", ["dev/terraform.tfvars.json", "dev/pull-request-12.tfvars", "dev/team/a.tfvars"])
def test_another_snapshot_in_the_folder_of_the_environment_is_taken(key: str) -> None:
    assert parse_request({"environment": "dev", "tfvars": {"key": key}}, DEV).snapshot.key == key


@pytest.mark.parametrize(
    "key",
    ["prod/terraform.tfvars", "dev2/terraform.tfvars", "terraform.tfvars", "dev/main.tf", "dev/", "", "x/dev/a.tfvars"],
)
def test_a_key_outside_the_folder_of_the_environment_is_refused(key: str) -> None:
    assert refused({"environment": "dev", "tfvars": {"key": key}}) == ["tfvars.key"]


def test_the_folder_of_the_environment_may_lie_deeper() -> None:
    settings = settings_of("dev", SNAPSHOT_KEY="platform/{environment}/rds/terraform.tfvars")
    event = {"environment": "dev", "tfvars": {"key": "platform/dev/other.tfvars"}}
    assert parse_request(event, settings).snapshot.key == "platform/dev/other.tfvars"
    assert refused({"environment": "dev", "tfvars": {"key": "platform/prod/rds/a.tfvars"}}, settings) == ["tfvars.key"]


def test_where_environments_share_a_folder_only_the_configured_key_is_taken() -> None:
    settings = settings_of("dev", SNAPSHOT_KEY="shared/{environment}.tfvars")
    assert parse_request({"environment": "dev", "tfvars": {"key": "shared/dev.tfvars"}}, settings)
    assert refused({"environment": "dev", "tfvars": {"key": "shared/prod.tfvars"}}, settings) == ["tfvars.key"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["environment", "mode", "tfvars", "approval", "adopt", "fail_fast", "detail", "detail-type", "source", "id"]
)


@given(st.dictionaries(FIELDS | st.text(), JSON))
def test_whatever_the_event_is_it_is_understood_or_refused(event: dict[str, object]) -> None:
    try:
        request = parse_request(event, DEV)
    except InvalidRequest:
        return
    assert (request.environment, request.snapshot.bucket) == ("dev", "acme-tfvars")
