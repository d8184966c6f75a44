"""Carries S3's events to the function: moto's EventBridge to a queue, a thread from the queue to Lambda.

moto has no Lambda targets. Its event says `eTag` where S3 says `etag`; otherwise it passes as it comes.
"""

import json
import threading
from collections.abc import Sequence
from typing import Any, Self

from stack.aws import ACCOUNT, REGION, Aws
from stack.runtime import LambdaRuntime

_QUEUE = "events-for-the-function"
_POLL_SECONDS = 0.05


class EventBridge:
    """Rules whose target is the function, from entering to leaving.

    Args:
        aws: where the bucket is; it was created with `eventbridge=True`.
        runtime: the function that gets the events, each as an asynchronous call.
        bucket: whose events.
        key: of this object only, where given.
        patterns: the rules' whole patterns instead, for instance those of the deployed template.
    """

    def __init__(
        self,
        aws: Aws,
        runtime: LambdaRuntime,
        bucket: str = "",
        *,
        key: str | None = None,
        patterns: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._aws = aws
        self._runtime = runtime
        self._patterns = patterns or [_pattern(bucket, key)]
        self._sqs = aws.client("sqs")
        self._url = ""
        self._ending = threading.Event()
        self._idle = threading.Condition()

    def __enter__(self) -> Self:
        """Make the rule and its queue, and begin to carry."""
        self._url = self._sqs.create_queue(QueueName=_QUEUE)["QueueUrl"]
        events = self._aws.client("events")
        target = {"Id": "queue", "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{_QUEUE}"}
        for number, pattern in enumerate(self._patterns):
            events.put_rule(Name=f"{_QUEUE}-{number}", EventPattern=json.dumps(pattern))
            events.put_targets(Rule=f"{_QUEUE}-{number}", Targets=[target])
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop carrying and remove the rule."""
        self._ending.set()
        self._thread.join(10)
        events = self._aws.client("events")
        for number in range(len(self._patterns)):
            events.remove_targets(Rule=f"{_QUEUE}-{number}", Ids=["queue"])
            events.delete_rule(Name=f"{_QUEUE}-{number}")
        self._sqs.delete_queue(QueueUrl=self._url)

    def wait_for(self, count: int, patience_seconds: float = 30) -> list[dict[str, Any]]:
        """Wait until so many events arrived in all and the function is done with them; gives back the events."""
        with self._idle:
            if not self._idle.wait_for(lambda: len(self.events) >= count, patience_seconds):
                raise TimeoutError(f"{len(self.events)} of {count} events came within {patience_seconds} s")
        self._runtime.wait_until_idle()
        return self.events

    def announce(self, event: dict[str, Any]) -> None:
        """Put an event on the bus as another service does; what no rule takes comes nowhere."""
        entry = {"Source": event["source"], "DetailType": event["detail-type"], "Detail": json.dumps(event["detail"])}
        [answer] = self._aws.client("events").put_events(Entries=[entry])["Entries"]
        assert "ErrorCode" not in answer, answer

    def deliver(self, event: dict[str, Any]) -> None:
        """Hand an event over as if it came from the rule: twice, late, or out of order."""
        self._runtime.invoke_asynchronously(event)
        with self._idle:
            self.events.append(event)
            self._idle.notify_all()

    def _carry(self) -> None:
        while not self._ending.wait(_POLL_SECONDS):
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
                self.deliver(json.loads(message["Body"]))


def _pattern(bucket: str, key: str | None) -> dict[str, Any]:
    detail: dict[str, Any] = {"bucket": {"name": [bucket]}}
    if key is not None:
        detail["object"] = {"key": [key]}
    return {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail}
