"""Who may approve is a fact of IAM: the policies of the two templates, as they are deployed, put to an evaluator."""

from typing import Any

import pytest

from integration.infra.deployed_template import ACCOUNT, REGION, Stack, deploy, deploy_storage
from integration.infra.policies import Call, Statement, delete, get, is_let_through, put

APPROVER = f"arn:aws:iam::{ACCOUNT}:role/approver"
CALLER = f"arn:aws:iam::{ACCOUNT}:role/pipeline"
FUNCTION = f"arn:aws:iam::{ACCOUNT}:role/rds-provisioner-prod"
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:role/administrator"
HEX = "a" * 64
APPROVAL = f"governance/prod/approvals/{HEX}.json"
PLAN = f"governance/prod/plans/by-digest/{HEX}/{HEX}.json"
ASKED = f"governance/prod/plans/asked-by/{HEX}/{HEX}.json"
RUN = "governance/prod/runs/1.csv"
TRAIL = "governance/prod/rds_provision_audit.csv"
# What a pipeline has: it calls the function and puts the snapshot.
CALLERS: list[Statement] = [
    {
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-prod:live",
    },
    {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::acme-tfvars/prod/*"},
]
EVERYTHING: list[Statement] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]


@pytest.fixture(scope="module")
def prod() -> Stack:
    return deploy(Environment="prod", AuditKmsKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1")


@pytest.fixture(scope="module")
def bucket() -> list[Statement]:
    storage = deploy_storage(AuditBucketName="acme-governance", ApproverPrincipalArns=APPROVER)
    return list(storage.properties("AuditBucketPolicy")["PolicyDocument"]["Statement"])


def approvers(stack: Stack) -> list[Statement]:
    return list(stack.properties("ApproverPolicy")["PolicyDocument"]["Statement"])


def test_an_approver_reads_plans_and_approves(prod: Stack, bucket: list[Statement]) -> None:
    assert is_let_through(get(APPROVER, PLAN), approvers(prod), bucket)
    assert is_let_through(get(APPROVER, ASKED), approvers(prod), bucket)
    assert is_let_through(put(APPROVER, APPROVAL), approvers(prod), bucket)
    assert is_let_through(delete(APPROVER, APPROVAL), approvers(prod), bucket)


@pytest.mark.parametrize(
    "key", [PLAN, ASKED, RUN, TRAIL, f"governance/dev/approvals/{HEX}.json", "governance/prod/x.json"]
)
def test_an_approver_writes_no_plan_no_trail_and_nothing_of_another_environment(
    prod: Stack, bucket: list[Statement], key: str
) -> None:
    assert not is_let_through(put(APPROVER, key), approvers(prod), bucket)
    assert not is_let_through(delete(APPROVER, key), approvers(prod), bucket)


def test_an_approver_may_neither_call_the_function_nor_put_a_snapshot(prod: Stack) -> None:
    assert not is_let_through(put(APPROVER, "prod/terraform.tfvars", "acme-tfvars"), approvers(prod))
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rds-provisioner-prod:live"
    assert not is_let_through(Call(APPROVER, "lambda:InvokeFunction", function), approvers(prod))


def test_who_calls_the_function_cannot_approve(bucket: list[Statement]) -> None:
    assert not is_let_through(put(CALLER, APPROVAL), CALLERS, bucket)


def test_where_approvers_are_named_not_even_who_may_do_everything_approves(bucket: list[Statement]) -> None:
    assert not is_let_through(put(ADMINISTRATOR, APPROVAL), EVERYTHING, bucket)
    assert not is_let_through(delete(ADMINISTRATOR, APPROVAL), EVERYTHING, bucket)


def test_the_function_reads_approvals_and_cannot_approve_itself(prod: Stack, bucket: list[Statement]) -> None:
    statements = prod.statements()
    assert is_let_through(get(FUNCTION, APPROVAL), statements, bucket)
    for policy in (bucket, ()):
        assert not is_let_through(put(FUNCTION, APPROVAL), statements, policy)
        assert not is_let_through(delete(FUNCTION, APPROVAL), statements, policy)
    lent: list[Statement] = [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}]
    assert not is_let_through(put(FUNCTION, APPROVAL), statements, lent)


@pytest.mark.parametrize("key", [PLAN, ASKED, RUN, "governance/prod/plans/1.json"])
def test_the_function_writes_plans_and_runs_once(prod: Stack, bucket: list[Statement], key: str) -> None:
    assert is_let_through(put(FUNCTION, key), prod.statements(), bucket)
    assert not is_let_through(put(FUNCTION, key, only_new=False), prod.statements(), bucket)


def test_the_trail_which_grows_may_be_written_again(prod: Stack, bucket: list[Statement]) -> None:
    assert is_let_through(put(FUNCTION, TRAIL, only_new=False), prod.statements(), bucket)


@pytest.mark.parametrize("key", [APPROVAL, PLAN, ASKED, RUN])
def test_nobody_writes_over_what_was_approved_planned_or_told(bucket: list[Statement], key: str) -> None:
    for who in (APPROVER, ADMINISTRATOR):
        assert not is_let_through(put(who, key, only_new=False), EVERYTHING, bucket)


def test_the_parts_of_a_large_plan_can_be_sent_and_only_its_end_is_held_to_that(bucket: list[Statement]) -> None:
    part = Call(
        FUNCTION,
        "s3:PutObject",
        f"arn:aws:s3:::acme-governance/{PLAN}",
        {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "false"},
    )
    assert is_let_through(part, EVERYTHING, bucket)


def test_an_approval_over_clear_text_is_refused(prod: Stack, bucket: list[Statement]) -> None:
    call = put(APPROVER, APPROVAL)
    call.context["aws:SecureTransport"] = "false"
    assert not is_let_through(call, approvers(prod), bucket)


def test_there_is_nothing_to_approve_by_object_where_no_digest_is_required() -> None:
    for environment, gate in (("dev", "none"), ("staging", "approval")):
        resources = deploy(Environment=environment, Gate=gate).resources
        assert not {"ApproverPolicy", "ApprovalRule", "ApprovalRulePermission"} & resources.keys()


def test_an_approval_of_this_environment_calls_the_function_and_no_other_object_does(prod: Stack) -> None:
    rule: dict[str, Any] = prod.properties("ApprovalRule")
    detail = rule["EventPattern"]["detail"]
    assert detail == {
        "bucket": {"name": ["acme-governance"]},
        "object": {"key": [{"prefix": "governance/prod/approvals/"}]},
    }
    [target] = rule["Targets"]
    permission = prod.properties("ApprovalRulePermission")
    assert target["Arn"] == permission["FunctionName"]
    assert target["Arn"].endswith("rds-provisioner-prod:live")
    assert target["DeadLetterConfig"]["Arn"].endswith(":rds-provisioner-prod-failures")
    assert (permission["Principal"], permission["Action"]) == ("events.amazonaws.com", "lambda:InvokeFunction")
    [policy] = [
        each
        for each in prod.properties("FailureQueuePolicy")["PolicyDocument"]["Statement"]
        if each["Sid"] == "KeepWhatEventBridgeCouldNotDeliver"
    ]
    assert permission["SourceArn"] in policy["Condition"]["ArnEquals"]["aws:SourceArn"]


def test_the_bucket_of_approvals_sends_its_events() -> None:
    audit = deploy_storage(AuditBucketName="acme-governance").properties("AuditBucket")
    assert audit["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
