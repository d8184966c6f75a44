"""The moment it is, as the audit writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def now_utc() -> str:
    """The present moment: ISO 8601, milliseconds, Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
