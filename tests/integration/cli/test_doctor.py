"""`rds-provisioner doctor`: the function's own checks and the caller's, each failing for its own reason."""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rds_provisioner_cli.bucket_policy import audit_statements
from rds_provisioner_cli.doctor import examine, show_policy
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Given
from stack import invoke_api
from stack.aws import ACCOUNT, ALWAYS, REGION, Aws
from stack.binaries import ROOT
from stack.postgres import Server
from stack.runtime import Invocation
from stack.world import AUDIT, SNAPSHOTS, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
ALARM = "rds-provisioner-dev-failures"
OF_THE_CALLER = [
    "stack",
    "alias",
    "snapshot_events",
    "audit_events",
    "audit_policy",
    "subscribers",
    "failure_queue",
    "alarms",
]


class InProcess:
    """The function in this process behind the Invoke API; whatever else is asked goes to AWS."""

    name = "rds-provisioner-dev"

    def __init__(self, world: World) -> None:
        self.world, self.forward_to = world, world.aws.endpoint_url
        self.fails_with = ""

    def invoke_raw(self, body: bytes) -> Invocation:
        if self.fails_with:
            told = {"errorType": "InvalidRequest", "errorMessage": self.fails_with}
            return Invocation(told, "Unhandled", "")
        return Invocation(self.world.call(json.loads(body)), None, "")


class Account:
    """An environment as the stack makes it, without anything to be found."""

    def __init__(self, world: World, function: InProcess) -> None:
        self.world, self.aws, self.function = world, world.aws, function
        for bucket in (SNAPSHOTS, AUDIT):
            self.switch_events(bucket, on=True)
        self.client("s3").put_object_lock_configuration(
            Bucket=AUDIT, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )
        self.put_policy(audit_statements(AUDIT))
        self.topic = self.client("sns").create_topic(Name="rds-provisioner-dev")["TopicArn"]
        self.client("sns").subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:in")
        self.queue = self.client("sqs").create_queue(QueueName="rds-provisioner-dev-failures")["QueueUrl"]
        world.settings["NOTIFY_TOPIC_ARN"] = self.topic
        self.raise_alarm(ALARM, "OK")
        self.version = self.make_function()
        self.stack()
        world.declare_entries(SHOP)

    def client(self, service: str) -> Any:
        return self.aws.client(service)

    def switch_events(self, bucket: str, *, on: bool) -> None:
        configuration: dict[str, Any] = {"EventBridgeConfiguration": {}} if on else {}
        self.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)

    def put_policy(self, statements: list[dict[str, Any]]) -> None:
        # moto refuses by a statement whatever its condition says, so they stand here for an action that nobody tries.
        harmless = [{**each, "Action": "s3:DeleteBucket"} for each in statements]
        policy = {"Version": "2012-10-17", "Statement": harmless}
        self.client("s3").put_bucket_policy(Bucket=AUDIT, Policy=json.dumps(policy))

    def raise_alarm(self, name: str, state: str) -> None:
        cloudwatch = self.client("cloudwatch")
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="RdsProvisioner",
            MetricName="Failures",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
        )
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="test")

    def make_function(self) -> str:
        role = self.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        with zipfile.ZipFile(code := io.BytesIO(), "w") as archive:
            archive.writestr("f.py", "")
        made = self.client("lambda").create_function(
            FunctionName=self.function.name,
            Runtime="python3.13",
            Role=role,
            Handler="f.f",
            Code={"ZipFile": code.getvalue()},
            Publish=True,
        )
        self.client("lambda").create_alias(
            FunctionName=self.function.name, Name="live", FunctionVersion=made["Version"]
        )
        return str(made["Version"])

    def stack(self, *, digest: bool = False, **parameters: str) -> None:
        outputs = {
            "FunctionName": f"{self.function.name}:live",
            "FunctionVersion": self.version,
            "SnapshotBucket": SNAPSHOTS,
            "AuditBucket": AUDIT,
            "TopicArn": self.topic,
            "FailureQueueUrl": self.queue,
            **({"RequirePlanDigest": "dev"} if digest else {}),
        }
        said = {"ApplyOnSnapshot": "ENABLED", **parameters}
        template = {
            "Parameters": {name: {"Type": "String"} for name in said},
            "Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-the-stack"}}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName="rds-provisioner-dev")
        cloudformation.create_stack(
            StackName="rds-provisioner-dev",
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in said.items()],
        )


