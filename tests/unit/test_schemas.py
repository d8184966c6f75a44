"""The schemas in docs/schemas say what the code says, both ways: what one takes the other takes, and nothing else."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from provisioner.core import entry
from provisioner.core.access_levels import AccessLevel
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding, InvalidRequest, InvalidSnapshot, ProvisioningError
from provisioner.core.excerpt import MAX_CHANGES, MAX_FINDINGS
from provisioner.core.model import Mode, RunStatus, Status
from provisioner.core.plan import Plan
from provisioner.core.preflight import MAX_CHECKS, Check, CheckStatus, ok
from provisioner.core.report import AuditLocations, RunResult, build_response
from provisioner.core.request import parse_request
from provisioner.core.snapshot import parse_snapshot
from provisioner.settings import read_settings
from stack.binaries import ROOT

SETTINGS = read_settings({"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-governance"})
DIGEST = "sha256:" + "0" * 64
DIRECT: dict[str, Any] = {
    "environment": "dev",
    "mode": "apply",
    "tfvars": {"bucket": "acme-tfvars", "key": "dev/terraform.tfvars", "version_id": "v"},
    "build_id": "b",
    "run_id": "r",
    "requested_by": "terraform",
    "approval": {"allow_db_provision": True, "approved_by": "alice", "plan_digest": DIGEST},
    "fail_fast": False,
    "adopt": ["keycloak"],
    "quarantine": ["old_user"],
    "retire": ["older_user"],
}
ENTRY: dict[str, Any] = {
    "database_name": "keycloak",
    "username": "keycloak_user",
    "access_level": "owner",
    "secret_name": "goldenpath/dev/keycloak/postgres",
    "createdb": True,
    "connection_limit": 5,
    "extensions": ["citext"],
}
READER = {"database_name": "keycloak", "username": "reader", "access_level": "reader"}
# What is put in the place of every value. Of texts only those that no rule about places or environments refuses.
ODD_VALUES: list[Any] = [None, True, False, 0, 1, -1, 1.5, 2**40, "", [], {}, "x" * 2000, "a\nb", "\x7f"]
ODD_VALUES += [
    "apply",
    "drift",
    "access",
    "preflight",
    "sha256:abc",
    ["keycloak"],
    [""],
    [1],
    ["a", "a"],
    "pg_x",
    "postgres",
    "Upper",
    "a-b_1",
]
ODD_VALUES += [
    "0a",
    "reader",
    "owner",
    "dev",
    "${x}",
    [None],
    {"a": 1},
    "1",
    "false",
    2147483647,
    5.0,
    "a b",
    ["UPPER"],
]


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / f"docs/schemas/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def variants(value: Any) -> Iterator[Any]:
    """The value, without each of its parts, with one too many everywhere, and with odd values in all places."""
    yield value
    if not isinstance(value, dict):
        yield from copy.deepcopy(ODD_VALUES)
        return
    yield {**value, "unknown": 1}
    for name in value:
        yield {key: each for key, each in value.items() if key != name}
        for other in variants(value[name]):
            yield {**value, name: other}
        for odd in copy.deepcopy(ODD_VALUES):
            yield {**value, name: odd}


def accepts_event(event: Any) -> bool:
    try:
        parse_request(event, SETTINGS)
    except InvalidRequest:
        return False
    return True


def accepts_file(content: Any) -> bool:
    try:
        parse_snapshot(json.dumps(content).encode(), "terraform.tfvars.json", environment="")
    except InvalidSnapshot:
        return False
    return True


def is_about_places(event: Any) -> bool:
    """Whether an event names another environment, bucket or key, which only the function's settings can tell."""
    fields = event if isinstance(event, dict) else {}
    tfvars = fields.get("tfvars", {})
    places = {"bucket": "acme-tfvars", "key": "dev/terraform.tfvars"}
    is_elsewhere = isinstance(tfvars, dict) and any(
        isinstance(tfvars.get(name, place), str) and tfvars.get(name, place) != place for name, place in places.items()
    )
    return is_elsewhere or (isinstance(fields.get("environment"), str) and fields["environment"] != "dev")


def test_an_event_is_taken_by_the_schema_if_the_function_takes_it() -> None:
    schema = validator("event")
    inline = {"environment": "dev", "mode": "dry_run", "tfvars": {"inline": "", "name": "a.tfvars"}}
    events = [event for base in (DIRECT, inline) for event in variants(base) if not is_about_places(event)]
    told = [(schema.is_valid(event), accepts_event(event)) for event in events]
    wrong = [event for event, (ours, theirs) in zip(events, told, strict=True) if ours != theirs]
    assert wrong == []
    assert {(True, True), (False, False)} == set(told)


@pytest.mark.parametrize("path", sorted((ROOT / "events").glob("*.json")), ids=lambda path: path.name)
def test_every_event_of_the_repository_is_valid(path: Path) -> None:
    validator("event").validate(json.loads(path.read_text()))


