"""What AWS has for the function, as preflight sees it: buckets, topic, secrets; a small function a check."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provisioner.core import preflight as report
from provisioner.core.credentials import (
    Administrator,
    Credentials,
    parse_administrator_secret,
    parse_application_secret,
)
from provisioner.core.errors import Finding, ProvisioningError
from provisioner.core.preflight import Check, failed, failed_by, not_made, ok, unknown
from provisioner.core.snapshot import MAX_BYTES, parse_snapshot
from provisioner.edges import bucket_probe
from provisioner.edges.aws import AwsError
from provisioner.edges.clock import Deadline
from provisioner.edges.secret_store import Secret, read_secrets
from provisioner.edges.snapshot_store import read_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from provisioner.core.model import Declaration, Entry, Request, Settings
    from provisioner.edges.aws import AwsClients

# How long one answer of the server is waited for.
ANSWER_SECONDS = 10.0

SNAPSHOT = ("snapshot_bucket", "snapshot_versioning", "snapshot_events", "snapshot")
AUDIT = ("audit_bucket", "audit_versioning", "audit_object_lock", "audit_conditional_writes")


@dataclass
class Preflight:
    """What all checks share; what one found that others build on is kept here."""

    request: Request
    settings: Settings
    clients: AwsClients
    seconds_left: Callable[[], float]
    declaration: Declaration | None = None
    administrator: Administrator | None = field(default=None, repr=False)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def deadline(self) -> Deadline:
        """Until when an answer is waited for."""
        return Deadline(self.seconds_left, at_most=ANSWER_SECONDS)


def check_snapshots(preflight: Preflight) -> list[Check]:
    """The bucket of the snapshots, and the snapshot where there is one."""
    bucket = preflight.settings.snapshot_bucket
    reached = _check_bucket(preflight, "snapshot_bucket", bucket, preflight.settings.snapshot_bucket_owner)
    if not report.is_ready([reached]):
        return [reached, *not_made(SNAPSHOT[1:], reached)]
    return [
        reached,
        _asked("snapshot_versioning", "s3:GetBucketVersioning", lambda: _check_versioning(preflight, bucket)),
        _asked("snapshot_events", "s3:GetBucketNotification", lambda: _check_events(preflight, bucket)),
        _check_snapshot(preflight),
    ]


def _check_bucket(preflight: Preflight, name: str, bucket: str, owner: str) -> Check:
    try:
        bucket_probe.reach_bucket(preflight.clients, bucket)
    except AwsError as failure:
        if failure.is_missing:
            return failed(
                name, f"{bucket} does not exist", next_step="create it, or correct the parameter that names it"
            )
        whose = f", or it does not belong to account {owner}" if owner and failure.status == 403 else ""
        what = f"{bucket} cannot be looked into: {failure.code}{whose}"
        return failed(name, what, next_step=failure.next_step("s3:ListBucket"))
    if owner:
        return ok(name, f"{bucket} is there and belongs to account {owner}")
    return ok(name, f"{bucket} is there", "whose it is was not asked: no account is set as its owner")


def _check_versioning(preflight: Preflight, bucket: str) -> Check:
    is_audit = bucket == preflight.settings.audit_bucket
    name = "audit_versioning" if is_audit else "snapshot_versioning"
    if bucket_probe.is_versioned(preflight.clients, bucket):
        return ok(name, f"{bucket} keeps versions")
    why = "what is overwritten or deleted is gone" if is_audit else "a snapshot that has no version is refused"
    return failed(name, f"{bucket} keeps no versions", why, "switch versioning on; put the snapshot there again")


def _check_events(preflight: Preflight, bucket: str) -> Check:
    if bucket_probe.sends_events(preflight.clients, bucket):
        return ok("snapshot_events", f"{bucket} sends its events to EventBridge")
    why = "a new snapshot then calls nobody; whether that is meant (ApplyOnSnapshot) is not known here"
    next_step = "see the runbook: the call that switches it on replaces the notifications that the bucket has"
    return unknown("snapshot_events", f"{bucket} sends no events to EventBridge", why, next_step)


def _check_snapshot(preflight: Preflight) -> Check:
    reference = preflight.request.snapshot
    address = f"s3://{reference.bucket}/{reference.key}"
    try:
        snapshot = read_snapshot(preflight.clients, reference, max_bytes=MAX_BYTES)
        file_name = reference.key.rpartition("/")[2]
        environment = preflight.settings.environment
        preflight.declaration, warnings = parse_snapshot(snapshot.content, file_name, environment=environment)
    except ProvisioningError as error:
        if error.findings[0].code == "missing_snapshot":
            why = "which applications there are is not known yet"
            return unknown("snapshot", f"there is none at {address}", why, "put the tfvars file there")
        return failed_by("snapshot", error.findings)
    preflight.warnings += warnings
    return ok("snapshot", f"{address} declares {len(preflight.declaration.entries)} entries")


def check_audit(preflight: Preflight) -> list[Check]:
    """The bucket of the audit."""
    settings = preflight.settings
    reached = _check_bucket(preflight, "audit_bucket", settings.audit_bucket, settings.audit_bucket_owner)
    if not report.is_ready([reached]):
        return [reached, *not_made(AUDIT[1:], reached)]
    bucket = settings.audit_bucket
    return [
        reached,
        _asked("audit_versioning", "s3:GetBucketVersioning", lambda: _check_versioning(preflight, bucket)),
        _asked("audit_object_lock", "s3:GetBucketObjectLockConfiguration", lambda: _check_lock(preflight)),
        _check_conditional_writes(preflight),
    ]


def _check_lock(preflight: Preflight) -> Check:
    bucket = preflight.settings.audit_bucket
    retention = bucket_probe.object_lock(preflight.clients, bucket)
    if retention:
        return ok("audit_object_lock", f"{bucket} has Object Lock ({retention})")
    why = "who else may delete the audit is not known here"
    return unknown(
        "audit_object_lock", f"{bucket} has no Object Lock", why, "switch it on, or see who may delete there"
    )


def _check_conditional_writes(preflight: Preflight) -> Check:
    settings = preflight.settings
    key = f"{settings.audit_folder}/preflight/{secrets.token_hex(16)}"
    name = "audit_conditional_writes"
    try:
        if bucket_probe.refuses_conditional_write(preflight.clients, settings.audit_bucket, key):
            return ok(name, "a write under a condition that does not hold is refused, and leaves nothing")
    except AwsError as failure:
        what = f"s3://{settings.audit_bucket}/{key} cannot be written: {failure.code}"
        return failed(name, what, "no trail, no change", failure.next_step("s3:PutObject"))
    why = f"two runs at once would lose rows; an empty object is left: {key}"
    return failed(name, "conditions of writes are not heeded", why, "use S3 itself, not something that is like it")


def check_topic(preflight: Preflight) -> list[Check]:
    """The topic that approvals, drift and failures are told to."""
    arn = preflight.settings.notify_topic_arn
    if not arn:
        return [ok("topic", "no topic is set: nobody is told of approvals and drift", next_step="set NOTIFY_TOPIC_ARN")]
    return [_asked("topic", "sns:GetTopicAttributes", lambda: _check_subscribers(preflight, arn))]


def _check_subscribers(preflight: Preflight, arn: str) -> Check:
    try:
        confirmed, pending = bucket_probe.count_subscribers(preflight.clients, arn)
    except AwsError as failure:
        if failure.is_missing:
            return failed("topic", f"{arn} does not exist", next_step="correct NOTIFY_TOPIC_ARN")
        raise
    next_step = "" if confirmed else "subscribe somebody; a mail address confirms the first mail"
    return ok("topic", f"{arn} has {confirmed} subscribers, and {pending} that have to confirm", next_step=next_step)


def check_administrator(preflight: Preflight) -> list[Check]:
    """The administrator's secret."""
    secret_id = preflight.settings.admin_secret_id
    secret = read_secrets(preflight.clients, [secret_id])[secret_id]
    if isinstance(secret, Finding):
        return [failed_by("administrator_secret", [secret])]
    parsed = parse_administrator_secret(secret.text, secret.secret_id, preflight.settings)
    if not isinstance(parsed, Administrator):
        return [failed_by("administrator_secret", parsed)]
    preflight.administrator = parsed
    where = f"{parsed.host}:{parsed.port}, database {parsed.database}"
    return [ok("administrator_secret", f'{secret_id} is the login of "{parsed.username}" at {where}')]


