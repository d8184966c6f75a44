"""A plan becomes text, Markdown and an answer that Lambda can carry."""

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from operator import ne

import pytest

from provisioner.core.audit import Provenance
from provisioner.core.changes import Change, ChangeKind, PlannedChange
from provisioner.core.errors import Finding
from provisioner.core.model import RunStatus, Status
from provisioner.core.plan import Plan
from provisioner.core.report import (
    AuditLocations,
    RunResult,
    build_response,
    how_to_apply,
    render_markdown,
    render_notification,
    render_text,
    summarize,
)
from provisioner.core.request import parse_request
from provisioner.settings import read_settings

SETTINGS = read_settings({"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit"})
REQUEST = parse_request({"environment": "dev", "build_id": "16-01-26-01", "run_id": "12345678"}, SETTINGS)
AUDIT = AuditLocations(
    "s3://acme-audit/run.csv", "s3://acme-audit/trail.csv", "s3://acme-audit/plan.json", "s3://acme-audit/plan.md"
)


@dataclass(frozen=True, kw_only=True)
class Made(Change):
    """A change whose every word is the test's."""

    kind: ChangeKind = ChangeKind.CREATE_ROLE
    symbol: str = "+"  # type: ignore[misc]
    action: str = "create_role"  # type: ignore[misc]
    database: str = "keycloak"  # type: ignore[assignment]
    username: str = "keycloak_user"  # type: ignore[assignment]
    detail: str = "login role"  # type: ignore[assignment]
    destructive: bool = False  # type: ignore[misc]


STORY = Plan(
    environment="dev",
    changes=(
        Made(
            symbol="+",
            action="create_role",
            database="",
            username="reporting",
            detail="login role, password from its secret",
        ),
        Made(
            symbol="+",
            action="create_database",
            database="keycloak",
            username="keycloak_user",
            detail='owned by "keycloak_user"',
        ),
        Made(
            symbol="~",
            action="alter_role",
            database="backstage",
            username="backstage_user",
            detail="connection limit 20",
        ),
        Made(
            symbol="-",
            action="revoke",
            database="keycloak",
            username="analytics_reader",
            detail="INSERT on 4 tables",
            destructive=True,
        ),
    ),
    blockers=(Finding("foreign_role", 'role "legacy" is not managed here', 'adopt it (adopt: ["legacy"])'),),
    warnings=(Finding("orphan", 'role "old_app" is no longer declared'),),
    unchanged=(PlannedChange("role", "grafana", "grafana"), PlannedChange("database", "grafana", "grafana")),
)


def test_the_text_reads_like_a_terraform_plan() -> None:
    assert render_text(STORY) == (
        "(server)\n"
        "  + create_role        reporting                login role, password from its secret\n"
        "\n"
        "backstage\n"
        "  ~ alter_role         backstage_user           connection limit 20\n"
        "\n"
        "keycloak\n"
        '  + create_database    keycloak_user            owned by "keycloak_user"\n'
        "  - revoke             analytics_reader         INSERT on 4 tables  [destructive]\n"
        "\n"
        "Blocked:\n"
        '  ! role "legacy" is not managed here; adopt it (adopt: ["legacy"])\n'
        "\n"
        "Warnings:\n"
        '  ? role "old_app" is no longer declared\n'
        "\n"
        "Plan: 2 to create, 1 to change, 1 to revoke, 2 unchanged, 1 blocked, 1 warnings."
    )


def test_a_plan_without_changes_says_so() -> None:
    assert render_text(Plan("dev", unchanged=(PlannedChange("role", "a", "a"),) * 12)) == (
        "No changes. The server is what the snapshot declares.\n"
        "\n"
        "Plan: 0 to create, 0 to change, 0 to revoke, 12 unchanged."
    )


def test_the_summary_counts_the_plan_and_what_failed() -> None:
    statuses = [Status.SUCCESS, Status.ERROR, Status.SKIPPED, Status.ERROR]
    assert summarize(STORY, statuses) == {
        "create": 2,
        "change": 1,
        "revoke": 1,
        "unchanged": 2,
        "blocked": 1,
        "warnings": 1,
        "errors": 2,
    }


