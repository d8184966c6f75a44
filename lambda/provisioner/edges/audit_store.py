"""Plans and audit rows in, objects in the audit bucket out: immutable ones of each run, and the trail of all runs.

S3 cannot append, so the trail is read and written again under a condition; when it is full it is put away and a new
one begun. `docs/decisions/0003-audit-trail.md` says why.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from provisioner.core.audit import archive_key, markdown_key, render_csv
from provisioner.core.errors import AuditUnavailable, Finding
from provisioner.edges.aws import AwsError, failures_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from provisioner.core.audit import AuditRow
    from provisioner.edges.aws import AwsClients

FULL_TRAIL_BYTES = 1024 * 1024

# With full jitter up to a second: enough for dozens of writers at once, and over after some ten seconds.
_ATTEMPTS = 20
_LONGEST_WAIT_SECONDS = 1.0

_CSV = "text/csv; charset=utf-8"
_JSON = "application/json"
_MARKDOWN = "text/markdown; charset=utf-8"
_HEADER = render_csv((), header=True).encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Trail:
    """The trail as it was read; `etag` is empty where there was none; to a closed one nothing is added any more."""

    content: bytes
    etag: str
    is_closed: bool


def store_plan(clients: AwsClients, bucket: str, key: str, *, plan_json: str, markdown: str) -> str:
    """Store a plan and its Markdown beside it, never to be overwritten; give back the plan's `s3://` address.

    Raises `AuditUnavailable`.
    """
    markdown_at, json_bytes, markdown_bytes = markdown_key(key), plan_json.encode("utf-8"), markdown.encode("utf-8")
    _until_written(bucket, key, lambda _: _put_once(clients, bucket, key, json_bytes, _JSON))
    _until_written(bucket, markdown_at, lambda _: _put_once(clients, bucket, markdown_at, markdown_bytes, _MARKDOWN))
    return _address(bucket, key)


def store_run(clients: AwsClients, bucket: str, key: str, rows: Sequence[AuditRow]) -> str:
    """Store the CSV of one run, never to be overwritten; give back its `s3://` address. Raises `AuditUnavailable`."""
    content = render_csv(rows, header=True).encode("utf-8")
    return _until_written(bucket, key, lambda _: _put_once(clients, bucket, key, content, _CSV))


def append_trail(
    clients: AwsClients, bucket: str, key: str, rows: Sequence[AuditRow], *, full_bytes: int = FULL_TRAIL_BYTES
) -> str:
    """Append the rows to the trail, beside others who do the same; give back its `s3://` address.

    Raises `AuditUnavailable` when S3 fails or others keep getting in between.
    """
    added = render_csv(rows, header=False).encode("utf-8")
    return _append(clients, bucket, key, added, full_bytes=full_bytes, is_first=True)


def append_again(clients: AwsClients, bucket: str, key: str, run_csv: bytes) -> str:
    """Append what the CSV of a run holds, unless an earlier attempt did; give back the trail's `s3://` address.

    Raises `AuditUnavailable` as `append_trail` does.
    """
    added = run_csv.removeprefix(_HEADER)
    return _append(clients, bucket, key, added, full_bytes=FULL_TRAIL_BYTES, is_first=False)


def read_stored(clients: AwsClients, bucket: str, key: str) -> tuple[bytes, str]:
    """An object of the audit and its ETag, both empty where there is none. Raises `AuditUnavailable`."""
    try:
        with failures_named():
            answer = clients.s3.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                return body.read(), answer["ETag"]
    except AwsError as failure:
        if failure.code == "NoSuchKey":
            return b"", ""
        raise AuditUnavailable(_not_stored(bucket, key, failure)) from None


def replace_stored(clients: AwsClients, bucket: str, key: str, content: bytes, etag: str) -> str:
    """Put an object in the place of the one with this ETag, or where none was; give back the new ETag.

    Raises `AuditUnavailable` when S3 fails or somebody else has put another there since.
    """
    condition: Any = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        with failures_named():
            return clients.s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=_JSON, **condition)["ETag"]
    except AwsError as failure:
        if not failure.is_conflict:
            raise AuditUnavailable(_not_stored(bucket, key, failure)) from None
    # A write whose answer was lost is tried again by botocore and then meets its own change.
    present, present_etag = read_stored(clients, bucket, key)
    if present == content:
        return present_etag
    message = "another run has written its note here since this one began"
    raise AuditUnavailable(
        Finding("audit_contended", message, "call again when it has ended", where=_address(bucket, key))
    )


def _append(clients: AwsClients, bucket: str, key: str, added: bytes, *, full_bytes: int, is_first: bool) -> str:
    def append(attempt: int) -> None:
        trail = _read_trail(clients, bucket, key, full_bytes)
        # A write whose answer was lost is tried again by botocore and then meets its own change.
        if not ((attempt or not is_first) and added in trail.content):
            _write_trail(clients, bucket, key, trail, added)

    return _until_written(bucket, key, append) if added else _address(bucket, key)


def _until_written(bucket: str, key: str, write: Callable[[int], None]) -> str:
    """Call `write` with the number of the attempt until nobody gets in between; give back the object's address."""
    for attempt in range(_ATTEMPTS):
        time.sleep(SystemRandom().uniform(0, min(_LONGEST_WAIT_SECONDS, 0.02 * 2**attempt)) if attempt else 0)
        try:
            with failures_named():
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
    try:
        with failures_named():
            answer = clients.s3.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                content = body.read()
    except AwsError as failure:
        if failure.code == "NoSuchKey":
            return _Trail(_HEADER, etag="", is_closed=False)
        raise
    # Other columns: the trail of the first generation. No line end: somebody's editor.
    is_ours = content.startswith(_HEADER) and content.endswith(b"\n")
    return _Trail(content, answer["ETag"], is_closed=not is_ours or len(content) >= full_bytes)


def _write_trail(clients: AwsClients, bucket: str, key: str, trail: _Trail, added: bytes) -> None:
    content = trail.content
    if trail.is_closed:
        _put_once(clients, bucket, archive_key(key, content), content, _CSV)
        content = _HEADER
    if trail.etag:
        clients.s3.put_object(Bucket=bucket, Key=key, Body=content + added, ContentType=_CSV, IfMatch=trail.etag)
    else:
        clients.s3.put_object(Bucket=bucket, Key=key, Body=content + added, ContentType=_CSV, IfNoneMatch="*")


def _put_once(clients: AwsClients, bucket: str, key: str, content: bytes, content_type: str) -> None:
    """Write an object that must not be there yet, unless with this very content: then only an answer was lost."""
    try:
        with failures_named():
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
