"""What S3 has of an approval: a digest in, the keys of the approval and of the plan that approvers read out."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as S3 gave it: `put_at` is S3's own time; `content` is None where it is too large to be read.

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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is for one digest: the approval, and the plans that were stored for this very snapshot.

    `is_of_other_snapshot` says that another had this digest too, `is_by_requester` that a plan with it was made for
    whom the approval names.
    """

    digest: str
    approval: StoredObject
    now: datetime
    plans: tuple[StoredObject, ...] = ()
    is_of_other_snapshot: bool = False
    is_by_requester: bool = False


def approvals_folder(folder: str) -> str:
    return f"{folder}/approvals/"


def approval_key(folder: str, digest: str) -> str:
    return f"{approvals_folder(folder)}{digest.removeprefix('sha256:')}.json"


def digest_of_key(key: str, folder: str) -> str:
    """The digest of the plan that an approval under this key is for; empty where it is none of the environment's."""
    match = re.fullmatch(re.escape(approvals_folder(folder)) + r"([0-9a-f]{64})\.json", key)
    return f"sha256:{match[1]}" if match else ""


def reviewed_plan_key(folder: str, digest: str, snapshot: str) -> str:
    """Where the plan with a digest lies that was made of a snapshot: its version, or its content where it has none."""
    return f"{folder}/plans/by-digest/{digest.removeprefix('sha256:')}/{snapshot}.json"


def asked_key(folder: str, digest: str, name: str) -> str:
    """Where it is noted that a plan with a digest was made for somebody, who may be one of many."""
    person = hashlib.sha256(name_person(name).encode("utf-8", "replace")).hexdigest()
    return f"{folder}/plans/asked-by/{digest.removeprefix('sha256:')}/{person}.json"


def name_person(name: str) -> str:
    """A name by its letters, however they are written: IAM alone knows who it is."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def name_version(version_id: str) -> str:
    # S3 may call a version what no key may hold.
    return hashlib.sha256(version_id.encode()).hexdigest()


def read_approval(content: bytes | None) -> dict[str, Any] | None:
    """An approval that was put; None where it is no JSON object, or says something twice."""
    try:
        body = json.loads(content or b"", object_pairs_hook=_refuse_twice)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name that stands twice")
    return dict(pairs)
