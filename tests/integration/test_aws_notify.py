"""Notifications through SNS, read where a subscriber reads them; and what is said when there is no way to AWS."""

import json
import socket

import pytest

from provisioner.core.audit import Provenance
from provisioner.core.errors import AuditUnavailable, Finding, InvalidSnapshot
from provisioner.core.model import RunStatus, SnapshotReference
from provisioner.core.plan import Plan
from provisioner.core.report import AuditLocations, render_notification
from provisioner.edges.audit_store import AuditBucket
from provisioner.edges.aws import AwsClients, aws_clients
from provisioner.edges.notify import notify
from provisioner.edges.secret_store import read_secrets
from provisioner.edges.snapshot_store import read_snapshot
from stack.aws import ACCOUNT, REGION, Aws
from stack.world import World


@pytest.fixture
def clients(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AwsClients:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    return AwsClients(4)


@pytest.fixture
def topic(aws: Aws) -> str:
    return str(aws.client("sns").create_topic(Name="provisioner")["TopicArn"])


@pytest.fixture
def subscriber(aws: Aws, topic: str) -> str:
    sqs = aws.client("sqs")
    queue = str(sqs.create_queue(QueueName="subscriber")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return queue


def received(aws: Aws, queue: str) -> tuple[str, str]:
    (message,) = aws.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    body = json.loads(message["Body"])
    return body["Subject"], body["Message"]


def test_a_notification_arrives(aws: Aws, clients: AwsClients, topic: str, subscriber: str) -> None:
    assert notify(clients, topic, "rds-provisioner dev: approval required", "3 to create") is None
    assert received(aws, subscriber) == ("rds-provisioner dev: approval required", "3 to create")


def test_the_subject_of_the_longest_name_fits(aws: Aws, clients: AwsClients, topic: str, subscriber: str) -> None:
    subject = f"rds-provisioner {'x' * 63}: {RunStatus.APPROVAL_REQUIRED.value.replace('_', ' ')}"
    assert notify(clients, topic, subject, "-") is None
    assert received(aws, subscriber) == (subject, "-")


def test_the_message_of_the_largest_plan_fits_into_what_sns_takes(
    aws: Aws, clients: AwsClients, topic: str, subscriber: str
) -> None:
    long = "\U0001f600" * 300
    findings = tuple(Finding("code", f"{number}{long}", long) for number in range(2_000))
    plan, told = Plan("dev", blockers=findings, warnings=findings), Provenance("dev", long, long, long, long, long)
    message = render_notification(plan, AuditLocations(plan=long), told, needs_approval=True)
    assert notify(clients, topic, "subject", message) is None
    assert received(aws, subscriber)[1] == message


def test_without_a_topic_nothing_is_sent(aws: Aws, clients: AwsClients) -> None:
    assert notify(clients, "", "subject", "message") is None
    assert aws.calls() == []


def test_a_notification_that_fails_is_a_warning(clients: AwsClients) -> None:
    warning = notify(clients, "arn:aws:sns:us-east-1:123456789012:none", "subject", "message")
    assert isinstance(warning, Finding)
    assert (warning.code, "NotFound" in warning.message) == ("not_notified", True)


@pytest.mark.slow
def test_without_a_way_to_aws_each_edge_says_what_to_check(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for name, value in aws.environment(f"http://127.0.0.1:{nobody.getsockname()[1]}").items():
            monkeypatch.setenv(name, value)
        clients = AwsClients(4)
        with pytest.raises(InvalidSnapshot, match=r"EndpointConnectionError; check the way to the service"):
            read_snapshot(clients, SnapshotReference("acme-tfvars", "dev/terraform.tfvars"))
        with pytest.raises(AuditUnavailable, match=r"EndpointConnectionError; check the way to the service"):
            AuditBucket(clients, "acme-audit", "governance/dev").put_if_absent("plan.json", "{}")
        assert "EndpointConnectionError; check" in str(read_secrets(clients, ["app"])["app"])


def test_without_credentials_the_finding_says_so(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InvalidSnapshot, match=r"NoCredentialsError; run it with a role"):
        read_snapshot(AwsClients(4), SnapshotReference("acme-tfvars", "dev/terraform.tfvars"))


def test_a_warm_function_finds_its_clients_again(clients: AwsClients) -> None:
    del clients
    assert aws_clients(4) is aws_clients(4)
    assert aws_clients(4).s3 is aws_clients(4).s3


def test_the_answer_says_that_nobody_was_told(world: World) -> None:
    world.settings["NOTIFY_TOPIC_ARN"] = f"arn:aws:sns:{REGION}:{ACCOUNT}:none"
    world.declare_entries({"shop": {"database_name": "shop", "username": "shop_user"}})
    answer = world.drift()
    assert (answer["status"], [each["code"] for each in answer["warnings"]]) == ("drifted", ["not_notified"])
