"""One run, from the event to the plan, the gate, the apply and its proof: one path for all modes.

A dry run and a drift check walk the path of an apply and stop at the gate, before the first write.
"""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from provisioner.core.declaration import refuse_administrator_login
from provisioner.core.desired import take_inventory
from provisioner.core.errors import (
    ApplyFailed,
    AuditUnavailable,
    Finding,
    InvalidRequest,
    OutOfTime,
    PlanBlocked,
    ProvisioningError,
    SecretUnavailable,
    StaleSnapshot,
)
from provisioner.core.gate import Door, decide, may_change
from provisioner.core.guard import build_plan, left_over_outside
from provisioner.core.model import Declaration, Mode, Outcome, Request, Status, Trigger
from provisioner.core.plan import Change, Plan
from provisioner.core.report import render_notification, render_text, sum_line
from provisioner.core.request import parse_request
from provisioner.core.script import Script, write_script
from provisioner.core.snapshot import MAX_BYTES, parse_snapshot
from provisioner.core.state import PasswordCheck, RoleFacts
from provisioner.core.text import join_names
from provisioner.edges.apply import Applied, apply_script
from provisioner.edges.clock import now_utc
from provisioner.edges.lock import application_name, fence
from provisioner.edges.notify import notify
from provisioner.edges.observe import Login, observe_server, probe_login
from provisioner.edges.postgres import Connection, SqlError, forget_passwords
from provisioner.edges.snapshot_store import read_snapshot
from provisioner.edges.transaction import Workshop
from provisioner.observation import Session, count_workers, observe, open_session, refused
from provisioner.vault import Vault, open_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from provisioner.core.scope import Scope
    from provisioner.journal import Journal


# The share of the function's time that is kept for ending a run: the proof, the audit, the answer.
RESERVED_SHARE = 0.15
MOST_RESERVED_SECONDS = 90.0
# How long a call waits for another run, and the share of its function's time that an event waits: Lambda gives an event
# three tries, which outlast any run of the same function, and what is left is enough for the work or most of it.
LOCK_SECONDS = 5.0
WAITING_SHARE = 0.6
# The part of the reserve in which no answer of the server is waited for any more: the audit needs it.
SHARE_OF_THE_AUDIT = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended: the answer's status, the plan, and each change with what became of it."""

    status: str
    plan: Plan
    changes: Sequence[tuple[Change, Status]] = ()


def run(event: object, journal: Journal, seconds_left: Callable[[], float]) -> Result:
    """Do what an event asks; the audit is stored before this returns or raises.

    Args:
        event: whatever the function was called with.
        journal: the empty record of this run.
        seconds_left: how long the function may still run.

    Raises:
        ProvisioningError: one of the named errors, all of whose findings are in the audit.
    """
    # Held until the audit is stored: who takes the lock next must not find the note of a run that lives.
    with ExitStack() as lock:
        lock.callback(forget_passwords)
        return _run_and_store(event, journal, seconds_left, lock)


def _run_and_store(event: object, journal: Journal, seconds_left: Callable[[], float], lock: ExitStack) -> Result:
    try:
        journal.request = parse_request(event, journal.settings)
        result = _provision(journal.request, journal, seconds_left, lock)
    except ProvisioningError as error:
        journal.record_findings(error.findings, action="refuse", status=Status.ERROR)
        _store_beside(error, journal)
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be in the audit and have a name
        # A mistake of ours. Its text may hold anything, so only its kind is told; the log has the place.
        message = f"the run stopped at a mistake of its own ({type(error).__name__})"
        next_step = "report it with the log of this run; what was committed stands, and the next run continues"
        finding = Finding("unexpected", message, next_step)
        _log_mistake(journal, error)
        journal.record_findings([finding], action="refuse", status=Status.ERROR)
        _store_beside(ApplyFailed(finding), journal)
        raise ApplyFailed(finding) from None
    journal.store()
    return replace(result, plan=replace(result.plan, warnings=(*result.plan.warnings, *journal.findings)))


