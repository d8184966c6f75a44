"""A subject and a message in, a notification through SNS out; where that fails, a warning."""

from __future__ import annotations

from provisioner.core.errors import Finding
from provisioner.edges.aws import AwsClients, AwsError, translate_errors

_MAX_SUBJECT = 100
_MAX_BYTES = 250_000  # SNS takes 256 KiB, its own fields included


def notify(clients: AwsClients, topic_arn: str, subject: str, message: str) -> Finding | None:
    """Publish the message, cut to what SNS takes; without a topic do nothing.

    A notification that fails must not fail a run that did its work: it comes back as a warning.
    """
    if not topic_arn:
        return None
    text = message.encode("utf-8", "replace")[:_MAX_BYTES].decode("utf-8", "ignore")
    try:
        with translate_errors():
            clients.sns.publish(TopicArn=topic_arn, Subject=_subject(subject), Message=text or "-")
    except AwsError as failure:
        message = f"nobody was notified: {topic_arn} did not take the message: {failure.code}"
        return Finding("not_notified", message, failure.next_step("sns:Publish"))
    return None


def _subject(text: str) -> str:
    """The text as SNS takes it: printable ASCII, at most 100 characters, beginning with something to see."""
    ascii_only = "".join(each if " " <= each <= "~" else " " for each in text)
    return " ".join(ascii_only.split())[:_MAX_SUBJECT] or "rds-provisioner"
