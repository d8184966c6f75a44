"""A put to S3 reaches the function as EventBridge would bring it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.aws import Aws
from stack.eventbridge import EventBridge
from stack.runtime import LambdaRuntime


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[LambdaRuntime]:
    (tmp_path / "app.py").write_text("def handle(event, context): return event['detail']['object']['key']")
    with LambdaRuntime(tmp_path, {}, handler="app.handle") as runtime:
        yield runtime


def test_an_object_that_is_put_calls_the_function_with_its_version(aws: Aws, runtime: LambdaRuntime) -> None:
    aws.create_bucket("tfvars", eventbridge=True)
    with EventBridge(aws, runtime, "tfvars", key="dev/terraform.tfvars") as bridge:
        aws.put_snapshot("tfvars", "dev/another-file", "")
        first = aws.put_snapshot("tfvars", "dev/terraform.tfvars", "a = 1")
        second = aws.put_snapshot("tfvars", "dev/terraform.tfvars", "a = 2")
        events = bridge.wait_for(2)
    assert [event["detail"]["object"]["version-id"] for event in events] == [first, second]
    assert events[0]["source"] == "aws.s3"
    assert events[0]["detail-type"] == "Object Created"
    assert events[0]["detail"]["bucket"]["name"] == "tfvars"
    assert [call.payload for call in runtime.asynchronous] == ["dev/terraform.tfvars"] * 2


def test_an_event_can_come_twice(aws: Aws, runtime: LambdaRuntime) -> None:
    aws.create_bucket("tfvars", eventbridge=True)
    with EventBridge(aws, runtime, "tfvars") as bridge:
        aws.put_snapshot("tfvars", "dev/terraform.tfvars", "a = 1")
        [event] = bridge.wait_for(1)
        bridge.deliver(event)
        bridge.wait_for(2)
    assert len(runtime.asynchronous) == 2
