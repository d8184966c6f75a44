"""What came of each role and database: changes and an error, if there was one, in; outcomes and a finding out.

The one place where a failed change becomes a finding of its unit, whatever it failed with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from provisioner.core.changes import Change, build_outcome
from provisioner.core.errors import Finding, OutOfTime, ProvisioningError
from provisioner.core.model import Outcome, Status
from provisioner.core.state import PasswordCheck
from provisioner.edges.clock import now_utc
from provisioner.edges.server_findings import OUT_OF_TIME
from provisioner.edges.sqlstates import LOCK_NOT_AVAILABLE, SqlError
from provisioner.edges.transaction import ApplyContext
from provisioner.telemetry import log_mistake

FAIL_FAST = Finding("skipped", "an earlier change failed and fail_fast is set")


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What came of one role or database: `failure` says why it is not done, `error` that it was tried."""

    outcomes: tuple[Outcome, ...]
    failure: Finding | None = None
    error: Exception | None = None

    @property
    def out_of_time(self) -> bool:
        return self.failure is OUT_OF_TIME


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of every unit, and what a login said of each password that was set: None where time was up."""

    results: Sequence[UnitResult]
    logins: Mapping[str, PasswordCheck | None] = field(default_factory=dict)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(outcome for result in self.results for outcome in result.outcomes)

    @property
    def failures(self) -> tuple[Finding, ...]:
        failed = (item.failure for item in self.results if item.failure and item.error and not item.out_of_time)
        return tuple(dict.fromkeys(failed))

    @property
    def out_of_time(self) -> bool:
        """Whether something was left for the next run."""
        return any(result.out_of_time for result in self.results) or None in self.logins.values()


def change_unit(
    changes: Sequence[Change],
    about: Finding,
    change: Callable[[], None],
    context: ApplyContext,
    *,
    stop: Finding | None = None,
) -> UnitResult:
    """Change one unit, unless `stop` says why not or there is no time; whatever it fails with is its own.

    `about` is what its failure says, with the unit's name as the message.
    """
    started = time.monotonic()
    if stop or context.is_late:
        return skipped_unit(changes, stop or OUT_OF_TIME)
    try:
        change()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this unit's
        failure = failure_of(error, about, context)
        outcomes = outcomes_of(changes, Status.ERROR, started, str(failure))
        return UnitResult(outcomes, OUT_OF_TIME if isinstance(error, OutOfTime) else failure, error)
    return UnitResult(outcomes_of(changes, Status.SUCCESS, started))


def outcomes_of(changes: Iterable[Change], status: Status, started: float, message: str = "") -> tuple[Outcome, ...]:
    """The same for each change, since `started` on the monotonic clock; without a message it is the change's detail."""
    now = now_utc()
    duration = round((time.monotonic() - started) * 1000)
    return tuple(build_outcome(change, status, now, message, duration) for change in changes)


def skipped_unit(changes: Sequence[Change], reason: Finding) -> UnitResult:
    return UnitResult(outcomes_of(changes, Status.SKIPPED, time.monotonic(), str(reason)), reason)


def failure_of(error: Exception, about: Finding, context: ApplyContext) -> Finding:
    """Why a unit failed: `about` names it by its message; of an error that nobody expected its kind alone."""
    if isinstance(error, ProvisioningError):
        return replace(error.findings[0], database=about.database, username=about.username)
    if isinstance(error, SqlError):
        holder = context.locks.take_holder(error.pid) if error.sqlstate == LOCK_NOT_AVAILABLE else ""
        held = f"; {holder} holds what it waited for" if holder else ""
        return replace(about, message=f"{about.message} could not be changed: {error}{held}", next_step=error.next_step)
    log_mistake(error)
    message = f"{about.message} could not be changed: the run met a mistake of its own ({type(error).__name__})"
    next_step = "report it with the log of this run; the next run tries it again"
    return replace(about, code="unexpected", message=message, next_step=next_step)