def _log_mistake(journal: Journal, error: Exception) -> None:
    journal.log.error("unexpected", extra={"place": traceback.format_tb(error.__traceback__)})


def _store_beside(error: ProvisioningError, journal: Journal) -> None:
    """Store the audit of a run that failed; where that fails as well, both are said."""
    try:
        journal.store()
    except AuditUnavailable as failure:
        raise AuditUnavailable((*failure.findings, *error.findings)) from None


def _provision(request: Request, journal: Journal, seconds_left: Callable[[], float], lock: ExitStack) -> Result:
    """The path that all modes walk; everything that happened is in the journal, not yet stored.

    The session that holds the run lock is left open on `lock`.
    """
    try:
        return _walk(request, journal, seconds_left, lock)
    except StaleSnapshot as error:
        if request.trigger is not Trigger.SNAPSHOT_EVENT:
            raise
        journal.record_findings(error.findings, action="snapshot", status=Status.SKIPPED)
        return Result("superseded", Plan(request.environment, warnings=error.findings))


def _walk(request: Request, journal: Journal, seconds_left: Callable[[], float], lock: ExitStack) -> Result:
    reserve = min(seconds_left() * RESERVED_SHARE, MOST_RESERVED_SECONDS)
    patience = partial(_seconds_without, seconds_left, reserve * SHARE_OF_THE_AUDIT)
    declaration, vault, session, warnings = _connect(request, journal, patience, lock)
    scope = observe(request, declaration, vault, session.connection, journal.settings, journal.clients)
    plan = build_plan(scope)
    plan = replace(plan, warnings=tuple(sorted({*plan.warnings, *warnings})))
    journal.plan_digest = plan.digest
    journal.log.info("plan", extra={"plan_digest": plan.digest, "plan": render_text(plan)})
    journal.plan_summary = sum_line(plan)
    if session.session_id:
        journal.settle_cut_off_run(plan, scope)
    inventory = take_inventory(scope)
    script = write_script(plan.open_changes, scope, inventory)
    door = _gate(request, plan, script, journal)
    if door is not Door.PROCEED:
        return _stop_at(door, request, plan, journal)
    workshop = Workshop(
        login=vault.login,
        scope=scope,
        make_verifier=vault.make_verifier,
        prove=partial(_prove_password, scope, vault),
        workers=count_workers(scope.server, journal.settings),
        fail_fast=request.fail_fast,
        seconds_left=seconds_left,
        reserve=reserve,
        fence=fence(session.session_id),
        blocked_roles=plan.blocked_roles,
        log_mistake=partial(_log_mistake, journal),
    )
    journal.open_run()
    applied = apply_script(script, inventory, workshop)
    _record(plan, applied.outcomes, journal)
    _prove(scope, plan, applied, vault.login, session.connection)
    return Result("applied", plan, _with_statuses(plan.changes, applied.outcomes))


# --- input ----------------------------------------------------------------------------------------------------------


def _connect(
    request: Request, journal: Journal, patience: Callable[[], float], lock: ExitStack
) -> tuple[Declaration, Vault, Session, tuple[Finding, ...]]:
    """Read what is declared and every secret, then connect, with the lock where the run may change something."""
    read = partial(_read_input, request, journal, patience)
    declaration, vault, warnings = read()
    session = open_session(
        vault.login,
        _lock_seconds(request, patience()),
        partial(read_snapshot, journal.clients, request.snapshot, max_bytes=MAX_BYTES),
        with_lock=may_change(request, journal.settings),
    )
    lock.enter_context(session.connection)
    if session.has_waited:
        # What the run before knew may be newer than what this one has read.
        declaration, vault, warnings = read()
    login = replace(vault.login, version=session.connection.version, session=application_name(session.session_id))
    return declaration, replace(vault, login=login), session, (*warnings, *session.warnings)


