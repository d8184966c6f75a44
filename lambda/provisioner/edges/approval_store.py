"""A digest in, what the audit bucket has of it out: the approval, and the plans that were stored to be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from provisioner.core.errors import AuditUnavailable, Finding
from provisioner.core.reviewed_plan import (
    Evidence,
    StoredObject,
    approval_key,
    asked_key,
    name_version,
    read_approval,
    reviewed_plan_key,
)
from provisioner.edges.audit_store import AuditBucket
from provisioner.edges.aws import AwsError, translate_errors

_Answer = TypeVar("_Answer")
_MAX_APPROVAL_BYTES = 16 * 1024
# A change takes about a kilobyte, and one tenant's may be as many as `observe.MAX_CHANGES`.
_MAX_PLAN_BYTES = 128 * 1024 * 1024


def store_reviewed_plan(bucket: AuditBucket, digest: str, snapshot: str, content: str, requested_by: str) -> str:
    """Store a plan where it is found by its digest; the first one stands, since it is what approvers have read.

    It names the first one who asked for it, so each is noted beside it. Gives back the address of the plan, empty
    where one stood there. Raises `AuditUnavailable`.
    """
    if requested_by.strip():
        note = json.dumps({"requested_by": requested_by})
        _put_first(bucket, asked_key(bucket.folder, digest, requested_by), note)
    key = reviewed_plan_key(bucket.folder, digest, snapshot)
    return bucket.address(key) if _put_first(bucket, key, content) else ""


def _put_first(bucket: AuditBucket, key: str, content: str) -> object:
    put = partial(bucket.clients.s3.put_object, Bucket=bucket.name, ContentType="application/json", IfNoneMatch="*")
    # Where another run has stored it, or is about to, its key says that it is the same.
    return _ask(bucket, key, "s3:PutObject", lambda: put(Key=key, Body=content.encode("utf-8")))


def find_evidence(bucket: AuditBucket, digest: str, version_id: str, content_sha256: str, unread: str) -> Evidence:
    """What is there for a digest, while this version with this content is the newest of the snapshot.

    A plan at the address `unread` is none: this run has stored it, and by S3's time, which is told in seconds, it may
    be as old as an approval that was put before. Raises `AuditUnavailable`.
    """
    key = approval_key(bucket.folder, digest)
    approval = _get(bucket, key, _MAX_APPROVAL_BYTES)
    evidence = Evidence(digest, bucket.address(key), approval, now=datetime.now(UTC))
    if approval is None:
        return evidence
    snapshots = (name_version(version_id), content_sha256)
    keys = [reviewed_plan_key(bucket.folder, digest, snapshot) for snapshot in snapshots]
    found = (_get(bucket, each, _MAX_PLAN_BYTES) for each in keys)
    approver = (read_approval(approval.content) or {}).get("approved_by")
    asked = isinstance(approver, str) and _get(bucket, asked_key(bucket.folder, digest, approver), 0)
    return replace(
        evidence,
        plans=tuple(each for each in found if each is not None and each.address != unread),
        is_of_other_snapshot=any(each not in keys for each in _list(bucket, keys[0].rpartition("/")[0] + "/")),
        is_by_requester=bool(asked),
    )


def _get(bucket: AuditBucket, key: str, max_bytes: int) -> StoredObject | None:
    def read() -> StoredObject:
        answer = bucket.clients.s3.get_object(Bucket=bucket.name, Key=key)
        with closing(answer["Body"]) as body:
            content = body.read() if answer["ContentLength"] <= max_bytes else None
        return StoredObject(bucket.address(key), content, answer["LastModified"], answer.get("VersionId", ""))

    return _ask(bucket, key, "s3:GetObject and s3:ListBucket", read)


def _list(bucket: AuditBucket, folder: str) -> list[str]:
    """The first keys in a folder: three are enough to know whether there are others than two."""
    list_objects = partial(bucket.clients.s3.list_objects_v2, Bucket=bucket.name, Prefix=folder, MaxKeys=3)
    answer = _ask(bucket, folder, "s3:ListBucket", list_objects)
    return [each["Key"] for each in answer.get("Contents", ())] if answer else []


def _ask(bucket: AuditBucket, key: str, permission: str, call: Callable[[], _Answer]) -> _Answer | None:
    """What S3 answers; None where nothing is there to be read, or to be put because it is there."""
    try:
        with translate_errors():
            return call()
    except AwsError as failure:
        if failure.is_conflict or failure.code == "NoSuchKey":
            return None
        message = f"approvals and the plans that they are for cannot be read or stored: {failure.code}"
        next_step = failure.next_step(permission)
        raise AuditUnavailable(Finding("approvals_unavailable", message, next_step, bucket.address(key))) from None
