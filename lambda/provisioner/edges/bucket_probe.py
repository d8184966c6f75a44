"""A bucket or a topic in, what AWS says of it out; nothing is written, and nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provisioner.edges.aws import AwsError, translate_errors

if TYPE_CHECKING:
    from provisioner.edges.aws import AwsClients

# No object has it: an ETag is the MD5 of its content, or that of its parts.
_NO_ETAG = '"00000000000000000000000000000000"'


def reach_bucket(clients: AwsClients, bucket: str) -> None:
    """Ask whether the bucket is there, ours, and whether it may be looked into. Raises AwsError."""
    with translate_errors():
        clients.s3.head_bucket(Bucket=bucket)


def is_versioned(clients: AwsClients, bucket: str) -> bool:
    """Whether the bucket keeps versions. Raises AwsError."""
    with translate_errors():
        return clients.s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"


def sends_events(clients: AwsClients, bucket: str) -> bool:
    """Whether the bucket sends its events to EventBridge. Raises AwsError."""
    with translate_errors():
        return "EventBridgeConfiguration" in clients.s3.get_bucket_notification_configuration(Bucket=bucket)


def object_lock(clients: AwsClients, bucket: str) -> str:
    """How the bucket is locked: its default retention, "no default retention", or empty. Raises AwsError."""
    try:
        with translate_errors():
            found: Any = clients.s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except AwsError as failure:
        if failure.code == "ObjectLockConfigurationNotFoundError":
            return ""
        raise
    retention = found.get("Rule", {}).get("DefaultRetention", {})
    if not retention:
        return "no default retention"
    unit = "Days" if "Days" in retention else "Years"
    return f"{retention.get('Mode', '?')}, {retention.get(unit, '?')} {unit.lower()}"


def refuses_conditional_write(clients: AwsClients, bucket: str, key: str) -> bool:
    """Whether S3 heeds a condition: it is asked to replace an object that is not there, which it has to refuse.

    S3 answers 404 where no object has the key and 412 where another one has it; both leave nothing. Raises AwsError.
    """
    try:
        with translate_errors():
            clients.s3.put_object(Bucket=bucket, Key=key, Body=b"", IfMatch=_NO_ETAG)
    except AwsError as failure:
        if failure.code == "NoSuchKey" or failure.is_conflict:
            return True
        raise
    return False


def count_subscribers(clients: AwsClients, topic_arn: str) -> tuple[int, int]:
    """How many have subscribed to a topic, and how many have still to confirm it. Raises AwsError."""
    with translate_errors():
        attributes = clients.sns.get_topic_attributes(TopicArn=topic_arn)["Attributes"]
    return int(attributes.get("SubscriptionsConfirmed", 0)), int(attributes.get("SubscriptionsPending", 0))
