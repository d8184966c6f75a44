"""The stack of the buckets, which all environments share."""

import pytest

from integration.infra.deployed_template import ACCOUNT, REGION, REPOSITORY, Stack, deploy_storage

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
NAMES = {"SnapshotBucketName": "acme-tfvars", "AuditBucketName": "acme-governance"}


@pytest.fixture(scope="module")
def storage() -> Stack:
    return deploy_storage(**NAMES, SnapshotKmsKeyArn=KEY, AuditKmsKeyArn=KEY)


@pytest.mark.parametrize("bucket", ["SnapshotBucket", "AuditBucket"])
def test_a_bucket_is_versioned_encrypted_private_and_refuses_clear_text(storage: Stack, bucket: str) -> None:
    properties = storage.properties(bucket)
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    [rule] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    statement = storage.properties(f"{bucket}Policy")["PolicyDocument"]["Statement"][0]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_is_kept_is_kept_only_where_the_create_succeeded(storage: Stack) -> None:
    # Retained by the rollback of a create, a bucket would make the next create fail.
    assert {each["DeletionPolicy"] for each in storage.resources.values()} == {"RetainExceptOnCreate"}
    assert {each["UpdateReplacePolicy"] for each in storage.resources.values()} == {"Retain"}


def test_the_audit_bucket_is_locked_and_the_snapshot_bucket_speaks_to_eventbridge(storage: Stack) -> None:
    lock = storage.properties("AuditBucket")["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"] == {"Mode": "GOVERNANCE", "Days": 365}
    notification = storage.properties("SnapshotBucket")["NotificationConfiguration"]
    assert notification == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_one_of_the_two_can_be_had_alone_and_the_stack_of_an_environment_makes_neither() -> None:
    assert set(deploy_storage(AuditBucketName="acme-governance").resources) == {"AuditBucket", "AuditBucketPolicy"}
    assert set(deploy_storage(SnapshotBucketName="acme-tfvars").resources) == {"SnapshotBucket", "SnapshotBucketPolicy"}
    assert "AWS::S3::Bucket" not in (REPOSITORY / "template.yaml").read_text(encoding="utf-8")


def test_only_approvers_put_approvals_where_they_are_named() -> None:
    approver = f"arn:aws:iam::{ACCOUNT}:role/approver"
    policy = deploy_storage(**NAMES, ApproverPrincipalArns=approver).properties("AuditBucketPolicy")["PolicyDocument"]
    [refusal] = [each for each in policy["Statement"] if each["Sid"] == "OnlyApproversApprove"]
    assert refusal["Effect"] == "Deny"
    assert refusal["Action"] == ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
    assert refusal["Resource"] == "arn:aws:s3:::acme-governance/*/approvals/*"
    assert refusal["Condition"] == {"ArnNotLike": {"aws:PrincipalArn": [approver]}}
