"""A secret that changes reaches the function by CloudTrail's event and the template's rule, and the server follows."""

import json
from typing import Any

import pytest

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import BACKSTAGE, KEYCLOAK, Deployment
from stack.aws import ACCOUNT, REGION
from stack.binaries import ROOT
from stack.dump import has_password

SAMPLE: dict[str, Any] = json.loads((ROOT / "events/secret-rotated.json").read_text())
APPROVAL = {"allow_db_provision": True, "approved_by": "alice"}


def told(name: str, secret: str, **detail: Any) -> dict[str, Any]:
    """What CloudTrail has EventBridge say of a call, or of a rotation that Secrets Manager itself tells of.

    A call names the secret as the caller did, by its name; the service by its ARN.
    """
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{secret}-AbCdEf"
    event: dict[str, Any] = json.loads(json.dumps(SAMPLE))
    event["detail"] |= {"eventName": name}
    if name.startswith("Rotation"):
        event["detail"] |= {"additionalEventData": {"SecretId": arn}, **detail}
        return event
    event["detail-type"] = "AWS API Call via CloudTrail"
    event["detail"] |= {
        "eventType": "AwsApiCall",
        "additionalEventData": None,
        "requestParameters": {"secretId": secret, "clientRequestToken": "5c7d0a52-5a8f-4d5e-9c5e-0d2f5d8a7b11"},
        "responseElements": {"arn": arn},
        **detail,
    }
    return event


def stage(secret: str) -> dict[str, Any]:
    """Of somebody who goes back to the version before."""
    label = {"versionStage": "AWSCURRENT", "moveToVersionId": "a" * 36, "removeFromVersionId": "b" * 36}
    return told("UpdateSecretVersionStage", secret, requestParameters={"secretId": secret, **label})


def change_password(deployment: Deployment) -> str:
    """A new current version of the secret; the one before becomes the previous one, as by a rotation."""
    deployment.passwords.pop("keycloak_user", None)
    deployment.put_secret("keycloak", "keycloak_user", "keycloak")
    return deployment.passwords["keycloak_user"]


@pytest.mark.parametrize(
    ("environment", "gate", "approval"),
    [("dev", "none", {}), ("test", "approval", APPROVAL), ("staging", "digest", {})],
)
def test_whoever_changes_a_secret_the_server_follows_past_the_gate_too(
    deploy_environment: Deploy, environment: str, gate: str, approval: dict[str, Any]
) -> None:
    there = deploy_environment(environment, Gate=gate)
    secret = f"goldenpath/{environment}/keycloak/postgres"
    there.put_snapshot(there.declare(keycloak=KEYCLOAK))
    digest = there.invoke("dry_run")["plan_digest"]
    if gate == "digest":
        there.approve(digest)
    assert there.invoke("apply", approval=approval or {"plan_digest": digest})["status"] == "applied"
    first = there.passwords["keycloak_user"]
    events = [told("RotationSucceeded", secret), told("PutSecretValue", secret), told("UpdateSecret", secret)]
    with there.rule() as bridge:
        for number, event in enumerate(events, 1):
            password = change_password(there)
            assert not has_password(there.server, "keycloak_user", password)
            bridge.announce(event)
            bridge.wait_for(number)
            answer = there.runtime.asynchronous[-1].payload
            assert [each["action"] for each in answer["changes"]] == ["set_password"], answer
            assert has_password(there.server, "keycloak_user", password)
        there.passwords["keycloak_user"] = first
        there.put_secret("keycloak", "keycloak_user", "keycloak")
        bridge.announce(stage(secret))
        bridge.wait_for(len(events) + 1)
        assert has_password(there.server, "keycloak_user", first)
    assert {answer.payload["status"] for answer in there.runtime.asynchronous} == {"applied"}


def test_what_changed_no_password_of_this_environment_calls_nobody(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE))
    assert dev.invoke("apply")["status"] == "applied"
    secret = "goldenpath/dev/keycloak/postgres"
    with dev.rule() as bridge:
        bridge.announce(told("PutSecretValue", secret, errorCode="AccessDenied"))
        # A rotation begins, or fails; its end is told by RotationSucceeded.
        bridge.announce(told("RotateSecret", secret))
        bridge.announce(told("RotationStarted", secret))
        bridge.announce(told("RotationFailed", secret))
        bridge.announce(told("RotationSucceeded", "goldenpath/prod/keycloak/postgres"))
        bridge.announce(told("RotationSucceeded", "goldenpath/dev/rds/master"))
        bridge.announce(told("RotationSucceeded", "goldenpath/dev/backstage/postgres"))
        [event] = bridge.wait_for(1)
    assert "backstage" in event["detail"]["additionalEventData"]["SecretId"]
    [answer] = dev.runtime.asynchronous
    assert answer.payload["status"] == "no_change"