def check_applications(preflight: Preflight) -> list[Check]:
    """The secret of each declared application."""
    if preflight.declaration is None:
        why = "there is no snapshot that can be read, so which they are is not known"
        return [unknown("application_secrets", "the secrets of the applications were not looked at", why)]
    template = preflight.settings.app_secret_id
    names = {
        entry.application: entry.secret_name or template.replace("{app}", entry.application)
        for entry in preflight.declaration.entries
    }
    found = read_secrets(preflight.clients, names.values())
    host = preflight.administrator.host if preflight.administrator else ""
    return [_check_secret(entry, found[names[entry.application]], host) for entry in preflight.declaration.entries]


def _check_secret(entry: Entry, secret: Secret | Finding, host: str) -> Check:
    name = f"secret:{entry.application}"
    if isinstance(secret, Finding):
        return failed_by(name, [secret])
    parsed = parse_application_secret(secret.text, entry, secret.secret_id, host)
    if not isinstance(parsed, Credentials):
        return failed_by(name, parsed)
    if host and parsed.warnings:
        return ok(name, parsed.warnings[0].message, next_step=parsed.warnings[0].next_step)
    return ok(name, f'{secret.secret_id} is the login of "{entry.username}"')


def _asked(name: str, permission: str, check: Callable[[], Check]) -> Check:
    """A check by one call of AWS, which the function needs for preflight alone: refused, it is not known."""
    try:
        return check()
    except AwsError as failure:
        return unknown(name, f"AWS did not say: {failure.code}", next_step=failure.next_step(permission))
