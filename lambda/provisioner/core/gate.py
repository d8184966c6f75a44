"""A request and a plan's digest in, how far the run may go out: who may change what."""

from __future__ import annotations

import json
from enum import Enum

from provisioner.core.errors import ApprovalRequired, Finding, PlanChanged
from provisioner.core.model import Mode, Request, RunStatus, Settings, Trigger


class Decision(Enum):
    """On to the changes; or not yet: whether it may, and how far, an object says (`core.approval`)."""

    PROCEED = "proceed"
    BY_APPROVAL = "by_approval"


def decide(request: Request, settings: Settings, plan_digest: str, *, has_changes: bool) -> Decision | RunStatus:
    """Decide how far the run goes, or how it ends; the environment is the function's own, never the caller's word.

    A plan without changes needs no approval. Where approvals are objects, nothing that a request says opens the gate.
    Elsewhere a digest that was given is compared. Where both settings name the environment, the stricter one holds.

    Raises `PlanChanged` when the plan is not the approved one, and `ApprovalRequired` when an explicit apply lacks
    what the environment asks for; a new snapshot in such an environment is answered `APPROVAL_REQUIRED` instead.
    """
    if request.mode is Mode.DRIFT:
        return RunStatus.DRIFTED if has_changes else RunStatus.IN_SYNC
    if not has_changes:
        return RunStatus.NO_CHANGE
    if request.mode is Mode.DRY_RUN:
        return RunStatus.PLANNED
    missing = _missing_approval(request, settings)
    if missing and request.trigger is Trigger.SNAPSHOT_EVENT:
        return RunStatus.APPROVAL_REQUIRED
    if missing and settings.needs_approval_objects:
        return Decision.BY_APPROVAL
    approved = request.approval.plan_digest
    if approved and approved != plan_digest:
        raise PlanChanged(_changed(approved, plan_digest))
    if missing:
        raise ApprovalRequired(_required(settings, missing, plan_digest))
    return Decision.PROCEED


def needs_approval(settings: Settings) -> bool:
    """Whether a change of access needs an approval here, whichever."""
    return settings.needs_approval_objects or settings.environment not in settings.ungated_environments


def may_change(request: Request, settings: Settings) -> bool:
    """Whether the run can come to a change at all: one that cannot needs no lock, and settles nothing."""
    plans_only = request.trigger is Trigger.SNAPSHOT_EVENT and _missing_approval(request, settings)
    return request.mode is Mode.APPLY and not plans_only


def how_to_approve(plan_digest: str) -> str:
    """The field that an apply of this very plan has to carry, as JSON to paste into the event."""
    approval = {"allow_db_provision": True, "approved_by": "<who approves>", "plan_digest": plan_digest}
    return f'"approval": {json.dumps(approval)}'


def _missing_approval(request: Request, settings: Settings) -> list[str]:
    # After a change of a secret passwords follow it and nothing else (`core.rotation`), which is no change of access.
    if request.trigger is Trigger.SECRET_EVENT or not needs_approval(settings):
        return []
    if settings.needs_approval_objects:
        return ["an approval"]
    approval = request.approval
    present = {
        "approval.allow_db_provision": approval.allow_db_provision,
        "approval.approved_by": bool(approval.approved_by.strip()),
    }
    return [name for name, is_there in present.items() if not is_there]


def _required(settings: Settings, missing: list[str], plan_digest: str) -> Finding:
    return Finding(
        "approval_required",
        f"{settings.environment} is gated and the apply lacks {', '.join(missing)}; nothing was changed",
        f"read the plan {plan_digest}, then call again with {how_to_approve(plan_digest)}",
        where=missing[0],
    )


def _changed(approved: str, plan_digest: str) -> Finding:
    return Finding(
        "plan_changed",
        f"the plan is now {plan_digest} and not {approved}, which was approved; nothing was changed",
        f"read the new plan, then call again with {how_to_approve(plan_digest)}",
        where="approval.plan_digest",
    )
