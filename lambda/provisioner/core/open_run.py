"""A run that began to change a server and was not heard of to its end: its note in, what is found to be done out.

Before its first change a run leaves a note in the audit bucket, and takes it away when its rows are stored. Whoever
finds the note knows the stored plan of that run, compares it with what is still to be done today, and writes the rows
that the trail lacks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner.core.audit import Provenance, build_rows, parse_csv
from provisioner.core.model import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from provisioner.core.audit import AuditRow
    from provisioner.core.plan import Change

_TOLD_FIELDS = ("build_id", "run_id", "requested_by", "approved_by", "snapshot_version", "plan_digest")


class NotOurs(ValueError):
    """What was read is no note and no plan that a run stored."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """The note: the run's token, and the keys under which its plan is stored and its rows would be."""

    run_token: str
    plan_key: str
    run_key: str

    @property
    def settled_key(self) -> str:
        """Where the rows are kept that others write for it."""
        return f"{self.run_key.removesuffix('.csv')}-settled.csv"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One change of a stored plan; `identity` is what the digest counts of it."""

    identity: tuple[str, ...]
    action: str
    database: str
    username: str
    detail: str


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """What is read back of a plan: whose it was, and what it was to change."""

    provenance: Provenance
    changes: tuple[PlannedChange, ...]


def render_note(run: OpenRun | None) -> str:
    """The note of an open run, or the one that says that none is open."""
    if run is None:
        return "{}\n"
    return json.dumps({"run_token": run.run_token, "plan": run.plan_key, "run": run.run_key}) + "\n"


def parse_note(content: bytes) -> OpenRun | None:
    """Read a note; None where no run is open.

    Raises:
        ValueError: it is no note of ours (`NotOurs`), or not even JSON.
    """
    value = json.loads(content)
    if value == {}:
        return None
    return OpenRun(_text(value, "run_token"), _text(value, "plan"), _text(value, "run"))


def parse_plan(content: bytes) -> StoredPlan:
    """Read a stored plan back.

    Raises:
        ValueError: it is none (`NotOurs`), or not even JSON.
    """
    value = json.loads(content)
    changes = value.get("changes") if isinstance(value, dict) else None
    if not isinstance(changes, list):
        raise NotOurs("no plan")
    provenance = Provenance(_text(value, "environment"), **{name: _text(value, name) for name in _TOLD_FIELDS})
    return StoredPlan(provenance, tuple(_parse_change(item) for item in changes))


def settle(
    plan: StoredPlan, run_csv: bytes, still_to_do: Iterable[Change], run_token: str, timestamp_utc: str
) -> tuple[AuditRow, ...]:
    """The rows that a run owes: its changes that stand and of which its own rows say nothing.

    `run_csv` is what it stored itself, empty where it stored nothing. A change stands if a plan made now does not have
    it any more; a run that got no answer to a COMMIT may have made it without knowing.
    """
    left = {change.identity() for change in still_to_do}
    told = {_key(row) for row in parse_csv(run_csv) if row.status is Status.SUCCESS}
    standing = [item for item in plan.changes if item.identity not in left]
    told_as = build_rows(plan.provenance, (_outcome(item, timestamp_utc, "") for item in standing))
    owed = [item for item, row in zip(standing, told_as, strict=True) if _key(row) not in told]
    suffix = f"; planned by run {run_token}, which was cut off, and found to stand"
    return build_rows(plan.provenance, (_outcome(item, timestamp_utc, suffix) for item in owed))


def _outcome(item: PlannedChange, timestamp_utc: str, suffix: str) -> Outcome:
    return Outcome(
        item.action, item.database, item.username, Status.SUCCESS, timestamp_utc, message=item.detail + suffix
    )


def _key(row: AuditRow) -> tuple[str, ...]:
    return (row.action, row.database, row.username, row.message)


def _parse_change(item: Any) -> PlannedChange:
    identity = item.get("identity") if isinstance(item, dict) else None
    if not isinstance(identity, list) or not all(isinstance(part, str) for part in identity):
        raise NotOurs("no change of a plan")
    words = (_text(item, name) for name in ("action", "database", "username", "detail"))
    return PlannedChange(tuple(identity), *words)


def _text(value: Any, name: str) -> str:
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise NotOurs(f"no text {name}")
    return text
