"""A plan and what came of it in, what is read of it out: text, notification, Markdown, the function's answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from provisioner.core.audit import Provenance
from provisioner.core.changes import Change
from provisioner.core.errors import Finding
from provisioner.core.excerpt import MAX_NAME, MAX_NAMED, choose, choose_listed, left_out, name_database
from provisioner.core.model import Request, RunStatus, Status
from provisioner.core.plan import Plan
from provisioner.core.preflight import Check, CheckStatus, render_checks, shorten
from provisioner.core.text import join_names, sanitize

MAX_FIELD = 500
# In bytes, of a text for people: SNS takes up to 256 KiB.
_MAX_TEXT = 100_000
# The same of a comment: GitHub takes up to 65536.
_MAX_MARKDOWN = 56_000


@dataclass(frozen=True, slots=True)
class AuditLocations:
    """Where a run left its traces, as `s3://` addresses; empty where it left none."""

    run: str = ""
    trail: str = ""
    plan: str = ""
    plan_markdown: str = ""
    access_html: str = ""
    access_csv: str = ""
    access_json: str = ""

    def to_json(self) -> dict[str, str]:
        """As the answer names them; those of a report of access only where there is one."""
        return {name: value for name, value in asdict(self).items() if value or not name.startswith("access_")}


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the answer's status, the plan, and each change with what became of it."""

    status: RunStatus
    plan: Plan
    # What a report says, where there is no plan to be shown.
    text: str = ""
    changes: Sequence[tuple[Change, Status]] = ()
    checks: Sequence[Check] = ()


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
    numbers = summarize(plan)
    words = {"create": "to create", "change": "to change", "revoke": "to revoke", "unchanged": "unchanged"}
    parts = [f"{numbers[name]} {said}" for name, said in words.items()]
    parts += [f"{numbers[name]} {name}" for name in ("blocked", "warnings") if numbers[name]]
    return f"Plan: {', '.join(parts)}."


def render_text(plan: Plan, audit: AuditLocations | None = None) -> str:
    """The plan as `terraform plan` would say it: `+` create, `~` change, `-` revoke, `!` blocked, `?` warning.

    Changes stand under their database, in the order in which they are applied; the last line is the sum. Of a plan
    that is too long each database keeps its share, and what takes something away goes before all else.
    """
    shown = choose(plan, text_of, _MAX_TEXT)
    lines = [*notice(plan, shown, audit), *render_lines(shown)]
    if not plan.changes and not plan.blockers:
        lines += ["No changes. The server is what the snapshot declares.", ""]
    return "\n".join([*lines, sum_line(plan)])


def render_lines(plan: Plan) -> list[str]:
    """Changes under their databases, those of none first; then what is blocked, and what is warned of."""
    lines: list[str] = []
    groups: dict[str, list[Change]] = {}
    for change in plan.changes:
        groups.setdefault(change.database, []).append(change)
    for database in sorted(groups):
        lines += [name_database(database), *map(text_of, groups[database]), ""]
    for heading, symbol, findings in (("Blocked", "!", plan.blockers), ("Warnings", "?", plan.warnings)):
        if findings:
            lines += [f"{heading}:", *(text_of(each, symbol) for each in findings), ""]
    return lines


def text_of(item: Change | Finding, symbol: str = "?") -> str:
    """One line of a change or a finding, whose `symbol` says what it is."""
    if isinstance(item, Finding):
        return f"  {symbol} {sanitize(str(item), MAX_FIELD)}"
    destructive = "  [destructive]" if item.destructive else ""
    words = f"{item.symbol} {item.action:<18} {sanitize(item.username, MAX_NAME):<24} "
    return f"  {words}{sanitize(item.detail, MAX_FIELD)}".rstrip() + destructive


def render_notification(plan: Plan, audit: AuditLocations, provenance: Provenance, *, needs_approval: bool) -> str:
    """The plan as a message to people: who asked for it, what it holds, where it is, and how it is approved."""
    destructive = [f"{each.action} {each.username} in {each.database}" for each in plan.changes if each.destructive]
    about = {**describe_run(provenance), "plan": audit.plan, "digest": plan.digest}
    about["destructive"] = f"{len(destructive)} ({join_names(destructive, MAX_NAMED)})" if destructive else "nothing"
    lines = [
        render_text(plan, audit),
        "",
        *(f"{name}: {sanitize(value, MAX_FIELD)}" for name, value in about.items()),
    ]
    return "\n".join([*lines, *(["", f"to approve: {how_to_apply(plan)}"] if needs_approval else [])])


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


