"""Plans and audit rows in, objects in the audit bucket out: immutable ones of each run, and the trail of all runs.

S3 cannot append, so the trail is read and written again under a condition; when it is full it is put away and a new
one started. `docs/decisions/0003-audit-trail.md` says why.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from provisioner.core.audit import (
    archive_key,
    end_of_last_line,
    has_our_columns,
    markdown_key,
    render_csv,
    unread_archive_key,
    unreadable_key,
)
from provisioner.core.errors import AuditUnavailable, Finding
from provisioner.edges.aws import AwsError, translate_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from provisioner.core.audit import AuditRow
    from provisioner.edges.aws import AwsClients

MAX_TRAIL_BYTES = 1024 * 1024
# What is larger is not read: a run has to live with whatever lies in the bucket.
MAX_BYTES = 32 * 1024 * 1024

# With full jitter up to a second: enough for dozens of writers at once, and over after some ten seconds.
_ATTEMPTS = 20
_MAX_WAIT_SECONDS = 1.0

_CSV = "text/csv; charset=utf-8"
_JSON = "application/json"
_MARKDOWN = "text/markdown; charset=utf-8"
_TYPES = {"html": "text/html; charset=utf-8", "csv": _CSV, "json": _JSON}
_HEADER = render_csv((), header=True).encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Trail:
    """The trail as it was read: nothing is added to one that is full or not ours.

    `etag` is empty where there was none, and `content` None where it is too large to be read.
    """

    content: bytes | None
    etag: str
    is_ours: bool
    is_full: bool


def store_plan(clients: AwsClients, bucket: str, key: str, *, plan_json: str, markdown: str) -> str:
    """Store a plan and its Markdown beside it, never to be overwritten; give back the plan's `s3://` address.

    Raises `AuditUnavailable`.
    """
    markdown_at, json_bytes, markdown_bytes = markdown_key(key), plan_json.encode("utf-8"), markdown.encode("utf-8")
    _retry_on_conflict(bucket, key, lambda _: put_if_absent(clients, bucket, key, json_bytes, _JSON))
    _retry_on_conflict(
        bucket, markdown_at, lambda _: put_if_absent(clients, bucket, markdown_at, markdown_bytes, _MARKDOWN)
    )
    return _address(bucket, key)


def store_run(clients: AwsClients, bucket: str, key: str, rows: Sequence[AuditRow]) -> str:
    """Store the CSV of one run, never to be overwritten; give back its `s3://` address. Raises `AuditUnavailable`."""
    content = render_csv(rows, header=True).encode("utf-8")
    return _retry_on_conflict(bucket, key, lambda _: put_if_absent(clients, bucket, key, content, _CSV))


def store_files(clients: AwsClients, bucket: str, key: str, files: Mapping[str, str]) -> dict[str, str]:
    """Store texts under a key and their ending, never to be overwritten; give back their `s3://` addresses by ending.

    Raises `AuditUnavailable`.
    """
    addresses = {}
    for ending, text in files.items():
        at, content = f"{key}.{ending}", text.encode("utf-8")
        put = partial(put_if_absent, clients, bucket, at, content, _TYPES[ending])
        addresses[ending] = _retry_on_conflict(bucket, at, lambda _, put=put: put())  # type: ignore[misc]
    return addresses


def newest_keys(clients: AwsClients, bucket: str, folder: str, ending: str, most: int) -> list[str]:
    """The last keys of a folder by name, the newest first where names begin with a time. Raises `AuditUnavailable`."""
    keys: list[str] = []
    try:
        with translate_errors():
            for page in clients.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder):
                found = [item["Key"] for item in page.get("Contents", ()) if item["Key"].endswith(ending)]
                keys = [*keys, *found][-most:]
    except AwsError as failure:
        raise AuditUnavailable(_not_stored(bucket, folder, failure)) from None
    return keys[::-1]


def append_trail(
    clients: AwsClients,
    bucket: str,
    key: str,
    rows: Sequence[AuditRow],
    *,
    full_bytes: int = MAX_TRAIL_BYTES,
    is_first: bool = True,
) -> tuple[Finding, ...]:
    """Append the rows to the trail, beside others who do the same; a trail that was not ours is put away and named.

    Where this is not the first time that the rows are told, nothing is added if they stand in the trail.

    Raises `AuditUnavailable` when S3 fails or others keep getting in between.
    """
    added = render_csv(rows, header=False).encode("utf-8")
    found: list[Finding] = []

    def append(attempt: int) -> None:
        trail = _read_trail(clients, bucket, key, full_bytes)
        # A write whose answer was lost is tried again by botocore and then meets its own change.
        if not ((attempt or not is_first) and added in (trail.content or b"")):
            found[:] = _write_trail(clients, bucket, key, trail, added)

    if added:
        _retry_on_conflict(bucket, key, append)
    return tuple(found)


def get_object(clients: AwsClients, bucket: str, key: str, max_bytes: int = MAX_BYTES) -> tuple[bytes | None, str]:
    """An object of the audit and its ETag, both empty where there is none; None for one of more than `max_bytes`.

    Raises `AuditUnavailable`.
    """
    try:
        with translate_errors():
            return _get(clients, bucket, key, max_bytes)
    except AwsError as failure:
        raise AuditUnavailable(_not_stored(bucket, key, failure)) from None


def put_aside(clients: AwsClients, bucket: str, key: str, etag: str) -> str:
    """Copy an object that is not what it should be to where nobody looks for one of ours; give back its address.

    Raises `AuditUnavailable`.
    """
    target = unreadable_key(key, etag)
    return _retry_on_conflict(bucket, target, lambda _: _copy(clients, bucket, key, target, etag))


def put_if_unchanged(clients: AwsClients, bucket: str, key: str, content: bytes, etag: str) -> str:
    """Put an object in the place of the one with this ETag, or where none was; give back the new ETag.

    Raises `AuditUnavailable` when S3 fails or somebody else has put another there since.
    """
    condition: Any = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        with translate_errors():
            return clients.s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=_JSON, **condition)["ETag"]
    except AwsError as failure:
        if not failure.is_conflict:
            raise AuditUnavailable(_not_stored(bucket, key, failure)) from None
    # A write whose answer was lost is tried again by botocore and then meets its own change.
    present, present_etag = get_object(clients, bucket, key)
    if present == content:
        return present_etag
    message = "another run has written its note here since this one began"
    raise AuditUnavailable(
        Finding("audit_contended", message, "call again when it has ended", where=_address(bucket, key))
    )


def _retry_on_conflict(bucket: str, key: str, write: Callable[[int], None]) -> str:
    """Call `write` with the number of the attempt until nobody gets in between; give back the object's address."""
    for attempt in range(_ATTEMPTS):
        time.sleep(SystemRandom().uniform(0, min(_MAX_WAIT_SECONDS, 0.02 * 2**attempt)) if attempt else 0)
        try:
            with translate_errors():
                write(attempt)
        except AwsError as failure:
            # Missing at the time of the write: somebody took the trail away after it was read.
            if not failure.is_conflict and failure.code != "NoSuchKey":
                raise AuditUnavailable(_not_stored(bucket, key, failure)) from None
        else:
            return _address(bucket, key)
    message = f"the object changed under each of {_ATTEMPTS} attempts to write it"
    next_step = "look for the rows in the CSV of the run or in the log, and call again when it is quieter"
    raise AuditUnavailable(Finding("audit_contended", message, next_step, where=_address(bucket, key)))


