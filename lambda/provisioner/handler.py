"""The Lambda handler: an event in, the answer of the run out. Parses nothing, decides nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from provisioner.audit_log import AuditLog
from provisioner.core.access_levels import EXCEEDS_LEVEL
from provisioner.core.errors import (
    ApplyFailed,
    AuditUnavailable,
    DatabaseUnavailable,
    PlanBlocked,
    ProvisioningError,
    RunInProgress,
)
from provisioner.core.model import RunStatus
from provisioner.core.report import RunResult, build_response
from provisioner.edges.aws import aws_clients
from provisioner.pipeline import run
from provisioner.settings import read_environment, read_settings
from provisioner.telemetry import emit_metrics, logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Of ours, of the server or of S3: somebody has to look. Every other error is an answer to who asked.
_FAILURES = (ApplyFailed, AuditUnavailable, DatabaseUnavailable)
# What a run ends with that knows whether the server drifted.
_KNOWS_DRIFT = frozenset({RunStatus.DRIFTED, RunStatus.IN_SYNC, RunStatus.APPLIED, RunStatus.NO_CHANGE})


def lambda_handler(event: Any, context: LambdaContext) -> dict[str, object]:
    """Serve one event; see `core.request` for its forms and `core.report` for the answer.

    Raises ProvisioningError: one of the named errors, which Lambda reports as a failed invocation.
    """
    started = time.monotonic()
    environment = read_environment()
    logger.append_keys(function_request_id=context.aws_request_id, environment=environment)
    audit_log: AuditLog | None = None
    result: RunResult | None = None
    try:
        settings = read_settings()
        clients = aws_clients(settings.max_workers, settings.bucket_owners)
        audit_log = AuditLog(settings, clients, run_token=context.aws_request_id)
        result = run(event, audit_log, lambda: context.get_remaining_time_in_millis() / 1000)
        answer = build_response(audit_log.require_request(), result, audit_log.locations)
    except ProvisioningError as error:
        logger.error("failed", extra={"error": type(error).__name__, "message_text": str(error)})
        emit_metrics(environment, _metrics(started, audit_log, result, error))
        raise
    emit_metrics(environment, _metrics(started, audit_log, result, None))
    logger.info("answer", extra={"answer": answer})
    return answer


def _metrics(
    started: float, audit_log: AuditLog | None, result: RunResult | None, error: ProvisioningError | None
) -> dict[str, float]:
    """The metrics of a run; what it did not get to is zero, and drift is said only by a run that knows it."""
    plan = result.plan if result else None
    # Each declared database is in an unchanged thing or in a change.
    databases = {item.database for item in plan.unchanged} | {item.database for item in plan.changes} if plan else set()
    numbers: dict[str, float] = {
        "Runs": 1,
        "Changes": sum(outcome.is_success for outcome in audit_log.outcomes) if audit_log else 0,
        "Blocked": len(error.findings) if isinstance(error, PlanBlocked) else len(plan.blockers) if plan else 0,
        "Warnings": len(plan.warnings) if plan else 0,
        "Errors": 0 if error is None or isinstance(error, RunInProgress) else 1,
        "Failures": 1 if isinstance(error, _FAILURES) else 0,
        "Locked": 1 if isinstance(error, RunInProgress) else 0,
        "Databases": len(databases - {""}),
        "DurationMs": round((time.monotonic() - started) * 1000),
    }
    # A zero of a run that did not look, or not at all, would end the alarm of one that did. What another run has half
    # done is no drift.
    is_partial = plan and any(item.code in {"run_under_way", "changes_left"} for item in plan.warnings)
    if result and plan and not is_partial and result.status in _KNOWS_DRIFT:
        differences = len(plan.changes) + len(plan.blockers) if result.status is RunStatus.DRIFTED else 0
        numbers["Drift"] = differences + sum(item.code in EXCEEDS_LEVEL for item in plan.warnings)
    return numbers
