"""The plan of a run in, what the audit bucket has of its approval out; and what of the plan may be done by that."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from provisioner.audit_log import AuditLog
from provisioner.core import keys
from provisioner.core.approval import ApprovedPlan, Evidence, check_approval, leave_unapproved, read_approval
from provisioner.core.errors import ApprovalRequired, PlanChanged
from provisioner.core.model import Request
from provisioner.core.ownership import Ownership
from provisioner.core.plan import Plan

_MAX_APPROVAL_BYTES = 16 * 1024
# A change takes about a kilobyte, and one tenant's may be as many as `observe.MAX_CHANGES`.
_MAX_PLAN_BYTES = 128 * 1024 * 1024


def store_reviewed_plan(audit_log: AuditLog, digest: str, content: str) -> None:
    """Store a plan where it is found by its digest; the first one stands, since it is what approvers have read.

    It names the first one who asked for it, so each is noted beside it. Raises `AuditUnavailable`.
    """
    bucket, requested_by = audit_log.bucket, audit_log.require_request().requested_by
    snapshot = keys.version(audit_log.snapshot_version) if audit_log.snapshot_version else audit_log.snapshot_sha256
    if requested_by.strip():
        bucket.put_first(keys.asked(bucket.folder, digest, requested_by), json.dumps({"requested_by": requested_by}))
    key = keys.reviewed_plan(bucket.folder, digest, snapshot)
    if bucket.put_first(key, content):
        audit_log.unread_plan = bucket.address(key)


def find_evidence(audit_log: AuditLog, digest: str) -> Evidence:
    """What is there for a digest while the snapshot of this run is the newest.

    A plan that this run has stored first is none that anybody read: by S3's time, which is told in seconds, it may be
    as old as an approval that was put before. Raises `AuditUnavailable`.
    """
    bucket = audit_log.bucket
    approval = bucket.get(keys.approval(bucket.folder, digest), _MAX_APPROVAL_BYTES)
    evidence = Evidence(digest, approval, read_approval(approval.content), now=datetime.now(UTC))
    if not approval.is_there:
        return evidence
    snapshots = keys.version(audit_log.snapshot_version), audit_log.snapshot_sha256
    reviewed = [keys.reviewed_plan(bucket.folder, digest, each) for each in snapshots]
    found = [bucket.get(each, _MAX_PLAN_BYTES) for each in reviewed]
    approver = (evidence.body or {}).get("approved_by")
    # Three are enough to know whether there are others than two.
    stored = bucket.newest_keys(reviewed[0].rpartition("/")[0] + "/", ".json", 3)
    return replace(
        evidence,
        plans=tuple(plan for plan in found if plan.is_there and plan.address != audit_log.unread_plan),
        is_of_other_snapshot=any(each not in reviewed for each in stored),
        is_by_requester=isinstance(approver, str)
        and bucket.get(keys.asked(bucket.folder, digest, approver), 0).is_there,
    )


def as_approved(request: Request, plan: Plan, ownership: Ownership, audit_log: AuditLog) -> Plan:
    """The plan with what nobody approved held back.

    What a run that ended early has left is another plan and goes on under the approval of the whole, named or not.

    Raises ApprovalRequired, PlanChanged: no approval counts, or nothing that it covers is left to do.
    """
    databases = ownership.server.databases.items()
    continued = {name for name, facts in databases if ownership.is_interrupted_create(facts)}

    def under(digest: str) -> tuple[ApprovedPlan, Plan]:
        approval = check_approval(find_evidence(audit_log, digest), plan, request, audit_log.settings)
        return approval, leave_unapproved(plan, approval.units, continued)

    try:
        approval, approved = under(request.approval.plan_digest or plan.digest)
    except ApprovalRequired:
        covering = None if request.approval.plan_digest else _find_covering(under, audit_log)
        if covering is None:
            raise
        approval, approved = covering
    if approved.unapproved and not approved.unblocked_changes:
        raise PlanChanged((*approved.unapproved, *plan.blockers))
    audit_log.approval = approval
    return approved


def _find_covering(
    under: Callable[[str], tuple[ApprovedPlan, Plan]], audit_log: AuditLog
) -> tuple[ApprovedPlan, Plan] | None:
    """The newest approval that counts still and covers all that is left."""
    bucket = audit_log.bucket
    since = datetime.now(UTC) - timedelta(hours=audit_log.settings.approval_hours)
    for key in bucket.keys_since(keys.approvals_folder(bucket.folder), since):
        with suppress(ApprovalRequired, PlanChanged):
            if (digest := keys.approved_digest(key, bucket.folder)) and not (found := under(digest))[1].unapproved:
                return found
    return None
