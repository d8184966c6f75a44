"""A plan and what came of it in, what people and programs read out: text, Markdown, and the answer of the function."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from provisioner.core.characters import make_plain
from provisioner.core.errors import Finding
from provisioner.core.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from provisioner.core.model import Request
    from provisioner.core.plan import Change, Plan

# Lambda refuses an answer of more than 6 MB. With these bounds the largest stays below it even where every character
# is one that JSON writes in twelve bytes.
MOST_CHANGES = 300
MOST_FINDINGS = 50
_LONGEST_NAME = 64
_LONGEST_FIELD = 500
_LONGEST_PLAN_TEXT = 100_000
# GitHub refuses a comment of more than 65536 characters.
_LONGEST_MARKDOWN = 60_000

_ON_THE_SERVER = "(server)"


@dataclass(frozen=True, slots=True)
class AuditLocations:
    """Where a run left its traces, as `s3://` addresses; empty where it left none."""

    run: str = ""
    trail: str = ""
    plan: str = ""


def summarize(plan: Plan, statuses: Iterable[Status] = ()) -> dict[str, int]:
    """The numbers of the answer: what the plan holds, and how many of the given statuses are errors."""
    symbols = Counter(change.symbol for change in plan.changes)
    return {
        "create": symbols["+"],
        "change": symbols["~"],
        "revoke": symbols["-"],
        "unchanged": len(plan.unchanged),
        "blocked": len(plan.blockers),
        "warnings": len(plan.warnings),
        "errors": sum(status is Status.ERROR for status in statuses),
    }


def sum_line(plan: Plan) -> str:
    """The sums of a plan in one line."""
    numbers = summarize(plan)
    extra = [f"{numbers[name]} {name}" for name in ("blocked", "warnings") if numbers[name]]
    parts = [
        f"{numbers['create']} to create",
        f"{numbers['change']} to change",
        f"{numbers['revoke']} to revoke",
        f"{numbers['unchanged']} unchanged",
        *extra,
    ]
    return f"Plan: {', '.join(parts)}."


def render_text(plan: Plan) -> str:
    """The plan as `terraform plan` would say it: `+` create, `~` change, `-` revoke, `!` blocked, `?` warning.

    Changes stand under their database, in the order in which they are applied; the last line is the sum.
    """
    lines: list[str] = []
    for database, changes in _group(plan.changes):
        lines += [database, *(_text_line(change) for change in changes), ""]
    for heading, symbol, findings in (("Blocked", "!", plan.blockers), ("Warnings", "?", plan.warnings)):
        if findings:
            lines += [f"{heading}:", *(f"  {symbol} {make_plain(str(each), _LONGEST_FIELD)}" for each in findings), ""]
    if not plan.changes and not plan.blockers:
        lines += ["No changes. The server is what the snapshot declares.", ""]
    return "\n".join([*lines, sum_line(plan)])


def render_markdown(plan: Plan) -> str:
    """The plan as a comment for a pull request: whatever names it holds, they stay text and mention nobody."""
    lines = [f"### {sum_line(plan)}", ""]
    for heading, symbol, findings in (("Blocked", "!", plan.blockers), ("Warnings", "?", plan.warnings)):
        if findings:
            lines += [f"**{heading}**", "", *(f"- `{symbol}` {_escape(str(finding))}" for finding in findings), ""]
    for database, changes in _group(plan.changes):
        lines += [f"**{_code(database)}**", "", "| | action | role | detail |", "|---|---|---|---|"]
        lines += [_table_row(change) for change in changes]
        lines.append("")
    ending = ["", f"Plan digest: {_code(plan.digest)}", ""]
    return "\n".join([*_cut(lines, _LONGEST_MARKDOWN), *ending])


def build_answer(
    request: Request,
    status: str,
    plan: Plan,
    changes: Sequence[tuple[Change, Status]],
    audit: AuditLocations,
) -> dict[str, object]:
    """The answer of the function, as JSON-ready values that stay under the 6 MB of Lambda whatever the fleet.

    `changes` are the plan's, each with what became of it. Past 300 changes, or 50 blockers or warnings, the lists are
    cut; the summary counts everything, and a warning (`answer_cut`) names the stored plan.
    """
    warnings = [_finding_to_json(finding) for finding in plan.warnings[:MOST_FINDINGS]]
    cut = _name_what_was_cut(plan, audit)
    return {
        "status": status,
        "environment": request.environment,
        "mode": request.mode.value,
        "build_id": request.build_id,
        "run_id": request.run_id,
        "plan_digest": plan.digest,
        "summary": summarize(plan, (status for _, status in changes)),
        "changes": [_change_to_json(change, status) for change, status in changes[:MOST_CHANGES]],
        "blockers": [_finding_to_json(finding) for finding in plan.blockers[:MOST_FINDINGS]],
        "warnings": [*warnings, *cut],
        "audit": asdict(audit),
        "plan_text": _cut_plan_text(plan, audit),
    }


def _group(changes: Iterable[Change]) -> list[tuple[str, list[Change]]]:
    """The changes under their databases, by name; those of no database first."""
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.database, []).append(change)
    return [(make_plain(database, _LONGEST_NAME) or _ON_THE_SERVER, groups[database]) for database in sorted(groups)]


def _text_line(change: Change) -> str:
    destructive = "  [destructive]" if change.destructive else ""
    words = f"{change.symbol} {change.action:<18} {make_plain(change.username, _LONGEST_NAME):<24} "
    return f"  {words}{make_plain(change.detail, _LONGEST_FIELD)}".rstrip() + destructive


def _table_row(change: Change) -> str:
    destructive = " **destructive**" if change.destructive else ""
    return (
        f"| `{change.symbol}` | {_code(change.action)} | {_code(change.username)} "
        f"| {_escape(change.detail)}{destructive} |"
    )


def _code(text: str) -> str:
    """The text as a code span, fenced by more backticks than it has; a pipe would end the cell even in there."""
    plain = make_plain(text, _LONGEST_FIELD)
    if not plain:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    padding = " " if "`" in plain else ""
    return f"{fence}{padding}{plain}{padding}{fence}".replace("|", "\\|")


def _escape(text: str) -> str:
    """The text with everything that Markdown, HTML or a mention would make of it taken away."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", make_plain(text, _LONGEST_FIELD))
    return escaped.replace("@", "&#64;")


