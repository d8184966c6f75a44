"""The front door: a Lambda event in, the answer of the run out. Parses nothing, decides nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from provisioner.core.errors import ProvisioningError, RunInProgress
from provisioner.core.report import build_answer, summarize
from provisioner.edges.aws import aws_clients
from provisioner.journal import Journal
from provisioner.pipeline import Result, run
from provisioner.settings import read_settings
from provisioner.telemetry import emit_metrics, logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def lambda_handler(event: Any, context: LambdaContext) -> dict[str, object]:
    """Serve one event; see `core.request` for its forms and `core.report` for the answer.

    Raises:
        ProvisioningError: one of the named errors, which Lambda reports as a failed invocation.
    """
    begun = time.monotonic()
    settings = read_settings()
    logger.append_keys(function_request_id=context.aws_request_id, environment=settings.environment)
    journal = Journal(settings, aws_clients(settings.max_workers), logger, run_token=context.aws_request_id)
    result: Result | None = None
    try:
        result = run(event, journal, lambda: context.get_remaining_time_in_millis() / 1000)
        answer = build_answer(journal.understood(), result.status, result.plan, result.changes, journal.locations)
    except ProvisioningError as error:
        logger.error("failed", extra={"error": type(error).__name__, "message_text": str(error)})
        emit_metrics(settings.environment, _numbers(begun, result, error))
        raise
    emit_metrics(settings.environment, _numbers(begun, result, None))
    logger.info("answer", extra={"answer": answer})
    return answer


def _numbers(begun: float, result: Result | None, error: ProvisioningError | None) -> dict[str, float]:
    """The metrics of a run; what it did not get to is zero."""
    plan = result.plan if result else None
    summary = summarize(plan) if plan else {}
    changes = sum(summary.get(name, 0) for name in ("create", "change", "revoke"))
    return {
        "Runs": 1,
        "Changes": changes if result and result.status == "applied" else 0,
        "Drift": changes if result and result.status == "drifted" else 0,
        "Blocked": summary.get("blocked", 0),
        "Warnings": summary.get("warnings", 0),
        "Errors": 0 if error is None or isinstance(error, RunInProgress) else 1,
        "Locked": 1 if isinstance(error, RunInProgress) else 0,
        "Databases": len({item.database for item in plan.unchanged if item.database}) if plan else 0,
        "DurationMs": round((time.monotonic() - begun) * 1000),
    }
