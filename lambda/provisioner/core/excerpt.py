"""A plan and the room that there is for it in; as much of it as fits out, and how much does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import itemgetter

from provisioner.core.changes import Change
from provisioner.core.errors import Finding
from provisioner.core.plan import Plan
from provisioner.core.text import join_names, sanitize

# Lambda refuses an answer of more than 6 MB. With these bounds the largest stays below it even where every character
# is one that JSON writes in twelve bytes.
MAX_CHANGES = 300
MAX_FINDINGS = 50
MAX_NAME = 64
MAX_NAMED = 10
# What a database takes beside the lines of its changes, in bytes.
_ROOM_FOR_HEADING = 200


def choose_listed(plan: Plan) -> Plan:
    """The changes and findings that the lists of an answer have room for."""
    parts = ((plan.changes, MAX_CHANGES), (plan.blockers, MAX_FINDINGS), (plan.warnings, MAX_FINDINGS))
    return _only(plan, *({number for _, number in _by_turns(items)[:most]} for items, most in parts))


def choose(plan: Plan, line_of: Callable[[Change | Finding], str], room: int) -> Plan:
    """As much of a plan as its lines have room for: destructive changes, blockers, other changes, then warnings."""
    changes = _by_turns(plan.changes)
    first = sum(change.destructive for change in plan.changes)
    kept: dict[str, set[int]] = {"changes": set(), "blockers": set(), "warnings": set()}
    databases: set[str] = set()
    queue = [("changes", *each) for each in changes[:first]]
    queue += [("blockers", *each) for each in _by_turns(plan.blockers)]
    queue += [("changes", *each) for each in changes[first:]]
    queue += [("warnings", *each) for each in _by_turns(plan.warnings)]
    for part, item, number in queue:
        room -= len(line_of(item).encode("utf-8", "replace")) + 1
        if part == "changes" and item.database not in databases:
            databases.add(item.database)
            room -= _ROOM_FOR_HEADING
        if room < 0:
            break
        kept[part].add(number)
    return _only(plan, *kept.values())


def _only(plan: Plan, changes: set[int], blockers: set[int], warnings: set[int]) -> Plan:
    return replace(
        plan,
        changes=tuple(each for number, each in enumerate(plan.changes) if number in changes),
        blockers=tuple(each for number, each in enumerate(plan.blockers) if number in blockers),
        warnings=tuple(each for number, each in enumerate(plan.warnings) if number in warnings),
    )


def _by_turns(items: Iterable[Change | Finding]) -> list[tuple[Change | Finding, int]]:
    """Items and their places, the destructive first; databases take turns, so that none pushes out another."""
    turns: Counter[tuple[bool, str]] = Counter()
    keyed = []
    for number, item in enumerate(items):
        is_harmless = isinstance(item, Change) and not item.destructive
        turns[is_harmless, item.database] += 1
        keyed.append((is_harmless, turns[is_harmless, item.database], item.database, number, item))
    return [(item, number) for *_, number, item in sorted(keyed, key=itemgetter(0, 1, 2, 3))]


def left_out(plan: Plan, shown: Plan) -> list[str]:
    """How much of a plan is not shown; first of all where something would be taken away unseen."""
    left = Counter(change.database for change in plan.changes if change.destructive)
    left.subtract(change.database for change in shown.changes if change.destructive)
    names = [f"{name_database(name)} ({count})" for name, count in left.most_common()]
    numbers = {
        "changes": len(plan.changes) - len(shown.changes),
        "blockers": len(plan.blockers) - len(shown.blockers),
        "warnings": len(plan.warnings) - len(shown.warnings),
    }
    hidden = join_names(names[: sum(count > 0 for count in left.values())], MAX_NAMED)
    return [
        *([f"NOT SHOWN ARE {left.total()} DESTRUCTIVE CHANGES: {hidden}"] if hidden else []),
        ", ".join(f"{number} {name}" for name, number in numbers.items() if number),
    ]


def name_database(database: str) -> str:
    """A database as a reader sees it; changes of roles are in none."""
    return sanitize(database, MAX_NAME) or "(server)"
