"""What the template promises, held against what the code reads and what AWS lets a template do."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aws_lambda_powertools.shared import constants
from build_artifact import BUNDLE

from provisioner.settings import read_settings
from unit.infra.deployed_template import (
    ACCOUNT,
    REGION,
    REPOSITORY,
    Stack,
    as_list,
    deploy,
    is_allowed,
    translated_template,
)

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
EVERYTHING = {
    "AdminSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-1a2b3c",
    "AdditionalSecretArns": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shared/reporting-AbCdEf",
    "DbHost": "db.example.internal",
    "DbPort": "5433",
    "DbName": "platform",
    "SecretsKmsKeyArn": KEY,
    "SnapshotKmsKeyArn": KEY,
    "AuditKmsKeyArn": KEY,
    "TopicKmsKeyArn": KEY,
    "Tracing": "Active",
    "NotificationEmail": "platform@example.com",
    "CreateFleet": "true",
    "CreateSnapshotBucket": "true",
    "CreateAuditBucket": "true",
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
    assert settings.ungated_environments == {"dev"}
    assert settings.digest_environments == {"prod"}


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
    assert not [each["Sid"] for each in statements if "*" in as_list(each["Resource"])]
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
    assert denied["Condition"] == {"ArnEquals": {"lambda:SourceFunctionArn": function}}


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


@pytest.mark.parametrize("key", ["SnapshotKmsKeyArn", "AuditKmsKeyArn", "SecretsKmsKeyArn", "TopicKmsKeyArn"])
def test_a_key_is_used_only_where_it_is_given_and_only_through_its_service(key: str) -> None:
    without = deploy()
    statements = [each for each in deploy(**{key: KEY}).statements() if KEY in as_list(each["Resource"])]
    assert not any(action.startswith("kms:") for each in without.statements() for action in as_list(each["Action"]))
    assert len(statements) == 1
    service = {"Snap": "s3", "Audi": "s3", "Secr": "secretsmanager", "Topi": "sns"}[key[:4]]
    assert statements[0]["Condition"] == {"StringEquals": {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}}


def test_the_schedule_sends_the_event_of_the_drift_check(plain: Stack) -> None:
    [schedule] = plain.of_type("AWS::Scheduler::Schedule").values()
    expected = {"environment": "dev", "mode": "drift", "requested_by": "schedule"}
    assert json.loads(schedule["Target"]["Input"]) == expected


def test_the_rule_takes_the_snapshot_of_its_own_environment_only(plain: Stack) -> None:
    [rule] = plain.of_type("AWS::Events::Rule").values()
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["acme-tfvars"]}, "object": {"key": ["dev/terraform.tfvars"]}},
    }


def test_what_fails_for_good_is_kept_in_the_failure_queue(plain: Stack) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:rds-provisioner-dev-failures"
    [invoked] = plain.of_type("AWS::Lambda::EventInvokeConfig").values()
    [rule] = plain.of_type("AWS::Events::Rule").values()
    [schedule] = plain.of_type("AWS::Scheduler::Schedule").values()
    assert invoked["DestinationConfig"]["OnFailure"]["Destination"] == queue
    assert invoked["MaximumRetryAttempts"] == 2
    assert rule["Targets"][0]["DeadLetterConfig"]["Arn"] == queue
    assert schedule["Target"]["DeadLetterConfig"]["Arn"] == queue


def test_every_alarm_reaches_the_topic_and_names_a_chapter_of_the_runbook(plain: Stack) -> None:
    runbook = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ (.*)$", runbook, re.MULTILINE))
    alarms = plain.of_type("AWS::CloudWatch::Alarm")
    assert set(alarms) == {
        "FailureAlarm",
        "DriftAlarm",
        "StuckLockAlarm",
        "DurationAlarm",
        "FailureQueueAlarm",
        "SilenceAlarm",
    }
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [f"arn:aws:sns:{REGION}:{ACCOUNT}:rds-provisioner-dev"]
        [chapter] = re.findall(r'docs/operations\.md, "(.*)"', alarm["AlarmDescription"])
        assert chapter in headings


def test_without_a_schedule_silence_alarms_nobody() -> None:
    assert "SilenceAlarm" not in deploy(DriftScheduleState="DISABLED").resources


def test_the_dashboard_is_json_and_its_alarms_are_those_that_always_stand(plain: Stack) -> None:
    [dashboard] = plain.of_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    [alarms] = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    always = deploy(DriftScheduleState="DISABLED").of_type("AWS::CloudWatch::Alarm")
    assert len(alarms) == len(always)


def test_nothing_that_can_be_left_out_is_there_unless_it_is_asked_for(plain: Stack, full: Stack) -> None:
    assert set(full.resources) - set(plain.resources) == {
        "SnapshotBucket",
        "SnapshotBucketPolicy",
        "AuditBucket",
        "AuditBucketPolicy",
        "S3Endpoint",
        "SecretsManagerEndpoint",
        "SnsEndpoint",
        "EndpointSecurityGroup",
        "NotificationSubscription",
        "FleetRole",
        "FleetStateMachine",
        "FleetStateMachineSweep",
        "FleetStateMachineSweepRole",
    }


@pytest.mark.parametrize("bucket", ["SnapshotBucket", "AuditBucket"])
def test_a_bucket_is_versioned_encrypted_private_and_refuses_clear_text(full: Stack, bucket: str) -> None:
    properties = full.properties(bucket)
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    [rule] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    [statement] = full.properties(f"{bucket}Policy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert full.resources[bucket]["DeletionPolicy"] == "Retain"


def test_the_audit_bucket_is_locked_and_the_snapshot_bucket_speaks_to_eventbridge(full: Stack) -> None:
    lock = full.properties("AuditBucket")["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"] == {"Mode": "GOVERNANCE", "Days": 365}
    notification = full.properties("SnapshotBucket")["NotificationConfiguration"]
    assert notification == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_an_endpoint_lets_the_function_in(full: Stack) -> None:
    ingress = full.properties("EndpointSecurityGroup")["SecurityGroupIngress"]
    assert [rule.get("SourceSecurityGroupId") or rule["CidrIp"] for rule in ingress] == [
        "sg-00000000000000000",
        "10.0.0.0/16",
    ]


def test_production_cannot_be_deployed_without_its_gate() -> None:
    rule = translated_template()["Rules"]["ProductionStaysGated"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Environment"}, "prod"]}
    contains = [each["Assert"]["Fn::Contains"] for each in rule["Assertions"]]
    allowed = {parameter["Ref"]: values for values, parameter in contains}
    assert not [value for value in allowed["UngatedEnvironments"] if "prod" in value.split(",")]
    assert all("prod" in value.split(",") for value in allowed["RequirePlanDigest"])


def test_the_outputs_name_what_the_hook_and_the_command_look_for(plain: Stack) -> None:
    values: dict[str, Any] = {name: output["Value"] for name, output in plain.outputs.items()}
    assert values["FunctionName"] == "rds-provisioner-dev"
    assert values["SnapshotBucket"] == "acme-tfvars"
    assert values["SnapshotKey"] == "{environment}/terraform.tfvars"
    assert values["AuditTrail"] == "s3://acme-governance/governance/dev/rds_provision_audit.csv"
    assert values["UngatedEnvironments"] == "dev"
