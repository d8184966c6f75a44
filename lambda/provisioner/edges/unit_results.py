"""What came of each role and database: changes and an error, if there was one, in; outcomes and a finding out.

The one place where a failed change becomes a finding of its unit, whatever it failed with.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from provisioner.core.changes import Change
from provisioner.core.errors import Finding, OutOfTime, ProvisioningError
from provisioner.core.model import Outcome, Status
from provisioner.core.state import PasswordCheck
from provisioner.edges.clock import now_utc
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import ApplyContext

FAIL_FAST = Finding("skipped", "an earlier change failed and fail_fast is set")
OUT_OF_TIME = Finding("out_of_time", "the function's time is nearly up", "run again: the next run continues")


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What came of one role or database."""

    outcomes: tuple[Outcome, ...]
    failure: Finding | None = None
    skipped: bool = False
    out_of_time: bool = False


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of the changes, and every failure.

    `passwords` are what a login said of each that was set. `out_of_time` says that databases, or such logins, were left
    for the next run.
    """

    outcomes: tuple[Outcome, ...]
    failures: tuple[Finding, ...]
    out_of_time: bool
    passwords: Mapping[str, PasswordCheck]


def summarize(results: Sequence[UnitResult], logins: Mapping[str, PasswordCheck | None]) -> ApplyResult:
    """All of them together; a login is None where there was no time for it."""
    return ApplyResult(
        outcomes=tuple(outcome for result in results for outcome in result.outcomes),
        failures=tuple(dict.fromkeys(result.failure for result in results if result.failure and not result.skipped)),
        out_of_time=any(result.out_of_time for result in results) or None in logins.values(),
        passwords={role: check for role, check in logins.items() if check is not None},
    )


def outcomes_of(changes: Iterable[Change], status: Status, started: float, message: str = "") -> tuple[Outcome, ...]:
    """The same for each change, since `started` on the monotonic clock; without a message it is the change's detail."""
    now = now_utc()
    duration = round((time.monotonic() - started) * 1000)
    return tuple(change.outcome(status, now, message, duration) for change in changes)


def skipped_unit(changes: Sequence[Change], reason: Finding) -> UnitResult:
    """A unit that was not started."""
    return UnitResult(outcomes_of(changes, Status.SKIPPED, time.monotonic(), str(reason)), reason, skipped=True)


def leave_for_the_next_run(changes: Sequence[Change]) -> UnitResult:
    """A unit for which there is no time."""
    outcomes = outcomes_of(changes, Status.SKIPPED, time.monotonic(), str(OUT_OF_TIME))
    return UnitResult(outcomes, skipped=True, out_of_time=True)


def failed_unit(
    error: Exception,
    changes: Sequence[Change],
    started: float,
    subject: str,
    context: ApplyContext,
    *,
    database: str = "",
    username: str = "",
) -> UnitResult:
    """A unit that failed; `subject` names it."""
    failure = failure_of(error, subject, context, database=database, username=username)
    outcomes = outcomes_of(changes, Status.ERROR, started, str(failure))
    if isinstance(error, OutOfTime):
        return UnitResult(outcomes, out_of_time=True)
    return UnitResult(outcomes, failure)


def failure_of(
    error: Exception, subject: str, context: ApplyContext, *, database: str = "", username: str = ""
) -> Finding:
    """The finding of a unit; of an error that nobody expected its kind alone."""
    if isinstance(error, ProvisioningError):
        return replace(error.findings[0], database=database, username=username)
    if isinstance(error, SqlError):
        message, next_step = f"{subject} could not be changed: {error}", error.next_step
        return Finding("apply_failed", message, next_step, database=database, username=username)
    # Its text may hold anything, so only its kind is told; the log has the place.
    context.log_mistake(error)
    message = f"{subject} could not be changed: the run met a mistake of its own ({type(error).__name__})"
    next_step = "report it with the log of this run; the next run tries it again"
    return Finding("unexpected", message, next_step, database=database, username=username)