def _cut(lines: list[str], limit: int) -> list[str]:
    """As many of the lines as fit into `limit` characters, and how many there were beyond."""
    length = 0
    for index, line in enumerate(lines):
        length += len(line) + 1
        if length > limit:
            return [*lines[:index], "", f"... and {len(lines) - index} more lines."]
    return lines


def _cut_plan_text(plan: Plan, audit: AuditLocations) -> str:
    text = render_text(plan)
    if len(text) <= _LONGEST_PLAN_TEXT:
        return text
    kept = _cut(text.split("\n"), _LONGEST_PLAN_TEXT)
    return "\n".join([*kept, f"The whole plan: {audit.plan}", "", sum_line(plan)])


def _name_what_was_cut(plan: Plan, audit: AuditLocations) -> list[dict[str, object]]:
    numbers = {
        "changes": len(plan.changes) - MOST_CHANGES,
        "blockers": len(plan.blockers) - MOST_FINDINGS,
        "warnings": len(plan.warnings) - MOST_FINDINGS,
    }
    cut = [f"{number} {name}" for name, number in numbers.items() if number > 0]
    if not cut:
        return []
    next_step = f"read the whole plan at {audit.plan}" if audit.plan else "read the audit of the run"
    return [_finding_to_json(Finding("answer_cut", f"{', '.join(cut)} more than this answer lists", next_step))]


def _change_to_json(change: Change, status: Status) -> dict[str, object]:
    return {**_bound(change.to_json()), "status": status.value}


def _finding_to_json(finding: Finding) -> dict[str, object]:
    return _bound(asdict(finding))


def _bound(values: dict[str, object]) -> dict[str, object]:
    """The values with every text in them cut to what an answer has room for."""
    limits = dict.fromkeys(("detail", "message", "next_step", "where"), _LONGEST_FIELD)
    return {
        name: make_plain(value, limits.get(name, _LONGEST_NAME)) if isinstance(value, str) else value
        for name, value in values.items()
    }
