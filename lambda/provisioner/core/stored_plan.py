"""A plan with its statements in, the JSON under which a run stores it out; and back, as recovery reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from provisioner.core.approval import ApprovedPlan
from provisioner.core.audit import Provenance
from provisioner.core.model import Request
from provisioner.core.plan import Plan
from provisioner.core.report import render_text, summarize
from provisioner.core.reviewed_plan import ASKED
from provisioner.core.script import Script
from provisioner.core.units import units_to_json


class UnreadableRecord(ValueError):
    """What was read is no record and no plan that a run stored."""


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One change of a stored plan; `identity` is what makes it the same as one of another plan."""

    identity: tuple[str, ...]
    action: str
    database: str
    username: str
    detail: str


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """What is read back of a plan: whose it was, what it was to change, and what its rows say of its approval."""

    provenance: Provenance
    changes: tuple[PlannedChange, ...]
    approval: str = ""


def render_plan(
    plan: Plan, script: Script, provenance: Provenance, request: Request | None, approval: ApprovedPlan | None
) -> str:
    """A plan as JSON, with the statements that would carry it out and what was asked beside the snapshot."""
    document = {
        **asdict(provenance),
        "summary": summarize(plan),
        "holds_for": asdict(plan.validity) if plan.validity else {},
        "units": units_to_json(plan.units),
        "changes": [{**change.to_json(), "identity": change.identity} for change in plan.changes],
        "blockers": [asdict(finding) for finding in plan.blockers],
        "warnings": [asdict(finding) for finding in plan.warnings],
        "statements": {
            "roles": [str(item) for item in script.role_statements],
            "databases": [
                {
                    "database": item.name,
                    "create": item.create,
                    "open": item.open,
                    "before": item.before,
                    "statements": [str(text) for text in (*item.statements, *item.on_success)],
                }
                for item in script.databases
            ],
            "leaving": [
                {
                    "role": step.role,
                    "database": step.database,
                    "statements": [*step.before, *step.statements, *step.after],
                }
                for step in script.leaving
            ],
        },
        "plan_text": render_text(plan),
        "asked": {name: list(getattr(request, name)) for name in ASKED} if request else {},
        "approval": approval.note if approval else "",
    }
    return json.dumps(document, indent=1)


def parse_plan(content: bytes | None, environment: str) -> StoredPlan:
    """Read a stored plan of an environment back.

    Raises:
        UnreadableRecord: it is none.
    """
    value = parse_json(content)
    changes = value.get("changes") if isinstance(value, dict) else None
    if not isinstance(changes, list) or get_text(value, "environment") != environment:
        raise UnreadableRecord("no plan")
    # A plan of the version before may lack what this one says of a run.
    told = {each.name: get_text(value, each.name) for each in fields(Provenance) if each.name in value}
    approval = get_text(value, "approval") if "approval" in value else ""
    return StoredPlan(Provenance(**told), tuple(_parse_change(item) for item in changes), approval)


def _parse_change(item: Any) -> PlannedChange:
    identity = item.get("identity") if isinstance(item, dict) else None
    if not isinstance(identity, list) or not all(isinstance(part, str) for part in identity):
        raise UnreadableRecord("no change of a plan")
    words = [get_text(item, name) for name in ("action", "database", "username", "detail")]
    if identity[:3] != words[:3]:
        raise UnreadableRecord("a change that says two things")
    return PlannedChange(tuple(identity), *words)


def parse_json(content: bytes | None) -> Any:
    """Read what a run stored. Raises `UnreadableRecord`."""
    try:
        return json.loads(content or b"")
    except (ValueError, RecursionError):
        raise UnreadableRecord("no JSON") from None


def get_text(value: Any, name: str) -> str:
    """A text of an object that a run stored. Raises `UnreadableRecord`."""
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise UnreadableRecord(f"no text {name}")
    return text
