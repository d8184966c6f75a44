"""A reference to a tfvars snapshot in S3 in, its bytes out: the newest version, pinned and hashed."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, field

from provisioner.core.errors import Finding, InvalidSnapshot, StaleSnapshot
from provisioner.core.model import SnapshotReference
from provisioner.core.snapshot import MAX_BYTES
from provisioner.edges.aws import AwsClients, AwsError, translate_errors

_NO_VERSION = ("", "null")  # "null" is what S3 calls the version of an object put while versioning was off


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of the tfvars file; `sha256` is the hash of its bytes in hexadecimal."""

    content: bytes = field(repr=False)
    version_id: str
    sha256: str


def read_snapshot(clients: AwsClients, reference: SnapshotReference) -> Snapshot:
    """Read the newest version of the snapshot in one call, and refuse it unless it is the one that was asked for.

    Raises `StaleSnapshot` when the version asked for is no longer the newest, or the newest is a deletion; and
    `InvalidSnapshot` when there is none, its bucket is not versioned, it is too large, or S3 does not give it.
    """
    try:
        with translate_errors():
            answer = clients.s3.get_object(Bucket=reference.bucket, Key=reference.key)
            with closing(answer["Body"]) as body:
                version_id = answer.get("VersionId", "")
                _refuse_unwanted(reference, version_id, answer["ContentLength"])
                content = body.read()
    except AwsError as failure:
        if failure.code == "NoSuchKey" and reference.version_id and _has_version(clients, reference):
            raise StaleSnapshot(_stale(reference, "it has been deleted since")) from None
        raise InvalidSnapshot(_unreadable(reference, failure)) from None
    return Snapshot(content, version_id, hashlib.sha256(content).hexdigest())


def _refuse_unwanted(reference: SnapshotReference, version_id: str, size: int) -> None:
    if version_id in _NO_VERSION:
        message = "the snapshot has no version: its bucket was not versioned when it was put there"
        next_step = "switch versioning on for the bucket and put the file there again"
        raise InvalidSnapshot(Finding("unversioned_bucket", message, next_step, where=_address(reference)))
    if reference.version_id and reference.version_id != version_id:
        raise StaleSnapshot(_stale(reference, f"the newest is {version_id}"))
    if size > MAX_BYTES:
        message = f"the snapshot has {size} bytes and at most {MAX_BYTES} are read"
        next_step = "keep large values out of the file that declares the databases"
        raise InvalidSnapshot(Finding("snapshot_too_large", message, next_step, where=_address(reference)))


def _has_version(clients: AwsClients, reference: SnapshotReference) -> bool:
    """Whether the version was there once: then its object was deleted, else it never was."""
    try:
        with translate_errors():
            clients.s3.head_object(Bucket=reference.bucket, Key=reference.key, VersionId=reference.version_id)
    except AwsError:
        return False
    return True


def _stale(reference: SnapshotReference, reason: str) -> Finding:
    message = f"version {reference.version_id} of the snapshot is not the newest: {reason}"
    next_step = "call again without tfvars.version_id, or with the newest one"
    return Finding("stale_snapshot", message, next_step, where=_address(reference))


def _unreadable(reference: SnapshotReference, failure: AwsError) -> Finding:
    address = _address(reference)
    if failure.is_missing:
        message = f"the snapshot does not exist ({failure.code})"
        next_step = "put the tfvars file there, or correct SNAPSHOT_BUCKET and SNAPSHOT_KEY"
        return Finding("missing_snapshot", message, next_step, where=address)
    next_step = failure.next_step("s3:GetObject and s3:ListBucket")
    return Finding("unreadable_snapshot", f"the snapshot cannot be read: {failure.code}", next_step, where=address)


def _address(reference: SnapshotReference) -> str:
    return f"s3://{reference.bucket}/{reference.key}"
