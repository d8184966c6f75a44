"""What came of a run becomes rows, real CSV and keys."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.audit_log import AuditLog
from provisioner.core import keys
from provisioner.core.audit import COLUMNS, Provenance, build_outcomes, build_rows, is_as_written, render_csv
from provisioner.core.errors import Finding
from provisioner.core.model import Outcome, Status
from provisioner.core.request import parse_request
from provisioner.edges.aws import AwsClients
from provisioner.settings import read_settings

SETTINGS = read_settings({"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit"})
CLIENTS = AwsClients(1)
NOON = "2026-11-22T12:00:00.123Z"
PROVENANCE = Provenance("dev", "16-01-26-01", "12345678", "terraform", "alice", "3HL4kqtJ", "sha256:ab")


def outcome(message: str = "", status: Status = Status.SUCCESS) -> Outcome:
    return Outcome("create_role", "keycloak", "keycloak_user", status, NOON, 12, message)


def cell_of(message: str) -> str:
    """A message as a program that reads the CSV gets it."""
    text = render_csv(build_rows(PROVENANCE, [outcome(message)]), header=False)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 1
    return rows[0][9]


def test_the_columns_are_those_of_the_contract_in_its_order() -> None:
    assert ",".join(COLUMNS) == (
        "timestamp_utc,environment,build_id,run_id,database,username,action,status,duration_ms,message,"
        "requested_by,approved_by,snapshot_version,plan_digest"
    )


def test_a_row_holds_the_outcome_between_what_the_run_has_in_common() -> None:
    assert render_csv(build_rows(PROVENANCE, [outcome("done")]), header=True) == (
        "timestamp_utc,environment,build_id,run_id,database,username,action,status,duration_ms,message,"
        "requested_by,approved_by,snapshot_version,plan_digest\n"
        "2026-11-22T12:00:00.123Z,dev,16-01-26-01,12345678,keycloak,keycloak_user,create_role,success,12,done,"
        "terraform,alice,3HL4kqtJ,sha256:ab\n"
    )


def test_without_rows_and_header_there_is_nothing() -> None:
    assert render_csv((), header=False) == ""


def test_quotes_commas_and_apostrophes_inside_survive_a_csv_reader() -> None:
    assert cell_of('role "app", it\'s new') == 'role "app", it\'s new'


def test_a_message_of_many_lines_stays_one_line() -> None:
    text = render_csv(build_rows(PROVENANCE, [outcome("2 problems:\r\n1. this\n2. that\x00\u2028end")]), header=False)
    assert text.count("\n") == 1
    assert "2 problems: 1. this 2. that end" in text


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x", '=HYPERLINK("http://x","y")'],
)
def test_a_value_that_a_spreadsheet_would_run_is_defused(formula: str) -> None:
    assert cell_of(formula) == f"'{formula}"


@pytest.mark.parametrize("formula", ["\t=1+1", "\r=1+1", "  =1+1", "\u200b=1+1", "\x00\n=1+1"])
def test_a_formula_behind_blanks_or_hidden_characters_is_defused(formula: str) -> None:
    assert cell_of(formula) == "'=1+1"


def test_a_value_with_an_apostrophe_in_front_gets_another_so_that_one_can_be_stripped() -> None:
    assert cell_of("'=1+1") == "''=1+1"


def test_formulas_are_defused_in_the_columns_that_a_caller_fills() -> None:
    rows = build_rows(Provenance("dev", "=build", "+run", "@who", "-by", "=version", "=digest"), [outcome()])
    text = render_csv(rows, header=False)
    assert [cell for cell in next(csv.reader([text])) if cell.startswith("'")] == [
        "'=build",
        "'+run",
        "'@who",
        "'-by",
        "'=version",
        "'=digest",
    ]


@given(st.lists(st.text()), st.text())
def test_whatever_a_run_says_its_rows_are_known_as_such(messages: list[str], caller: str) -> None:
    rows = build_rows(Provenance("dev", requested_by=caller), map(outcome, messages))
    written = render_csv(rows, header=True).encode()
    assert is_as_written(written)
    assert not is_as_written(written + b"x\n")


def test_a_long_message_is_cut_to_a_thousand_characters() -> None:
    assert cell_of("x" * 5000) == "x" * 999 + "\u2026"


@given(st.text(max_size=300))
def test_any_printable_text_comes_back_when_one_apostrophe_is_stripped(text: str) -> None:
    printable = "".join(each for each in text if each.isprintable()).lstrip()
    cell = cell_of(printable)
    assert cell.removeprefix("'") == printable


@given(st.text(max_size=300))
def test_no_text_makes_a_second_row_or_starts_a_formula(text: str) -> None:
    cell = cell_of(text)
    assert cell[:1] not in {"=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"}
    assert cell.isprintable()


def test_the_shared_columns_come_from_the_request_and_the_functions_environment() -> None:
    event = {
        "environment": "dev",
        "build_id": "16-01-26-01",
        "run_id": "12345678",
        "requested_by": "terraform",
        "approval": {"allow_db_provision": True, "approved_by": "alice"},
        "tfvars": {"version_id": "asked"},
    }
    request = parse_request(event, SETTINGS)
    audit_log = AuditLog(SETTINGS, CLIENTS, "token", request, plan_digest="sha256:ab")
    assert audit_log.provenance().snapshot_version == "asked"
    audit_log.snapshot_version = "read"
    assert audit_log.provenance() == Provenance(
        "dev", "16-01-26-01", "12345678", "terraform", "alice", "read", "sha256:ab"
    )


def test_a_request_that_could_not_be_read_still_has_its_environment() -> None:
    assert AuditLog(SETTINGS, CLIENTS, "token").provenance() == Provenance("dev", "", "", "", "", "", "")


def test_each_refusal_is_an_outcome_with_the_whole_finding() -> None:
    findings = [
        Finding("foreign_role", "not ours", "adopt it", "terraform.tfvars:3", "keycloak", "keycloak_user"),
        Finding("event", "no environment"),
    ]
    assert build_outcomes(findings, action="refuse", timestamp_utc=NOON) == (
        Outcome("refuse", "keycloak", "keycloak_user", Status.ERROR, NOON, 0, "terraform.tfvars:3: not ours; adopt it"),
        Outcome("refuse", "", "", Status.ERROR, NOON, 0, "no environment"),
    )


def test_a_warning_is_an_outcome_with_its_own_status() -> None:
    outcomes = build_outcomes([Finding("w", "odd")], action="warn", timestamp_utc=NOON, status=Status.WARNING)
    assert [each.status for each in outcomes] == [Status.WARNING]


def test_the_keys_of_a_run_lie_under_the_environment_and_sort_by_time() -> None:
    assert keys.trail("governance/dev") == "governance/dev/rds_provision_audit.csv"
    assert keys.run("governance/dev", NOON, "0f/a b") == "governance/dev/runs/20261122T120000.123Z-0f-a-b.csv"
    digest = "sha256:0123456789abcdef" + "0" * 48
    plan = keys.plan("governance/dev", NOON, digest, "0f")
    assert plan == "governance/dev/plans/20261122T120000.123Z-0123456789ab-0f.json"
    assert keys.markdown(plan) == "governance/dev/plans/20261122T120000.123Z-0123456789ab-0f.md"


def test_the_archive_of_a_trail_is_named_by_its_first_row_and_its_content() -> None:
    # The hash is that of `printf 'header\n2026-11-22T12:00:00.123Z,dev\n' | sha256sum`.
    assert keys.archive("governance/dev/rds_provision_audit.csv", b"header\n2026-11-22T12:00:00.123Z,dev\n") == (
        "governance/dev/archive/rds_provision_audit-20261122T120000.123Z-d3571f96e09e.csv"
    )


@pytest.mark.parametrize("content", [b"", b"header only", b"a\n\xff\xfe,\n", b"a\n" + b"/" * 500])
def test_whatever_a_trail_holds_its_archive_has_a_plain_name(content: bytes) -> None:
    name = keys.archive("g/dev/rds_provision_audit.csv", content).removeprefix("g/dev/archive/")
    assert re.fullmatch(r"rds_provision_audit-[A-Za-z0-9._-]{0,128}-[0-9a-f]{12}\.csv", name)
