"""A secret that changes calls the function, and the server follows: the password alone, behind a gate too."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from provisioner.core.errors import InvalidRequest, PlanBlocked, SecretUnavailable
from stack.aws import ACCOUNT, ALWAYS, REGION, Aws
from stack.binaries import ROOT
from stack.dump import dump, has_password
from stack.postgres import Login, Server
from stack.world import AUDIT, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
WIKI = {"wiki": {"database_name": "wiki", "username": "wiki_user"}}
SECRET = "goldenpath/dev/shop/postgres"
ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{SECRET}-AbCdEf"
GATES = {
    "ungated": {},
    "approval": {"UNGATED_ENVIRONMENTS": "sandbox"},
    "digest": {"UNGATED_ENVIRONMENTS": "sandbox", "REQUIRE_PLAN_DIGEST": "dev"},
}


def event(name: str = "RotationSucceeded", **detail: Any) -> dict[str, Any]:
    """As CloudTrail tells EventBridge; of a rotation of the service unless something else is said."""
    sample: dict[str, Any] = json.loads((ROOT / "events/secret-rotated.json").read_text())
    sample["detail"] |= dict.fromkeys(("additionalEventData", "requestParameters", "responseElements"))
    sample["detail"] |= {"eventName": name, **(detail or {"additionalEventData": {"SecretId": ARN}})}
    if name != "RotationSucceeded":
        sample["detail-type"] = "AWS API Call via CloudTrail"
    return sample


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as made:
        made.declare_entries(SHOP)
        assert made.apply()["status"] == "applied"
        yield made


def rotate(world: World, application: str = "shop", username: str = "shop_user", database: str = "shop") -> str:
    return world.put_secret(application, username, database)


def codes(answer: dict[str, Any]) -> set[str]:
    return {warning["code"] for warning in answer["warnings"]}


def done(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["action"], change["username"]) for change in answer["changes"]]


@pytest.mark.parametrize("gate", GATES)
def test_the_server_follows_a_rotation_with_the_password_and_nothing_else(
    pg_server: Server, admin: Login, aws: Aws, gate: str
) -> None:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(SHOP)
        world.apply()
        world.settings |= GATES[gate]
        # Whatever else is pending waits for whom it concerns.
        world.declare_entries({**SHOP, **WIKI})
        password = rotate(world)
        before = dump(pg_server)
        answer = world.call(event())
        assert (answer["status"], done(answer)) == ("applied", [("set_password", "shop_user")])
        assert has_password(pg_server, "shop_user", password)
        assert "changes_left" in codes(answer)
        assert dump(pg_server) == before
        again = world.call(event())
        assert (again["status"], again["changes"]) == ("no_change", [])


@pytest.mark.parametrize(
    "said",
    [
        event(),
        event("PutSecretValue", requestParameters={"secretId": SECRET}),
        event("PutSecretValue", requestParameters={"secretId": ARN}),
        event("UpdateSecret", responseElements={"aRN": ARN}),
        event("UpdateSecretVersionStage", requestParameters={"secretId": SECRET, "versionStage": "AWSCURRENT"}),
        event("PutSecretValue", responseElements={"arn": ARN}, requestParameters={"secretId": "x"}),
    ],
)
def test_whichever_way_cloudtrail_names_the_secret_it_is_found(world: World, said: dict[str, Any]) -> None:
    password = rotate(world)
    assert world.call(said)["status"] == "applied"
    assert has_password(world.server, "shop_user", password)


@pytest.mark.parametrize("gate", ["approval", "digest"])
def test_another_secret_for_a_role_is_no_rotation_and_waits_for_an_approval(world: World, gate: str) -> None:
    """Who may declare and has a secret of its own would otherwise take over any role, past the gate."""
    world.settings |= GATES[gate]
    before = world.passwords["shop_user"]
    world.put_secret("evil", "shop_user", "shop")
    world.put_secret("evil", "shop_user", "shop")
    world.declare_entries({"evil": SHOP["shop"]}, with_secrets=False)
    secret = "goldenpath/dev/evil/postgres"
    answer = world.call(event("PutSecretValue", requestParameters={"secretId": secret}))
    assert answer["status"] == "approval_required"
    assert "password_unproved" in codes(answer)
    assert has_password(world.server, "shop_user", before)


def test_a_password_that_changed_twice_waits_for_an_approval_where_there_is_a_gate(world: World) -> None:
    world.settings |= GATES["approval"]
    rotate(world)
    last = rotate(world)
    assert world.call(event())["status"] == "approval_required"
    world.settings["UNGATED_ENVIRONMENTS"] = "dev"
    assert world.call(event())["status"] == "applied"
    assert has_password(world.server, "shop_user", last)


@pytest.mark.parametrize("secret", ["goldenpath/prod/shop/postgres", "goldenpath/dev/rds/master", "something/else"])
def test_a_secret_of_another_environment_or_of_nobody_is_ignored_and_said_so(world: World, secret: str) -> None:
    mark = world.server.mark()
    answer = world.call(event("PutSecretValue", requestParameters={"secretId": secret}))
    assert (answer["status"], codes(answer)) == ("superseded", {"secret_not_declared"})
    assert secret in answer["warnings"][0]["message"]
    assert "connection authorized" not in world.server.log_text(since=mark)
    run = answer["audit"]["run"].removeprefix(f"s3://{AUDIT}/")
    assert b",snapshot,skipped," in world.aws.read_object(AUDIT, run)


def test_before_there_is_a_snapshot_nothing_fails(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.master) as world:
        answer = world.call(event())
    assert (answer["status"], codes(answer)) == ("superseded", {"secret_not_declared"})


def test_a_rotation_under_way_leaves_the_password_alone(world: World) -> None:
    before = world.passwords["shop_user"]
    secrets = world.aws.client("secretsmanager")
    pending = {"username": "shop_user", "password": "the-next-one"}
    secrets.put_secret_value(SecretId=SECRET, SecretString=json.dumps(pending), VersionStages=["AWSPENDING"])
    answer = world.call(event("PutSecretValue", requestParameters={"secretId": SECRET}))
    assert answer["status"] == "no_change"
    assert has_password(world.server, "shop_user", before)
    for mode in ("dry_run", "drift", "apply"):
        answer = world.call(mode=mode)
        assert (answer["status"], codes(answer)) == ("in_sync" if mode == "drift" else "no_change", {"rotation"})


def test_whether_a_rotation_is_under_way_need_not_be_known_where_the_password_is_right(world: World) -> None:
    world.aws.fail("secretsmanager:DescribeSecret", times=ALWAYS, kind="access_denied")
    assert world.apply()["status"] == "no_change"
    rotate(world)
    with pytest.raises(SecretUnavailable):
        world.apply()


def test_another_secret_that_is_broken_keeps_no_rotation_waiting(world: World) -> None:
    world.declare_entries({**SHOP, **WIKI}, with_secrets=False)
    password = rotate(world)
    answer = world.call(event())
    assert answer["status"] == "applied"
    assert has_password(world.server, "shop_user", password)


def test_a_secret_that_was_broken_by_its_change_is_said(world: World) -> None:
    world.aws.put_secret(SECRET, {"username": "shop_user"})
    with pytest.raises(PlanBlocked, match='no "password"'):
        world.call(event())


def test_where_the_previous_password_cannot_be_read_somebody_has_to_approve(world: World) -> None:
    world.settings |= GATES["approval"]
    rotate(world)
    world.aws.fail("secretsmanager:GetSecretValue", ALWAYS, "access_denied", matching="AWSPREVIOUS")
    assert world.call(event())["status"] == "approval_required"


@pytest.mark.parametrize(
    "said", [event("DeleteSecret"), {**event(), "detail-type": "Object Created"}, event(readOnly=False)]
)
def test_an_event_that_says_nothing_of_a_new_password_is_refused(world: World, said: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        world.call(said)


def test_the_alarm_of_drift_is_neither_raised_nor_ended_by_a_run_that_looked_at_a_password(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.declare_entries({**SHOP, **WIKI})
    rotate(world)
    world.call(event())
    assert '"Drift"' not in capsys.readouterr().out


def test_an_application_logs_in_with_its_new_password(world: World) -> None:
    rotate(world)
    world.call(event())
    with closing(world.login("shop_user", "shop")) as shop:
        assert shop.run("SELECT current_user") == [["shop_user"]]
