"""A plan in, the Markdown of a comment for a pull request out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from provisioner.core.audit import Provenance
from provisioner.core.changes import Change
from provisioner.core.errors import Finding
from provisioner.core.excerpt import choose
from provisioner.core.plan import Plan
from provisioner.core.report import MAX_FIELD, AuditLocations, describe_run, group, how_to_apply, notice, sum_line
from provisioner.core.text import sanitize

# In bytes: GitHub takes a comment of up to 65536.
_MAX_MARKDOWN = 56_000


def render_markdown(plan: Plan, audit: AuditLocations | None = None, provenance: Provenance | None = None) -> str:
    """The plan as a comment for a pull request: whatever names it holds, they stay text, link and mention nobody.

    What is blocked and what takes something away comes first; the rest is folded.
    """
    shown = choose(plan, _markdown_of, _MAX_MARKDOWN)
    about = ", ".join(f"{name} {_code(value)}" for name, value in describe_run(provenance).items())
    lines = [f"### {sum_line(plan)}", "", about, ""]
    lines += [f"**{line}**  " if line else "" for line in notice(plan, shown, audit)]
    destructive = [change for change in shown.changes if change.destructive]
    others = [change for change in shown.changes if not change.destructive]
    lines += [*_markdown_findings("Blocked", "!", shown.blockers), *_tables("Destructive", destructive)]
    lines += _markdown_findings("Warnings", "?", shown.warnings)
    if others:
        lines += [
            "<details>",
            f"<summary>{len(others)} other changes</summary>",
            "",
            *_tables("", others),
            "</details>",
        ]
    if plan.changes:
        lines += ["", "To apply exactly this plan:", "", "```", how_to_apply(plan), "```"]
    return "\n".join([*lines, "", f"Plan digest: {_code(plan.digest)}", ""])


def _tables(heading: str, changes: Iterable[Change]) -> list[str]:
    lines: list[str] = []
    for database, members in group(changes):
        title = f"**{heading}: {_code(database)}**" if heading else f"**{_code(database)}**"
        lines += [title, "", "| | action | role | detail |", "|---|---|---|---|", *map(_table_row, members), ""]
    return lines


def _markdown_findings(heading: str, symbol: str, findings: Sequence[Finding]) -> list[str]:
    return [f"**{heading}**", "", *(_markdown_finding(each, symbol) for each in findings), ""] if findings else []


def _markdown_of(item: Change | Finding) -> str:
    return _table_row(item) if isinstance(item, Change) else _markdown_finding(item)


def _markdown_finding(finding: Finding, symbol: str = "?") -> str:
    return f"- `{symbol}` {_code(str(finding))}"


def _table_row(change: Change) -> str:
    destructive = " **destructive**" if change.destructive else ""
    # A pipe would end the cell even inside of a code span.
    cells = [_code(text).replace("|", "\\|") for text in (change.action, change.username, change.detail)]
    return f"| `{change.symbol}` | {cells[0]} | {cells[1]} | {cells[2]}{destructive} |"


def _code(text: str) -> str:
    """The text as a code span, in which nothing is markup, link or mention; fenced by more backticks than it has."""
    plain = sanitize(text, MAX_FIELD)
    if not plain.strip():
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    padding = " " if "`" in plain else ""
    return f"{fence}{padding}{plain}{padding}{fence}"
