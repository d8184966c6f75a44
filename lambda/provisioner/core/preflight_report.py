"""The checks of a preflight in, what people and programs read out: text, and the answer of the function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from provisioner.core.errors import Finding
from provisioner.core.model import Request, RunStatus
from provisioner.core.preflight import Check, CheckStatus, is_ready
from provisioner.core.report import AuditLocations
from provisioner.core.text import sanitize

# Of a fleet's secrets more lines than this are counted, those that are not ok first.
MAX_CHECKS = 300
_MAX_TEXT = 300
_MAX_NAME = 64
# Of the text: fleets of secrets that cannot be read say the rest in `checks`.
_MAX_ALL = 100_000
_SYMBOLS = {"ok": "+", "failed": "!", "unknown": "?"}


def count_checks(checks: Sequence[Check]) -> str:
    """The sums in one line."""
    counts = Counter(check.status for check in checks)
    return "Preflight: " + ", ".join(f"{counts[status]} {status}" for status in CheckStatus) + "."


def render_checks(checks: Sequence[Check]) -> str:
    """A line a check: `+` ok, `!` failed, `?` unknown, and the sums."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [
        f"  {_SYMBOLS[check.status]} {check.name:<{width}}  "
        + "; ".join(part for part in (check.what, check.why, check.next_step) if part)
        for check in checks
    ]
    return "\n".join([*lines, "", count_checks(checks)])


def build_preflight_response(
    request: Request, checks: Sequence[Check], warnings: Sequence[Finding], audit: AuditLocations
) -> dict[str, object]:
    """The answer of the function: that of a run that planned nothing, with `checks`."""
    shown = [_bounded(check) for check in shorten(checks)]
    counts = Counter(check.status for check in checks)
    numbers = dict.fromkeys(("create", "change", "revoke", "unchanged", "blocked"), 0)
    return {
        "status": (RunStatus.READY if is_ready(checks) else RunStatus.NOT_READY).value,
        "environment": request.environment,
        "mode": request.mode.value,
        "build_id": request.build_id,
        "run_id": request.run_id,
        "plan_digest": "",
        "summary": {**numbers, "warnings": len(warnings), "errors": counts[CheckStatus.FAILED]},
        "changes": [],
        "blockers": [],
        "warnings": [asdict(finding) for finding in warnings],
        "audit": audit.to_json(),
        "plan_text": render_checks(shown)[:_MAX_ALL],
        "checks": [{**asdict(check), "status": check.status.value} for check in shown],
    }


def shorten(checks: Sequence[Check]) -> list[Check]:
    """The checks that an answer has room for, in their order; those that are not ok are the last to go."""
    if len(checks) <= MAX_CHECKS:
        return list(checks)
    ranked = sorted(range(len(checks)), key=lambda number: checks[number].status is CheckStatus.OK)
    kept, left = sorted(ranked[:MAX_CHECKS]), [checks[number] for number in ranked[MAX_CHECKS:]]
    worst = CheckStatus.FAILED if not is_ready(left) else max((check.status for check in left), key=_rank)
    rest = Check("more", worst, f"{len(left)} more checks", "the CSV of the run has every one of them")
    return [*(checks[number] for number in kept), rest]


def _rank(status: CheckStatus) -> int:
    return list(CheckStatus).index(status)


def _bounded(check: Check) -> Check:
    what, why, next_step = (sanitize(text, _MAX_TEXT) for text in (check.what, check.why, check.next_step))
    return Check(sanitize(check.name, _MAX_NAME), check.status, what, why, next_step)
