"""A digest in, the plan that was stored with it on the screen, and after a yes the object that approves it out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner.core import keys
from provisioner.core.changes import ChangeKind
from provisioner.core.kinds import ObjectKind
from provisioner.core.state import Target
from provisioner.core.stored_plan import StoredPlan, parse_plan, refuse_forged
from provisioner.core.text import join_names, sanitize
from rds_provisioner_cli.approval import ask
from rds_provisioner_cli.aws import client, error_code, explain, failures, read_object
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import find_audit

if TYPE_CHECKING:
    from rds_provisioner_cli.screen import Screen
    from rds_provisioner_cli.target import Given

_KINDS = {kind.action: kind for kind in ChangeKind}
_MAX_ASKERS = 10
_Effect = tuple[str, ...]


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
    reviewed, plan = _read_genuine(address, given.environment, review.digest)
    askers = _find_askers(bucket, f"{prefix}/{given.environment}", review.digest, review.approved_by)
    _show(reviewed, plan, askers, screen)
    if keys.person(review.approved_by) in map(keys.person, askers):
        message = f"{review.approved_by} asked for this plan and cannot approve it: somebody else has to"
        raise Stopped(message, Exit.NOT_APPROVED)
    if not review.is_agreed:
        _ask(given.environment, review, screen)
    key = keys.approval(f"{prefix}/{given.environment}", review.digest)
    _put(bucket, key, review)
    screen.say(f"approved as {review.approved_by}: s3://{bucket}/{key}", "bold green")
    screen.say(f"The function applies it now: rds-provisioner history {given.environment} tells when it has.")
    return Exit.DONE


def _find_plan(bucket: str, prefix: str, environment: str, digest: str) -> str:
    """The address of the plan that was stored last with a digest; of each version of a snapshot there is one."""
    found = _list(bucket, f"{prefix}/{environment}/plans/by-digest/{digest.removeprefix('sha256:')}/")
    if not found:
        message = f"no plan of {environment} was stored with the digest {digest}"
        raise Stopped(f"{message}: have it made (rds-provisioner plan {environment})", Exit.NOT_APPROVED)
    return f"s3://{bucket}/{found[-1]}"


def _read_genuine(address: str, environment: str, digest: str) -> tuple[StoredPlan, dict[str, Any]]:
    """What the digest covers, and the plan that says it in words. Raises Stopped where they are not of one another."""
    content = read_object(address)
    try:
        reviewed, plan = parse_plan(content, environment), dict(json.loads(content))
        refuse_forged(reviewed, digest)
    except ValueError as error:
        raise Stopped(f"{address} cannot be trusted: {error}") from None
    snapshot = str(plan.get("snapshot_version", ""))
    if snapshot and not address.endswith(f"/{keys.version(snapshot)}.json"):
        raise Stopped(f"{address} cannot be trusted: it names another version of the snapshot than its key")
    return reviewed, plan


def _find_askers(bucket: str, folder: str, digest: str, approver: str) -> list[str]:
    """Who has had a plan with this digest made, as far as they named themselves: the approver, and the first of all."""
    own = keys.asked(folder, digest, approver)
    noted = [*_list(bucket, own), *_list(bucket, own.rpartition("/")[0] + "/")[:_MAX_ASKERS]]
    try:
        return [str(json.loads(read_object(f"s3://{bucket}/{key}"))["requested_by"]) for key in dict.fromkeys(noted)]
    except (ValueError, LookupError, TypeError):
        raise Stopped(f"{noted[0].rpartition('/')[0]} holds what no run has stored") from None


def _list(bucket: str, prefix: str) -> list[str]:
    try:
        found = client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    except failures() as error:
        raise Stopped(f"s3://{bucket}/{prefix} cannot be listed: {explain(error)}") from None
    return [each["Key"] for each in sorted(found, key=lambda each: each["LastModified"])]


def _show(reviewed: StoredPlan, plan: dict[str, Any], askers: list[str], screen: Screen) -> None:
    """What takes something away first, in words that are made of what the digest covers and of nothing else."""
    valid = reviewed.validity
    screen.say(f"environment: {valid.environment}")
    screen.say(f"server: {valid.host}:{valid.port}, administrator: {valid.administrator}")
    snapshot = sanitize(str(plan["snapshot_version"]), 256) or "(a text that is no snapshot yet)"
    screen.say(f"snapshot: {snapshot}, asked for by: {join_names(askers) or '(nobody named)'}")
    told = {tuple(each["identity"]): str(each["detail"]) for each in plan["changes"]}
    effects = [effect for unit in reviewed.units.values() for effect in unit.effects]
    destructive = [effect for effect in effects if _sign(effect) == "-"]
    others = [effect for effect in effects if _sign(effect) != "-"]
    for heading, some in (("Destructive:", destructive), ("Other changes:", others)):
        if some:
            screen.say(f"\n{heading}", "bold")
            screen.show_plan("\n".join(_line(effect, told[effect]) for effect in some))
    if plan["blockers"]:
        screen.say("\nBlocked, and left as it is:", "bold")
        screen.show_plan("\n".join(f"  ! {sanitize(str(each['message']), 500)}" for each in plan["blockers"]))
    screen.say(f"\n{len(effects)} changes, {len(destructive)} of them destructive; {plan['plan_digest']}")


def _sign(effect: _Effect) -> str:
    """The plan's sign; a minus where an attribute is taken, too."""
    takes = effect[0] == ChangeKind.ALTER_ROLE.action and "may no longer" in effect[3]
    return "-" if takes else _KINDS[effect[0]].symbol


def _line(effect: _Effect, detail: str) -> str:
    """One change; what else the run said of it (`detail`), such as why, stands behind it: no digest covers that."""
    action, database, username, *what = effect
    kind, place = _KINDS[action], f" in {sanitize(database, 64)}" if database else ""
    words = _grant(what) if kind.is_grant else ", ".join(what)
    rest = "" if kind.is_grant or detail in what or not detail else f" ({sanitize(detail, 200)})"
    return f"  {_sign(effect)} {action} {sanitize(username, 64)}{place}: {sanitize(words, 500)}{rest}"


def _grant(what: list[str]) -> str:
    kind, schema, creator, extension, pass_on, privileges, grantor, *owners = what
    place = Target(ObjectKind(kind), schema=schema, creator=creator).in_words(None)
    more = [
        extension,
        f"granted by {grantor}" if grantor else "",
        f"owned by {', '.join(owners)}" if any(owners) else "",
    ]
    known = ", ".join(part for part in more if part)
    words = f"{'the right to pass on ' if pass_on else ''}{privileges} on {place}"
    return f"{words} [{known}]" if known else words


def _ask(environment: str, review: Review, screen: Screen) -> None:
    """Raise Stopped unless the answer is yes."""
    if not sys.stdin.isatty():
        message = "nobody can be asked here: read the plan, then call again with --yes"
        raise Stopped(message, Exit.NOT_APPROVED)
    question = f"Approve this plan of {environment} as {review.approved_by}?"
    ask(question, screen, undone="nothing was approved", refused="not approved")


def _put(bucket: str, key: str, review: Review) -> None:
    s3, address = client("s3"), f"s3://{bucket}/{key}"
    said = {"plan_digest": review.digest, "approved_by": review.approved_by, "reason": review.reason}
    body = json.dumps(said).encode() + b"\n"
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