def test_the_markdown_has_what_is_blocked_and_destructive_first_and_folds_the_rest() -> None:
    lines = render_markdown(STORY).split("\n")
    assert lines[0] == "### Plan: 2 to create, 1 to change, 1 to revoke, 2 unchanged, 1 blocked, 1 warnings."
    destructive = "  - revoke             analytics_reader         INSERT on 4 tables  [destructive]"
    blocked = '  ! role "legacy" is not managed here; adopt it (adopt: ["legacy"])'
    order = ["```text", "keycloak", destructive, "Blocked:", blocked, "Warnings:", "<details>", "backstage"]
    assert sorted(order, key=lines.index) == order
    created = '  + create_database    keycloak_user            owned by "keycloak_user"'
    assert lines.index("<details>") < lines.index(created) < lines.index("</details>")
    assert f"Plan digest: `{STORY.digest}`" in lines


def test_the_markdown_says_whose_plan_it_is_and_how_to_apply_it() -> None:
    provenance = Provenance("dev", "16-01-26-01", "12345678", "bob", "", "3HL4kqtJ", "")
    lines = render_markdown(STORY, AUDIT, provenance).split("\n")
    whose = "environment `dev`, snapshot `3HL4kqtJ`, asked for by `bob`, build `16-01-26-01`, run `12345678`"
    assert lines[2] == whose
    line = f"APPROVED_BY=<who approves> PLAN_DIGEST={STORY.digest} make rds-provision ENV=dev"
    assert f"ALLOW_DB_PROVISION=true {line}" in lines


def test_a_notification_says_who_asked_and_ends_in_the_command_that_approves() -> None:
    provenance = Provenance("dev", requested_by="bob\nalice", snapshot_version="3HL4kqtJ")
    text = render_notification(STORY, AUDIT, provenance, needs_approval=True)
    assert text.startswith(render_text(STORY))
    assert "\nsnapshot: 3HL4kqtJ\nasked for by: bob alice\nplan: s3://acme-audit/plan.json\ndigest: sha256:" in text
    assert text.endswith(f"\nto approve: {how_to_apply(STORY)}")
    assert "approve" not in render_notification(STORY, AUDIT, provenance, needs_approval=False)


@pytest.mark.parametrize("name", ["a|b", "a`b", "```", "~~~~", "a\nb", "<img src=x>", "````"])
def test_a_name_from_the_server_cannot_break_out_of_its_block(name: str) -> None:
    lines = render_markdown(Plan("dev", changes=(Made(username=name, destructive=True),))).split("\n")
    start = next(number for number, line in enumerate(lines) if line.endswith("`text"))
    fence = lines[start].removesuffix("text")
    assert lines.index(fence) == start + 4
    assert f"create_role        {' '.join(name.split()):<24} login role" in lines[start + 2]
    assert fence not in lines[start + 2]


def test_words_cannot_become_markup_or_mention_somebody() -> None:
    plan = Plan("dev", changes=(Made(detail="a|b `c` *d* <b>e</b> [f](g) @team\n# h"),))
    assert "  + create_role        keycloak_user            a|b `c` *d* <b>e</b> [f](g) @team # h" in render_markdown(
        plan
    ).split("\n")


def test_the_markdown_of_a_large_fleet_fits_into_a_comment() -> None:
    plan = Plan("dev", changes=tuple(Made(username=f"user_{number}", detail="|" * 900) for number in range(5000)))
    text = render_markdown(plan)
    assert len(text) < 65_536
    assert " changes more. The stored plan has all of it." in text
    assert plan.digest in text


