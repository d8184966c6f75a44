"""A digest in, what the audit bucket has of it out: the approval, and the plans that were stored to be read."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from provisioner.core.errors import AuditUnavailable, Finding
from provisioner.core.reviewed_plan import Evidence, StoredObject, approval_key, name_version, reviewed_plan_key
from provisioner.edges.aws import AwsError, translate_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provisioner.edges.audit_store import AuditBucket

_MAX_APPROVAL_BYTES = 16 * 1024
_MAX_PLAN_BYTES = 32 * 1024 * 1024


def store_reviewed_plan(bucket: AuditBucket, digest: str, snapshot: str, content: str) -> None:
    """Store a plan where it is found by its digest; the first one stands, since it is what approvers have read.

    Raises `AuditUnavailable`.
    """
    key = reviewed_plan_key(bucket.folder, digest, snapshot)
    body = content.encode("utf-8")
    try:
        with translate_errors():
            bucket.clients.s3.put_object(
                Bucket=bucket.name, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*"
            )
    except AwsError as failure:
        # Another run has stored it, or is about to: the digest says that it does the same.
        if not failure.is_conflict:
            raise AuditUnavailable(_unavailable(bucket, key, failure, "s3:PutObject")) from None


def find_evidence(bucket: AuditBucket, digest: str, version_id: str, content_sha256: str) -> Evidence:
    """What is there for a digest, while this version with this content is the newest of the snapshot.

    Raises `AuditUnavailable`.
    """
    key = approval_key(bucket.folder, digest)
    approval = _get(bucket, key, _MAX_APPROVAL_BYTES)
    plans: tuple[StoredObject, ...] = ()
    if approval:
        keys = [
            reviewed_plan_key(bucket.folder, digest, snapshot)
            for snapshot in (name_version(version_id), content_sha256)
        ]
        found = (_get(bucket, each, _MAX_PLAN_BYTES) for each in keys)
        plans = tuple(each for each in found if each is not None)
        is_of_other = any(each not in keys for each in _list(bucket, keys[0].rpartition("/")[0] + "/"))
    else:
        is_of_other = False
    return Evidence(digest, bucket.address(key), approval, plans, is_of_other, datetime.now(UTC))


def _get(bucket: AuditBucket, key: str, max_bytes: int) -> StoredObject | None:
    try:
        with translate_errors():
            answer = bucket.clients.s3.get_object(Bucket=bucket.name, Key=key)
            with closing(answer["Body"]) as body:
                content = body.read() if answer["ContentLength"] <= max_bytes else None
    except AwsError as failure:
        if failure.code == "NoSuchKey":
            return None
        raise AuditUnavailable(_unavailable(bucket, key, failure, "s3:GetObject and s3:ListBucket")) from None
    return StoredObject(bucket.address(key), content, answer["LastModified"], answer.get("VersionId", ""))


def _list(bucket: AuditBucket, folder: str) -> Iterator[str]:
    """The first keys in a folder: three are enough to know whether there are others than two."""
    try:
        with translate_errors():
            answer = bucket.clients.s3.list_objects_v2(Bucket=bucket.name, Prefix=folder, MaxKeys=3)
    except AwsError as failure:
        raise AuditUnavailable(_unavailable(bucket, folder, failure, "s3:ListBucket")) from None
    return (each["Key"] for each in answer.get("Contents", ()))


def _unavailable(bucket: AuditBucket, key: str, failure: AwsError, permission: str) -> Finding:
    message = f"approvals and the plans that they are for cannot be read or stored: {failure.code}"
    return Finding("approvals_unavailable", message, failure.next_step(permission), bucket.address(key))
