"""A plan with its statements in, the JSON under which a run stores it out; and back, for approvals and for recovery."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from provisioner.core.audit import Provenance
from provisioner.core.changes import ChangeKind, PlannedChange
from provisioner.core.model import Request
from provisioner.core.plan import Plan
from provisioner.core.report import render_text, summarize
from provisioner.core.script import Script
from provisioner.core.units import (
    Unit,
    UnitEffects,
    Validity,
    digest_plan,
    digest_unit,
    name_unit,
    unit_of,
    units_to_json,
)

# The fields of a request that say what is to be done beside what the snapshot declares.
ASKED = ("adopt", "quarantine", "retire")


class UnreadableRecord(ValueError):
    """What was read is no record and no plan that a run stored."""


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """What is read back of a plan; `asked` are the fields `ASKED` of its request, `approval` what its rows say of one.

    `blockers` are the units that are blocked, with the codes of what stands against them.
    """

    provenance: Provenance
    changes: tuple[PlannedChange, ...]
    approval: str = ""
    validity: Validity = field(default_factory=lambda: Validity(""))
    units: Mapping[Unit, UnitEffects] = field(default_factory=dict)
    blockers: frozenset[tuple[Unit, str]] = frozenset()
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def render_plan(plan: Plan, script: Script, provenance: Provenance, request: Request | None, approval: str) -> str:
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
        "approval": approval,
    }
    return json.dumps(document, indent=1)


def parse_plan(content: bytes | None, environment: str) -> StoredPlan:
    """Read a stored plan of an environment back; one of an earlier version may say less.

    Raises UnreadableRecord: it is none.
    """
    try:
        plan = json.loads(content or b"")
        provenance = Provenance(**{each.name: _text(plan.get(each.name, "")) for each in fields(Provenance)})
        stored = StoredPlan(
            provenance,
            changes=tuple(map(_parse_change, plan["changes"])),
            approval=_text(plan.get("approval", "")),
            validity=Validity(**{"environment": "", **plan.get("holds_for", {})}),
            units={Unit(item["kind"], item["name"]): _parse_effects(item) for item in plan.get("units", ())},
            blockers=frozenset(
                (name_unit(item["database"], item["username"]), item["code"]) for item in plan.get("blockers", ())
            ),
            asked={name: tuple(map(_text, plan.get("asked", {}).get(name, ()))) for name in ASKED},
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UnreadableRecord("it is no plan that a run stored") from None
    if provenance.environment != environment:
        raise UnreadableRecord("it is of another environment")
    return stored


def refuse_forged(plan: StoredPlan, digest: str) -> None:
    """Compute the digest of a stored plan again: what it lists for people is what that covers, and no less.

    Raises UnreadableRecord: it is not the one with this digest, or lists something else.
    """
    unit_digests = [digest_unit(unit, effects) for unit, effects in plan.units.items()]
    if digest_plan(plan.validity, unit_digests) != digest:
        raise UnreadableRecord("what it holds does not have the digest that it is stored under")
    finish = ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP.action
    listed = {(unit_of(item), item.identity) for item in plan.changes if item.action != finish} | plan.blockers
    covered = {(unit, what) for unit, done in plan.units.items() for what in (*done.effects, *done.blockers)}
    if listed != covered:
        raise UnreadableRecord("it lists other changes than its digest covers")


def read_asked(contents: Iterable[bytes | None], environment: str) -> Mapping[str, tuple[str, ...]]:
    """What the request of the first stored plan that can be read asked for, by the names `ASKED`.

    No digest holds it, and none needs to: what follows from it is in the effects.
    """
    for content in contents:
        with suppress(UnreadableRecord):
            return parse_plan(content, environment).asked
    return dict.fromkeys(ASKED, ())


def _parse_change(item: Mapping[str, Any]) -> PlannedChange:
    action, database, username, *what = map(_text, item["identity"])
    change = PlannedChange(action, database, username, tuple(what), _text(item["detail"]))
    if [change.action, change.database, change.username] != [item["action"], item["database"], item["username"]]:
        raise ValueError("a change that says two things")
    return change


def _parse_effects(item: Mapping[str, Any]) -> UnitEffects:
    effects = tuple(tuple(map(_text, effect)) for effect in item["effects"])
    return UnitEffects(effects, tuple(map(_text, item["blockers"])))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
