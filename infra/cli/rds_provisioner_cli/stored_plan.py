"""An answer in, what the run stored beside it out: the plan's statements, and its Markdown for a pull request."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from rds_provisioner_cli.aws import read_object
from rds_provisioner_cli.stopped import Stopped

if TYPE_CHECKING:
    from rds_provisioner_cli.screen import Screen


def read_plan(answer: dict[str, Any]) -> dict[str, Any]:
    """The stored plan of an answer; empty where there was nothing to store. Raises Stopped."""
    address = answer["audit"]["plan"]
    return parse_plan(read_object(address), address) if address else {}


def parse_plan(content: bytes, place: str) -> dict[str, Any]:
    """A stored plan. Raises Stopped where it is none."""
    try:
        plan = json.loads(content)
        statements = {name: plan["statements"][name] for name in ("roles", "databases")}
        # Plans of versions before it knew of roles that leave lack that part.
        return {**plan, "statements": {**statements, "leaving": plan["statements"].get("leaving", [])}}
    except (ValueError, KeyError, TypeError):
        raise Stopped(f"{place} is not a plan that a run stored") from None


def show_statements(plan: dict[str, Any], screen: Screen) -> None:
    """Print the statements as they would be sent, passwords left out, with the transactions that they stand in."""
    statements = plan.get("statements", {"roles": [], "databases": [], "leaving": []})
    if statements["roles"]:
        screen.say("-- on the server, in one transaction", "dim")
        for sql in statements["roles"]:
            screen.say(f"{sql};")
    for database in statements["databases"]:
        if database["create"]:
            screen.say(f"-- {database['database']}: alone", "dim")
            screen.say(f"{database['create']};")
        for sql in database.get("open", []):
            screen.say(f"{sql};")
        for transaction in (*database.get("before", ()), database["statements"]):
            screen.say(f"-- in {database['database']}, in one transaction", "dim")
            for sql in transaction:
                screen.say(f"{sql};")
    for step in statements["leaving"]:
        place = f"in {step['database']}" if step["database"] else "on the server"
        screen.say(f"-- {step['role']} leaves: {place}, in one transaction", "dim")
        for sql in step["statements"]:
            screen.say(f"{sql};")


def markdown_of(answer: dict[str, Any], screen: Screen) -> str:
    """The plan as a comment: as the function stored it, else its text."""
    address = answer["audit"].get("plan_markdown", "")
    if address:
        try:
            return read_object(address).decode("utf-8", "replace")
        except Stopped as refused:
            screen.note(f"{refused}; the comment holds the plan's text instead.", "yellow")
    title = f"rds-provisioner {answer['environment']}: {answer['status']}"
    return f"### {title}\n\n{_fence(answer['plan_text'])}\n\nPlan digest: `{answer['plan_digest']}`\n"


def markdown_of_failure(environment: str, message: str) -> str:
    """A comment for a pull request of which there is no plan."""
    return f"### rds-provisioner {environment}: no plan\n\n{_fence(message)}\n"


def _fence(text: str) -> str:
    """The text as a block in which nothing is markup, link or mention."""
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 3)
    return f"{ticks}\n{text}\n{ticks}"
