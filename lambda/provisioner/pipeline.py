"""One run, from the event to the plan, the gate, the apply and its proof: one path for all modes.

A dry run and a drift check do what an apply does and stop at the gate, before the first write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from provisioner.approvals import as_approved, store_reviewed_plan
from provisioner.audit_log import AuditLog
from provisioner.core.difference import Difference
from provisioner.core.errors import (
    ApplyFailed,
    ApprovalRequired,
    AuditUnavailable,
    Finding,
    InvalidRequest,
    PlanBlocked,
    PlanChanged,
    ProvisioningError,
    StaleSnapshot,
)
from provisioner.core.gate import Decision, decide
from provisioner.core.leaving import refusals
from provisioner.core.model import Mode, Request, RunStatus, Status, Trigger
from provisioner.core.ownership import Ownership
from provisioner.core.plan import Plan, build_plan
from provisioner.core.report import RunResult, render_notification, render_text, sum_line
from provisioner.core.request import parse_request
from provisioner.core.script import Script, write_script
from provisioner.edges.apply import apply_script
from provisioner.edges.clock import Deadline
from provisioner.edges.departures import apply_departures
from provisioner.edges.driver import clear_scram_cache
from provisioner.edges.lock import fence
from provisioner.edges.lock_watch import LockWatch
from provisioner.edges.notify import notify
from provisioner.edges.transaction import ApplyContext
from provisioner.interrupted_run import recover_interrupted_run
from provisioner.observation import count_workers, observe
from provisioner.preflight import check_everything
from provisioner.rotation import follow_secret
from provisioner.run_input import NotConcerned, read_and_connect
from provisioner.telemetry import log_mistake, logger
from provisioner.verification import probe_new_password, verify_after_apply

# The share of the function's time that is kept for ending a run: the proof, the audit, the answer.
RESERVED_TIME_SHARE = 0.15
MAX_RESERVED_SECONDS = 90.0
# The part of the reserve in which no answer of the server is waited for any more: the audit needs it.
AUDIT_TIME_SHARE = 0.5


def run(event: object, audit_log: AuditLog, seconds_left: Callable[[], float]) -> RunResult:
    """Do what an event asks, whatever it is; `audit_log`, empty as yet, is stored before this returns or raises.

    Raises ProvisioningError: one of the named errors, all of whose findings are in the audit.
    """
    # Held until the audit is stored: who takes the lock next must not find the record of a run that lives.
    with ExitStack() as lock:
        lock.callback(clear_scram_cache)
        try:
            deadline = Deadline(seconds_left, min(seconds_left() * RESERVED_TIME_SHARE, MAX_RESERVED_SECONDS))
            audit_log.request = request = parse_request(event, audit_log.settings)
            if request.mode is Mode.PREFLIGHT:
                return check_everything(request, audit_log, deadline)
            result = _provision(request, audit_log, deadline, lock)
        except Exception as error:  # noqa: BLE001 - whatever it is, it has to be in the audit and have a name
            named = error if isinstance(error, ProvisioningError) else _mistake(error)
            audit_log.record_findings(named.findings, action="refuse", status=Status.ERROR)
            try:
                audit_log.store()
            except AuditUnavailable as failure:
                raise AuditUnavailable((*failure.findings, *named.findings)) from None
            raise named from None
        audit_log.store()
        return replace(result, plan=replace(result.plan, warnings=(*result.plan.warnings, *audit_log.findings)))


def _mistake(error: Exception) -> ApplyFailed:
    log_mistake(error)
    message = f"the run stopped at a mistake of its own ({type(error).__name__})"
    next_step = "report it with the log of this run; what was committed stands, and the next run continues"
    return ApplyFailed(Finding("unexpected", message, next_step))


def _provision(request: Request, audit_log: AuditLog, deadline: Deadline, lock: ExitStack) -> RunResult:
    """What all modes do; everything that happened is in the audit log, not yet stored.

    The session that holds the run lock is left open on `lock`.
    """
    try:
        return _run_stages(request, audit_log, deadline, lock)
    except (NotConcerned, StaleSnapshot) as error:
        if isinstance(error, StaleSnapshot) and request.trigger is not Trigger.SNAPSHOT_EVENT:
            raise
        audit_log.record_findings(error.findings, action="snapshot", status=Status.SKIPPED)
        return RunResult(RunStatus.SUPERSEDED, Plan(request.environment, warnings=error.findings))


def _run_stages(request: Request, audit_log: AuditLog, deadline: Deadline, lock: ExitStack) -> RunResult:
    for_answers = replace(deadline, reserve=deadline.reserve * AUDIT_TIME_SHARE)
    request, declaration, secrets, session, warnings = read_and_connect(request, audit_log, for_answers, lock)
    if request.mode is Mode.ACCESS:
        # Loaded in this mode only: with it comes the template engine.
        from provisioner.access import report_access  # noqa: PLC0415

        return report_access(declaration, secrets.login, session, warnings, audit_log)
    ownership, differences = observe(
        request, declaration, secrets, session.connection, audit_log.settings, audit_log.clients
    )
    plan = _plan(ownership, differences, warnings, audit_log)
    if session.session_id:
        recover_interrupted_run(audit_log, plan, ownership)
    request, plan = follow_secret(request, plan, ownership, secrets, audit_log)
    if refused := refusals(ownership):
        raise InvalidRequest(refused)
    status, plan, script = _gate(request, plan, ownership, differences, audit_log)
    if status is not RunStatus.APPLIED:
        return _finish_without_changes(status, request, plan, audit_log)
    context = ApplyContext(
        login=secrets.login,
        locks=LockWatch(secrets.login),
        ownership=ownership,
        make_verifier=secrets.make_verifier,
        probe_password=partial(probe_new_password, ownership, secrets),
        workers=count_workers(ownership.server, audit_log.settings),
        fail_fast=request.fail_fast,
        deadline=deadline,
        fence=fence(session.session_id),
        blocked_roles=plan.blocked_roles,
        only_shown=plan.is_approved_by_object,
    )
    audit_log.mark_in_progress()
    with context.locks:
        applied = apply_departures(script, apply_script(script, context), context)
    audit_log.record_applied(plan, applied.outcomes)
    verify_after_apply(ownership, plan, applied, secrets.login, session.connection)
    statuses = {item.identity: item.status for item in applied.outcomes}
    return RunResult(RunStatus.APPLIED, plan, changes=[(change, statuses[change.identity]) for change in plan.changes])


def _plan(
    ownership: Ownership, differences: Sequence[Difference], warnings: Iterable[Finding], audit_log: AuditLog
) -> Plan:
    plan = build_plan(ownership, differences)
    warnings = tuple(sorted({*plan.warnings, *warnings}))
    plan = replace(plan, warnings=warnings, is_approved_by_object=audit_log.settings.needs_approval_objects)
    audit_log.plan_digest = plan.digest
    logger.info("plan", extra={"plan_digest": plan.digest, "plan": render_text(plan)})
    audit_log.plan_summary = sum_line(plan)
    return plan


# --- gate -----------------------------------------------------------------------------------------------------------


def _gate(
    request: Request, plan: Plan, ownership: Ownership, differences: Sequence[Difference], audit_log: AuditLog
) -> tuple[RunStatus, Plan, Script]:
    """Decide how far the run goes, `APPLIED` being on to the changes; a plan that does something is stored in any case.

    Raises:
        PlanBlocked, ApprovalRequired, PlanChanged: nothing may be changed.
        AuditUnavailable: the plan could not be stored.
    """
    differs, refused = bool(plan.changes or plan.blockers), None
    status, script = RunStatus.APPROVAL_REQUIRED, write_script(plan.unblocked_changes, ownership, differences)
    content = audit_log.render_plan(plan, script) if differs else ""
    if differs and plan.is_approved_by_object:
        store_reviewed_plan(audit_log, plan.digest, content)
    try:
        _refuse_blocked(request, plan)
        decision = decide(request, audit_log.settings, plan.digest, has_changes=differs)
        if decision is Decision.BY_APPROVAL:
            plan = as_approved(request, plan, ownership, audit_log)
            script = write_script(plan.unblocked_changes, ownership, differences)
            content = audit_log.render_plan(plan, script)
        status = RunStatus.APPLIED if isinstance(decision, Decision) else decision
    except (ApprovalRequired, PlanBlocked, PlanChanged) as error:
        refused = error
    if differs:
        audit_log.store_plan(plan, content)
    if refused and (request.trigger is not Trigger.APPROVAL_EVENT or isinstance(refused, PlanBlocked)):
        audit_log.record_plan(plan, Status.SKIPPED)
        raise refused
    return status, replace(plan, warnings=(*plan.warnings, *(refused.findings if refused else ()))), script


def _refuse_blocked(request: Request, plan: Plan) -> None:
    if plan.blockers and request.mode is Mode.APPLY and not plan.unblocked_changes:
        raise PlanBlocked(plan.blockers)


def _finish_without_changes(status: RunStatus, request: Request, plan: Plan, audit_log: AuditLog) -> RunResult:
    needs_approval = status is RunStatus.APPROVAL_REQUIRED
    left = Status.SKIPPED if needs_approval else Status.DRY_RUN
    audit_log.record_plan(plan, left)
    audit_log.record_findings(plan.blockers, action="blocked", status=Status.ERROR)
    if needs_approval or status is RunStatus.DRIFTED:
        text = render_notification(plan, audit_log.locations, audit_log.provenance(), needs_approval=needs_approval)
        subject = f"rds-provisioner {request.environment}: {status.value.replace('_', ' ')}"
        warning = notify(audit_log.clients, audit_log.settings.notify_topic_arn, subject, text)
        if warning:
            audit_log.record_findings([warning], action="notify", status=Status.WARNING)
            plan = replace(plan, warnings=(*plan.warnings, warning))
    return RunResult(status, plan, changes=[(change, left) for change in plan.changes])
