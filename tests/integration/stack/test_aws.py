"""The AWS of the tests answers as AWS does, remembers what it was asked, and fails when it is told to."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from stack.aws import ALWAYS, FUNCTION, OPERATOR, Aws


@pytest.fixture
def function_client(aws: Aws) -> Iterator[Any]:
    """What the product would use: the environment's credentials, a short patience and no retries."""

    def client(service: str, **options: Any) -> Any:
        options = {"retries": {"total_max_attempts": 1}, "read_timeout": 1, **options}
        return boto3.client(
            service,
            endpoint_url=aws.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=FUNCTION,
            aws_secret_access_key="x",
            config=Config(**options),
        )

    return client


def test_a_snapshot_has_versions_only_in_a_versioned_bucket(aws: Aws) -> None:
    aws.create_bucket("with-versions")
    aws.create_bucket("without-versions", versioned=False)
    first = aws.put_snapshot("with-versions", "dev/terraform.tfvars", "a = 1")
    second = aws.put_snapshot("with-versions", "dev/terraform.tfvars", b"a = 2")
    assert first != second
    assert aws.put_snapshot("without-versions", "k", "a = 1") == "null"
    assert aws.read_object("with-versions", "dev/terraform.tfvars") == b"a = 2"
    assert aws.list_keys("with-versions") == ["dev/terraform.tfvars"]


def test_a_conditional_write_is_refused_when_the_object_is_there(aws: Aws) -> None:
    aws.create_bucket("audit")
    s3 = aws.client("s3")
    s3.put_object(Bucket="audit", Key="k", Body=b"1", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="audit", Key="k", Body=b"2", IfNoneMatch="*")


def test_secrets_may_be_a_dictionary_text_or_binary(aws: Aws) -> None:
    secrets = aws.client("secretsmanager")
    aws.put_secret("one", {"password": "first"})
    aws.put_secret("one", {"password": "second"})
    aws.put_secret("two", "not json")
    aws.put_secret("three", b"\x00\x01")
    assert json.loads(secrets.get_secret_value(SecretId="one")["SecretString"]) == {"password": "second"}
    assert secrets.get_secret_value(SecretId="two")["SecretString"] == "not json"
    assert secrets.get_secret_value(SecretId="three")["SecretBinary"] == b"\x00\x01"


def test_every_call_is_remembered_with_its_operation_and_caller(aws: Aws, function_client: Any) -> None:
    aws.create_bucket("bucket")
    s3, secrets = function_client("s3"), function_client("secretsmanager")
    s3.put_object(Bucket="bucket", Key="a folder/k", Body=b"1")
    s3.get_object(Bucket="bucket", Key="a folder/k", VersionId=aws.put_snapshot("bucket", "a folder/k", "2"))
    s3.head_object(Bucket="bucket", Key="a folder/k")
    s3.list_objects_v2(Bucket="bucket")
    s3.get_bucket_versioning(Bucket="bucket")
    s3.list_object_versions(Bucket="bucket", Prefix="a")
    s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "a folder/k"})
    secrets.batch_get_secret_value(SecretIdList=["nothing"])
    topic = function_client("sns").create_topic(Name="t")["TopicArn"]
    function_client("sns").publish(TopicArn=topic, Message="hello")

    calls = aws.calls()
    assert [f"{call.service}:{call.operation}" for call in calls] == [
        "s3:PutObject",
        "s3:GetObject",
        "s3:HeadObject",
        "s3:ListObjectsV2",
        "s3:GetBucketVersioning",
        "s3:ListObjectVersions",
        "s3:CopyObject",
        "secretsmanager:BatchGetSecretValue",
        "sns:CreateTopic",
        "sns:Publish",
    ]
    assert calls[0].parameters["Key"] == "a folder/k"
    assert calls[1].parameters["versionId"]
    assert calls[7].parameters == {"SecretIdList": ["nothing"]}
    assert calls[9].parameters["TopicArn"] == topic
    assert [call.operation for call in aws.calls(OPERATOR)] == ["CreateBucket", "PutBucketVersioning", "PutObject"]


