"""A digest in, the plan that was stored with it on the screen, and after a yes the object that approves it out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner.core.reviewed_plan import approval_key, read_plan, render_approval
from provisioner.core.text import sanitize
from provisioner.core.units import Unit
from rds_provisioner_cli.approval import ask
from rds_provisioner_cli.aws import client, error_code, explain, failures, read_object
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import find_audit

if TYPE_CHECKING:
    from rds_provisioner_cli.screen import Screen
    from rds_provisioner_cli.target import Given

_SIGNS = {"create": "+", "grant": "+", "revoke": "-"}


@dataclass(frozen=True)
class Review:
    """What an approver says of which plan."""

    digest: str
    approved_by: str
    reason: str
    is_agreed: bool = False
    renew: bool = False


def approve_plan(given: Given, review: Review, screen: Screen) -> Exit:
    """Show a plan, ask, and put its approval. Raises Stopped."""
    bucket, prefix = find_audit(given)
    address = _find_plan(bucket, prefix, given.environment, review.digest)
    plan = _read_genuine(address, review.digest)
    _show(plan, screen)
    if review.approved_by.strip().casefold() == plan["requested_by"].strip().casefold():
        message = f"{review.approved_by} asked for this plan and cannot approve it: somebody else has to"
        raise Stopped(message, Exit.NOT_APPROVED)
    if not review.is_agreed:
        _ask(given.environment, review, screen)
    key = approval_key(f"{prefix}/{given.environment}", review.digest)
    _put(bucket, key, review)
    screen.say(f"approved as {review.approved_by}: s3://{bucket}/{key}", "bold green")
    screen.say(f"The function applies it now: rds-provisioner history {given.environment} tells when it has.")
    return Exit.DONE


def _find_plan(bucket: str, prefix: str, environment: str, digest: str) -> str:
    """The address of the plan that was stored last with a digest; of each version of a snapshot there is one."""
    folder = f"{prefix}/{environment}/plans/by-digest/{digest.removeprefix('sha256:')}/"
    try:
        found = client("s3").list_objects_v2(Bucket=bucket, Prefix=folder).get("Contents", [])
    except failures() as error:
        raise Stopped(f"s3://{bucket}/{folder} cannot be listed: {explain(error)}") from None
    if not found:
        message = f"no plan of {environment} was stored with the digest {digest}"
        raise Stopped(f"{message}: have it made (rds-provisioner plan {environment})", Exit.NOT_APPROVED)
    return f"s3://{bucket}/{max(found, key=lambda each: each['LastModified'])['Key']}"


def _read_genuine(address: str, digest: str) -> dict[str, Any]:
    """The plan, whose digest covers all that is shown of it. Raises Stopped where it does not."""
    content = read_object(address)
    try:
        units = read_plan(content, digest).units
        plan = dict(json.loads(content))
        covered = {(unit, effect) for unit, effects in units.items() for effect in effects.effects}
        listed = {(_unit_of(each), tuple(each["identity"])) for each in plan["changes"] if each["action"] != "finish"}
    except (ValueError, LookupError, TypeError) as error:
        raise Stopped(f"{address} cannot be trusted: {error}") from None
    if listed != covered:
        raise Stopped(f"{address} cannot be trusted: it lists other changes than its digest covers")
    return plan


def _unit_of(change: dict[str, Any]) -> Unit:
    action, database, username, *_ = change["identity"]
    if (action, database, username) != (change["action"], change["database"], change["username"]):
        raise ValueError("a change of it says two things")
    return Unit("database", database) if database else Unit("role", username)


def _show(plan: dict[str, Any], screen: Screen) -> None:
    """What takes something away first; beside the words of a change what else the digest covers of it."""
    holds_for = plan["holds_for"]
    screen.say(f"environment: {holds_for['environment']}")
    screen.say(f"server: {holds_for['host']}:{holds_for['port']}, administrator: {holds_for['administrator']}")
    snapshot = plan["snapshot_version"] or "(a text that is no snapshot yet)"
    screen.say(f"snapshot: {snapshot}, asked for by: {plan['requested_by'] or '(nobody named)'}")
    destructive = [each for each in plan["changes"] if _is_destructive(each)]
    others = [each for each in plan["changes"] if not _is_destructive(each)]
    for heading, changes in (("Destructive:", destructive), ("Other changes:", others)):
        if changes:
            screen.say(f"\n{heading}", "bold")
            screen.show_plan("\n".join(map(_line, changes)))
    if plan["blockers"]:
        screen.say("\nBlocked, and left as it is:", "bold")
        screen.show_plan("\n".join(f"  ! {each['message']}" for each in plan["blockers"]))
    screen.say(f"\n{len(plan['changes'])} changes, {len(destructive)} of them destructive; {plan['plan_digest']}")


def _is_destructive(change: dict[str, Any]) -> bool:
    return bool(change["destructive"]) or change["action"].startswith("revoke")


def _line(change: dict[str, Any]) -> str:
    sign = "-" if _is_destructive(change) else _SIGNS.get(change["action"].partition("_")[0], "~")
    rest = [part for part in change["identity"][3:] if part and part not in change["detail"]]
    extra = f" [{', '.join(rest)}]" if rest else ""
    place = f" in {change['database']}" if change["database"] else ""
    return f"  {sign} {change['action']} {sanitize(change['username'], 64)}{place}: {change['detail']}{extra}"


def _ask(environment: str, review: Review, screen: Screen) -> None:
    """Raise Stopped unless the answer is yes."""
    if not sys.stdin.isatty():
        message = "nobody can be asked here: read the plan, then call again with --yes"
        raise Stopped(message, Exit.NOT_APPROVED)
    question = f"Approve this plan of {environment} as {review.approved_by}?"
    ask(question, screen, undone="nothing was approved", refused="not approved")


def _put(bucket: str, key: str, review: Review) -> None:
    s3, address = client("s3"), f"s3://{bucket}/{key}"
    body = render_approval(review.digest, review.approved_by, review.reason).encode()
    try:
        if review.renew:
            # Its versions stay: what was approved before can still be read.
            s3.delete_object(Bucket=bucket, Key=key)
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*")
    except failures() as error:
        if error_code(error) == "PreconditionFailed":
            message = f"it is approved already: {address}; where that has expired, call again with --renew"
            raise Stopped(message, Exit.NOT_APPROVED) from None
        raise Stopped(f"{address} cannot be put: {explain(error)}", Exit.NOT_APPROVED) from None
