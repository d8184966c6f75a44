"""What the server says of itself, judged; what an answer has room for; no server."""

import json

import pytest

from provisioner.core.errors import Finding
from provisioner.core.model import Mode, Request, RunStatus, SnapshotReference, Trigger
from provisioner.core.plan import Plan
from provisioner.core.preflight import (
    MAX_CHECKS,
    CheckStatus,
    count_checks,
    failed,
    is_ready,
    ok,
    render_checks,
    shorten,
    unknown,
)
from provisioner.core.report import AuditLocations, RunResult, build_response
from provisioner.edges.server_probe import check_version, judge_public_schema

REQUEST = Request("dev", Mode.PREFLIGHT, Trigger.DIRECT, SnapshotReference("acme-tfvars", "dev/terraform.tfvars"))


@pytest.mark.parametrize(("version", "status"), [(12, "failed"), (13, "ok"), (18, "ok"), (19, "unknown")])
def test_the_versions_that_were_tried_are_ok_and_later_ones_unknown(version: int, status: str) -> None:
    assert check_version(version).status == status


@pytest.mark.parametrize(
    ("owner", "facts", "version", "status"),
    [
        ("pg_database_owner", {"is_ours": False, "public_creates": True}, 17, "ok"),
        ("rdsadmin", {"is_ours": False, "public_creates": True}, 14, "ok"),
        ("rdsadmin", {"is_ours": False, "public_creates": True}, 17, "failed"),
        ("admin", {"is_ours": True, "public_creates": True}, 14, "ok"),
        ("rdsadmin", {"is_ours": False, "public_creates": False}, 17, "ok"),
    ],
)
def test_what_public_may_do_in_public_is_ours_to_take_or_named(
    owner: str, facts: dict[str, bool], version: int, status: str
) -> None:
    check = judge_public_schema(version, owner, **facts)
    assert check.status == status
    assert owner in check.what


def test_a_line_says_what_was_found_and_what_to_do_and_the_last_one_the_sums() -> None:
    text = render_checks(
        [ok("dns", "fine"), failed("route", "refused", "nobody listens", "open it"), unknown("tls", "-")]
    )
    assert text.splitlines() == [
        "  + dns    fine",
        "  ! route  refused; nobody listens; open it",
        "  ? tls    -",
        "",
        "Preflight: 1 ok, 1 failed, 1 unknown.",
    ]


def test_only_what_failed_makes_it_not_ready() -> None:
    assert is_ready([ok("a", ""), unknown("b", "")])
    assert not is_ready([ok("a", ""), failed("b", "")])


def test_of_a_fleets_secrets_those_that_are_not_ok_are_shown_and_the_rest_is_counted() -> None:
    checks = [*(ok(f"secret:{number}", "fine") for number in range(2 * MAX_CHECKS)), failed("login", "refused")]
    shown = shorten(checks)
    assert len(shown) == MAX_CHECKS + 1
    assert [check.name for check in shown if check.status is CheckStatus.FAILED] == ["login"]
    assert (shown[-1].name, shown[-1].status) == ("more", "ok")
    assert count_checks(checks) == f"Preflight: {2 * MAX_CHECKS} ok, 1 failed, 0 unknown."
    many = shorten([failed(f"secret:{number}", "gone") for number in range(2 * MAX_CHECKS)])
    assert many[-1].status == "failed"


def test_the_answer_is_bounded_and_holds_no_line_breaks() -> None:
    long = "\U0001f600\n" * 3000
    checks = [failed(f"secret:{long}", long, long, long)] * 5000
    plan = Plan("dev", warnings=(Finding("code", "message"),))
    answer = build_response(REQUEST, RunResult(RunStatus.NOT_READY, plan, checks=checks), AuditLocations())
    assert answer["summary"]["errors"] == len(checks)  # type: ignore[index]
    assert len(json.dumps(answer)) < 6_000_000
    assert all("\n" not in value for check in answer["checks"] for value in check.values())  # type: ignore[attr-defined]