def _read_trail(clients: AwsClients, bucket: str, key: str, full_bytes: int) -> _Trail:
    content, etag = _get(clients, bucket, key, MAX_BYTES)
    if not etag:
        return _Trail(_HEADER, etag, is_ours=True, is_full=False)
    # Other columns: the trail of the first generation, or something that is none.
    is_ours = content is not None and has_our_columns(content)
    return _Trail(content, etag, is_ours, is_full=content is None or len(content) >= full_bytes)


def _write_trail(clients: AwsClients, bucket: str, key: str, trail: _Trail, added: bytes) -> Sequence[Finding]:
    """Write the rows behind the trail, or into a new one; say where one is put away that was not ours."""
    archive = ""
    content = trail.content
    if content is None:
        archive = unread_archive_key(key, trail.etag)
        _copy(clients, bucket, key, archive, trail.etag)
    elif not trail.is_ours or trail.is_full:
        archive = archive_key(key, content)
        put_if_absent(clients, bucket, archive, content, _CSV)
    # Saved again by an editor or a spreadsheet, it may lack the end of its last line.
    before = _HEADER if archive or content is None else content + end_of_last_line(content)
    condition: Any = {"IfMatch": trail.etag} if trail.etag else {"IfNoneMatch": "*"}
    clients.s3.put_object(Bucket=bucket, Key=key, Body=before + added, ContentType=_CSV, **condition)
    if not archive or trail.is_ours:
        return ()
    message = f"the trail was none of ours and was put away as {_address(bucket, archive)}; a new one is begun"
    return (Finding("audit_unreadable", message, "find out who wrote it", where=_address(bucket, key)),)


def _get(clients: AwsClients, bucket: str, key: str, max_bytes: int) -> tuple[bytes | None, str]:
    """An object and its ETag, both empty where there is none; None for one that is too large to be read."""
    try:
        with translate_errors():
            answer = clients.s3.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                return body.read() if answer["ContentLength"] <= max_bytes else None, answer["ETag"]
    except AwsError as failure:
        if failure.code == "NoSuchKey":
            return b"", ""
        raise


def _copy(clients: AwsClients, bucket: str, key: str, target: str, etag: str) -> None:
    """Copy what has this ETag inside of S3. The target is named by it, so whoever does it again writes the same."""
    source: Any = {"Bucket": bucket, "Key": key}
    clients.s3.copy_object(Bucket=bucket, Key=target, CopySource=source, CopySourceIfMatch=etag)


def put_if_absent(clients: AwsClients, bucket: str, key: str, content: bytes, content_type: str) -> None:
    """Write an object that must not be there yet, unless with this very content: then only an answer was lost."""
    try:
        with translate_errors():
            clients.s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type, IfNoneMatch="*")
    except AwsError as failure:
        if failure.status != 412:
            raise
        with closing(clients.s3.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            if body.read() == content:
                return
        message = "the audit cannot be written: another object stands there and is never overwritten"
        next_step = "call again: each run stores under a name of its own"
        raise AuditUnavailable(Finding("audit_taken", message, next_step, where=_address(bucket, key))) from None


def _not_stored(bucket: str, key: str, failure: AwsError) -> Finding:
    message = f"the audit cannot be written: {failure.code}"
    next_step = failure.next_step("s3:GetObject, s3:PutObject and s3:ListBucket")
    if failure.code == "NoSuchBucket":
        next_step = "create the bucket, or correct AUDIT_BUCKET"
    return Finding("audit_not_stored", message, next_step, where=_address(bucket, key))


def _address(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"
