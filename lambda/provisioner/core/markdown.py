"""A plan in, the Markdown of a comment for a pull request out."""

from __future__ import annotations

import re
from dataclasses import replace

from provisioner.core.audit import Provenance
from provisioner.core.excerpt import choose
from provisioner.core.plan import Plan
from provisioner.core.report import (
    MAX_FIELD,
    AuditLocations,
    describe_run,
    how_to_apply,
    notice,
    render_lines,
    sum_line,
    text_of,
)
from provisioner.core.text import sanitize

# In bytes: GitHub takes a comment of up to 65536.
_MAX_MARKDOWN = 56_000


def render_markdown(plan: Plan, audit: AuditLocations | None = None, provenance: Provenance | None = None) -> str:
    """The plan as a comment for a pull request: whatever names it holds, they stay text, link and mention nobody.

    What takes something away, what is blocked and what is warned of comes first; the rest is folded.
    """
    shown = choose(plan, text_of, _MAX_MARKDOWN)
    others = tuple(change for change in shown.changes if not change.destructive)
    first = replace(shown, changes=tuple(change for change in shown.changes if change.destructive))
    about = ", ".join(f"{name} {_code(value)}" for name, value in describe_run(provenance).items())
    lines = [f"### {sum_line(plan)}", "", about, ""]
    lines += [f"**{line}**  " if line else "" for line in notice(plan, shown, audit)]
    lines += _block(render_lines(first))
    if others:
        folded = render_lines(Plan(plan.environment, others))
        lines += ["<details>", f"<summary>{len(others)} other changes</summary>", "", *_block(folded), "</details>"]
    if plan.changes:
        lines += ["", "To apply exactly this plan:", "", "```", how_to_apply(plan), "```"]
    return "\n".join([*lines, "", f"Plan digest: {_code(plan.digest)}", ""])


def _block(lines: list[str]) -> list[str]:
    """Lines in which nothing is markup, link or mention, between fences of more backticks than they have."""
    fence = "`" * max(3, _longest_ticks("\n".join(lines)) + 1)
    return [f"{fence}text", *lines, fence, ""] if lines else []


def _code(text: str) -> str:
    """The text as a code span, for which the same holds."""
    plain = sanitize(text, MAX_FIELD)
    fence, padding = "`" * (_longest_ticks(plain) + 1), " " if "`" in plain else ""
    return f"{fence}{padding}{plain}{padding}{fence}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
