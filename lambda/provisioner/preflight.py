"""Whether the function would work here: a request in, one line a check out, and that in the audit.

Each check says what it found by itself. What follows from another that failed is `unknown`, never left out, and no
check waits longer than its turn. Nothing is changed: what has to be written to be known is rolled back.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from typing import TYPE_CHECKING

from provisioner.core.errors import AuditUnavailable
from provisioner.core.model import Outcome, RunStatus, Status
from provisioner.core.preflight import Check, CheckStatus, failed, failed_by, is_ready, ok, unknown
from provisioner.core.preflight_report import count_checks
from provisioner.edges.clock import now_utc
from provisioner.preflight_aws import (
    AUDIT,
    SNAPSHOT,
    Preflight,
    check_administrator,
    check_applications,
    check_audit,
    check_snapshots,
    check_topic,
)
from provisioner.preflight_server import CHANGES, SERVER, WAY, check_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from provisioner.audit_log import AuditLog
    from provisioner.core.errors import Finding
    from provisioner.core.model import Request

# How a check stands in the audit, where `success` is a change that was made.
_ROWS = {CheckStatus.OK: Status.NO_CHANGE, CheckStatus.FAILED: Status.ERROR, CheckStatus.UNKNOWN: Status.UNKNOWN}


def check_everything(
    request: Request, audit_log: AuditLog, seconds_left: Callable[[], float]
) -> tuple[RunStatus, Sequence[Check], tuple[Finding, ...]]:
    """Make every check and store the look; give back how it ended, the checks, and what is to be warned of.

    An audit that cannot be stored is one more check that failed: this answers on the worst of days.
    """
    preflight = Preflight(request, audit_log.settings, audit_log.clients, seconds_left)
    checks = run_checks(preflight)
    now = now_utc()
    audit_log.record(Outcome("preflight", "", "", _ROWS[check.status], now, message=str(check)) for check in checks)
    audit_log.record_findings(preflight.warnings, action="warning", status=Status.WARNING)
    audit_log.plan_summary = count_checks(checks)
    checks.append(_store(checks, audit_log))
    status = RunStatus.READY if is_ready(checks) else RunStatus.NOT_READY
    return status, checks, (*preflight.warnings, *audit_log.findings)


def _store(checks: Sequence[Check], audit_log: AuditLog) -> Check:
    because = [check for check in checks if check.name == "audit_bucket" and check.status is not CheckStatus.OK]
    if because:
        # Nothing waits once more for a bucket that cannot be had.
        return failed("audit", "this look is in the log alone", f"{because[0].name} did not pass")
    try:
        return ok("audit", f"this look is in {audit_log.store().run} and in the trail")
    except AuditUnavailable as error:
        return failed_by("audit", error.findings)


def run_checks(preflight: Preflight) -> list[Check]:
    """Make every check, the slow services side by side, and give back one line for each, in a settled order."""
    # Made before threads share them.
    _ = preflight.clients.s3, preflight.clients.secrets, preflight.clients.sns
    first: dict[str, _Group] = {
        "snapshot": (SNAPSHOT, check_snapshots),
        "audit": (AUDIT, check_audit),
        "topic": (("topic",), check_topic),
        "administrator": (("administrator_secret",), check_administrator),
    }
    then: dict[str, _Group] = {
        "secrets": (("application_secrets",), check_applications),
        "server": ((*WAY, *SERVER, *CHANGES), check_database_server),
    }
    return [*_side_by_side(preflight, first), *_side_by_side(preflight, then)]


_Group = tuple[tuple[str, ...], "Callable[[Preflight], list[Check]]"]


def _side_by_side(preflight: Preflight, groups: Mapping[str, _Group]) -> list[Check]:
    """Make several groups of checks at once; one that does not end in time is unknown and left behind."""
    pool = ThreadPoolExecutor(len(groups))
    started = {name: pool.submit(check, preflight) for name, (_, check) in groups.items()}
    deadline = time.monotonic() + preflight.seconds_left()
    found: list[Check] = []
    for name, (names, _) in groups.items():
        try:
            checks = started[name].result(timeout=max(0.0, deadline - time.monotonic()))
        except WaitedTooLong:
            checks = [unknown(each, "no answer in the function's time") for each in names]
        except Exception as error:  # noqa: BLE001 - one check that breaks hides no other
            checks = [unknown(each, f"the check itself broke ({type(error).__name__})") for each in names]
        found += checks
    pool.shutdown(wait=False, cancel_futures=True)
    return found


def check_database_server(preflight: Preflight) -> list[Check]:
    """The way to the server, then what it is, then what the administrator may do there."""
    if preflight.administrator is None:
        why = "administrator_secret did not pass"
        return [unknown(name, "not looked at", why) for name in (*WAY, *SERVER, *CHANGES)]
    checks, warnings = check_server(preflight.administrator, preflight.settings.ca_bundle, preflight.deadline)
    preflight.warnings += warnings
    return checks
