"""A bucket or a topic in, the line of a check out; nothing is written, and nothing is left.

What AWS refuses is raised, unless the refusal is what a check is about.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from provisioner.core.preflight import Check, failed, ok, unknown
from provisioner.edges.aws import AwsClients, AwsError, translate_errors

# No object has it: an ETag is the MD5 of its content, or that of its parts.
_NO_ETAG = '"00000000000000000000000000000000"'


def check_bucket(name: str, clients: AwsClients, bucket: str) -> Check:
    """Whether the bucket is there, ours, and may be looked into."""
    owner = clients.bucket_owners.get(bucket, "")
    try:
        with translate_errors():
            clients.s3.head_bucket(Bucket=bucket)
    except AwsError as failure:
        if failure.is_missing:
            next_step = "create it, or correct the parameter that names it"
            return failed(name, f"{bucket} does not exist", "no run goes on without it", next_step)
        whose = f", or it does not belong to account {owner}" if owner and failure.status == 403 else ""
        why = f"AWS says {failure.code}{whose}"
        return failed(name, f"{bucket} cannot be looked into", why, failure.next_step("s3:ListBucket"))
    whose = f"belongs to account {owner}" if owner else "no account is set as its owner"
    return ok(name, f"{bucket} is there, and {whose}")


def check_versioning(name: str, clients: AwsClients, bucket: str) -> Check:
    if clients.s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled":
        return ok(name, f"{bucket} keeps versions")
    why = "a snapshot without a version is refused, and what is overwritten is gone"
    next_step = "switch versioning on; what lies there has no version until it is put again"
    return failed(name, f"{bucket} keeps no versions", why, next_step)


def check_events(
    name: str, clients: AwsClients, bucket: str, why: str, otherwise: Callable[[str, str, str, str], Check]
) -> Check:
    """Whether the bucket sends its events to EventBridge; `otherwise` it has failed, or may be meant to send none."""
    if "EventBridgeConfiguration" in clients.s3.get_bucket_notification_configuration(Bucket=bucket):
        return ok(name, f"{bucket} sends its events to EventBridge")
    next_step = "see the runbook: the call that switches it on replaces the notifications that the bucket has"
    return otherwise(name, f"{bucket} sends no events to EventBridge", why, next_step)


def check_lock(name: str, clients: AwsClients, bucket: str) -> Check:
    """Whether what is stored is kept from being deleted, and how long by default."""
    try:
        with translate_errors():
            found = clients.s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except AwsError as failure:
        if failure.code != "ObjectLockConfigurationNotFoundError":
            raise
        why = "who else may delete the audit is not known here"
        return unknown(name, f"{bucket} has no Object Lock", why, "switch it on, or see who may delete there")
    retention = found.get("Rule", {}).get("DefaultRetention", {})
    how = ", ".join(f"{key} {value}" for key, value in retention.items()) or "no default retention"
    return ok(name, f"{bucket} has Object Lock ({how})")


def check_conditional_writes(name: str, clients: AwsClients, bucket: str, folder: str) -> Check:
    """Whether S3 heeds a condition: it is asked to replace an object that is not there, which it has to refuse.

    It answers 404 where no object has the key and 412 where another one has it; both leave nothing.
    """
    key = f"{folder}/preflight/{secrets.token_hex(16)}"
    try:
        with translate_errors():
            clients.s3.put_object(Bucket=bucket, Key=key, Body=b"", IfMatch=_NO_ETAG)
    except AwsError as failure:
        if failure.code == "NoSuchKey" or failure.is_conflict:
            return ok(name, "a write under a condition that does not hold is refused, and leaves nothing")
        what = f"s3://{bucket}/{key} cannot be written: {failure.code}"
        return failed(name, what, "no trail, no change", failure.next_step("s3:PutObject"))
    why = f"two runs at once would lose rows; an empty object is left: {key}"
    return failed(name, "conditions of writes are not heeded", why, "use S3 itself, not something that is like it")


def check_topic(name: str, clients: AwsClients, arn: str) -> Check:
    """Whether there is a topic that approvals, drift and failures are told to, and whether anybody listens."""
    if not arn:
        return ok(name, "no topic is set: nobody is told of approvals and drift", next_step="set NOTIFY_TOPIC_ARN")
    try:
        with translate_errors():
            attributes = clients.sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    except AwsError as failure:
        if failure.is_missing:
            return failed(name, f"{arn} does not exist", "nobody would be told", "correct NOTIFY_TOPIC_ARN")
        raise
    confirmed, pending = (int(attributes.get(f"Subscriptions{each}", 0)) for each in ("Confirmed", "Pending"))
    next_step = "" if confirmed else "subscribe somebody; a mail address confirms the first mail"
    return ok(name, f"{arn} has {confirmed} subscribers, and {pending} that have to confirm", next_step=next_step)