def _read_input(
    request: Request, journal: Journal, patience: Callable[[], float]
) -> tuple[Declaration, Vault, tuple[Finding, ...]]:
    """What is declared and every secret, with what is to be warned of; all refusals of them come from here."""
    declaration, warnings = _take_snapshot(request, journal)
    _refuse_unknown_adoptions(request, declaration)
    vault = open_vault(declaration, journal.settings, journal.clients)
    if vault.problems and request.mode is not Mode.DRY_RUN:
        raise SecretUnavailable(vault.problems)
    refuse_administrator_login(declaration, vault.login.username)
    address = replace(vault.login.address, patience=patience)
    return declaration, replace(vault, login=replace(vault.login, address=address)), (*warnings, *vault.warnings)


def _lock_seconds(request: Request, seconds_left: float) -> float:
    """How long to wait for another run: a caller hears of it soon; an event has nobody who would call again."""
    longest = seconds_left * WAITING_SHARE
    return longest if request.trigger is Trigger.SNAPSHOT_EVENT else min(longest, LOCK_SECONDS)


def _seconds_without(seconds_left: Callable[[], float], reserve: float) -> float:
    return seconds_left() - reserve


def _take_snapshot(request: Request, journal: Journal) -> tuple[Declaration, tuple[Finding, ...]]:
    if request.snapshot.inline is not None:
        return parse_snapshot(request.snapshot.inline, request.snapshot.key, environment=request.environment)
    snapshot = read_snapshot(journal.clients, request.snapshot, max_bytes=MAX_BYTES)
    journal.snapshot_version = snapshot.version_id
    journal.log.info("snapshot", extra={"version_id": snapshot.version_id, "sha256": snapshot.sha256})
    file_name = request.snapshot.key.rpartition("/")[2]
    return parse_snapshot(snapshot.content, file_name, environment=request.environment)


def _refuse_unknown_adoptions(request: Request, declaration: Declaration) -> None:
    unknown = sorted(set(request.adopt) - {entry.application for entry in declaration.entries})
    if unknown:
        raise InvalidRequest(
            Finding(
                "adopt",
                f"adopt names what the snapshot does not declare: {join_names(unknown)}",
                "name keys of application_databases",
                where="adopt",
            )
        )


# --- gate -----------------------------------------------------------------------------------------------------------


def _gate(request: Request, plan: Plan, script: Script, journal: Journal) -> Door:
    """Decide how far the run goes; whatever the decision, a plan that does something is stored first.

    Raises:
        PlanBlocked, ApprovalRequired, PlanChanged: nothing may be changed.
        AuditUnavailable: the plan could not be stored.
    """
    if plan.changes or plan.blockers:
        journal.store_plan(plan, script)
    if plan.blockers and request.mode is Mode.APPLY and not plan.open_changes:
        _record_plan(plan, Status.SKIPPED, journal)
        raise PlanBlocked(plan.blockers)
    differs = bool(plan.changes or plan.blockers)
    try:
        return decide(request, journal.settings, plan.digest, has_changes=differs)
    except ProvisioningError:
        _record_plan(plan, Status.SKIPPED, journal)
        raise


def _stop_at(door: Door, request: Request, plan: Plan, journal: Journal) -> Result:
    """End without having changed anything."""
    status = Status.SKIPPED if door is Door.APPROVAL_REQUIRED else Status.DRY_RUN
    _record_plan(plan, status, journal)
    journal.record_findings(plan.blockers, action="blocked", status=Status.ERROR)
    if door in {Door.APPROVAL_REQUIRED, Door.DRIFTED}:
        needs_approval = door is Door.APPROVAL_REQUIRED
        text = render_notification(plan, journal.locations, journal.provenance(), needs_approval=needs_approval)
        subject = f"rds-provisioner {request.environment}: {door.value.replace('_', ' ')}"
        warning = notify(journal.clients, journal.settings.notify_topic_arn, subject, text)
        if warning:
            journal.record_findings([warning], action="notify", status=Status.WARNING)
    return Result(door.value, plan, [(change, status) for change in plan.changes])


# --- apply ----------------------------------------------------------------------------------------------------------


def _prove_password(scope: Scope, vault: Vault, role: str) -> PasswordCheck:
    """What a login with the password that was just set says."""
    facts = scope.server.roles.get(role) or RoleFacts(role)
    return probe_login(vault.login.address, vault.credentials[role], facts)


