"""What S3 has of an approval: a digest in, the keys of the approval and of the plan that approvers read out; and back.

A stored plan is trusted for its digest alone, which is computed again.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner.core.changes import ChangeKind
from provisioner.core.units import Unit, UnitEffects, Validity, digest_plan, digest_unit, name_unit

# The fields of a request that say what is to be done beside what the snapshot declares.
ASKED = ("adopt", "quarantine", "retire")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as S3 gave it: `put_at` is S3's own time; `content` is None where it is too large to be read."""

    address: str
    content: bytes | None
    put_at: datetime
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class ReviewedPlan:
    """A stored plan whose digest was computed again: what it holds for, what it does."""

    validity: Validity
    units: Mapping[Unit, UnitEffects]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is for one digest: the approval, and the plans that were stored for this very snapshot.

    `address` is where the approval lies or would lie; `is_of_other_snapshot` says that another had this digest too,
    `is_by_requester` that a plan with it was made for whom the approval names.
    """

    digest: str
    address: str
    approval: StoredObject | None
    now: datetime
    plans: tuple[StoredObject, ...] = ()
    is_of_other_snapshot: bool = False
    is_by_requester: bool = False


def approval_key(folder: str, digest: str) -> str:
    return f"{folder}/approvals/{digest.removeprefix('sha256:')}.json"


def digest_of_key(key: str, folder: str) -> str:
    """The digest of the plan that an approval under this key is for; empty where it is none of the environment's."""
    approvals = re.escape(approval_key(folder, "").removesuffix(".json"))
    match = re.fullmatch(f"{approvals}([0-9a-f]{{64}})\\.json", key)
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


def read_plan(content: bytes | None, digest: str) -> ReviewedPlan:
    """Read a stored plan back, and compute every digest in it again: what it lists is what they cover, and no less.

    Raises:
        ValueError: it is none, or not the one with this digest, or lists something else.
    """
    try:
        plan = json.loads(content or b"")
        units = {Unit(item["kind"], item["name"]): _read_effects(item) for item in plan["units"]}
        validity = Validity(**plan["holds_for"])
        digests = [digest_unit(unit, effects) for unit, effects in units.items()]
        is_genuine = digests == [item["digest"] for item in plan["units"]] and digest_plan(validity, digests) == digest
        is_shown = _listed(plan) == {
            (unit, what) for unit, done in units.items() for what in (*done.effects, *done.blockers)
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is no plan that a run stored") from None
    if not is_genuine:
        raise ValueError("what it holds does not have the digest that it is stored under")
    if not is_shown:
        raise ValueError("it lists other changes than its digest covers")
    return ReviewedPlan(validity, units)


def _listed(plan: Mapping[str, Any]) -> set[tuple[Unit, tuple[str, ...] | str]]:
    """What a stored plan lists for people: each change by its identity, each blocker by its code."""
    told = [item for item in plan["changes"] if item["action"] != ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP.action]
    if any(item["identity"][:3] != [item["action"], item["database"], item["username"]] for item in told):
        raise ValueError("a change that says two things")
    changes = {(_unit_of(tuple(item["identity"])), tuple(item["identity"])) for item in told}
    blockers = {(name_unit(item["database"], item["username"]), item["code"]) for item in plan["blockers"]}
    return {*changes, *blockers}


def _unit_of(identity: tuple[str, ...]) -> Unit:
    """As `Change.unit_role` has it."""
    action, database, username, *what = identity
    return name_unit(database, what[0] if action == ChangeKind.REVOKE_MEMBERSHIP.action else username)


def read_asked(plans: Iterable[StoredObject]) -> dict[str, Any]:
    """What the request of a stored plan asked for beside its snapshot (`ASKED`), by the name of the field.

    No digest holds it, and none needs to: what follows from it is in the effects.
    """
    for stored in plans:
        try:
            asked = json.loads(stored.content or b"")["asked"]
            return {name: tuple(map(str, asked[name])) for name in ASKED}
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return dict.fromkeys(ASKED, ())


def _read_effects(item: Mapping[str, Any]) -> UnitEffects:
    effects = tuple(tuple(str(part) for part in effect) for effect in item["effects"])
    return UnitEffects(effects, tuple(str(code) for code in item["blockers"]))
