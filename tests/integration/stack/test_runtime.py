"""The Lambda runtime of the tests answers callers as the service does, whatever becomes of the function."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from stack.aws import Aws
from stack.runtime import LambdaRuntime, send_to_queue

FUNCTION = """
import json, os, sys, time

started = time.time()
calls = 0

def handle(event, context):
    global calls
    calls += 1
    print("called with", json.dumps(event))
    time.sleep(event.get("sleep", 0))
    if "exit" in event:
        os._exit(event["exit"])
    if "raise" in event:
        raise ValueError(event["raise"])
    if "bytes" in event:
        return "x" * event["bytes"]
    return {"event": event, "calls": calls, "arn": context.invoked_function_arn, "path": sys.path,
            "variables": sorted(os.environ), "remaining": context.get_remaining_time_in_millis()}
"""


@pytest.fixture(scope="module")
def failures() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def runtime(
    tmp_path_factory: pytest.TempPathFactory, aws_server: Aws, failures: list[dict[str, Any]]
) -> Iterator[LambdaRuntime]:
    folder = tmp_path_factory.mktemp("function")
    (folder / "app.py").write_text(FUNCTION)
    with LambdaRuntime(
        folder,
        {"GREETING": "hello"},
        handler="app.handle",
        timeout_seconds=2,
        forward_to=aws_server.endpoint_url,
        on_failure=failures.append,
    ) as runtime:
        yield runtime


@pytest.fixture
def client(runtime: LambdaRuntime) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=runtime.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="operator",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_the_function_answers_and_its_log_is_at_hand(runtime: LambdaRuntime) -> None:
    invocation = runtime.invoke({"name": "Zoë"})
    assert invocation.payload["event"] == {"name": "Zoë"}
    assert invocation.function_error is None
    assert 'called with {"name": "Zo\\u00eb"}' in invocation.logs
    assert "REPORT RequestId" in invocation.logs
    assert "(rapid)" not in invocation.logs


def test_the_function_sees_nothing_of_the_tests(runtime: LambdaRuntime) -> None:
    payload = runtime.invoke({}).payload
    assert "GREETING" in payload["variables"]
    assert not {"HOME", "PYTHONPATH", "PYTEST_CURRENT_TEST"} & set(payload["variables"])
    assert not [path for path in payload["path"] if "/.venv/" in path or path.endswith("/tests")]


def test_the_function_stays_warm_between_calls(runtime: LambdaRuntime) -> None:
    before = runtime.invoke({}).payload["calls"]
    assert runtime.invoke({}).payload["calls"] == before + 1


def test_an_error_of_the_function_is_said_in_the_payload_and_marked(runtime: LambdaRuntime) -> None:
    invocation = runtime.invoke({"raise": "no"})
    assert invocation.function_error == "Unhandled"
    assert invocation.payload["errorType"] == "ValueError"
    assert invocation.payload["errorMessage"] == "no"


@pytest.mark.parametrize(("event", "error"), [({"sleep": 9}, "Sandbox.Timedout"), ({"exit": 3}, "Runtime.ExitError")])
def test_after_a_timeout_or_a_crash_the_next_call_works(
    runtime: LambdaRuntime, event: dict[str, Any], error: str
) -> None:
    invocation = runtime.invoke(event)
    assert (invocation.function_error, invocation.payload["errorType"]) == ("Unhandled", error)
    assert runtime.invoke({}).payload["calls"] == 1


def test_a_function_killed_in_the_middle_of_a_call_fails_that_call_only(runtime: LambdaRuntime) -> None:
    threading.Timer(0.5, runtime.kill).start()
    began = time.monotonic()
    assert runtime.invoke({"sleep": 1.8}).payload["errorType"] == "Runtime.ExitError"
    assert time.monotonic() - began < 1.7
    assert runtime.invoke({}).function_error is None


def test_an_answer_over_six_megabytes_is_an_error(runtime: LambdaRuntime) -> None:
    assert runtime.invoke({"bytes": 6_400_000}).payload["errorType"] == "Function.ResponseSizeTooLarge"


def test_boto3_invokes_by_name_and_by_arn(runtime: LambdaRuntime, client: Any) -> None:
    for name in (runtime.name, runtime.arn, f"{runtime.arn}:$LATEST"):
        answer = client.invoke(FunctionName=name, Payload=b'{"a": 1}', LogType="Tail")
        assert answer["StatusCode"] == 200
        assert "FunctionError" not in answer
        assert json.loads(answer["Payload"].read())["event"] == {"a": 1}
        assert b"called with" in base64.b64decode(answer["LogResult"])


def test_boto3_sees_the_functions_error(runtime: LambdaRuntime, client: Any) -> None:
    answer = client.invoke(FunctionName=runtime.name, Payload=b'{"raise": "no"}')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")


def test_another_function_is_not_found_and_a_payload_must_be_json(runtime: LambdaRuntime, client: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="ResourceNotFoundException"):
        client.invoke(FunctionName="another", Payload=b"{}")
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidRequestContentException"):
        client.invoke(FunctionName=runtime.name, Payload=b"{not json")


def test_a_dry_run_calls_nothing(runtime: LambdaRuntime, client: Any) -> None:
    before = runtime.invoke({}).payload["calls"]
    assert client.invoke(FunctionName=runtime.name, InvocationType="DryRun")["StatusCode"] == 204
    assert runtime.invoke({}).payload["calls"] == before + 1


def test_an_event_is_accepted_at_once_and_a_failing_one_tried_three_times(
    runtime: LambdaRuntime, client: Any, failures: list[dict[str, Any]]
) -> None:
    before = len(runtime.wait_until_idle())
    for payload in (b'{"a": 1}', b'{"raise": "always"}'):
        assert client.invoke(FunctionName=runtime.name, InvocationType="Event", Payload=payload)["StatusCode"] == 202
    attempts = runtime.wait_until_idle()[before:]
    assert [attempt.function_error for attempt in attempts] == [None, "Unhandled", "Unhandled", "Unhandled"]
    assert failures[-1]["requestContext"]["condition"] == "RetriesExhausted"
    assert failures[-1]["requestPayload"] == {"raise": "always"}
    assert failures[-1]["responsePayload"]["errorMessage"] == "always"


def test_a_failed_event_can_go_to_a_queue(tmp_path: Path, aws: Aws) -> None:
    (tmp_path / "app.py").write_text("def handle(event, context): raise ValueError('no')")
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="failed")["QueueUrl"]
    with LambdaRuntime(tmp_path, {}, handler="app.handle", on_failure=send_to_queue(aws, url)) as runtime:
        runtime.invoke_asynchronously({"a": 1})
        runtime.wait_until_idle()
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"])["requestPayload"] == {"a": 1}


def test_calls_at_the_same_time_wait_for_each_other(runtime: LambdaRuntime) -> None:
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(runtime.invoke({"sleep": 0.1}))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [answer.function_error for answer in answers] == [None] * 4


def test_the_rest_of_aws_answers_at_the_same_address(runtime: LambdaRuntime, aws: Aws) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=runtime.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="function",
        aws_secret_access_key="x",
    )
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a folder/ü", Body=b"content")
    assert s3.get_object(Bucket="bucket", Key="a folder/ü")["Body"].read() == b"content"
    assert s3.head_object(Bucket="bucket", Key="a folder/ü")["ContentLength"] == 7
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="bucket", Key="nothing")
    assert [call.operation for call in aws.calls()][-1] == "GetObject"


def test_the_runtime_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os\ndef handle(event, context): return os.getpid()")
    with LambdaRuntime(tmp_path, {}, handler="app.handle") as runtime:
        pid = runtime.invoke({}).payload
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
