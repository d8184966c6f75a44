"""Approvals: what S3 has of one and of the plan that it names in, the units that may be applied out, or why none may.

An approval is an object that only approvers may put. It names the digest of a stored plan, and it holds for what was
read: the plan's units, as they were, on that server, while its snapshot is the newest.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from provisioner.core import keys
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import ApprovalRequired, Finding, PlanChanged
from provisioner.core.keys import StoredObject
from provisioner.core.model import Request, Settings
from provisioner.core.plan import Plan, held_back
from provisioner.core.report import how_to_apply
from provisioner.core.stored_plan import StoredPlan, UnreadableRecord, parse_plan, refuse_forged
from provisioner.core.text import join_names, sanitize
from provisioner.core.units import Unit, UnitEffects, unit_of

_MAX_APPROVER = 256
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is for one digest: the approval, and the plans that were stored for this very snapshot.

    `is_of_other_snapshot` says that another had this digest too, `is_by_requester` that a plan with it was made for
    whom the approval names.
    """

    digest: str
    approval: StoredObject
    body: dict[str, Any] | None
    now: datetime
    plans: tuple[StoredObject, ...] = ()
    is_of_other_snapshot: bool = False
    is_by_requester: bool = False


@dataclass(frozen=True, slots=True)
class ApprovedPlan:
    """An approval that counts: the name in it, what the message of a row says of it, and the units that were read."""

    approved_by: str
    note: str
    units: Mapping[Unit, UnitEffects]


# --- whether it counts ----------------------------------------------------------------------------------------------


def check_approval(evidence: Evidence, plan: Plan, request: Request, settings: Settings) -> ApprovedPlan:
    """The units that an approval lets be applied; `plan` is what would be done now.

    Raises:
        ApprovalRequired: there is none, or it does not count; every reason at once.
        PlanChanged: it counted for what is no longer so: another snapshot, server or administrator.
    """
    approval = evidence.approval
    if not approval.is_there:
        message = f"{plan.environment} is changed by approved plans only, and {approval.address} does not exist"
        raise ApprovalRequired(Finding("approval_required", f"{message}; nothing was changed", _next_step(plan)))
    body = evidence.body
    problems = dict(_problems(evidence, settings, request))
    if body is None or problems:
        raise ApprovalRequired(tuple(_refuse(*each, evidence, plan) for each in problems.items()))
    reviewed = _find_plan(evidence, plan)
    if reviewed.validity != plan.validity:
        then, now = reviewed.validity, plan.validity
        differing = [each.name for each in fields(then) if getattr(then, each.name) != getattr(now, each.name, None)]
        reason = f"it is for another server, administrator or environment ({join_names(differing)} differ)"
        raise PlanChanged(_refuse("plan_changed", reason, evidence, plan))
    note = f"; approved as {approval.address} version {approval.version_id}"
    return ApprovedPlan(body["approved_by"].strip(), note, reviewed.units)


def _problems(evidence: Evidence, settings: Settings, request: Request) -> Iterator[tuple[str, str]]:
    """What is wrong with an approval, whatever plan it is for: codes with their reasons."""
    body = evidence.body
    if body is None:
        yield "approval_unreadable", "it is not a JSON object that says each thing once"
        return
    if body.get("plan_digest") != evidence.digest:
        yield "approval_of_other_plan", "its plan_digest is not the digest that its key names"
    name = body.get("approved_by")
    if not (isinstance(name, str) and 0 < len(name.strip()) <= _MAX_APPROVER and name.isprintable()):
        yield "approval_without_name", f"its approved_by is not a name of at most {_MAX_APPROVER} characters"
    # Whoever had the plan made or now wants it applied: when the object itself calls, only the former has a name.
    elif evidence.is_by_requester or keys.person(name) == keys.person(request.requested_by):
        yield "approval_by_requester", f'"{sanitize(name, 64)}" asked for the change and cannot approve it'
    if evidence.now - evidence.approval.put_at > timedelta(hours=settings.approval_hours):
        yield "approval_expired", f"it is older than {settings.approval_hours} hours (setting APPROVAL_HOURS)"


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


