"""One apply, from the plan to what is told of it; the function's answers are the test's."""

from typing import Any

import pytest

from integration.cli.conftest import Lambda
from integration.cli.test_approval import DIGEST, options
from rds_provisioner_cli.provision import apply
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Exit, Stopped


def answer(status: str, *changes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    audit = {"run": "", "trail": "s3://acme-governance/trail.csv", "plan": "", "plan_markdown": ""}
    empty = {"plan_digest": DIGEST, "plan_text": "", "blockers": [], "summary": {}, "audit": audit}
    return {"status": status, "changes": list(changes), **empty, **fields}


CHANGE = {"action": "create_role", "username": "keycloak_user", "detail": "", "status": "success"}
DEV = options(environment="dev", function_name="f", bucket="b")


def test_where_the_function_ran_out_of_time_it_is_called_again_until_it_is_done(service: Lambda) -> None:
    service.answers = [answer("planned", CHANGE), "OutOfTime", answer("planned", CHANGE), answer("applied", CHANGE)]
    assert apply(DEV, Screen()) == Exit.DONE
    assert [event["mode"] for event in service.events] == ["dry_run", "apply"] * 2


def test_what_another_run_did_meanwhile_is_told(service: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    service.answers = [answer("planned", CHANGE), answer("no_change")]
    assert apply(DEV, Screen()) == Exit.DONE
    assert "Another run" in capsys.readouterr().err


def test_of_a_plan_that_is_all_blocked_nothing_is_applied(service: Lambda) -> None:
    service.answers = [answer("planned", blockers=[{"code": "foreign_role"}])]
    with pytest.raises(Stopped, match="blocked"):
        apply(DEV, Screen())
    assert [event["mode"] for event in service.events] == ["dry_run"]


def test_what_is_not_blocked_is_applied(service: Lambda) -> None:
    service.answers = [answer("planned", CHANGE, blockers=[{"code": "foreign_role"}]), "PlanBlocked"]
    with pytest.raises(Stopped, match="PlanBlocked"):
        apply(DEV, Screen())
    assert [event["mode"] for event in service.events] == ["dry_run", "apply"]


def test_an_apply_says_nothing_of_fail_fast_unless_it_is_asked_for(service: Lambda) -> None:
    service.answers = [answer("planned", CHANGE), answer("applied", CHANGE)]
    apply(options(environment="dev", function_name="f", bucket="b", fail_fast=True), Screen())
    assert [event.get("fail_fast") for event in service.events] == [None, True]


PROD = options(environment="prod", function_name="f", bucket="b")


def test_where_an_object_approves_the_line_for_an_approver_is_told_and_the_status_is_its_own(service: Lambda) -> None:
    service.answers = [answer("planned", CHANGE), "ApprovalRequired"]
    with pytest.raises(Stopped, match=f"\n  make rds-approve ENV=prod DIGEST={DIGEST}\n") as stopped:
        apply(PROD, Screen())
    assert stopped.value.status == Exit.NOT_APPROVED
    assert [event.get("approval") for event in service.events] == [None, {"plan_digest": DIGEST}]


def test_what_was_left_for_want_of_time_goes_on_under_the_same_approval(service: Lambda) -> None:
    rest = answer("planned", CHANGE, plan_digest="sha256:" + "2" * 64)
    service.answers = [answer("planned", CHANGE), "OutOfTime", rest, answer("applied", CHANGE)]
    assert apply(PROD, Screen()) == Exit.DONE
    sent = [event["approval"]["plan_digest"] for event in service.events if event["mode"] == "apply"]
    assert sent == [DIGEST, DIGEST]
