"""What `history` makes of the audit trail."""

import json
from dataclasses import replace

import pytest

from provisioner.core.audit import AuditRow, render_csv
from provisioner.core.model import Status
from rds_provisioner_cli import history
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Stopped
from rds_provisioner_cli.target import Given
from stack.aws import Aws

FOLDER = "governance/dev"
ROW = AuditRow(
    timestamp_utc="2026-11-27T08:00:01.000Z",
    environment="dev",
    build_id="",
    run_id="",
    database="keycloak",
    username="analytics_reader",
    action="revoke",
    status=Status.SUCCESS,
    duration_ms=3,
    message="INSERT on 1 table",
    requested_by="carol",
    approved_by="",
    snapshot_version="v1",
    plan_digest="sha256:a",
)


@pytest.fixture
def trail(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An AWS with an empty audit bucket, which the command finds."""
    aws.create_bucket("audit")
    for name, value in {**aws.environment(), "AUDIT_BUCKET": "audit"}.items():
        monkeypatch.setenv(name, value)
    return aws


def put(aws: Aws, name: str, *rows: AuditRow) -> None:
    body = render_csv(rows, header=True)
    aws.client("s3").put_object(Bucket="audit", Key=f"{FOLDER}/{name}.csv", Body=body)


def tell(*, role: str = "", database: str = "", as_json: bool = False) -> None:
    history.tell(Given("dev"), Screen(is_json=as_json), role=role, database=database, as_json=as_json)


def test_two_runs_that_did_the_same_are_told_each_with_its_time(trail: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    put(trail, "rds_provision_audit", ROW, replace(ROW, timestamp_utc="2026-11-27T19:30:00.000Z"))
    tell()
    said = capsys.readouterr().out
    assert "08:00:01 + success  revoke" in said
    assert "19:30:00 + success  revoke" in said
    assert said.startswith("2026-11-27  asked by carol  snapshot v1\n")


def test_days_archives_and_what_changed_nothing(trail: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    before = replace(ROW, timestamp_utc="2025-01-01T10:00:00.000Z", message="long ago")
    put(trail, "archive/rds_provision_audit-2025", before)
    put(trail, "rds_provision_audit", ROW, replace(ROW, status=Status.NO_CHANGE, action="grant"))
    tell()
    captured = capsys.readouterr()
    assert captured.out.index("long ago") < captured.out.index("2026-11-27  asked")
    assert "grant" not in captured.out
    assert "2 of 3 rows" in captured.err


def test_json_has_the_rows_that_are_asked_for(trail: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    put(trail, "rds_provision_audit", ROW, replace(ROW, username="other"), replace(ROW, database="other"))
    tell(role="analytics_reader", database="keycloak", as_json=True)
    assert [row["message"] for row in json.loads(capsys.readouterr().out)] == ["INSERT on 1 table"]


@pytest.mark.usefixtures("trail")
def test_where_nothing_ran_yet_that_is_said() -> None:
    with pytest.raises(Stopped, match="no run of this environment was written down there yet"):
        tell()
