"""A secret that has changed: CloudTrail's event in, whose password follows and what of a plan that is out.

A password that follows its secret is no change of access, so it needs no approval; whatever else a plan holds does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from provisioner.core.changes import ChangeKind
from provisioner.core.entry import names_of
from provisioner.core.errors import Finding
from provisioner.core.model import Declaration
from provisioner.core.plan import Plan
from provisioner.core.text import sanitize

EVENT_SOURCE = "aws.secretsmanager"
DETAIL_TYPES = ("AWS API Call via CloudTrail", "AWS Service Event via CloudTrail")
EVENT_NAMES = ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "RotationSucceeded")
# Where CloudTrail says which secret it was: a call has it in its answer or its request, by name or by ARN, a rotation
# by the service among its additional data. `aRN` is how some calls spell it.
PLACES = (
    ("responseElements", "arn"),
    ("responseElements", "aRN"),
    ("responseElements", "ARN"),
    ("additionalEventData", "SecretId"),
    ("requestParameters", "secretId"),
)


def roles_of(secret_id: str, declaration: Declaration, template: str) -> frozenset[str]:
    """The declared roles whose password comes from a secret; `template` names those that an entry does not name."""
    changed = names_of(secret_id)
    return frozenset(entry.username for entry in declaration.entries if changed & names_of(entry.secret_id(template)))


def ignored(secret_id: str, reason: str) -> Finding:
    """What is said of an event that is none of this function's business."""
    message = f'the secret "{sanitize(secret_id, 256)}" changed, and nothing was looked at: {reason}'
    return Finding("secret_not_declared", message, "declare an entry for it, or nothing, where it is of something else")


def keep_passwords(plan: Plan, roles: Collection[str], secret_problems: Collection[Finding]) -> Plan:
    """Of a plan the new passwords of these roles, and what stands against them."""
    kept = tuple(each for each in plan.changes if each.kind is ChangeKind.SET_PASSWORD and each.username in roles)
    against = {plan.blocker_of(change) for change in kept}
    broken = {finding.username for finding in secret_problems} & set(roles)
    blockers = tuple(each for each in plan.blockers if each in against or (each.username in broken and not kept))
    left = len(plan.changes) - len(kept) + len(plan.blockers) - len(blockers)
    return replace(
        plan,
        changes=kept,
        left=tuple(each for each in plan.changes if each not in kept),
        blockers=blockers,
        unchanged=tuple(each for each in plan.unchanged if each.action == "password" and each.username in roles),
        unknown=tuple(each for each in plan.unknown if each.action == "password" and each.username in roles),
        warnings=(*plan.warnings, *([_left(left)] if left else [])),
        is_approved_by_object=False,
    )


def _left(count: int) -> Finding:
    message = (
        f"{count} other changes and blockers were left: a secret that changes brings its password and nothing else"
    )
    return Finding("changes_left", message, "plan and apply them as usual")


def unproved(role: str) -> Finding:
    """Why a new password waits for an approval after all."""
    message = (
        f'the password of "{role}" on the server is not the previous one of its secret, so that this secret was not '
        "shown to be the one that it came from"
    )
    return Finding("password_unproved", message, "read the plan, then approve it", username=role)


def secret_in(detail: Mapping[str, object]) -> str:
    """The secret that an event is about, as CloudTrail names it; empty where it names none."""
    for group, name in PLACES:
        fields = detail.get(group)
        value = fields.get(name) if isinstance(fields, dict) else None
        if isinstance(value, str) and value:
            return value
    return ""
