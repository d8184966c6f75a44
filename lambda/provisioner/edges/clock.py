"""The moment it is, as the audit writes it, and until when something is waited for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def now_utc() -> str:
    """The present moment: ISO 8601, milliseconds, Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when something is waited for: `clock` says the seconds left to all, of which a `reserve` is for others.

    `at_most` bounds each wait.
    """

    clock: Callable[[], float]
    reserve: float = 0.0
    at_most: float = math.inf

    def seconds_left(self) -> float:
        """How long may be waited now; nothing is left at 0."""
        return min(self.clock() - self.reserve, self.at_most)
