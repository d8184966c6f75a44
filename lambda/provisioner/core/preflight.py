"""The checks of a preflight in, what people and programs read of them out: one line each, and whether all is well.

A check is `ok`, `failed`, or `unknown` where it could not be made; only a failed one makes an environment not ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from provisioner.core.errors import Finding
from provisioner.core.text import sanitize


class CheckStatus(StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at and found, why that matters or came so, and what a person does now."""

    name: str
    what: str
    why: str = ""
    next_step: str = ""
    status: CheckStatus = field(kw_only=True)

    @property
    def text(self) -> str:
        return "; ".join(part for part in (self.what, self.why, self.next_step) if part)


# With a next step where something is worth knowing all the same.
ok = partial(Check, status=CheckStatus.OK)
# An apply would fail, or do less than it says.
failed = partial(Check, status=CheckStatus.FAILED)
# It could not be made, or only somebody else knows the answer.
unknown = partial(Check, status=CheckStatus.UNKNOWN)


def failed_by(name: str, findings: Sequence[Finding]) -> Check:
    """A check that met refusals: all of them in its one line."""
    what = "; ".join(finding.message for finding in findings)
    return failed(name, what, "an apply would end with it", findings[0].next_step)


def is_ready(checks: Sequence[Check]) -> bool:
    """Whether nothing failed; what could not be told is named and holds nobody up."""
    return all(check.status is not CheckStatus.FAILED for check in checks)


# --- what the answer has room for -----------------------------------------------------------------------------------

# Of a fleet's secrets more lines than this are counted.
MAX_CHECKS = 300
_MAX_TEXT = 300
_MAX_NAME = 64
# By how much they matter; of many checks the first are shown.
_SYMBOLS = {CheckStatus.FAILED: "!", CheckStatus.UNKNOWN: "?", CheckStatus.OK: "+"}


def count_checks(checks: Iterable[Check]) -> str:
    counts = Counter(check.status for check in checks)
    return "Preflight: " + ", ".join(f"{counts[status]} {status}" for status in CheckStatus) + "."


def render_checks(checks: Sequence[Check]) -> str:
    """A line a check: `+` ok, `!` failed, `?` unknown, and the sums."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"  {_SYMBOLS[check.status]} {check.name:<{width}}  {check.text}" for check in checks]
    return "\n".join([*lines, "", count_checks(checks)])


def shorten(checks: Sequence[Check]) -> list[Check]:
    """The checks that an answer has room for, those that are not ok before the others where there are too many."""
    kept = list(checks)
    if len(kept) > MAX_CHECKS:
        ranked = sorted(checks, key=lambda check: list(_SYMBOLS).index(check.status))
        kept, left = ranked[:MAX_CHECKS], ranked[MAX_CHECKS:]
        more = f"{len(left)} more checks", "the CSV of the run has every one of them"
        kept.append(Check("more", *more, status=left[0].status))
    return [
        Check(
            sanitize(check.name, _MAX_NAME),
            *(sanitize(text, _MAX_TEXT) for text in (check.what, check.why, check.next_step)),
            status=check.status,
        )
        for check in kept
    ]
