"""What the template promises, held against what the code reads and what AWS lets a template do."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aws_lambda_powertools.shared import constants
from build_artifact import BUNDLE

from integration.infra.deployed_template import (
    ACCOUNT,
    REGION,
    REPOSITORY,
    Stack,
    as_list,
    broken_rules,
    deploy,
    is_allowed,
)
from provisioner.settings import read_settings

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
EVERYTHING = {
    "AdminSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-1a2b3c",
    "AdditionalSecretArns": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shared/reporting-AbCdEf",
    "DbHost": "db.example.internal",
    "DbPort": "5433",
    "DbName": "platform",
    "SecretsKmsKeyArns": f"{KEY},{KEY}-2",
    "LogsKmsKeyArn": KEY,
    "FunctionKmsKeyArn": KEY,
    "PagerTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:pager",
    "ReservedConcurrency": "1",
    "DriftScheduleState": "ENABLED",
    "SnapshotKmsKeyArn": KEY,
    "AuditKmsKeyArn": KEY,
    "TopicKmsKeyArn": KEY,
    "Tracing": "Active",
    "NotificationEmail": "platform@example.com",
    "CreateFleet": "true",
    "CreateS3Endpoint": "true",
    "CreateSecretsManagerEndpoint": "true",
    "CreateSnsEndpoint": "true",
    "RouteTableIds": "rtb-00000000000000000",
    "EndpointClientCidr": "10.0.0.0/16",
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
}


class Recorder(Mapping[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        self.asked: set[str] = set()
        self._values = values

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@pytest.fixture(scope="module")
def plain() -> Stack:
    return deploy()


@pytest.fixture(scope="module")
def full() -> Stack:
    return deploy(**EVERYTHING)


def secret(name: str) -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}"


def test_every_setting_of_the_template_is_read_by_the_code_and_the_other_way_round(full: Stack) -> None:
    variables = full.function_environment()
    recorder = Recorder(variables)
    read_settings(recorder)
    ours = {name for name in variables if not name.startswith("POWERTOOLS_")}
    assert ours == recorder.asked


def test_every_powertools_setting_of_the_template_is_one_that_powertools_reads(plain: Stack) -> None:
    known = {value for value in vars(constants).values() if isinstance(value, str)}
    theirs = {name for name in plain.function_environment() if name.startswith("POWERTOOLS_")}
    assert theirs
    assert theirs <= known


@pytest.mark.parametrize("environment", ["dev", "test", "staging", "prod"])
def test_the_code_accepts_the_settings_that_the_defaults_make(environment: str) -> None:
    settings = read_settings(deploy(Environment=environment).function_environment())
    assert settings.environment == environment
    assert settings.snapshot_key == f"{environment}/terraform.tfvars"
    assert settings.admin_secret_id == f"goldenpath/{environment}/rds/master"
    assert settings.app_secret_id == f"goldenpath/{environment}/{{app}}/postgres"
    assert settings.ungated_environments == ({"dev"} & {environment})
    assert settings.digest_environments == ({"prod"} & {environment})
    assert dict(settings.bucket_owners) == {"acme-tfvars": ACCOUNT, "acme-governance": ACCOUNT}


@pytest.mark.parametrize(
    ("parameters", "ungated", "digest"),
    [
        ({"Environment": "prod-orders"}, set(), set()),
        ({"Environment": "prod-orders", "Production": "true"}, set(), {"prod-orders"}),
        ({"Environment": "prod-orders", "Gate": "none"}, {"prod-orders"}, set()),
        ({"Environment": "prod-orders", "Gate": "approval"}, set(), set()),
        ({"Environment": "prod-orders", "Gate": "digest"}, set(), {"prod-orders"}),
        ({"Environment": "dev", "Gate": "approval"}, set(), set()),
        ({"Environment": "dev", "Production": "true"}, set(), {"dev"}),
        ({"Environment": "sandbox-eu", "Gate": "none"}, {"sandbox-eu"}, set()),
        ({"Environment": "qa", "Gate": "digest"}, set(), {"qa"}),
    ],
)
def test_the_gate_is_of_this_environment_whatever_its_name(
    parameters: dict[str, str], ungated: set[str], digest: set[str]
) -> None:
    settings = read_settings(deploy(**parameters).function_environment())
    assert settings.ungated_environments == ungated
    assert settings.digest_environments == digest


def test_the_code_accepts_the_settings_that_every_parameter_makes(full: Stack) -> None:
    settings = read_settings(full.function_environment())
    assert settings.admin_secret_id == EVERYTHING["AdminSecretArn"]
    assert (settings.database_host, settings.database_port, settings.database_name) == (
        "db.example.internal",
        5433,
        "platform",
    )
    assert settings.notify_topic_arn == f"arn:aws:sns:{REGION}:{ACCOUNT}:rds-provisioner-dev"


def test_the_bundle_is_looked_for_where_the_build_puts_it(plain: Stack) -> None:
    assert plain.function_environment()["DB_CA_BUNDLE"] == f"/var/task/{BUNDLE}"


def test_only_what_cannot_be_narrower_has_a_bare_star_for_a_resource(full: Stack) -> None:
    stars = {
        statement["Sid"]
        for statement in full.statements()
        if statement["Effect"] == "Allow" and "*" in as_list(statement["Resource"])
    }
    # The attachment to the VPC, the batch call and X-Ray know no resources; each says so where it stands.
    assert stars == {"AttachToTheVpc", "ReadInBatches", "SendTraces"}


def test_no_statement_allows_an_action_by_a_wildcard(full: Stack) -> None:
    allowed = [each for each in full.statements() if each["Effect"] == "Allow"]
    assert allowed
    assert not [action for each in allowed for action in as_list(each["Action"]) if "*" in action]


def test_the_fleet_may_call_the_functions_and_look_after_its_own_runs_only(full: Stack) -> None:
    statements = full.statements("FleetRole")
    stars = {each["Sid"] for each in statements if "*" in as_list(each["Resource"])}
    assert stars == {"DeliverItsLog", "SendTraces"}
    assert not [each["Sid"] for each in full.statements("FleetRole") if "*" in "".join(as_list(each["Action"]))]
    ours = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-prod"
    assert is_allowed(statements, "lambda:InvokeFunction", ours)
    assert not is_allowed(statements, "lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:another")
    own = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:rds-provisioner-dev-fleet/Fleet:1"
    assert is_allowed(statements, "states:StopExecution", own)
    assert not is_allowed(statements, "s3:GetObject", "arn:aws:s3:::acme-tfvars/dev/terraform.tfvars")
    assert not is_allowed(statements, "s3:PutObject", "arn:aws:s3:::acme-governance/governance/dev/runs/1.csv")


def test_the_fleet_takes_for_a_snapshot_what_the_functions_take(full: Stack) -> None:
    [machine] = full.of_type("AWS::StepFunctions::StateMachine").values()
    assert machine["DefinitionSubstitutions"]["SnapshotPattern"] == "*/terraform.tfvars"
    keys = set(re.findall(r"\$\{(\w+)\}", (REPOSITORY / "infra/fleet.asl.json").read_text(encoding="utf-8")))
    assert keys == set(machine["DefinitionSubstitutions"])


def test_the_code_of_the_function_may_not_do_what_attaching_it_to_the_vpc_takes(plain: Stack) -> None:
    by_sid = {each["Sid"]: each for each in plain.statements()}
    denied = by_sid["ButNotFromTheCode"]
    assert denied["Effect"] == "Deny"
    assert denied["Action"] == by_sid["AttachToTheVpc"]["Action"]
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-dev"
    assert denied["Condition"] == {"ArnLike": {"lambda:SourceFunctionArn": [function, f"{function}:*"]}}


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("secretsmanager:GetSecretValue", secret("goldenpath/prod/keycloak/postgres-AbCdEf")),
        ("secretsmanager:GetSecretValue", secret("goldenpath/prod/rds/master-AbCdEf")),
        ("secretsmanager:GetSecretValue", secret("goldenpath/dev/keycloak/admin-AbCdEf")),
        ("secretsmanager:GetSecretValue", secret("goldenpath/dev/backstage/secrets-AbCdEf")),
        ("secretsmanager:PutSecretValue", secret("goldenpath/dev/keycloak/postgres-AbCdEf")),
        ("s3:GetObject", "arn:aws:s3:::acme-tfvars/prod/terraform.tfvars"),
        ("s3:GetObject", "arn:aws:s3:::acme-tfvars/dev/terraform.tfstate"),
        ("s3:PutObject", "arn:aws:s3:::acme-tfvars/dev/terraform.tfvars"),
        ("s3:PutObject", "arn:aws:s3:::acme-governance/governance/prod/rds_provision_audit.csv"),
        ("s3:GetObject", "arn:aws:s3:::acme-governance/governance/prod/plans/plan.json"),
        ("s3:PutObject", "arn:aws:s3:::acme-governance/governance/dev/approvals/0a1b.json"),
        ("s3:DeleteObject", "arn:aws:s3:::acme-governance/governance/dev/rds_provision_audit.csv"),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::acme-governance/governance/dev/rds_provision_audit.csv"),
        ("s3:BypassGovernanceRetention", "arn:aws:s3:::acme-governance/governance/dev/rds_provision_audit.csv"),
        ("kms:Decrypt", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/another"),
        ("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-prod"),
        ("sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:rds-provisioner-prod"),
    ],
)
def test_the_function_may_not_reach_beyond_its_environment(full: Stack, action: str, resource: str) -> None:
    assert not is_allowed(full.statements(), action, resource)


NAMES = {"AlarmName", "DashboardName", "FunctionName", "LogGroupName", "Name", "QueueName", "TopicName"}


def names_of(stack: Stack) -> set[tuple[str, str]]:
    return {
        (resource["Type"], str(value))
        for resource in stack.resources.values()
        for name, value in resource["Properties"].items()
        if name in NAMES and "rds-provisioner" in str(value)
    }


def test_several_instances_stand_side_by_side_in_one_account_and_reach_nothing_of_each_other(full: Stack) -> None:
    orders = deploy(**{**EVERYTHING, "Environment": "dev-orders"})
    assert len(names_of(full)) > 15
    assert names_of(full).isdisjoint(names_of(orders))
    for here, there in ((full, "dev-orders"), (orders, "dev")):
        statements = here.statements()
        for action, resource in (
            ("secretsmanager:GetSecretValue", secret(f"goldenpath/{there}/keycloak/postgres-AbCdEf")),
            ("s3:GetObject", f"arn:aws:s3:::acme-tfvars/{there}/terraform.tfvars"),
            ("s3:PutObject", f"arn:aws:s3:::acme-governance/governance/{there}/rds_provision_audit.csv"),
            ("sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:rds-provisioner-{there}"),
            ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:rds-provisioner-{there}-failures"),
        ):
            assert not is_allowed(statements, action, resource)
            assert is_allowed(statements, action, resource.replace(there, here.parameters["Environment"]))


def test_the_function_may_store_and_read_reports_of_access_and_list_those_of_its_environment(plain: Stack) -> None:
    report = "arn:aws:s3:::acme-governance/governance/dev/access/20261127T101500.000Z-1.json"
    assert is_allowed(plain.statements(), "s3:PutObject", report)
    assert is_allowed(plain.statements(), "s3:GetObject", report)
    assert not is_allowed(plain.statements(), "s3:PutObject", report.replace("/dev/", "/prod/"))
    [listing] = [
        each
        for each in plain.statements()
        if each["Action"] == "s3:ListBucket" and each["Resource"].endswith("acme-governance")
    ]
    assert listing["Condition"] == {"StringLikeIfExists": {"s3:prefix": "governance/dev/*"}}


def test_the_report_of_access_is_made_monthly_where_that_is_switched_on(plain: Stack) -> None:
    off = plain.properties("ProvisionerFunctionAccessReport")
    assert (off["State"], off["ScheduleExpression"]) == ("DISABLED", "cron(0 6 1 * ? *)")
    on = deploy(AccessScheduleState="ENABLED", AccessSchedule="rate(7 days)")
    schedule = on.properties("ProvisionerFunctionAccessReport")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "rate(7 days)")
    event = json.loads((REPOSITORY / "events/access-schedule.json").read_text(encoding="utf-8"))
    assert json.loads(schedule["Target"]["Input"]) == event


@pytest.mark.parametrize("key", ["SnapshotKmsKeyArn", "AuditKmsKeyArn", "SecretsKmsKeyArns", "TopicKmsKeyArn"])
def test_a_key_is_used_only_where_it_is_given_and_only_through_its_service(key: str) -> None:
    without = deploy()
    statements = [each for each in deploy(**{key: KEY}).statements() if KEY in as_list(each["Resource"])]
    assert not any(action.startswith("kms:") for each in without.statements() for action in as_list(each["Action"]))
    assert len(statements) == 1
    assert not deploy(**{key: KEY}).properties("ProvisionerFunction").get("KmsKeyArn")
    service = {"Snap": "s3", "Audi": "s3", "Secr": "secretsmanager", "Topi": "sns"}[key[:4]]
    assert statements[0]["Condition"] == {"StringEquals": {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}}


def test_the_keys_of_log_topic_and_variables_are_used_where_they_are_given(plain: Stack, full: Stack) -> None:
    places = [
        ("ProvisionerLogGroup", "KmsKeyId"),
        ("ProvisionerFunction", "KmsKeyArn"),
        ("NotificationTopic", "KmsMasterKeyId"),
    ]
    assert [full.properties(name)[key] for name, key in [*places, ("FleetLogGroup", "KmsKeyId")]] == [KEY] * 4
    assert not [name for name, key in places if key in plain.properties(name)]
    [statement] = [each for each in full.statements() if each.get("Sid") == "DecryptItsOwnVariables"]
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-dev*"
    assert statement["Condition"] == {"StringLike": {"kms:EncryptionContext:aws:lambda:FunctionArn": function}}


def test_secrets_of_several_keys_and_secrets_named_by_a_pattern_are_read(full: Stack) -> None:
    for key in (KEY, f"{KEY}-2"):
        assert is_allowed(full.statements(), "kms:Decrypt", key)
    shared = deploy(AdditionalSecretArns=secret("shared/*"))
    assert is_allowed(shared.statements(), "secretsmanager:GetSecretValue", secret("shared/reporting-AbCdEf"))


def test_the_roles_take_buckets_of_the_account_that_is_named_only() -> None:
    stack = deploy(CreateFleet="true", AuditBucketOwner="210987654321")
    touching = [
        (statement["Sid"], statement["Condition"]["StringEquals"]["aws:ResourceAccount"])
        for role in ("ProvisionerRole", "FleetRole")
        for statement in stack.statements(role)
        if statement["Effect"] == "Allow" and "Object" in "".join(as_list(statement["Action"]))
    ]
    assert touching == [
        ("ReadSnapshotsOfThisEnvironment", ACCOUNT),
        ("WriteTheTrailAndThePlans", "210987654321"),
        ("ReadHowTheAuditIsSet", "210987654321"),
        ("WriteTheResults", "210987654321"),
    ]


def test_everybody_calls_the_alias_and_a_change_of_any_property_makes_a_version(full: Stack) -> None:
    alias = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-dev:live"
    rules = full.of_type("AWS::Events::Rule").values()
    schedule = full.properties("ProvisionerFunctionDriftCheck")
    [invoked] = full.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert {rule["Targets"][0]["Arn"] for rule in rules} == {alias}
    assert schedule["Target"]["Arn"] == alias
    assert invoked["Qualifier"] == "live"
    assert full.outputs["FunctionName"]["Value"] == "rds-provisioner-dev:live"
    assert "'rds-provisioner-{}:live'" in (REPOSITORY / "infra/fleet.asl.json").read_text(encoding="utf-8")
    source = (REPOSITORY / "template.yaml").read_text(encoding="utf-8")
    assert "AutoPublishAliasAllProperties: true" in source
    [version] = full.of_type("AWS::Lambda::Version")
    assert full.resources[version]["DeletionPolicy"] == "Retain"


def test_the_runtime_is_never_held_back_and_its_log_has_no_level_of_its_own(plain: Stack) -> None:
    function = plain.properties("ProvisionerFunction")
    assert function["RuntimeManagementConfig"] == {"UpdateRuntimeOn": "Auto"}
    assert function["LoggingConfig"] == {"LogGroup": "/aws/lambda/rds-provisioner-dev", "LogFormat": "Text"}


def test_events_may_wait_their_turn_in_lambdas_own_queue(plain: Stack, full: Stack) -> None:
    [invoked] = plain.of_type("AWS::Lambda::EventInvokeConfig").values()
    # Six hours are the most that Lambda keeps an event.
    assert (invoked["MaximumEventAgeInSeconds"], invoked["MaximumRetryAttempts"]) == (21600, 2)
    assert "ReservedConcurrentExecutions" not in plain.properties("ProvisionerFunction")
    assert full.properties("ProvisionerFunction")["ReservedConcurrentExecutions"] == "1"


@pytest.mark.parametrize("name", ["ProvisionerLogGroup", "FleetLogGroup", "FailureQueue"])
def test_what_holds_evidence_outlives_the_stack_but_not_a_create_that_failed(full: Stack, name: str) -> None:
    assert full.resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert full.resources[name]["UpdateReplacePolicy"] == "Retain"


def test_the_schedule_sends_the_event_of_the_drift_check(plain: Stack) -> None:
    schedule = plain.properties("ProvisionerFunctionDriftCheck")
    expected = {"environment": "dev", "mode": "drift", "requested_by": "schedule"}
    assert json.loads(schedule["Target"]["Input"]) == expected


def test_the_rule_takes_the_snapshot_of_its_own_environment_only(plain: Stack) -> None:
    assert plain.properties("ProvisionerFunctionSnapshotChanged")["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["acme-tfvars"]}, "object": {"key": ["dev/terraform.tfvars"]}},
    }


SECRETS = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
NAME = "goldenpath/dev/keycloak/postgres"


@pytest.mark.parametrize(
    ("detail", "is_taken"),
    [
        ({"eventName": "PutSecretValue", "requestParameters": {"secretId": NAME}}, True),
        ({"eventName": "UpdateSecret", "requestParameters": {"secretId": f"{SECRETS}{NAME}-AbCdEf"}}, True),
        ({"eventName": "UpdateSecretVersionStage", "requestParameters": {"secretId": NAME}}, True),
        ({"eventName": "RotateSecret", "requestParameters": {"secretId": NAME}}, False),
        ({"eventName": "RotationSucceeded", "additionalEventData": {"SecretId": f"{SECRETS}{NAME}-AbCdEf"}}, True),
        ({"eventName": "PutSecretValue", "requestParameters": {"secretId": NAME}, "errorCode": "AccessDenied"}, False),
        ({"eventName": "DescribeSecret", "requestParameters": {"secretId": NAME}}, False),
        ({"eventName": "PutSecretValue", "requestParameters": {"secretId": "goldenpath/dev/rds/master"}}, False),
        ({"eventName": "PutSecretValue", "requestParameters": {"secretId": "goldenpath/prod/a/postgres"}}, False),
    ],
)
def test_the_rule_of_secrets_takes_new_values_of_its_own_environments_applications(
    plain: Stack, detail: dict[str, Any], *, is_taken: bool
) -> None:
    """By moto's reading of EventBridge's patterns."""
    from moto.events.models import EventPattern

    pattern = plain.properties("ProvisionerFunctionSecretChanged")["EventPattern"]
    event: Any = {
        "source": "aws.secretsmanager",
        "detail-type": "AWS API Call via CloudTrail",
        "detail": {"eventSource": "secretsmanager.amazonaws.com", **detail},
    }
    assert EventPattern(json.dumps(pattern), pattern).matches_event(event) == is_taken


def test_who_wants_no_secret_to_be_followed_can_say_so(plain: Stack) -> None:
    assert plain.properties("ProvisionerFunctionSecretChanged")["State"] == "ENABLED"
    stack = deploy(ApplyRotatedSecrets="DISABLED")
    assert stack.properties("ProvisionerFunctionSecretChanged")["State"] == "DISABLED"


def test_what_fails_for_good_is_kept_in_the_failure_queue(plain: Stack) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:rds-provisioner-dev-failures"
    [invoked] = plain.of_type("AWS::Lambda::EventInvokeConfig").values()
    rules = plain.of_type("AWS::Events::Rule").values()
    schedule = plain.properties("ProvisionerFunctionDriftCheck")
    sweep = deploy(CreateFleet="true").properties("FleetStateMachineSweep")
    assert sweep["Target"]["DeadLetterConfig"]["Arn"] == queue
    assert sweep["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 5
    sweeping = deploy(CreateFleet="true").statements("FleetStateMachineSweepRole")
    assert is_allowed(sweeping, "sqs:SendMessage", queue)
    assert invoked["DestinationConfig"]["OnFailure"]["Destination"] == queue
    assert invoked["MaximumRetryAttempts"] == 2
    assert {rule["Targets"][0]["DeadLetterConfig"]["Arn"] for rule in rules} == {queue}
    assert schedule["Target"]["DeadLetterConfig"]["Arn"] == queue


TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:rds-provisioner-dev"
PAGER = f"arn:aws:sns:{REGION}:{ACCOUNT}:pager"


def test_every_alarm_reaches_the_topic_says_what_to_do_first_and_names_a_chapter(full: Stack) -> None:
    runbook = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ (.*)$", runbook, re.MULTILINE))
    alarms = full.of_type("AWS::CloudWatch::Alarm")
    assert len(alarms) == 8
    for alarm in alarms.values():
        assert alarm["AlarmActions"][0] == TOPIC
        assert re.search(r"\. First [a-z]", alarm["AlarmDescription"])
        [chapter] = re.findall(r'docs/operations\.md, "(.*)"$', alarm["AlarmDescription"])
        assert chapter in headings
        assert len(alarm["AlarmDescription"]) <= 1024


def test_the_pager_hears_of_failures_of_ours_or_of_a_server_and_of_nothing_else(full: Stack) -> None:
    alarms = full.of_type("AWS::CloudWatch::Alarm")
    paging = {name for name, alarm in alarms.items() if PAGER in alarm["AlarmActions"]}
    assert paging == {"FailureAlarm", "CrashAlarm", "StuckLockAlarm", "SilenceAlarm", "FleetAlarm"}
    assert alarms["FailureAlarm"]["MetricName"] == "Failures"


def test_no_alarm_compares_lambdas_numbers_of_the_beginning_with_ours_of_the_end(full: Stack) -> None:
    for alarm in full.of_type("AWS::CloudWatch::Alarm").values():
        parts = [part["MetricStat"]["Metric"] for part in alarm.get("Metrics", []) if "MetricStat" in part]
        assert not {"Errors", "Duration"} & {part["MetricName"] for part in parts if part["Namespace"] == "AWS/Lambda"}
        assert len({part["Namespace"] for part in parts} & {"AWS/Lambda", "RdsProvisioner"}) <= 1


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-25T12:00:00.000Z 8f5a0c6e Task timed out after 900.10 seconds",
        "RequestId: 8f5a0c6e Error: Runtime exited with error: signal: killed",
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'provisioner.handler'",
    ],
)
def test_what_lambda_writes_when_it_ends_a_function_is_counted(plain: Stack, line: str) -> None:
    [crashes] = plain.of_type("AWS::Logs::MetricFilter").values()
    assert any(term in line for term in re.findall(r'\?"([^"]+)"', crashes["FilterPattern"]))
    [transformation] = crashes["MetricTransformations"]
    alarm = plain.properties("CrashAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == (
        transformation["MetricNamespace"],
        transformation["MetricName"],
    )


def test_a_refusal_in_the_log_is_no_crash(plain: Stack) -> None:
    [crashes] = plain.of_type("AWS::Logs::MetricFilter").values()
    line = "[ERROR] PlanBlocked: role keycloak_user exists but is not managed here; the runbook says what to do"
    assert not any(term in line for term in re.findall(r'\?"([^"]+)"', crashes["FilterPattern"]))


def test_nothing_alarms_before_the_first_snapshot(plain: Stack) -> None:
    # No check fails for want of a snapshot, and no alarm takes the silence before the first run for a failure.
    schedule = plain.properties("ProvisionerFunctionDriftCheck")
    assert schedule["State"] == "DISABLED"
    alarms = plain.of_type("AWS::CloudWatch::Alarm")
    assert {alarm["TreatMissingData"] for alarm in alarms.values()} == {"notBreaching", "ignore"}
    assert "DISABLED" in plain.outputs["DriftCheck"]["Value"]
    assert "SilenceAlarm" in deploy(DriftScheduleState="ENABLED").resources


def test_somebody_is_asked_to_subscribe(plain: Stack, full: Stack) -> None:
    assert plain.outputs["Subscribers"]["Value"].startswith("NOBODY: ")
    assert "aws sns subscribe" in plain.outputs["Subscribers"]["Value"]
    assert full.outputs["Subscribers"]["Value"].startswith("platform@example.com, ")


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["plain", "full"])
def test_the_dashboard_is_json_and_shows_every_alarm_that_stands(parameters: dict[str, str]) -> None:
    stack = deploy(**parameters)
    [dashboard] = stack.of_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    [shown] = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    names = {alarm["AlarmName"] for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()}
    assert {arn.rpartition(":")[2] for arn in shown} == names
    assert [widget for widget in widgets if widget["type"] == "text"]


def test_the_fleet_is_watched_and_keeps_a_log(full: Stack) -> None:
    [machine] = full.of_type("AWS::StepFunctions::StateMachine").values()
    assert machine["LoggingConfiguration"]["Level"] == "ERROR"
    group = "/aws/vendedlogs/states/rds-provisioner-dev-fleet"
    assert full.properties("FleetLogGroup")["LogGroupName"] == group
    watched = [part["MetricStat"]["Metric"] for part in full.properties("FleetAlarm")["Metrics"][1:]]
    assert {each["MetricName"] for each in watched} >= {"ExecutionsFailed", "ExecutionsTimedOut"}


def test_nothing_that_can_be_left_out_is_there_unless_it_is_asked_for(plain: Stack, full: Stack) -> None:
    assert set(full.resources) - set(plain.resources) == {
        "S3Endpoint",
        "SecretsManagerEndpoint",
        "SnsEndpoint",
        "EndpointSecurityGroup",
        "NotificationSubscription",
        "SilenceAlarm",
        "FleetAlarm",
        "FleetLogGroup",
        "FleetRole",
        "FleetStateMachine",
        "FleetStateMachineSweep",
        "FleetStateMachineSweepRole",
    }


def test_an_endpoint_lets_every_group_of_the_function_in() -> None:
    def let_in(groups: str) -> list[str]:
        stack = deploy(**{**EVERYTHING, "SecurityGroupIds": groups})
        ingress = stack.properties("EndpointSecurityGroup")["SecurityGroupIngress"]
        return [rule.get("SourceSecurityGroupId") or rule["CidrIp"] for rule in ingress]

    assert let_in("sg-1") == ["sg-1", "10.0.0.0/16"]
    assert let_in("sg-1,sg-2,sg-3,sg-4,sg-5") == ["sg-1", "sg-2", "sg-3", "sg-4", "sg-5", "10.0.0.0/16"]


def test_the_endpoint_of_s3_is_no_way_out_for_data() -> None:
    [statement] = deploy(**EVERYTHING).properties("S3Endpoint")["PolicyDocument"]["Statement"]
    asked = statement["Condition"]["StringEquals"]
    assert asked == {"aws:PrincipalAccount": ACCOUNT, "aws:ResourceAccount": [ACCOUNT]}
    foreign = deploy(**EVERYTHING, AuditBucketOwner="210987654321").properties("S3Endpoint")
    [statement] = foreign["PolicyDocument"]["Statement"]
    assert statement["Condition"]["StringEquals"]["aws:ResourceAccount"] == [ACCOUNT, "210987654321"]


@pytest.mark.parametrize("production", [{"Environment": "prod"}, {"Environment": "orders", "Production": "true"}])
def test_production_cannot_be_deployed_without_its_gate_or_without_a_listener(production: dict[str, str]) -> None:
    told = {**production, "NotificationEmail": "platform@example.com"}
    assert broken_rules(**told) == broken_rules(**told, Gate="digest") == []
    assert broken_rules(**production, PagerTopicArn=PAGER) == []
    for gate in ("none", "approval"):
        assert ["Gate must be digest" in broken for broken in broken_rules(**told, Gate=gate)] == [True]
    [broken] = broken_rules(**production)
    assert "NotificationEmail or PagerTopicArn" in broken


def test_what_is_no_production_may_choose_its_gate() -> None:
    for gate in ("", "none", "approval", "digest"):
        assert broken_rules(Environment="staging", Gate=gate) == []


def test_the_outputs_name_what_the_hook_and_the_command_look_for(plain: Stack) -> None:
    values: dict[str, Any] = {name: output["Value"] for name, output in plain.outputs.items()}
    assert values["FunctionName"] == "rds-provisioner-dev:live"
    assert values["SnapshotBucket"] == "acme-tfvars"
    assert values["SnapshotKey"] == "{environment}/terraform.tfvars"
    assert values["AuditPrefix"] == "governance"
    assert values["AuditTrail"] == "s3://acme-governance/governance/dev/rds_provision_audit.csv"
    assert values["UngatedEnvironments"] == "dev"
    assert "RequirePlanDigest" not in values
    assert deploy(Environment="prod").outputs["RequirePlanDigest"]["Value"] == "prod"