def how_to_apply(plan: Plan) -> str:
    """The command that has this plan applied and no other."""
    if plan.is_approved_by_object:
        return f"make rds-approve ENV={plan.environment} DIGEST={plan.digest}"
    variables = f"ALLOW_DB_PROVISION=true APPROVED_BY=<who approves> PLAN_DIGEST={plan.digest}"
    return f"{variables} make rds-provision ENV={plan.environment}"


def build_response(request: Request, result: RunResult, audit: AuditLocations) -> dict[str, object]:
    """The answer of the function, as JSON-ready values that stay under the 6 MB of Lambda whatever the fleet.

    Past 300 changes, or 50 blockers or warnings, the lists are cut, destructive changes last; the summary counts
    everything, and a warning (`answer_cut`) names the stored plan. A run that did not plan says nothing of a plan: a
    report has a `text` of its own, a preflight its `checks`.
    """
    plan, text = result.plan, result.text
    listed = choose_listed(plan)
    cut = _truncation_warning(plan, listed, audit)
    kept = frozenset(listed.changes)
    shown = shorten(result.checks)
    if shown:
        text = render_checks(shown)[:_MAX_TEXT]
    is_planned = not text and result.status is not RunStatus.SUPERSEDED
    failed = [Status.ERROR for check in result.checks if check.status is CheckStatus.FAILED]
    return {
        "status": result.status.value,
        "environment": request.environment,
        "mode": request.mode.value,
        "build_id": request.build_id,
        "run_id": request.run_id,
        "plan_digest": plan.digest if is_planned else "",
        "summary": summarize(plan, [*failed, *(status for _, status in result.changes)]),
        "changes": [
            _truncate_values({**each.to_json(), "status": to.value}) for each, to in result.changes if each in kept
        ],
        "blockers": [_truncate_values(asdict(finding)) for finding in listed.blockers],
        "warnings": [_truncate_values(asdict(finding)) for finding in (*listed.warnings, *cut)],
        "audit": audit.to_json(),
        "plan_text": render_text(plan, audit) if is_planned else text or "The server was not looked at.",
        **({"checks": [asdict(check) for check in shown]} if shown else {}),
    }


def notice(plan: Plan, shown: Plan, audit: AuditLocations | None) -> list[str]:
    """What is said first where a plan is cut: what would be taken away unseen, and where all of it is."""
    *hidden, cut = left_out(plan, shown)
    where = f"The whole plan: {audit.plan}" if audit and audit.plan else "The stored plan has all of it."
    return [*hidden, f"... and {cut} more. {where}", ""] if cut else []


def describe_run(provenance: Provenance | None) -> dict[str, str]:
    """Whose plan it is, as far as that is known."""
    if provenance is None:
        return {}
    known = {
        "environment": provenance.environment,
        "snapshot": provenance.snapshot_version,
        "asked for by": provenance.requested_by,
        "build": provenance.build_id,
        "run": provenance.run_id,
    }
    return {name: value for name, value in known.items() if value}


def _truncation_warning(plan: Plan, shown: Plan, audit: AuditLocations) -> list[Finding]:
    *hidden, cut = left_out(plan, shown)
    if not cut:
        return []
    message = "; ".join([f"{cut} more than this answer lists", *hidden])
    next_step = f"read the whole plan at {audit.plan}" if audit.plan else "read the audit of the run"
    return [Finding("answer_cut", message, next_step)]


def _truncate_values(values: dict[str, object]) -> dict[str, object]:
    """The values with every text in them cut to what an answer has room for."""
    limits = dict.fromkeys(("detail", "message", "next_step", "where"), MAX_FIELD)
    return {
        name: sanitize(value, limits.get(name, MAX_NAME)) if isinstance(value, str) else value
        for name, value in values.items()
    }
