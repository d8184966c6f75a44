"""An environment whose plans are approved by an object, as it is deployed: who puts it has that plan applied."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import AUDIT, BACKSTAGE, KEYCLOAK, READER, Deployment
from stack.binaries import available
from stack.eventbridge import EventBridge
from stack.postgres import Server

NEWS = {"database_name": "news", "username": "news_user"}


@pytest.fixture
def prod(deploy_environment: Deploy) -> Deployment:
    return deploy_environment("prod", NotificationEmail="platform@example.com")


def answers(prod: Deployment, bridge: EventBridge, events: int) -> list[dict[str, Any]]:
    """What the function answered to the events, or the error that it raised, once so many have come."""
    bridge.wait_for(events)
    return [invocation.payload for invocation in prod.runtime.asynchronous]


def words(answer: dict[str, Any]) -> str:
    return str(answer.get("status") or answer["errorType"])


def rows(prod: Deployment) -> list[str]:
    return prod.aws.read_object(AUDIT, "governance/prod/rds_provision_audit.csv").decode().splitlines()


def event_of(key: str, template: dict[str, Any]) -> dict[str, Any]:
    """The event of an object in the audit bucket, made of another."""
    event = copy.deepcopy(template)
    event["detail"]["bucket"]["name"], event["detail"]["object"]["key"] = AUDIT, key
    return event


def renew_secret(prod: Deployment, application: str, username: str, database: str) -> None:
    """Put another secret in the place of an application's: it has another ARN then."""
    prod.aws.client("secretsmanager").delete_secret(
        SecretId=f"goldenpath/prod/{application}/postgres", ForceDeleteWithoutRecovery=True
    )
    prod.put_secret(application, username, database)


def test_a_plan_is_notified_approved_by_an_object_and_applied_without_another_call(prod: Deployment) -> None:
    with prod.rule() as bridge:
        version = prod.put_snapshot(prod.declare(keycloak=KEYCLOAK))
        [planned] = answers(prod, bridge, 1)
        assert (planned["status"], prod.databases()) == ("approval_required", set())
        digest = planned["plan_digest"]

        [notification] = prod.notifications()
        assert notification["Subject"] == "rds-provisioner prod: approval required"
        lines = notification["Message"].splitlines()
        assert f"to approve: make rds-approve ENV=prod DIGEST={digest}" in lines
        assert f"snapshot: {version}" in lines
        assert "asked for by: eventbridge" in lines
        assert "destructive: 1 (revoke public in keycloak)" in lines

        key = prod.approve(digest)
        assert words(answers(prod, bridge, 2)[1]) == "applied"
    assert prod.databases() == {"keycloak"}
    made = [row for row in rows(prod) if ",success," in row]
    assert made
    assert all(",alice," in row and key in row for row in made)
    assert prod.invoke("apply")["status"] == "no_change"


def test_a_tenant_that_makes_noise_in_between_keeps_its_own_database_and_no_other(prod: Deployment) -> None:
    with prod.rule() as bridge:
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE))
        prod.approve(answers(prod, bridge, 1)[0]["plan_digest"])
        assert words(answers(prod, bridge, 2)[1]) == "applied"
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE, reader=READER, news=NEWS))
        digest = answers(prod, bridge, 3)[2]["plan_digest"]
        login = prod.server.connect("keycloak_user", prod.passwords["keycloak_user"], "keycloak")
        with contextlib.closing(login) as tenant:
            tenant.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
        prod.approve(digest)
        ended = answers(prod, bridge, 4)[3]
    assert words(ended) == "PlanChanged"
    assert 'database "keycloak" was left as it is' in ended["errorMessage"]
    assert prod.databases() == {"keycloak", "backstage", "news"}
    assert prod.server.run_as_superuser("SELECT rolname FROM pg_roles WHERE rolname = 'analytics_reader'") != []
    assert any(",create_database,success," in row and ",news," in row for row in rows(prod))


def test_another_server_behind_the_administrators_secret_is_refused(
    prod: Deployment, postgres_servers: Callable[[int], Server]
) -> None:
    other = postgres_servers(min(version for version in available() if version != prod.server.version))
    other.reset()
    with prod.rule() as bridge:
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK))
        digest = answers(prod, bridge, 1)[0]["plan_digest"]
        administrator = other.create_delegated_admin()
        prod.aws.put_secret("goldenpath/prod/rds/master", other.admin_secret(administrator))
        prod.approve(digest)
        refused = answers(prod, bridge, 2)[1]
    assert words(refused) == "approval_required"
    assert any("it is for another server" in each["message"] for each in refused["warnings"])
    assert other.run_as_superuser("SELECT 1 FROM pg_roles WHERE rolname = 'keycloak_user'") == []
    assert prod.databases() == set()


def test_a_role_whose_secret_is_another_since_is_refused_and_its_database_with_it(prod: Deployment) -> None:
    with prod.rule() as bridge:
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE))
        digest = answers(prod, bridge, 1)[0]["plan_digest"]
        renew_secret(prod, "keycloak", "keycloak_user", "keycloak")
        prod.approve(digest)
        ended = answers(prod, bridge, 2)[1]
    assert words(ended) == "PlanChanged"
    assert 'role "keycloak_user" was left as it is' in ended["errorMessage"]
    assert prod.databases() == {"backstage"}


def test_an_approval_that_has_expired_is_refused(prod: Deployment) -> None:
    with prod.rule() as bridge:
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK))
        digest = answers(prod, bridge, 1)[0]["plan_digest"]
        [event] = bridge.events
    key = prod.approve(digest)
    for each in (key, *prod.aws.list_keys(AUDIT, "governance/prod/plans/by-digest/")):
        prod.aws.make_older(AUDIT, each, 24.5)
    refused = prod.runtime.invoke(event_of(key, event)).payload
    assert words(refused) == "approval_required"
    assert any("it is older than 24 hours" in each["message"] for each in refused["warnings"])
    called = prod.runtime.invoke({"environment": "prod"})
    assert (called.payload["errorType"], prod.databases()) == ("ApprovalRequired", set())


def test_an_approval_that_is_replayed_after_the_snapshot_moved_on_is_refused(prod: Deployment) -> None:
    with prod.rule() as bridge:
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK))
        key = prod.approve(answers(prod, bridge, 1)[0]["plan_digest"])
        assert words(answers(prod, bridge, 2)[1]) == "applied"
        replayed = bridge.events[1]
        assert replayed["detail"]["object"]["key"] == key
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE))
        answers(prod, bridge, 3)
        bridge.deliver(replayed)
        refused = answers(prod, bridge, 4)[3]
    assert words(refused) == "approval_required"
    assert any("another version of the snapshot" in each["message"] for each in refused["warnings"])
    assert prod.databases() == {"keycloak"}


def test_what_else_is_put_into_the_audit_bucket_calls_nobody(prod: Deployment) -> None:
    with prod.rule() as bridge:
        for key in ("governance/dev/approvals/x.json", "governance/prod/notes.json"):
            prod.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=b"{}")
        prod.put_snapshot(prod.declare(keycloak=KEYCLOAK))
        [event] = bridge.wait_for(1)
    assert event["detail"]["object"]["key"] == "prod/terraform.tfvars"
