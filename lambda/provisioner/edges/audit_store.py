"""Texts and audit rows in, objects in the audit bucket out: immutable ones of each run, and the trail of all runs.

S3 cannot append, so the trail is read and written again under a condition; when it is full it is put away and a new
one started. `docs/decisions/0003-audit-trail.md` says why.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from random import SystemRandom
from typing import Any, TypeVar

from provisioner.core import keys
from provisioner.core.audit import HEADER, AuditRow, is_as_written, render_csv
from provisioner.core.errors import AuditUnavailable, Finding
from provisioner.core.keys import StoredObject
from provisioner.edges.aws import AwsClients, AwsError, translate_errors

MAX_TRAIL_BYTES = 1024 * 1024
# What is larger is not read: a run has to live with whatever lies in the bucket.
MAX_BYTES = 32 * 1024 * 1024

# With full jitter up to a second: enough for dozens of writers at once, and over after some ten seconds.
_ATTEMPTS = 20
_MAX_WAIT_SECONDS = 1.0

_CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
}
# Of an object in an archive: what GetObject and CopyObject say.
_ARCHIVED = frozenset({"InvalidObjectState", "ObjectNotInActiveTierError"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AuditBucket:
    """What the audit bucket holds of one environment; keys are whole, and those of the environment begin with `folder`.

    Every method that asks S3 raises `AuditUnavailable` where S3 fails, or others keep getting in between.
    """

    clients: AwsClients
    name: str
    folder: str

    def address(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def get(self, key: str, max_bytes: int | None = None) -> StoredObject:
        """An object, read unless it has more than `max_bytes` or was moved to an archive (Glacier)."""
        with self._translate_errors(key):
            return self._get(key, MAX_BYTES if max_bytes is None else max_bytes)

    def newest_keys(self, folder: str, ending: str, most: int) -> list[str]:
        """The last keys of a folder by name, the newest first where names begin with a time."""
        return list(reversed(deque((key for key, _ in self._list(folder) if key.endswith(ending)), most)))

    def keys_since(self, folder: str, moment: datetime) -> list[str]:
        """The keys of a folder whose objects were put after a moment, the newest first."""
        found = [(put_at, key) for key, put_at in self._list(folder) if put_at >= moment]
        return [key for _, key in sorted(found, reverse=True)]

    def _list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        with self._translate_errors(folder):
            for page in self.clients.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=folder):
                yield from ((item["Key"], item["LastModified"]) for item in page.get("Contents", ()))

    def put_if_absent(self, key: str, content: str) -> str:
        """Put an object that is never overwritten; return its address. `audit_contended` where another stands there."""
        self.put_if_unchanged(key, content, "")
        return self.address(key)

    def put_first(self, key: str, content: str) -> bool:
        """Put an object unless one stands there; whether it was put now."""
        return bool(self._retry_on_conflict(key, lambda _: self._put_once(key, content.encode("utf-8"))))

    def put_if_unchanged(self, key: str, content: str, etag: str) -> str:
        """Put an object in the place of the one with this ETag, or where none was; return the new ETag.

        Raises `AuditUnavailable` with the code `audit_contended` where another stands there.
        """
        body = content.encode("utf-8")
        put = self._retry_on_conflict(key, lambda _: self._put_once(key, body, etag))
        # A write whose answer was lost is tried again by botocore and then meets its own object.
        if put or (present := self.get(key, len(body))).content == body:
            return put or present.etag
        message = "another object was put here since this run began"
        next_step = "call again when a run that is at work has ended; where there is none, find out who wrote it"
        raise AuditUnavailable(self._finding("audit_contended", message, next_step, key))

    def put_aside(self, key: str, etag: str) -> str:
        """Copy an object that is not what it should be to where nobody looks for one of ours; return its address."""
        target = keys.unreadable(key, etag)
        self._retry_on_conflict(target, lambda _: self._copy(key, target, etag))
        return self.address(target)

    def append(
        self, rows: Sequence[AuditRow], *, full_bytes: int = MAX_TRAIL_BYTES, is_first: bool = True
    ) -> tuple[Finding, ...]:
        """Append rows to the trail, beside others who do the same; return what was found of a trail that was not ours.

        Where this is not the first time that the rows are told, nothing is added if they stand in the trail.
        """
        added = render_csv(rows, header=False).encode("utf-8")
        if not added:
            return ()
        return self._retry_on_conflict(
            keys.trail(self.folder),
            lambda attempt: self._append_once(added, full_bytes, may_stand=bool(attempt) or not is_first),
        )

    def _append_once(self, added: bytes, full_bytes: int, *, may_stand: bool) -> tuple[Finding, ...]:
        """Write the rows behind the trail, or into a new one where it is full, too large or not ours."""
        key, archive = keys.trail(self.folder), ""
        trail = self._get(key, MAX_BYTES)
        content, etag = trail.content, trail.etag
        # A write whose answer was lost is tried again by botocore and then meets its own change.
        if may_stand and added in (content or b""):
            return ()
        # Otherwise it is that of the first generation, was cut or saved by a spreadsheet, or is something that is none.
        is_ours = not etag or (content is not None and is_as_written(content))
        if content is None:
            archive = keys.unread_archive(key, etag)
            self._copy(key, archive, etag)
        elif etag and (not is_ours or len(content) >= full_bytes):
            archive = keys.archive(key, content)
            self._put_once(archive, content)
        before = content if content and not archive else HEADER
        self._put(key, before + added, etag)
        if is_ours:
            return ()
        message = (
            f"the trail was not as a run leaves it, and was put away as {self.address(archive)}; a new one is begun"
        )
        return (self._finding("audit_unreadable", message, "find out who wrote it", key),)

    def _get(self, key: str, max_bytes: int) -> StoredObject:
        try:
            with translate_errors():
                answer: Any = self.clients.s3.get_object(Bucket=self.name, Key=key)
                with closing(answer["Body"]) as body:
                    content = body.read() if answer["ContentLength"] <= max_bytes else None
        except AwsError as failure:
            if failure.code == "NoSuchKey":
                return StoredObject(self.address(key))
            if failure.code != "InvalidObjectState":
                raise
            with translate_errors():
                answer, content = self.clients.s3.head_object(Bucket=self.name, Key=key), None
        about = answer["ETag"], answer["LastModified"], answer.get("VersionId", "")
        return StoredObject(self.address(key), content, *about)

    def _put(self, key: str, content: bytes, etag: str = "") -> str:
        """Put an object in the place of the one with this ETag, or where none was."""
        condition: Any = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        content_type = _CONTENT_TYPES[key.rpartition(".")[2]]
        put = self.clients.s3.put_object
        return put(Bucket=self.name, Key=key, Body=content, ContentType=content_type, **condition)["ETag"]

    def _put_once(self, key: str, content: bytes, etag: str = "") -> str:
        """As `_put`; empty where the condition does not hold."""
        try:
            with translate_errors():
                return self._put(key, content, etag)
        except AwsError as failure:
            if failure.status != 412 and failure.code != "NoSuchKey":
                raise
            return ""

    def _copy(self, key: str, target: str, etag: str) -> None:
        """Copy what has this ETag inside of S3. The target is named by it: whoever does it again writes the same."""
        source: Any = {"Bucket": self.name, "Key": key}
        self.clients.s3.copy_object(Bucket=self.name, Key=target, CopySource=source, CopySourceIfMatch=etag)

    def _retry_on_conflict(self, key: str, write: Callable[[int], T]) -> T:
        """Call `write` with the number of the attempt until nobody gets in between; return what it gives."""
        for attempt in range(_ATTEMPTS):
            time.sleep(SystemRandom().uniform(0, min(_MAX_WAIT_SECONDS, 0.02 * 2**attempt)) if attempt else 0)
            try:
                with translate_errors():
                    return write(attempt)
            except AwsError as failure:
                # Missing at the time of the write: somebody took the trail away after it was read.
                if not failure.is_conflict and failure.code != "NoSuchKey":
                    raise AuditUnavailable(self._not_stored(key, failure)) from None
        message = f"the object changed under each of {_ATTEMPTS} attempts to write it"
        next_step = "look for the rows in the CSV of the run or in the log, and call again when it is quieter"
        raise AuditUnavailable(self._finding("audit_contended", message, next_step, key))

    @contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        try:
            with translate_errors():
                yield
        except AwsError as failure:
            raise AuditUnavailable(self._not_stored(key, failure)) from None

    def _not_stored(self, key: str, failure: AwsError) -> Finding:
        next_step = failure.next_step("s3:GetObject, s3:PutObject and s3:ListBucket")
        if failure.code == "NoSuchBucket":
            next_step = "create the bucket, or correct AUDIT_BUCKET"
        if failure.code in _ARCHIVED:
            next_step = "restore the object, and let the bucket's lifecycle archive neither it nor the trail"
        return self._finding("audit_not_stored", f"the audit cannot be written: {failure.code}", next_step, key)

    def _finding(self, code: str, message: str, next_step: str, key: str) -> Finding:
        return Finding(code, message, next_step, where=self.address(key))
