"""What an interrupted run left in the audit bucket in, and the server as it is; the rows that it owes the trail out."""

from __future__ import annotations

from provisioner.audit_log import AuditLog
from provisioner.core import keys
from provisioner.core.audit import AuditRow, read_csv, render_csv
from provisioner.core.model import Status
from provisioner.core.ownership import Ownership
from provisioner.core.plan import Plan
from provisioner.core.recovery import InProgress, how_it_ended, parse_in_progress, recovered_rows
from provisioner.core.stored_plan import UnreadableRecord, parse_plan
from provisioner.edges.clock import now_utc

MAX_RECORD_BYTES = 16 * 1024


def recover_interrupted_run(audit_log: AuditLog, plan: Plan, ownership: Ownership) -> None:
    """Write the rows that an interrupted run owes; to be called under the lock.

    Interrupted itself, the next call continues: what is stored is not stored twice. Whatever else lies where the
    record, the plan or the rows of that run should is named and put aside.

    Raises AuditUnavailable: S3 did not give or take it.
    """
    key = keys.in_progress(audit_log.bucket.folder)
    record = audit_log.bucket.get(key, MAX_RECORD_BYTES)
    audit_log.in_progress_etag = record.etag
    if not record.is_there:
        return
    try:
        run = parse_in_progress(record.content, audit_log.bucket.folder)
        if run is None:
            return
        _append_recovered_rows(audit_log, run, plan, ownership)
    except UnreadableRecord:
        aside = audit_log.bucket.put_aside(key, record.etag)
        message = f"a run was cut off, and what it had planned cannot be read from {record.address}"
        audit_log.add_finding("cut_off_run", f"{message}; kept as {aside}", "find its rows in the log of the function")
    audit_log.put_in_progress(None)


def _append_recovered_rows(audit_log: AuditLog, run: InProgress, plan: Plan, ownership: Ownership) -> None:
    told = _read_rows(audit_log, run.run_key)
    audit_log.append(told, is_first=False)
    stored = parse_plan(audit_log.bucket.get(run.plan_key).content, audit_log.settings.environment)
    rows = _read_rows(audit_log, run.recovered_key)
    if not rows:
        rows = recovered_rows(stored, told, plan.changes, ownership, run.run_token, now_utc())
        if not rows:
            return
        # What stands there and is no such rows has been named.
        audit_log.bucket.put_first(run.recovered_key, render_csv(rows, header=True))
    audit_log.append(rows, is_first=False)
    unknown = sum(row.status is Status.UNKNOWN for row in rows)
    message = f"run {run.run_token} {how_it_ended(told)}; {len(rows) - unknown} of its changes stand"
    if unknown:
        message += f", of {unknown} the server does not show whether they were made"
    next_step = f"see {audit_log.bucket.address(run.recovered_key)}"
    audit_log.add_finding("cut_off_run", f"{message}; the trail has them now", next_step)


def _read_rows(audit_log: AuditLog, key: str) -> tuple[AuditRow, ...]:
    """The rows of this environment in a CSV; that it has others is named."""
    stored = audit_log.bucket.get(key)
    found, others = ((), 1) if stored.content is None else read_csv(stored.content)
    rows = tuple(row for row in found if row.environment == audit_log.settings.environment)
    others += len(found) - len(rows)
    if others:
        message = f"{stored.address} has {others} lines that no run wrote so; they are left out of the trail"
        next_step = "find out who changed it; the log of the function has the rows"
        audit_log.add_finding("audit_unreadable", message, next_step)
    return rows
