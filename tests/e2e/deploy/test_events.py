"""A snapshot put to S3 reaches the function through EventBridge, by the rule of the template."""

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import BACKSTAGE, KEYCLOAK, SNAPSHOTS, Deployment
from stack.eventbridge import EventBridge


def statuses(deployment: Deployment, bridge: EventBridge, events: int) -> list[str]:
    """The status of each answer, once so many events have come."""
    bridge.wait_for(events)
    return [invocation.payload.get("status", invocation.payload) for invocation in deployment.runtime.asynchronous]


def test_a_snapshot_that_is_put_is_applied(dev: Deployment) -> None:
    with dev.rule() as bridge:
        dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
        assert statuses(dev, bridge, 1) == ["applied"]
    assert dev.databases() == {"keycloak"}


def test_an_event_that_comes_twice_changes_nothing_the_second_time(dev: Deployment) -> None:
    with dev.rule() as bridge:
        dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
        [event] = bridge.wait_for(1)
        bridge.deliver(event)
        assert statuses(dev, bridge, 2) == ["applied", "no_change"]


def test_an_event_that_comes_late_does_not_undo_a_newer_snapshot(dev: Deployment) -> None:
    with dev.rule() as bridge:
        dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
        [first] = bridge.wait_for(1)
        dev.put_snapshot(dev.declare(backstage=BACKSTAGE))
        bridge.wait_for(2)
        bridge.deliver(first)
        assert statuses(dev, bridge, 3) == ["applied", "applied", "superseded"]
    assert dev.databases() == {"keycloak", "backstage"}


def test_what_else_lies_in_the_folder_calls_nobody(dev: Deployment) -> None:
    content = dev.declare(keycloak=KEYCLOAK).read_bytes()
    with dev.rule() as bridge:
        for key in ("dev/previews/1.tfvars", "dev/terraform.tfvars.json", "prod/terraform.tfvars", "dev/readme.md"):
            dev.aws.put_snapshot(SNAPSHOTS, key, content)
        dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
        events = bridge.wait_for(1)
    assert [event["detail"]["object"]["key"] for event in events] == ["dev/terraform.tfvars"]


def test_in_a_gated_environment_the_event_plans_and_notifies_and_a_call_that_is_approved_applies(
    deploy_environment: Deploy,
) -> None:
    staging = deploy_environment("staging")
    with staging.rule() as bridge:
        staging.put_snapshot(staging.declare(keycloak=KEYCLOAK))
        assert statuses(staging, bridge, 1) == ["approval_required"]
    assert staging.databases() == set()

    [notification] = staging.notifications()
    digest = staging.runtime.asynchronous[0].payload["plan_digest"]
    assert notification["Subject"] == "rds-provisioner staging: approval required"
    assert digest in notification["Message"]

    approval = {"allow_db_provision": True, "approved_by": "alice", "plan_digest": digest}
    assert staging.invoke("apply", approval=approval)["status"] == "applied"
    assert staging.databases() == {"keycloak"}


def test_a_plan_that_changed_after_its_approval_is_refused(deploy_environment: Deploy) -> None:
    staging = deploy_environment("staging")
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK))
    digest = staging.invoke("dry_run")["plan_digest"]
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE))
    approval = {"allow_db_provision": True, "approved_by": "alice", "plan_digest": digest}
    invocation = staging.runtime.invoke({"environment": "staging", "approval": approval})
    assert invocation.payload["errorType"] == "PlanChanged"
    assert staging.databases() == set()


def test_a_call_for_another_environment_is_refused(deploy_environment: Deploy) -> None:
    staging = deploy_environment("staging")
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK))
    invocation = staging.runtime.invoke({"environment": "dev"})
    assert invocation.payload["errorType"] == "InvalidRequest"
    assert staging.databases() == set()
