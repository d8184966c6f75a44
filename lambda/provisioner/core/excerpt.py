"""A plan and the room that there is for it in; as much of it as fits out, and how much does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

from provisioner.core.changes import Change
from provisioner.core.errors import Finding
from provisioner.core.plan import Plan
from provisioner.core.text import join_names, sanitize

# Lambda refuses an answer of more than 6 MB. With these bounds the largest stays below it even where every character
# is one that JSON writes in twelve bytes.
MAX_CHANGES = 300
MAX_FINDINGS = 50
# What is cut of a plan, and how much of each part the lists of an answer hold.
PARTS = {"changes": MAX_CHANGES, "blockers": MAX_FINDINGS, "warnings": MAX_FINDINGS}
MAX_NAME = 64
MAX_NAMED = 10
# What a database takes beside the lines of its changes, in bytes.
_ROOM_FOR_HEADING = 200


def choose_listed(plan: Plan) -> Plan:
    """The changes and findings that the lists of an answer have room for."""
    return _only(plan, {part: {number for _, number in _by_turns(plan, part)[:most]} for part, most in PARTS.items()})


def choose(plan: Plan, line_of: Callable[[Change | Finding], str], room: int) -> Plan:
    """As much of a plan as its lines have room for: destructive changes, blockers, other changes, then warnings."""
    changes, blockers, warnings = ([(part, *each) for each in _by_turns(plan, part)] for part in PARTS)
    first = sum(change.destructive for change in plan.changes)
    kept: dict[str, set[int]] = {part: set() for part in PARTS}
    databases: set[str] = set()
    for part, item, number in (*changes[:first], *blockers, *changes[first:], *warnings):
        room -= len(line_of(item).encode("utf-8", "replace")) + 1
        if part == "changes" and item.database not in databases:
            databases.add(item.database)
            room -= _ROOM_FOR_HEADING
        if room < 0:
            break
        kept[part].add(number)
    return _only(plan, kept)


def _only(plan: Plan, kept: Mapping[str, set[int]]) -> Plan:
    shown: dict[str, Any] = {
        part: tuple(each for number, each in enumerate(getattr(plan, part)) if number in numbers)
        for part, numbers in kept.items()
    }
    return replace(plan, **shown)


def _by_turns(plan: Plan, part: str) -> list[tuple[Change | Finding, int]]:
    """The items of a part with their places, the destructive first; databases take turns: none pushes out another."""
    turns: Counter[tuple[bool, str]] = Counter()
    keyed = []
    for number, item in enumerate(getattr(plan, part)):
        is_harmless = isinstance(item, Change) and not item.destructive
        turns[is_harmless, item.database] += 1
        keyed.append((is_harmless, turns[is_harmless, item.database], item.database, number, item))
    return [(item, number) for *_, number, item in sorted(keyed, key=itemgetter(0, 1, 2, 3))]


def left_out(plan: Plan, shown: Plan) -> list[str]:
    """How much of a plan is not shown; first of all where something would be taken away unseen."""
    left = Counter(change.database for change in plan.changes if change.destructive)
    left.subtract(change.database for change in shown.changes if change.destructive)
    names = [f"{name_database(name)} ({count})" for name, count in left.most_common()]
    numbers = {part: len(getattr(plan, part)) - len(getattr(shown, part)) for part in PARTS}
    hidden = join_names(names[: sum(count > 0 for count in left.values())], MAX_NAMED)
    return [
        *([f"NOT SHOWN ARE {left.total()} DESTRUCTIVE CHANGES: {hidden}"] if hidden else []),
        ", ".join(f"{number} {name}" for name, number in numbers.items() if number),
    ]


def name_database(database: str) -> str:
    """A database as a reader sees it; changes of roles are in none."""
    return sanitize(database, MAX_NAME) or "(server)"
