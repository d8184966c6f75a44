"""A person reads a stored plan and approves it; the plan is one that the function stored, the bucket one of S3."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rds_provisioner_cli.put_approval import Review, approve_plan
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Given
from stack.aws import Aws
from stack.postgres import Server
from stack.world import AUDIT, World

PROD = Given("prod")
SHOP = {
    "shop": {"database_name": "shop", "username": "shop_app"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def world(latest_server: Server, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    monkeypatch.setenv("AUDIT_BUCKET", AUDIT)
    with World(latest_server, aws, latest_server.create_delegated_admin(), "prod") as made:
        made.declare_entries(SHOP)
        yield made


@pytest.fixture
def digest(world: World) -> str:
    return str(world.dry_run(requested_by="terraform")["plan_digest"])


def by(name: str, digest: str, **more: Any) -> Review:
    return Review(digest, name, "CHG0042", **more)


def approvals(world: World) -> list[str]:
    return world.aws.list_keys(AUDIT, "governance/prod/approvals/")


def test_a_yes_puts_what_the_function_takes(world: World, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    assert approve_plan(PROD, by("alice", digest), Screen()) == Exit.DONE
    [key] = approvals(world)
    body = {"plan_digest": digest, "approved_by": "alice", "reason": "CHG0042"}
    assert json.loads(world.aws.read_object(AUDIT, key)) == body
    assert world.apply()["status"] == "applied"


def test_what_takes_something_away_is_shown_first_and_all_that_the_digest_covers_is_shown(
    world: World, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    approve_plan(PROD, by("alice", digest, is_agreed=True), Screen())
    shown = capsys.readouterr().out
    assert "asked for by: terraform" in shown
    assert shown.index("- revoke public in shop: CONNECT, TEMPORARY") < shown.index("+ create_role shop_app")
    secret = world.aws.client("secretsmanager").describe_secret(SecretId="goldenpath/prod/shop/postgres")["ARN"]
    assert secret in shown
    assert "1 of them destructive" in shown


@pytest.mark.parametrize("stdin", [io.StringIO("yes\n"), Terminal(""), Terminal("y\n"), Terminal("no\n")])
def test_anything_but_a_yes_at_a_terminal_approves_nothing(
    world: World, digest: str, monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(Stopped) as stopped:
        approve_plan(PROD, by("alice", digest), Screen())
    assert stopped.value.status == Exit.NOT_APPROVED
    assert approvals(world) == []


def test_who_asked_is_told_that_somebody_else_has_to(world: World, digest: str) -> None:
    with pytest.raises(Stopped, match="somebody else has to"):
        approve_plan(PROD, by("Terraform", digest, is_agreed=True), Screen())
    assert approvals(world) == []


def test_a_plan_that_was_never_stored_cannot_be_approved(world: World) -> None:
    with pytest.raises(Stopped, match="no plan of prod was stored"):
        approve_plan(PROD, by("alice", "sha256:" + "0" * 64, is_agreed=True), Screen())
    assert approvals(world) == []


def test_who_asked_second_is_told_the_same(world: World, digest: str, capsys: pytest.CaptureFixture[str]) -> None:
    world.dry_run(requested_by="alice")
    with pytest.raises(Stopped, match="somebody else has to"):
        approve_plan(PROD, by("Alice", digest, is_agreed=True), Screen())
    assert "asked for by: alice, terraform" in capsys.readouterr().out
    assert approvals(world) == []


@pytest.mark.parametrize("lie", ["effects", "hidden", "shown", "snapshot"])
def test_a_stored_plan_that_shows_other_changes_than_its_digest_covers_is_refused(
    world: World, digest: str, lie: str
) -> None:
    plan = stored(world)
    if lie == "effects":
        plan["units"][0]["effects"].pop()
    elif lie == "hidden":
        plan["changes"].pop()
    elif lie == "snapshot":
        plan["snapshot_version"] = "another"
    else:
        plan["changes"][0]["identity"][2] = plan["changes"][0]["username"] = "somebody"
    store(world, plan)
    with pytest.raises(Stopped, match="cannot be trusted"):
        approve_plan(PROD, by("alice", digest, is_agreed=True), Screen())
    assert approvals(world) == []


def test_what_is_shown_is_said_by_what_the_digest_covers_and_not_by_the_words_beside_it(
    world: World, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = stored(world)
    for change in plan["changes"]:
        change.update(detail="nothing\x1b[2Khappens", destructive=False)
    store(world, plan | {"plan_text": "No changes.", "summary": {}})
    approve_plan(PROD, by("alice", digest, is_agreed=True), Screen())
    shown = capsys.readouterr().out
    assert (
        "- revoke public in shop: CONNECT, TEMPORARY on the database [granted by shop_app, owned by shop_app]" in shown
    )
    assert '+ create_database shop_app in shop: owned by "shop_app"' in shown
    assert "1 of them destructive" in shown
    assert "\x1b" not in shown
    assert "No changes." not in shown


def stored(world: World) -> dict[str, Any]:
    [key] = world.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")
    return dict(json.loads(world.aws.read_object(AUDIT, key)))


def store(world: World, plan: dict[str, Any]) -> None:
    [key] = world.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")
    world.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=json.dumps(plan))


def test_an_approval_is_never_written_over_and_is_renewed_when_that_is_asked_for(world: World, digest: str) -> None:
    approve_plan(PROD, by("alice", digest, is_agreed=True), Screen())
    [key] = approvals(world)
    world.aws.make_older(AUDIT, key, 100)
    with pytest.raises(Stopped, match=r"approved already: .* --renew"):
        approve_plan(PROD, by("bob", digest, is_agreed=True), Screen())
    assert json.loads(world.aws.read_object(AUDIT, key))["approved_by"] == "alice"
    approve_plan(PROD, by("bob", digest, is_agreed=True, renew=True), Screen())
    assert json.loads(world.aws.read_object(AUDIT, key))["approved_by"] == "bob"
    assert world.apply()["status"] == "applied"