def _prove(scope: Scope, plan: Plan, applied: Applied, login: Login, session: Connection) -> None:
    """Raise unless every change was made and the server, asked again, says so too.

    Raises:
        ApplyFailed: a change failed, or a role is not as declared after all.
        OutOfTime: databases, or logins that prove a password, were left for the next run.
        PlanBlocked: some changes were blocked; all others are made and proved.
    """
    failures, out_of_time = applied.failures, applied.out_of_time
    if not out_of_time:
        try:
            failures += _look_again(scope, plan, applied, login, session)
        except OutOfTime:
            out_of_time = True
    if failures:
        raise ApplyFailed((*failures, *plan.blockers))
    if out_of_time:
        raise OutOfTime((_out_of_time(applied), *plan.blockers))
    if plan.blockers:
        raise PlanBlocked(plan.blockers)


def _out_of_time(applied: Applied) -> Finding:
    counts = Counter(outcome.status for outcome in applied.outcomes)
    left, cut_off = counts[Status.SKIPPED], counts[Status.ERROR]
    parts = [f"{left} changes were not begun"] if left else []
    if cut_off:
        parts.append(f"of {cut_off} the server's answer was not heard")
    if parts:
        parts.append("all others are done")
    what = ", ".join(parts) or "not every new password was proved, or what was done was not looked at again"
    message = f"the function's time was nearly up: {what}"
    return Finding("out_of_time", message, "call again: the next run continues where this one ended")


def _look_again(scope: Scope, plan: Plan, applied: Applied, login: Login, session: Connection) -> tuple[Finding, ...]:
    """What the server, observed once more, does not show of the changes that were made."""
    made = {(item.action, item.database, item.username) for item in applied.outcomes if item.is_success}
    if not made:
        return ()
    try:
        server = observe_server(session, scope.by_database.keys())
    except SqlError as error:
        return (refused(login, error),)
    server = replace(server, passwords=applied.passwords)
    is_made = {change: (change.action, change.database, change.username) in made for change in plan.changes}
    return left_over_outside(
        replace(scope, server=server),
        made=[change for change in plan.changes if is_made[change]],
        left=[change for change in plan.changes if not is_made[change]],
    )


def _record(plan: Plan, outcomes: Sequence[Outcome], journal: Journal) -> None:
    journal.record(outcomes)
    # An error may hide a COMMIT whose answer was lost.
    journal.is_all_told = not any(outcome.status is Status.ERROR for outcome in outcomes)
    _record_changes([change for change in plan.changes if plan.blocker_of(change)], Status.SKIPPED, plan, journal)
    _record_unchanged(plan, journal)


def _record_plan(plan: Plan, status: Status, journal: Journal) -> None:
    """Record a plan of which nothing is done."""
    _record_changes(plan.changes, status, plan, journal)
    _record_unchanged(plan, journal)


def _record_changes(changes: Iterable[Change], status: Status, plan: Plan, journal: Journal) -> None:
    now = now_utc()
    journal.record(
        Outcome(change.action, change.database, change.username, status, now, message=_with_reason(change, plan))
        for change in changes
    )


def _with_reason(change: Change, plan: Plan) -> str:
    blocker = plan.blocker_of(change)
    return f"{change.detail}; blocked: {blocker.message}" if blocker else change.detail


def _record_unchanged(plan: Plan, journal: Journal) -> None:
    now = now_utc()
    journal.record(Outcome(item.action, item.database, item.username, Status.NO_CHANGE, now) for item in plan.unchanged)
    journal.record_findings(plan.warnings, action="warning", status=Status.WARNING)


def _with_statuses(changes: Sequence[Change], outcomes: Iterable[Outcome]) -> list[tuple[Change, Status]]:
    """Each change of a plan with what became of it."""
    known = {(item.action, item.database, item.username): item.status for item in outcomes}
    return [(change, known[change.action, change.database, change.username]) for change in changes]