def _find_plan(evidence: Evidence, plan: Plan) -> StoredPlan:
    """The plan that the approver could read: stored before the approval, of the snapshot that is still the newest."""
    for stored in evidence.plans:
        if stored.put_at <= evidence.approval.put_at:
            try:
                reviewed = parse_plan(stored.content, plan.environment)
                refuse_forged(reviewed, evidence.digest)
            except UnreadableRecord as error:
                message = f"the stored plan {stored.address} cannot be trusted: {error}"
                raise ApprovalRequired(_refuse("plan_not_genuine", message, evidence, plan)) from None
            return reviewed
    if evidence.is_of_other_snapshot:
        message = "the plan that it is for was made of another version of the snapshot than the newest"
        raise PlanChanged(_refuse("plan_changed", message, evidence, plan))
    if evidence.plans:
        message = f"it is older than the plan, which was first stored {evidence.plans[0].put_at:%Y-%m-%d %H:%M:%S} UTC"
        raise ApprovalRequired(_refuse("approval_before_plan", message, evidence, plan))
    message = f"no plan with this digest was stored for {plan.environment}, so nobody can have read it"
    raise ApprovalRequired(_refuse("plan_not_stored", message, evidence, plan))


def _refuse(code: str, reason: str, evidence: Evidence, plan: Plan) -> Finding:
    message = f"the approval {evidence.approval.address} does not count: {reason}; nothing was changed"
    return Finding(code, message, _next_step(plan))


def _next_step(plan: Plan) -> str:
    return f"read the plan as it is now, then have an approver call: {how_to_apply(plan)}"


# --- what it covers -------------------------------------------------------------------------------------------------


def leave_unapproved(plan: Plan, approved: Mapping[Unit, UnitEffects], continued: Collection[str] = ()) -> Plan:
    """The plan with a finding against each unit that would do what nobody read; what depends on it is left with it.

    A unit may do all that was approved for it or what is left of that, so that a run can go on where another ended.
    `continued` are the databases that such a run created and could not mark: to mark one is to finish its creation.
    A unit that was blocked when it was read may do nothing once it is not: nobody read that it would. What is new in a
    database on what another role than its owner has made there stands against that role.
    """
    changes: dict[Unit, list[Change]] = {}
    for change in plan.changes:
        changes.setdefault(unit_of(change), []).append(change)
    findings = []
    administrator = plan.validity.administrator if plan.validity else ""
    for unit in sorted({*plan.units, *approved}):
        now, then = plan.units.get(unit, UnitEffects()), approved.get(unit, UnitEffects())
        read = frozenset(then.effects)
        new = [change for change in changes.get(unit, ()) if not _is_covered(change, read, continued)]
        # A reader can set default privileges of its own too: that is no reason to leave the database's owner without.
        of_others = [change for change in new if change.others_objects - {administrator}]
        for role in sorted({role for change in of_others for role in change.others_objects}):
            theirs = [change for change in of_others if role in change.others_objects]
            findings.append(_not_approved(Unit("role", role), theirs, [], plan))
        new = [change for change in new if change not in of_others]
        freed = sorted({*then.blockers} - {*now.blockers})
        if new or (freed and any(_depends(change, unit) for change in plan.changes)):
            findings.append(_not_approved(unit, new, freed, plan))
    plan = replace(plan, unapproved=tuple(findings))
    while held := held_back(plan):
        plan = replace(plan, unapproved=(*plan.unapproved, *held))
    return plan


def _is_covered(change: Change, read: frozenset[tuple[str, ...]], continued: Collection[str]) -> bool:
    finishes = change.kind is ChangeKind.ADOPT_DATABASE and change.database in continued
    created = Change(ChangeKind.CREATE_DATABASE, database=change.database, username=change.username)
    return change.is_housekeeping or change.identity in read or (finishes and created.identity in read)


def _depends(change: Change, unit: Unit) -> bool:
    if unit.kind == "database":
        return change.database == unit.name
    return not unit.kind or change.concerns({unit.name})


def _not_approved(unit: Unit, new: list[Change], freed: list[str], plan: Plan) -> Finding:
    what = f'{unit.kind} "{unit.name}"' if unit.kind else "the plan"
    place = ' in database "{}"' if unit.kind == "role" else ""
    details = [
        f"{change.action} {change.username}{place.format(change.database) if change.database else ''}: {change.detail}"
        for change in new
    ]
    reason = f"not read by who approved: {join_names(details, _MAX_NAMED)}" if new else ""
    reason = reason or f"what stood against it when it was read is gone ({join_names(freed, _MAX_NAMED)})"
    return Finding(
        "unit_not_approved",
        f"{what} was left as it is, {reason}",
        f'plan again (mode "dry_run"), read what is left, then approve that plan of {plan.environment}',
        database=unit.name if unit.kind == "database" else "",
        username=unit.name if unit.kind == "role" else "",
    )
