"""A subject and a message in, a notification through SNS out; where that fails, a warning."""

from __future__ import annotations

from provisioner.core.errors import Finding
from provisioner.edges.aws import AwsClients, AwsError, translate_errors


def notify(clients: AwsClients, topic_arn: str, subject: str, message: str) -> Finding | None:
    """Publish a message; without a topic do nothing. SNS takes a subject of 100 characters of ASCII, and 256 KiB.

    A notification that fails must not fail a run that did its work: it comes back as a warning.
    """
    if not topic_arn:
        return None
    try:
        with translate_errors():
            clients.sns.publish(TopicArn=topic_arn, Subject=subject, Message=message)
    except AwsError as failure:
        message = f"nobody was notified: {topic_arn} did not take the message: {failure.code}"
        return Finding("not_notified", message, failure.next_step("sns:Publish"))
    return None
