"""The audit bucket: immutable objects of each run, and a trail that loses no row and does not grow without end."""

import csv
import io
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.core.audit import COLUMNS, AuditRow, Provenance, build_rows, render_csv
from provisioner.core.errors import AuditUnavailable
from provisioner.core.model import Outcome, Status
from provisioner.edges.audit_store import AuditBucket
from provisioner.edges.aws import AwsClients
from stack.aws import ALWAYS, Aws

BUCKET = "acme-audit"
TRAIL = "governance/dev/rds_provision_audit.csv"
HEADER = ",".join(COLUMNS)
QUOTED = '"' + '","'.join(COLUMNS) + '"'
ROW = "2026-11-22T12:00:00.000Z,dev,b,before,keycloak,u,grant,success,0,m,,,,"
ROOT = Path(__file__).resolve().parents[2]


def rows(*run_ids: str) -> tuple[AuditRow, ...]:
    made: tuple[AuditRow, ...] = ()
    for run_id in run_ids:
        outcome = Outcome("grant", "keycloak", "keycloak_user", Status.SUCCESS, "2026-11-22T12:00:00.000Z")
        made += build_rows(Provenance("dev", run_id=run_id), [outcome])
    return made


def run_ids(content: bytes) -> list[str]:
    lines = list(csv.DictReader(io.StringIO(content.decode())))
    return [line["run_id"] for line in lines]


def archives(aws: Aws) -> list[bytes]:
    return [aws.read_object(BUCKET, key) for key in aws.list_keys(BUCKET, "governance/dev/archive/")]


