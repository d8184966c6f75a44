"""What roles that leave still hold on a server, as it was observed; `core.leaving` decides what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Leaving:
    """The roles that the event names, and what was observed of them and of those that are quarantined.

    `now` is the server's clock (ISO 8601, UTC). `sessions` counts those of each role that has any, and `subscriptions`
    names the enabled ones of each role that owns any: their workers are sessions that come back. `may_signal` says that
    the administrator may end sessions of roles that it is no member of.
    """

    quarantine: frozenset[str] = frozenset()
    retire: frozenset[str] = frozenset()
    retire_after_days: int = 7
    now: str = ""
    sessions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    subscriptions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    may_signal: bool = False
