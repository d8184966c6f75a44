"""What the command decides by itself: where things are, when it asks, what it sends. Its calls: tested end to end."""

import argparse
import io
from pathlib import Path
from typing import Any

import pytest
import rds_provision
from rds_provision import Stopped, Target

DIGEST = "sha256:" + "0" * 64
OTHER_DIGEST = "sha256:" + "1" * 64


@pytest.fixture(autouse=True)
def _nothing_from_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ALLOW_DB_PROVISION", "APPROVED_BY", "PLAN_DIGEST", "BUILD_ID", "RUN_ID", "REQUESTED_BY")
    for name in (*names, "FUNCTION_NAME", "SNAPSHOT_BUCKET", "SNAPSHOT_KEY", "STACK_NAME", "UNGATED_ENVIRONMENTS"):
        monkeypatch.delenv(name, raising=False)


def parse(monkeypatch: pytest.MonkeyPatch, *words: str) -> argparse.Namespace:
    monkeypatch.setattr("sys.argv", ["rds_provision.py", "--environment", "prod", *words])
    return rds_provision.parse_arguments()


def with_outputs(monkeypatch: pytest.MonkeyPatch, outputs: dict[str, str]) -> list[str]:
    asked: list[str] = []

    def read_outputs(stack_name: str) -> dict[str, str]:
        asked.append(stack_name)
        return outputs

    monkeypatch.setattr(rds_provision, "read_outputs", read_outputs)
    return asked


def plan(status: str = "planned", **fields: Any) -> dict[str, Any]:
    return {"status": status, "plan_digest": DIGEST, "blockers": [], "plan_text": "", **fields}


PROD = Target("rds-provisioner-prod", "acme-tfvars", "prod/terraform.tfvars", frozenset({"dev"}))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_not_given_is_found_in_the_outputs_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {
        "FunctionName": "provision-prod",
        "SnapshotBucket": "snapshots",
        "SnapshotKey": "{environment}/main.tfvars.json",
        "UngatedEnvironments": "dev,sandbox",
    }
    asked = with_outputs(monkeypatch, outputs)
    target = rds_provision.find_target(parse(monkeypatch))
    assert asked == ["rds-provisioner-prod"]
    assert target == Target("provision-prod", "snapshots", "prod/main.tfvars.json", frozenset({"dev", "sandbox"}))


def test_with_everything_given_no_stack_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = with_outputs(monkeypatch, {})
    (tmp_path / "a.tfvars").touch()
    words = ("--function-name", "f", "--bucket", "b", "--tfvars", str(tmp_path / "a.tfvars"))
    target = rds_provision.find_target(parse(monkeypatch, *words))
    assert asked == []
    assert target == Target("f", "b", "prod/terraform.tfvars", frozenset({"dev"}))


def test_a_stack_without_ungated_environments_gates_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with_outputs(monkeypatch, {"FunctionName": "f"})
    assert "dev" not in rds_provision.find_target(parse(monkeypatch)).ungated


def test_a_snapshot_without_a_bucket_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_outputs(monkeypatch, {})
    (tmp_path / "a.tfvars").touch()
    arguments = parse(monkeypatch, "--tfvars", str(tmp_path / "a.tfvars"))
    with pytest.raises(Stopped, match="SNAPSHOT_BUCKET") as stopped:
        rds_provision.find_target(arguments)
    assert stopped.value.status == 2


def test_a_snapshot_that_is_not_there_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(monkeypatch, "--tfvars", "missing.tfvars")
    assert stopped.value.code == 2
    assert "there is no file missing.tfvars" in capsys.readouterr().err


def test_an_ungated_environment_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("f", "", "", frozenset({"prod"}))
    assert rds_provision.ask_for_approval(parse(monkeypatch), target, plan()) == {}


def test_a_plan_without_changes_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rds_provision.ask_for_approval(parse(monkeypatch), PROD, plan("no_change")) == {}


def test_a_yes_approves_the_plan_that_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    approval = rds_provision.ask_for_approval(parse(monkeypatch, "--approved-by", "alice"), PROD, plan())
    expected = {"allow_db_provision": True, "approved_by": "alice", "plan_digest": DIGEST}
    assert approval == {"approval": expected}


@pytest.mark.parametrize("answer", ["", "y", "no", "YES"])
def test_anything_but_yes_stops_before_anything_is_changed(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer + "\n"))
    with pytest.raises(Stopped, match="not approved") as stopped:
        rds_provision.ask_for_approval(parse(monkeypatch), PROD, plan())
    assert stopped.value.status == 3


def test_a_pipeline_that_cannot_be_asked_is_told_how_to_approve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    with pytest.raises(Stopped, match=f"prod is gated: approve {DIGEST} with --approve") as stopped:
        rds_provision.ask_for_approval(parse(monkeypatch), PROD, plan())
    assert stopped.value.status == 3


def test_a_pipeline_approves_with_the_variables_of_the_first_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOW_DB_PROVISION", "true")
    monkeypatch.setenv("APPROVED_BY", "alice")
    approval = rds_provision.ask_for_approval(parse(monkeypatch), PROD, plan())
    assert approval["approval"]["approved_by"] == "alice"


def test_an_approval_without_a_name_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stopped, match="who approves") as stopped:
        rds_provision.ask_for_approval(parse(monkeypatch, "--approve"), PROD, plan())
    assert stopped.value.status == 2


def test_an_approved_digest_holds_for_no_other_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--approve", "--approved-by", "alice", "--plan-digest", OTHER_DIGEST)
    with pytest.raises(Stopped, match="which was approved") as stopped:
        rds_provision.ask_for_approval(parse(monkeypatch, *words), PROD, plan())
    assert stopped.value.status == 3


def test_a_blocked_plan_is_never_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    with pytest.raises(Stopped, match="blocked"):
        rds_provision.ask_for_approval(parse(monkeypatch), PROD, plan(blockers=[{"code": "foreign_role"}]))


def test_the_event_holds_what_was_given_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--requested-by", "alice", "--adopt", "keycloak,backstage", "--fail-fast", "--run-id", "42")
    assert rds_provision.describe_run(parse(monkeypatch, *words)) == {
        "environment": "prod",
        "requested_by": "alice",
        "run_id": "42",
        "adopt": ["keycloak", "backstage"],
        "fail_fast": True,
    }


@pytest.mark.parametrize(("key", "suffix"), [("a/b.tfvars", ".tfvars"), ("a/b.tfvars.json", ".tfvars.json")])
def test_a_preview_keeps_the_format_of_the_snapshot(key: str, suffix: str) -> None:
    assert rds_provision.suffix_of(key) == suffix


def test_a_plan_has_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    rds_provision.show_plan(plan(plan_text="keycloak\n  + create_role\n  - revoke\nPlan: 1 to create."))
    assert terminal.getvalue().splitlines()[:4] == [
        "keycloak",
        "\033[32m  + create_role\033[0m",
        "\033[31m  - revoke\033[0m",
        "Plan: 1 to create.",
    ]


def test_a_plan_is_plain_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    rds_provision.show_plan(plan(plan_text="  + create_role"))
    assert capsys.readouterr().out == f"  + create_role\nstatus: planned, digest: {DIGEST}\n"