@pytest.fixture
def bucket(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AuditBucket:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    aws.create_bucket(BUCKET)
    return AuditBucket(AwsClients(4), BUCKET, "governance/dev")


def store(bucket: AuditBucket, run_id: str) -> str:
    return bucket.put_if_absent("governance/dev/runs/a.csv", render_csv(rows(run_id), header=True))


def test_the_first_run_begins_the_trail_with_the_column_names(aws: Aws, bucket: AuditBucket) -> None:
    assert bucket.append(rows("1", "2")) == ()
    content = aws.read_object(BUCKET, TRAIL).decode()
    assert content.split("\n")[0] == HEADER
    assert run_ids(content.encode()) == ["1", "2"]


def test_later_runs_append_without_repeating_the_column_names(aws: Aws, bucket: AuditBucket) -> None:
    bucket.append(rows("1"))
    bucket.append(rows("2"))
    content = aws.read_object(BUCKET, TRAIL)
    assert run_ids(content) == ["1", "2"]
    assert content.count(HEADER.encode()) == 1


def test_no_rows_write_nothing(aws: Aws, bucket: AuditBucket) -> None:
    bucket.append(())
    assert aws.list_keys(BUCKET) == []


def test_a_full_trail_is_put_away_whole_and_a_new_one_begun(aws: Aws, bucket: AuditBucket) -> None:
    bucket.append(rows(*(str(number) for number in range(20))))
    full = aws.read_object(BUCKET, TRAIL)
    bucket.append(rows("next"), full_bytes=1000)
    assert archives(aws) == [full]
    assert run_ids(aws.read_object(BUCKET, TRAIL)) == ["next"]


def test_the_cost_of_a_run_does_not_grow_with_the_age_of_the_trail(aws: Aws, bucket: AuditBucket) -> None:
    sizes = []
    for number in range(60):
        bucket.append(rows(str(number)), full_bytes=1000)
        sizes.append(len(aws.read_object(BUCKET, TRAIL)))
    assert max(sizes) < 1000 + len(render_csv(rows("59"), header=False))
    every = [run_id for content in [*archives(aws), aws.read_object(BUCKET, TRAIL)] for run_id in run_ids(content)]
    assert sorted(every, key=int) == [str(number) for number in range(60)]


@pytest.mark.parametrize(
    "found",
    [
        "timestamp_utc,environment,build_id,run_id,database,username,action,status,duration_ms,message\n2026,dev\n",
        HEADER.replace(",", ";") + "\n",
        "\x00" * 5000,
        '"' * 200_000,
        "",
        f"{HEADER}\n{ROW}",
        f"\ufeff{HEADER}\r\n{ROW}\r\n",
        f"{QUOTED}\r\n{ROW}",
        f'{HEADER}\n{ROW}\n2026-11-22T12:00:00.000Z,dev,b,cut,keycloak,u,grant,success,0,"mes',
        f'{HEADER}\n{ROW}\n2026-11-22T12:00:00.000Z,dev,b,cut,keycloak,u,grant,success,0,"mes\n',
        f"{HEADER}\n{ROW}\n\x00\n",
        f"{HEADER}\n2026-11-22T12:00:00.000Z,dev,b\n{ROW}\n",
        f"{HEADER}\n{ROW}\r\n{ROW}\n",
        f'{HEADER}\n{ROW}\n{ROW.replace(",b,", ",b,", 1)[:-1]}"x" y\n',
        f"{HEADER}\n\n{ROW}\n",
    ],
    ids=[
        "first generation",
        "other separators",
        "zeros",
        "a huge field",
        "empty",
        "without a line end",
        "saved by a spreadsheet",
        "quoted",
        "cut inside of quotes",
        "a quote that nothing ends",
        "a zero behind it",
        "a line that was cut in the middle",
        "a line end of a spreadsheet in the middle",
        "quotes inside of a value",
        "a line with nothing in it",
    ],
)
def test_a_trail_that_is_not_ours_is_kept_beside_named_and_not_mixed_with(
    aws: Aws, bucket: AuditBucket, found: str
) -> None:
    aws.put_snapshot(BUCKET, TRAIL, found)
    (finding,) = bucket.append(rows("1"))
    assert archives(aws) == [found.encode()]
    assert aws.list_keys(BUCKET, "governance/dev/archive/")[0] in finding.message
    assert aws.read_object(BUCKET, TRAIL).decode() == render_csv(rows("1"), header=True)


def test_a_trail_too_large_to_be_read_is_put_away_without_reading_it(
    aws: Aws, bucket: AuditBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.edges.audit_store.MAX_BYTES", 1000)
    large = render_csv(rows(*(str(number) for number in range(50))), header=True)
    aws.put_snapshot(BUCKET, TRAIL, large)
    (finding,) = bucket.append(rows("1"))
    assert finding.code == "audit_unreadable"
    assert archives(aws) == [large.encode()]
    assert aws.read_object(BUCKET, TRAIL).decode() == render_csv(rows("1"), header=True)


@pytest.mark.parametrize("full_bytes", [1024 * 1024, 2000], ids=["one trail", "many archives"])
def test_writers_in_several_processes_lose_no_row_and_repeat_none(
    aws: Aws, bucket: AuditBucket, full_bytes: int
) -> None:
    del bucket
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "lambda"), **aws.environment()}
    writers = [
        subprocess.Popen(
            [sys.executable, ROOT / "tests/integration/aws_writers.py", BUCKET, name, "15", str(full_bytes)],
            env=environment,
        )
        for name in ("one", "two", "three")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    contents = [*archives(aws), aws.read_object(BUCKET, TRAIL)]
    lines = [line for content in contents for line in csv.DictReader(io.StringIO(content.decode()))]
    expected = {(name, str(number)) for name in ("one", "two", "three") for number in range(15)}
    assert Counter((line["build_id"], line["run_id"]) for line in lines) == dict.fromkeys(expected, 1)
    # That they did meet; otherwise this proves nothing.
    assert sum(call.operation == "PutObject" for call in aws.calls()) > 45


def test_a_write_whose_answer_was_lost_is_not_done_twice(aws: Aws, bucket: AuditBucket) -> None:
    bucket.append(rows("1"))
    aws.fail("s3:PutObject", kind="lost_answer")
    bucket.append(rows("2"))
    assert run_ids(aws.read_object(BUCKET, TRAIL)) == ["1", "2"]


def test_a_hiccup_of_s3_is_waited_for(aws: Aws, bucket: AuditBucket) -> None:
    aws.fail("s3:PutObject", times=2, kind="server_error")
    bucket.append(rows("1"))
    assert run_ids(aws.read_object(BUCKET, TRAIL)) == ["1"]


def test_a_run_and_a_plan_are_stored_as_they_are(aws: Aws, bucket: AuditBucket) -> None:
    address = store(bucket, "1")
    assert address == "s3://acme-audit/governance/dev/runs/a.csv"
    assert aws.read_object(BUCKET, "governance/dev/runs/a.csv").decode() == render_csv(rows("1"), header=True)
    address = bucket.put_if_absent("governance/dev/plans/a.json", '{"a": 1}')
    assert address == "s3://acme-audit/governance/dev/plans/a.json"
    assert aws.read_object(BUCKET, "governance/dev/plans/a.json") == b'{"a": 1}'


def test_what_a_run_stored_is_never_overwritten(aws: Aws, bucket: AuditBucket) -> None:
    store(bucket, "1")
    store(bucket, "1")
    with pytest.raises(AuditUnavailable, match="another object was put here since this run began") as caught:
        store(bucket, "2")
    assert caught.value.findings[0].code == "audit_contended"
    assert run_ids(aws.read_object(BUCKET, "governance/dev/runs/a.csv")) == ["1"]


@pytest.mark.parametrize("happened", ["changed", "deleted"])
def test_a_record_that_somebody_touched_since_it_was_read_is_not_written_over(
    aws: Aws, bucket: AuditBucket, happened: str
) -> None:
    key = "governance/dev/open_run.json"
    etag = bucket.put_if_unchanged(key, "{}\n", "")
    if happened == "changed":
        bucket.put_if_unchanged(key, "another's", etag)
    else:
        aws.client("s3").delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(AuditUnavailable) as caught:
        bucket.put_if_unchanged(key, "ours", etag)
    assert caught.value.findings[0].code == "audit_contended"
    assert aws.list_keys(BUCKET, key) == ([key] if happened == "changed" else [])


def test_a_write_that_was_taken_and_not_answered_is_our_own(bucket: AuditBucket) -> None:
    key = "governance/dev/open_run.json"
    first = bucket.put_if_unchanged(key, "{}\n", "")
    now = bucket.put_if_unchanged(key, "ours", first)
    assert bucket.put_if_unchanged(key, "ours", first) == now


def test_a_stored_run_whose_answer_was_lost_counts_as_stored(aws: Aws, bucket: AuditBucket) -> None:
    aws.fail("s3:PutObject", kind="lost_answer")
    store(bucket, "1")
    assert run_ids(aws.read_object(BUCKET, "governance/dev/runs/a.csv")) == ["1"]


@pytest.mark.parametrize("operation", ["s3:PutObject", "s3:GetObject"])
def test_a_trail_that_cannot_be_written_says_which_and_what_to_allow(
    aws: Aws, bucket: AuditBucket, operation: str
) -> None:
    bucket.append(rows("1"))
    aws.fail(operation, times=ALWAYS, kind="access_denied")
    with pytest.raises(AuditUnavailable) as error:
        bucket.append(rows("2"))
    (finding,) = error.value.findings
    assert finding.code == "audit_not_stored"
    assert finding.where == f"s3://{BUCKET}/{TRAIL}"
    assert "AccessDenied" in finding.message
    assert "s3:PutObject" in finding.next_step


def test_a_bucket_that_does_not_exist_is_named(bucket: AuditBucket) -> None:
    nowhere = replace(bucket, name="acme-nowhere")
    for write in (lambda: nowhere.append(rows("1")), lambda: store(nowhere, "1")):
        with pytest.raises(AuditUnavailable) as error:
            write()
        assert "s3://acme-nowhere/" in str(error.value)
        assert "AUDIT_BUCKET" in str(error.value)