@pytest.fixture
def account(latest_server: Server, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        function = InProcess(world)
        server = invoke_api.serve(function)  # type: ignore[arg-type]
        # The person who asks is `function` to the stack: what the test itself calls never fails.
        for name, value in aws.environment(f"http://127.0.0.1:{server.server_port}").items():
            monkeypatch.setenv(name, value)
        yield Account(world, function)
        server.shutdown()


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[Exit, dict[str, Any]]:
    status = examine(Given("dev"), Screen(is_json=True), as_json=True)
    # Behind the metrics, which the function writes to the same stream here.
    written = capsys.readouterr().out
    return status, json.loads(written[written.index('{\n  "environment"') :])


def not_ok(document: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in document["checks"] if check["status"] != "ok"}


def line(document: dict[str, Any], name: str) -> str:
    [check] = [check for check in document["checks"] if check["name"] == name]
    return "; ".join(check[key] for key in ("what", "why", "next_step"))


@pytest.mark.usefixtures("account")
def test_where_all_is_well_every_line_is_ok_and_the_status_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = doctor(capsys)
    assert (status, document["status"], not_ok(document)) == (Exit.DONE, "ok", {})
    names = [check["name"] for check in document["checks"]]
    assert names[: len(OF_THE_CALLER)] == OF_THE_CALLER
    assert names.count("snapshot_events") == 1
    assert {"function", "tls", "verifiers", "secret:shop"} <= set(names)
    assert document["preflight"]["status"] == "ready"


def test_people_get_a_table(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.switch_events(SNAPSHOTS, on=False)
    assert examine(Given("dev"), Screen(), as_json=False) is Exit.FAILED
    text = capsys.readouterr().out
    assert "snapshot_events" in text
    assert "1 failed, 0 unknown" in text


def test_before_the_first_snapshot_it_prints_what_the_runbook_says(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.client("s3").delete_object(Bucket=SNAPSHOTS, Key=account.world.snapshot_key)
    status, document = doctor(capsys)
    assert (status, not_ok(document)) == (Exit.CHANGES, dict.fromkeys(("snapshot", "application_secrets"), "unknown"))
    counts = Counter(check["status"] for check in document["checks"])
    said = ", ".join(f"{counts[word]} {word}" for word in ("ok", "failed", "unknown"))
    assert (
        f"make doctor ENV=$ENV                              # ... {said}" in (ROOT / "docs/operations.md").read_text()
    )


def test_events_that_are_off_fail_unless_the_stack_asks_for_none(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.switch_events(SNAPSHOTS, on=False)
    status, document = doctor(capsys)
    assert (status, not_ok(document)) == (Exit.FAILED, {"snapshot_events": "failed"})
    assert "replaces the notifications" in line(document, "snapshot_events")
    account.stack(ApplyOnSnapshot="DISABLED")
    assert not_ok(doctor(capsys)[1]) == {}


def test_approvals_call_nobody_where_the_audit_bucket_sends_no_events(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.switch_events(AUDIT, on=False)
    assert not_ok(doctor(capsys)[1]) == {}
    account.stack(digest=True)
    assert not_ok(doctor(capsys)[1]) == {"audit_events": "failed"}


def test_a_topic_without_subscribers_fails(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    sns = account.client("sns")
    for each in sns.list_subscriptions()["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])
    _, document = doctor(capsys)
    assert not_ok(document) == {"subscribers": "failed"}
    assert "nobody is subscribed" in line(document, "subscribers")


def test_events_that_failed_for_good_and_alarms_are_named(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.client("sqs").send_message(QueueUrl=account.queue, MessageBody="{}")
    account.raise_alarm(ALARM, "ALARM")
    account.raise_alarm("rds-provisioner-dev-2-failures", "ALARM")
    _, document = doctor(capsys)
    assert not_ok(document) == {"failure_queue": "failed", "alarms": "failed"}
    assert "1 events failed for good" in line(document, "failure_queue")
    assert f"in alarm: {ALARM};" in line(document, "alarms")


def test_an_alias_that_is_not_what_was_deployed_is_named(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.version = "7"
    account.stack()
    _, document = doctor(capsys)
    assert not_ok(document) == {"alias": "failed"}
    assert "live is version 1, the stack made 7" in line(document, "alias")


def test_a_policy_that_lacks_statements_is_named_and_they_are_printed(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.client("s3").delete_bucket_policy(Bucket=AUDIT)
    status, document = doctor(capsys)
    assert (status, not_ok(document)) == (Exit.CHANGES, {"audit_policy": "unknown"})
    assert "doctor dev --policy" in line(document, "audit_policy")
    assert show_policy(Given("dev"), Screen()) is Exit.DONE
    statements: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    account.put_policy(statements)
    assert not_ok(doctor(capsys)[1]) == {}
    assert "RefuseClearText" in {each["Sid"] for each in statements}
    assert f"arn:aws:s3:::{AUDIT}/*" in json.dumps(statements)
    assert "AuditBucket" not in json.dumps(statements)


@pytest.mark.parametrize(
    ("operation", "name", "permission"),
    [
        ("lambda:GetAlias", "alias", "lambda:GetAlias"),
        ("s3:GetBucketPolicy", "audit_policy", "s3:GetBucketPolicy"),
        ("sns:ListSubscriptionsByTopic", "subscribers", "sns:ListSubscriptionsByTopic"),
        ("sqs:GetQueueAttributes", "failure_queue", "sqs:GetQueueAttributes"),
    ],
)
def test_what_the_caller_may_not_see_is_unknown_and_names_the_right(
    account: Account, capsys: pytest.CaptureFixture[str], operation: str, name: str, permission: str
) -> None:
    account.aws.fail(operation, ALWAYS, "access_denied")
    status, document = doctor(capsys)
    assert (status, not_ok(document)) == (Exit.CHANGES, {name: "unknown"})
    assert f"allow {permission}" in line(document, name)


def test_without_a_stack_the_function_is_asked_all_the_same(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.client("cloudformation").delete_stack(StackName="rds-provisioner-dev")
    status, document = doctor(capsys)
    assert status is Exit.FAILED
    assert not_ok(document) == {"stack": "failed", **dict.fromkeys(OF_THE_CALLER[1:], "unknown")}
    assert document["preflight"]["status"] == "ready"


def test_a_function_that_knows_no_preflight_is_said_to_be_old(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.function.fails_with = "mode: the mode is none that there is"
    status, document = doctor(capsys)
    assert (status, not_ok(document)) == (Exit.FAILED, {"function": "failed"})
    assert "older than this command" in line(document, "function")


@pytest.mark.usefixtures("account")
def test_who_has_no_clone_is_told_where_the_policy_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rds_provisioner_cli.bucket_policy.audit_statements.__defaults__", ("aws", tmp_path / "none"))
    with pytest.raises(Stopped, match="in a clone of the repository"):
        show_policy(Given("dev"), Screen())