def test_the_answer_has_the_fields_of_the_contract() -> None:
    plan = Plan("dev", changes=(Made(),), unchanged=(PlannedChange("role", "a", "a"),))
    assert build_response(REQUEST, RunResult(RunStatus.APPLIED, plan, changes=[(Made(), Status.SUCCESS)]), AUDIT) == {
        "status": "applied",
        "environment": "dev",
        "mode": "apply",
        "build_id": "16-01-26-01",
        "run_id": "12345678",
        "plan_digest": plan.digest,
        "summary": {
            "create": 1,
            "change": 0,
            "revoke": 0,
            "unchanged": 1,
            "blocked": 0,
            "warnings": 0,
            "errors": 0,
        },
        "changes": [
            {
                "action": "create_role",
                "database": "keycloak",
                "username": "keycloak_user",
                "detail": "login role",
                "destructive": False,
                "status": "success",
            }
        ],
        "blockers": [],
        "warnings": [],
        "audit": {
            "run": "s3://acme-audit/run.csv",
            "trail": "s3://acme-audit/trail.csv",
            "plan": "s3://acme-audit/plan.json",
            "plan_markdown": "s3://acme-audit/plan.md",
        },
        "plan_text": (
            "keycloak\n"
            "  + create_role        keycloak_user            login role\n"
            "\n"
            "Plan: 1 to create, 0 to change, 0 to revoke, 1 unchanged."
        ),
    }


def test_findings_are_shown_with_all_their_fields() -> None:
    answer = build_response(REQUEST, RunResult(RunStatus.PLANNED, STORY), AUDIT)
    assert answer["warnings"] == [
        {
            "code": "orphan",
            "message": 'role "old_app" is no longer declared',
            "next_step": "",
            "where": "",
            "database": "",
            "username": "",
        }
    ]


def test_three_hundred_changes_are_listed_whole() -> None:
    changes = tuple(Made(username=f"user_{number}") for number in range(300))
    answer = build_response(
        REQUEST,
        RunResult(RunStatus.PLANNED, Plan("dev", changes), changes=[(each, Status.DRY_RUN) for each in changes]),
        AUDIT,
    )
    assert len(answer["changes"]) == 300  # type: ignore[arg-type]
    assert answer["warnings"] == []


def test_one_change_more_is_cut_and_the_stored_plan_is_named() -> None:
    changes = tuple(Made(username=f"user_{number}") for number in range(301))
    answer = build_response(
        REQUEST,
        RunResult(RunStatus.PLANNED, Plan("dev", changes), changes=[(each, Status.DRY_RUN) for each in changes]),
        AUDIT,
    )
    assert len(answer["changes"]) == 300  # type: ignore[arg-type]
    assert answer["summary"]["create"] == 301  # type: ignore[index]
    (warning,) = answer["warnings"]  # type: ignore[misc]
    assert warning["code"] == "answer_cut"
    assert warning["message"] == "1 changes more than this answer lists"
    assert warning["next_step"] == "read the whole plan at s3://acme-audit/plan.json"


def test_a_long_plan_text_is_cut_between_lines_and_keeps_its_sum() -> None:
    changes = tuple(Made(username=f"user_{number}") for number in range(5000))
    text = str(build_response(REQUEST, RunResult(RunStatus.PLANNED, Plan("dev", changes)), AUDIT)["plan_text"])
    assert len(text) < 101_000
    assert "The whole plan: s3://acme-audit/plan.json" in text
    assert text.endswith("Plan: 5000 to create, 0 to change, 0 to revoke, 0 unchanged.")


@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600", '"', "\\"])
def test_the_largest_answer_stays_below_six_megabytes(character: str) -> None:
    long = character * 2_000
    changes = tuple(Made(database=f"{number}{long}", username=long, detail=long) for number in range(500))
    findings = tuple(Finding(long, long, long, long, long, long) for _ in range(500))
    plan = Plan("dev", changes, findings, findings)
    answer = build_response(
        REQUEST, RunResult(RunStatus.PLANNED, plan, changes=[(each, Status.DRY_RUN) for each in changes]), AUDIT
    )
    assert len(json.dumps(answer).encode()) < 6_000_000


