"""A plan that was shown in, the approval that an apply of it carries out; or the command ends, and says what to do.

Where approvals are objects this carries a digest and no word of approval: `put_approval` puts those.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from rds_provisioner_cli.stopped import Exit, Stopped

if TYPE_CHECKING:
    from rds_provisioner_cli.options import Options
    from rds_provisioner_cli.screen import Screen
    from rds_provisioner_cli.target import Target


def approve(options: Options, target: Target, plan: dict[str, Any], screen: Screen) -> dict[str, Any]:
    """The event's field `approval`; none where none is needed.

    A digest is sent where a person gave it, beforehand or by a yes to the plan on the screen. Where approvals are
    objects it only says which one is meant, and nothing else that is said here counts.

    Raises Stopped.
    """
    digest, given = plan["plan_digest"], options.plan_digest
    if target.needs_digest:
        return _name_approval(options, target, plan, screen)
    if given and digest != given:
        message = f"the plan is now {digest} and not {given}, which was approved: nothing was changed"
        raise Stopped(f"{message}\n{how_to_approve(options, digest)}", Exit.NOT_APPROVED)
    if plan["status"] == "no_change" or not (target.is_gated or options.is_approved):
        return {}
    can_ask = sys.stdin.isatty() and not options.is_approved
    if not (options.is_approved or can_ask):
        message = f"{target.environment} is gated: nothing was changed\n{how_to_approve(options, digest)}"
        raise Stopped(message, Exit.NOT_APPROVED)
    approver = options.approved_by
    if can_ask:
        approver = approver or options.requested_by
        question = f"Apply this plan to {target.environment} as {approver}?"
        ask(question, screen, undone="nothing was changed", refused="not approved: nothing was changed")
    if not approver:
        raise Stopped("who approves? Give --approved-by or APPROVED_BY", Exit.USAGE)
    if approver == options.requested_by:
        screen.note(f"{approver} asks and approves: the audit will show it.", "yellow")
    named = {"plan_digest": given or digest} if given or can_ask else {}
    return {"approval": {"allow_db_provision": True, "approved_by": approver, **named}}


def _name_approval(options: Options, target: Target, plan: dict[str, Any], screen: Screen) -> dict[str, Any]:
    if options.is_approved or options.approved_by:
        screen.note(f"In {target.environment} an object approves, and nothing that is said here.", "yellow")
    if plan["status"] == "no_change":
        return {}
    return {"approval": {"plan_digest": options.plan_digest or plan["plan_digest"]}}


def how_to_approve(options: Options, digest: str) -> str:
    """The line that applies exactly this plan."""
    words = ["rds-provisioner", "apply", options.environment]
    words += ["--tfvars", str(options.tfvars)] if options.tfvars else []
    for name in ("adopt", "quarantine", "retire"):
        named = getattr(options, name)
        words += [f"--{name}", ",".join(named)] if named else []
    variables = f"ALLOW_DB_PROVISION=true APPROVED_BY=<who approves> PLAN_DIGEST={digest}"
    return f"to approve it: {variables} {shlex.join(words)}"


def ask(question: str, screen: Screen, *, undone: str, refused: str) -> None:
    """Raise Stopped unless the answer is yes; `undone` is said of an interruption, `refused` of another answer."""
    try:
        screen.notes.file.write(f"{question} Only 'yes' will do: ")
        screen.notes.file.flush()
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        raise Stopped(f"\nInterrupted: {undone}.", Exit.INTERRUPTED) from None
    if answer.strip() != "yes":
        raise Stopped(refused, Exit.NOT_APPROVED)
