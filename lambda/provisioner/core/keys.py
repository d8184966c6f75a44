"""What lies in the audit bucket: the keys of an environment, each under its `folder`, and what S3 gives under one."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

_TRAIL = "rds_provision_audit"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as S3 gave it: `put_at` is S3's own time; `content` is None where it is too large, or in an archive.

    One that is not there has neither content nor ETag.
    """

    address: str
    content: bytes | None = b""
    etag: str = ""
    put_at: datetime = datetime.min  # noqa: DTZ901 - of nothing
    version_id: str = ""

    @property
    def is_there(self) -> bool:
        return bool(self.etag)


def trail(folder: str) -> str:
    """The CSV that every run of the environment appends to; `folder` is where its objects lie."""
    return f"{folder}/{_TRAIL}.csv"


def unread_archive(trail: str, etag: str) -> str:
    """Where a trail is kept that is too large to be read."""
    return f"{trail.rpartition('/')[0]}/archive/{_TRAIL}-{_key_safe(etag).strip('-')}.csv"


def unreadable(key: str, etag: str) -> str:
    """Where an object that is not what should stand under its key is put aside."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/unreadable/{_key_safe(etag).strip('-')}-{name}"


def archive(trail: str, content: bytes) -> str:
    """Where a full trail is kept: the time of its first row, and the hash of its content, so two are never one."""
    folder = trail.rpartition("/")[0]
    first_row = content.split(b"\n", 2)[1:2]
    started = _key_timestamp(b"".join(first_row).split(b",", 1)[0].decode("ascii", "replace"))
    return f"{folder}/archive/{_TRAIL}-{started}-{hashlib.sha256(content).hexdigest()[:12]}.csv"


def run(folder: str, timestamp_utc: str, run_token: str) -> str:
    """The CSV of one run; the token makes it unique, the time in front makes a listing read in order."""
    return f"{folder}/runs/{_key_timestamp(timestamp_utc)}-{_key_safe(run_token)}.csv"


def access(folder: str, timestamp_utc: str, run_token: str) -> str:
    """The three files of a report of access, without their endings; the time in front makes a listing read in order."""
    return f"{access_folder(folder)}{_key_timestamp(timestamp_utc)}-{_key_safe(run_token)}"


def access_folder(folder: str) -> str:
    return f"{folder}/access/"


def in_progress(folder: str) -> str:
    """The record of the run that is changing the server; one for the environment, since one run does at a time."""
    return f"{folder}/open_run.json"


def plan(folder: str, timestamp_utc: str, plan_digest: str, run_token: str) -> str:
    """The plan of one run as JSON, findable by its time and the start of its digest."""
    digest = _key_safe(plan_digest.removeprefix("sha256:"))[:12]
    return f"{folder}/plans/{_key_timestamp(timestamp_utc)}-{digest}-{_key_safe(run_token)}.json"


def markdown(plan: str) -> str:
    return f"{plan.removesuffix('.json')}.md"


def approvals_folder(folder: str) -> str:
    return f"{folder}/approvals/"


def approval(folder: str, digest: str) -> str:
    return f"{approvals_folder(folder)}{digest.removeprefix('sha256:')}.json"


def approved_digest(key: str, folder: str) -> str:
    """The digest of the plan that an approval under this key is for; empty where it is none of the environment's."""
    match = re.fullmatch(re.escape(approvals_folder(folder)) + r"([0-9a-f]{64})\.json", key)
    return f"sha256:{match[1]}" if match else ""


def reviewed_plan(folder: str, digest: str, snapshot: str) -> str:
    """Where the plan with a digest lies that was made of a snapshot: its version, or its content where it has none."""
    return f"{folder}/plans/by-digest/{digest.removeprefix('sha256:')}/{snapshot}.json"


def asked(folder: str, digest: str, name: str) -> str:
    """Where it is noted that a plan with a digest was made for somebody, who may be one of many."""
    hashed = hashlib.sha256(person(name).encode("utf-8", "replace")).hexdigest()
    return f"{folder}/plans/asked-by/{digest.removeprefix('sha256:')}/{hashed}.json"


def person(name: str) -> str:
    """A name by its letters, however they are written: IAM alone knows who it is."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def version(version_id: str) -> str:
    # S3 may call a version what no key may hold.
    return hashlib.sha256(version_id.encode()).hexdigest()


def _key_timestamp(timestamp_utc: str) -> str:
    return _key_safe(timestamp_utc.replace("-", "").replace(":", ""))


def _key_safe(text: str) -> str:
    """The text as part of an S3 key that needs no escaping anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128]