def noise(*, destructive: bool) -> tuple[Made, ...]:
    """What two databases' owners made: one thousands of changes, the other one."""
    mine = tuple(
        Made(database="aaa", username="r", symbol="+", detail=f"USAGE on schema {number}", destructive=destructive)
        for number in range(5000)
    )
    return (*mine, Made(database="zzz", username="zzz_reader", symbol="-", detail="INSERT", destructive=True))


@pytest.mark.parametrize("destructive", [False, True])
def test_the_noise_of_one_database_hides_no_destructive_change_of_another(*, destructive: bool) -> None:
    findings = tuple(Finding("foreign_grants", f"role {number}", database="aaa") for number in range(5000))
    changes = noise(destructive=destructive)
    plan = Plan("dev", changes, blockers=findings, warnings=findings)
    answer = build_response(
        REQUEST, RunResult(RunStatus.PLANNED, plan, changes=[(each, Status.DRY_RUN) for each in changes]), AUDIT
    )
    assert any(change["username"] == "zzz_reader" for change in answer["changes"])  # type: ignore[attr-defined]
    assert "zzz_reader" in str(answer["plan_text"])
    assert "zzz_reader" in render_markdown(plan)
    assert len(render_markdown(plan)) < 65_000
    says_so = "DESTRUCTIVE CHANGES: aaa (" in str(answer["plan_text"]).split("\n", 1)[0]
    assert says_so is destructive
    assert ("DESTRUCTIVE CHANGES: aaa (" in render_markdown(plan)) is destructive


def test_a_finding_of_one_database_is_listed_beside_thousands_of_another() -> None:
    findings = tuple(Finding("foreign_grants", f"role {number}", database="aaa") for number in range(5000))
    plan = Plan("dev", warnings=(*findings, Finding("nologin", "role z", database="zzz")))
    answer = build_response(REQUEST, RunResult(RunStatus.IN_SYNC, plan), AUDIT)
    assert any(warning["database"] == "zzz" for warning in answer["warnings"])  # type: ignore[attr-defined]
    assert "role z" in str(answer["plan_text"])


def test_what_was_not_looked_at_is_not_spoken_of() -> None:
    answer = build_response(REQUEST, RunResult(RunStatus.SUPERSEDED, Plan("dev")), AuditLocations())
    assert answer["plan_text"] == "The server was not looked at."
    assert answer["plan_digest"] == ""


@pytest.mark.parametrize("name", ["https://evil.example/x", "www.evil.example", "@team", "a`b", "``` x", "<b>"])
def test_no_detail_leaves_its_code_span(name: str) -> None:
    plan = Plan("dev", (Made(detail=f'schema "{name}"', username=name),), (Finding("c", name),))
    lines = iter(render_markdown(plan).split("\n"))
    ours = {"<details>", "<summary>1 other changes</summary>", "</details>", "To apply exactly this plan:"}
    rest = []
    for line in lines:
        if line.startswith("```"):
            fence = line.removesuffix("text")
            inside = list(takewhile(partial(ne, fence), lines))
            assert all(fence not in each for each in inside)
        elif line not in ours:
            rest.append(re.sub(r"`sha256:[0-9a-f]+`", "", line))
    assert not any(word in line for line in rest for word in ("evil", "@", "<", "`", "x"))


def test_where_an_object_approves_a_notification_holds_the_line_of_an_approver_and_what_is_destructive() -> None:
    text = render_notification(
        replace(STORY, is_approved_by_object=True), AUDIT, Provenance("prod"), needs_approval=True
    )
    assert text.endswith(f"\nto approve: make rds-approve ENV={STORY.environment} DIGEST={STORY.digest}")
    assert f"make rds-approve ENV={STORY.environment}" in render_markdown(replace(STORY, is_approved_by_object=True))
    [line] = [line for line in text.splitlines() if line.startswith("destructive: ")]
    count = sum(change.destructive for change in STORY.changes)
    assert line.startswith(f"destructive: {count} (")