def test_an_event_of_another_service_is_taken_by_neither() -> None:
    for file in ("s3-object-created", "secret-rotated"):
        event = json.loads((ROOT / f"events/{file}.json").read_text())
        for name, value in (("source", "aws.ec2"), ("detail-type", "Object Deleted"), ("detail", {})):
            other = {**event, name: value}
            assert (validator("event").is_valid(other), accepts_event(other)) == (False, False)


@pytest.mark.parametrize(
    "make",
    [
        lambda entry: {"application_databases": {"keycloak": entry}},
        lambda entry: {"application_databases": {"keycloak": {**ENTRY}, "reader": {**READER, **entry}}},
        lambda entry: {"rds_config": {"enabled": True, "application_databases": {"keycloak": entry}}, "x": [1]},
    ],
    ids=["standalone", "reader", "coupled"],
)
def test_a_file_is_taken_by_the_schema_if_the_function_takes_it(make: Any) -> None:
    schema = validator("tfvars")
    base = make({} if "reader" in make({}).get("application_databases", {}) else ENTRY)
    # Entries that belong together may not be told apart by one field: what holds for both is not the schema's.
    contents = [content for content in variants(base) if isinstance(content, dict)]
    told = [(schema.is_valid(content), accepts_file(content)) for content in contents]
    wrong = [content for content, (ours, theirs) in zip(contents, told, strict=True) if ours != theirs]
    assert [each for each in wrong if not is_about_two(each)] == []
    assert {(True, True), (False, False)} <= set(told)


def is_about_two(content: dict[str, Any]) -> bool:
    """Whether a file is refused for what two of its entries are together."""
    entries = content.get("application_databases")
    if not isinstance(entries, dict) or len(entries) < 2:
        return False
    return all(accepts_file({"application_databases": {name: entry}}) for name, entry in entries.items())


def test_the_schema_of_tfvars_has_the_attributes_and_levels_of_the_code() -> None:
    properties = validator("tfvars").schema["$defs"]["entry"]["properties"]
    assert set(properties) == set(entry._ATTRIBUTES)
    assert set(properties["access_level"]["enum"]) == {*AccessLevel, None}
    assert set(properties["username"]["not"]["enum"]) == entry.RESERVED_NAMES
    assert properties["connection_limit"]["maximum"] == entry.MAX_CONNECTION_LIMIT


def test_the_schema_of_the_answer_has_the_words_of_the_code() -> None:
    parts = validator("answer").schema["$defs"]
    fields = parts["answer"]["properties"]
    assert set(fields["status"]["enum"]) == set(RunStatus)
    assert set(parts["check"]["properties"]) == {field.name for field in dataclasses.fields(Check)}
    assert set(parts["check"]["properties"]["status"]["enum"]) == set(CheckStatus)
    assert fields["checks"]["maxItems"] == MAX_CHECKS + 1
    assert set(fields["mode"]["enum"]) == set(Mode)
    assert set(parts["change"]["properties"]["status"]["enum"]) == set(Status)
    assert set(parts["failure"]["properties"]["errorType"]["enum"]) == {
        kind.__name__ for kind in ProvisioningError.__subclasses__()
    }
    assert set(parts["finding"]["properties"]) == {field.name for field in dataclasses.fields(Finding)}
    assert set(fields["audit"]["properties"]) == {field.name for field in dataclasses.fields(AuditLocations)}
    assert (fields["changes"]["maxItems"], fields["blockers"]["maxItems"]) == (MAX_CHANGES, MAX_FINDINGS)


def test_an_answer_is_valid_and_none_of_its_fields_can_be_left_out() -> None:
    change, finding = Change(ChangeKind.SET_PASSWORD, database="", username="keycloak_user"), Finding("code", "message")
    plan = Plan("dev", changes=(change,), blockers=(finding,), warnings=(finding,))
    answer = build_response(
        parse_request(DIRECT, SETTINGS),
        RunResult(RunStatus.PLANNED, plan, changes=[(change, Status.DRY_RUN)]),
        AuditLocations(),
    )
    schema = validator("answer")
    schema.validate(answer)
    assert not schema.is_valid({**answer, "unknown": 1})
    for name in answer:
        assert not schema.is_valid({key: value for key, value in answer.items() if key != name})


def test_preflight_answers_with_checks_and_nobody_else_does() -> None:
    schema = validator("answer")
    request = parse_request({"environment": "dev", "mode": "preflight"}, SETTINGS)
    checks = [ok("dns", "found")]
    answer = build_response(request, RunResult(RunStatus.READY, Plan("dev"), checks=checks), AuditLocations())
    schema.validate(answer)
    assert not schema.is_valid({**answer, "mode": "drift"})
    assert not schema.is_valid({key: value for key, value in answer.items() if key != "checks"})


def test_the_editor_is_told_where_the_schemas_hold_and_the_page_shows_how() -> None:
    settings = (ROOT / ".vscode/settings.json").read_text()
    assert settings in (ROOT / "docs/schemas/README.md").read_text()
    for mapping in json.loads(settings)["json.schemas"]:
        assert (ROOT / mapping["url"]).is_file()