@pytest.mark.parametrize(
    ("kind", "s3_code", "secrets_code"),
    [
        ("throttling", "SlowDown", "ThrottlingException"),
        ("server_error", "InternalError", "InternalServiceError"),
        ("access_denied", "AccessDenied", "AccessDeniedException"),
    ],
)
def test_a_failure_is_worded_as_the_service_words_it(
    aws: Aws, function_client: Any, kind: Any, s3_code: str, secrets_code: str
) -> None:
    aws.create_bucket("bucket")
    aws.fail("s3:PutObject", 1, kind)
    aws.fail("BatchGetSecretValue", 1, kind)
    with pytest.raises(botocore.exceptions.ClientError) as from_s3:
        function_client("s3").put_object(Bucket="bucket", Key="k", Body=b"")
    with pytest.raises(botocore.exceptions.ClientError) as from_secrets:
        function_client("secretsmanager").batch_get_secret_value(SecretIdList=["nothing"])
    assert from_s3.value.response["Error"]["Code"] == s3_code
    assert from_secrets.value.response["Error"]["Code"] == secrets_code
    function_client("s3").put_object(Bucket="bucket", Key="k", Body=b"")


def test_only_the_calls_that_are_meant_fail(aws: Aws, function_client: Any) -> None:
    aws.create_bucket("bucket")
    s3 = function_client("s3")
    aws.fail("PutObject", ALWAYS, "access_denied", after=1, matching="governance/")
    aws.put_snapshot("bucket", "governance/by-the-operator", "")
    s3.put_object(Bucket="bucket", Key="elsewhere", Body=b"")
    s3.put_object(Bucket="bucket", Key="governance/first", Body=b"")
    for _ in range(2):
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            s3.put_object(Bucket="bucket", Key="governance/second", Body=b"")
    aws.heal()
    s3.put_object(Bucket="bucket", Key="governance/second", Body=b"")


def test_the_sdks_retries_outlast_a_few_failures(aws: Aws, function_client: Any) -> None:
    aws.create_bucket("bucket")
    aws.fail("PutObject", 2, "server_error")
    function_client("s3", retries={"total_max_attempts": 3}).put_object(Bucket="bucket", Key="k", Body=b"")
    assert [call.operation for call in aws.calls()] == ["PutObject"] * 3


def test_a_dropped_call_did_nothing_and_a_lost_answer_hides_work_done(aws: Aws, function_client: Any) -> None:
    aws.create_bucket("bucket")
    for kind, expected in (("drop", []), ("lost_answer", ["k"])):
        aws.fail("PutObject", 1, kind)
        with pytest.raises(botocore.exceptions.ConnectionClosedError):
            function_client("s3").put_object(Bucket="bucket", Key="k", Body=b"")
        assert aws.list_keys("bucket") == expected


def test_a_call_that_times_out_hangs_until_it_is_healed(aws: Aws, function_client: Any) -> None:
    aws.create_bucket("bucket")
    aws.fail("PutObject", ALWAYS, "timeout")
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        function_client("s3").put_object(Bucket="bucket", Key="k", Body=b"")
    threading.Timer(0.3, aws.heal).start()
    began = time.monotonic()
    with pytest.raises(botocore.exceptions.ConnectionClosedError):
        function_client("s3", read_timeout=20).put_object(Bucket="bucket", Key="k", Body=b"")
    assert time.monotonic() - began < 5


def test_a_child_process_finds_this_aws_by_its_environment(aws: Aws) -> None:
    aws.create_bucket("found")
    script = "import boto3; print([b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']])"
    environment = {"PATH": os.environ["PATH"], **aws.environment()}
    answer = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['found']"


def test_reset_empties_everything(aws: Aws) -> None:
    aws.create_bucket("bucket")
    aws.put_secret("s", "x")
    aws.reset()
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.client("secretsmanager").list_secrets()["SecretList"] == []
    aws.reset()
    assert aws.calls(None) == []
