"""When an approval is asked for, what of it is sent, and that no command approves where an object does."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest

from rds_provisioner_cli.approval import approve
from rds_provisioner_cli.options import Options
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Target

DIGEST, OTHER_DIGEST = "sha256:" + "0" * 64, "sha256:" + "1" * 64


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))


@pytest.fixture
def strict(target: Target) -> Target:
    """An environment that asks for a digest, although no approval would be needed without that."""
    return dataclasses.replace(target, ungated=frozenset({"test"}), digest_required=frozenset({"test"}))


def options(**given: Any) -> Options:
    unsaid: dict[str, Any] = {
        each.name: False if each.type == "bool" else "" for each in dataclasses.fields(Options) if each.default
    }
    named = {"environment": "test", "tfvars": None, "markdown": None, "adopt": (), "requested_by": "bob"}
    return Options(**{**unsaid, **named, **given})


def plan(status: str = "planned") -> dict[str, Any]:
    return {"status": status, "plan_digest": DIGEST}


def test_an_ungated_environment_is_not_asked_about(target: Target, screen: Screen) -> None:
    assert approve(options(), dataclasses.replace(target, ungated=frozenset({"test"})), plan(), screen) == {}


def test_a_plan_without_changes_is_not_asked_about(strict: Target, screen: Screen) -> None:
    assert approve(options(), strict, plan("no_change"), screen) == {}


def test_a_yes_approves_the_plan_that_was_shown(
    target: Target, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    expected = {"allow_db_provision": True, "approved_by": "alice", "plan_digest": DIGEST}
    assert approve(options(approved_by="alice"), target, plan(), screen) == {"approval": expected}


@pytest.mark.parametrize("answer", ["", "y\n", "no\n", "YES\n"])
def test_anything_but_yes_stops_before_anything_is_changed(
    target: Target, screen: Screen, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with pytest.raises(Stopped, match="not approved: nothing was changed") as stopped:
        approve(options(), target, plan(), screen)
    assert stopped.value.status == Exit.NOT_APPROVED


def test_a_pipeline_that_cannot_be_asked_is_told_the_line_that_approves(target: Target, screen: Screen) -> None:
    with pytest.raises(Stopped, match="test is gated") as stopped:
        approve(options(tfvars=Path("my file.tfvars"), adopt=("a", "b")), target, plan(), screen)
    line = f"PLAN_DIGEST={DIGEST} rds-provisioner apply test --tfvars 'my file.tfvars' --adopt a,b"
    assert line in str(stopped.value)
    assert stopped.value.status == Exit.NOT_APPROVED


def test_an_approval_given_beforehand_says_nothing_of_a_digest_that_nobody_gave(target: Target, screen: Screen) -> None:
    said = options(allow_db_provision="true", approved_by="alice")
    assert approve(said, target, plan(), screen) == {"approval": {"allow_db_provision": True, "approved_by": "alice"}}


@pytest.mark.parametrize("value", ["", "True", "1", "yes", "false"])
def test_only_the_variable_of_the_first_generation_with_its_own_value_approves(value: str) -> None:
    assert not options(allow_db_provision=value).is_approved


@pytest.mark.parametrize("stdin", [io.StringIO(""), Terminal("yes\n")], ids=["pipeline", "terminal"])
@pytest.mark.parametrize("said", [{}, {"approve": True, "approved_by": "alice"}], ids=["nothing", "approved"])
def test_where_an_object_approves_the_plan_is_named_and_nothing_said_here_approves(
    strict: Target, screen: Screen, monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO, said: dict[str, Any]
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    assert approve(options(**said), strict, plan(), screen) == {"approval": {"plan_digest": DIGEST}}


def test_where_an_object_approves_another_one_can_be_named(strict: Target, screen: Screen) -> None:
    named = options(plan_digest=OTHER_DIGEST)
    assert approve(named, strict, plan(), screen) == {"approval": {"plan_digest": OTHER_DIGEST}}


def test_an_approved_digest_holds_for_no_other_plan(target: Target, screen: Screen) -> None:
    said = options(approve=True, approved_by="alice", plan_digest=OTHER_DIGEST)
    with pytest.raises(Stopped, match="which was approved") as stopped:
        approve(said, target, plan(), screen)
    assert stopped.value.status == Exit.NOT_APPROVED


def test_an_approval_without_a_name_is_wrong_usage(target: Target, screen: Screen) -> None:
    with pytest.raises(Stopped, match="who approves") as stopped:
        approve(options(approve=True), target, plan(), screen)
    assert stopped.value.status == Exit.USAGE


def test_who_asks_and_approves_is_told_that_the_audit_shows_it(
    target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(options(approve=True, approved_by="bob"), target, plan(), Screen())
    assert "bob asks and approves" in capsys.readouterr().err


def test_the_event_holds_what_was_given_and_nothing_else() -> None:
    said = options(adopt=("keycloak", "backstage"), fail_fast=True, run_id="42")
    assert said.event() == {
        "environment": "test",
        "requested_by": "bob",
        "run_id": "42",
        "adopt": ["keycloak", "backstage"],
        "fail_fast": True,
    }


def test_roles_that_leave_are_in_the_event_and_in_the_line_that_approves(target: Target, screen: Screen) -> None:
    said = options(quarantine=("a", "b"), retire=("c",))
    assert (said.event()["quarantine"], said.event()["retire"]) == (["a", "b"], ["c"])
    with pytest.raises(Stopped, match=re.escape("--quarantine a,b --retire c")):
        approve(said, target, plan(), screen)
