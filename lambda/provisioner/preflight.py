"""Whether the function would work here: a request in, one line a check out, and that in the audit.

Each check says what it found by itself. What follows from another that failed is `unknown`, never left out, and no
check waits longer than its turn. Nothing is changed: what has to be written to be known is rolled back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import dataclass, field

from provisioner.audit_log import AuditLog
from provisioner.core import preflight as judge
from provisioner.core.credentials import Administrator, Credentials, parse_application_secret
from provisioner.core.errors import AuditUnavailable, Finding, ProvisioningError
from provisioner.core.model import Declaration, Outcome, Request, RunStatus, Settings, Status
from provisioner.core.preflight import (
    Check,
    CheckStatus,
    ServerFacts,
    failed,
    failed_by,
    is_ready,
    not_made,
    ok,
    unknown,
)
from provisioner.core.preflight_report import count_checks
from provisioner.core.snapshot import MAX_BYTES, parse_snapshot
from provisioner.edges import account_probe, server_probe
from provisioner.edges.aws import AwsClients, AwsError
from provisioner.edges.clock import Deadline, now_utc
from provisioner.edges.lock import find_run
from provisioner.edges.observe import Login
from provisioner.edges.postgres import ServerAddress, tls_context
from provisioner.edges.secret_store import read_secrets
from provisioner.edges.snapshot_store import read_snapshot
from provisioner.edges.sqlstates import SqlError
from provisioner.observation import connection_finding, enter
from provisioner.run_secrets import name_secrets, parse_administrator

# How long one answer of the server is waited for.
ANSWER_SECONDS = 10.0

SNAPSHOT = ("snapshot_bucket", "snapshot_versioning", "snapshot_events", "snapshot")
AUDIT = ("audit_bucket", "audit_versioning", "audit_object_lock", "audit_events", "audit_conditional_writes")
SERVER = (
    *("dns", "route", "tls", "login"),
    *("version", "writer", "rights", "administrator_database", "rds_iam", "public_schema"),
    *server_probe.CHANGES,
)

# How a check stands in the audit, where `success` is a change that was made.
_ROWS = {CheckStatus.OK: Status.NO_CHANGE, CheckStatus.FAILED: Status.ERROR, CheckStatus.UNKNOWN: Status.UNKNOWN}


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


def check_everything(
    request: Request, audit_log: AuditLog, seconds_left: Callable[[], float]
) -> tuple[RunStatus, Sequence[Check], tuple[Finding, ...]]:
    """Make every check and store the look; give back how it ended, the checks, and what is to be warned of.

    An audit that cannot be stored is one more check that failed: this answers on the worst of days.
    """
    preflight = Preflight(request, audit_log.settings, audit_log.clients, seconds_left)
    # Made before threads share them.
    _ = preflight.clients.s3, preflight.clients.secrets, preflight.clients.sns
    administrator = ("administrator_secret",)
    first = {SNAPSHOT: check_snapshots, AUDIT: check_audit, ("topic",): check_topic, administrator: check_administrator}
    then = {("application_secrets",): check_applications, SERVER: check_server}
    checks = [*_side_by_side(preflight, first), *_side_by_side(preflight, then)]
    now = now_utc()
    audit_log.record(Outcome("preflight", "", "", _ROWS[check.status], now, message=str(check)) for check in checks)
    audit_log.record_findings(preflight.warnings, action="warning", status=Status.WARNING)
    audit_log.plan_summary = count_checks(checks)
    checks.append(_store(checks, audit_log))
    status = RunStatus.READY if is_ready(checks) else RunStatus.NOT_READY
    return status, checks, (*preflight.warnings, *audit_log.findings)


def _side_by_side(
    preflight: Preflight, groups: Mapping[tuple[str, ...], Callable[[Preflight], list[Check]]]
) -> list[Check]:
    """Make groups of checks, by their names, at once; one that does not end in time is unknown and left behind."""
    pool = ThreadPoolExecutor(len(groups))
    started = {names: pool.submit(check, preflight) for names, check in groups.items()}
    deadline = time.monotonic() + preflight.seconds_left()
    found: list[Check] = []
    for names, group in started.items():
        try:
            found += group.result(timeout=max(0.0, deadline - time.monotonic()))
        except WaitedTooLong:
            found += [unknown(name, "no answer in the function's time") for name in names]
        except Exception as error:  # noqa: BLE001 - one check that breaks hides no other
            found += [unknown(name, f"the check itself broke ({type(error).__name__})") for name in names]
    pool.shutdown(wait=False, cancel_futures=True)
    return found


def _look(name: str, permission: str, check: Callable[..., Check], *about: object) -> Check:
    """Make one check; what it meets is its line. `permission` is the right that a call of AWS needs for it."""
    try:
        return check(*about, name)
    except AwsError as failure:
        # The function needs the right for preflight alone.
        return unknown(name, f"AWS did not say: {failure.code}", next_step=failure.next_step(permission))
    except ProvisioningError as error:
        return failed_by(name, error.findings)


def _store(checks: Sequence[Check], audit_log: AuditLog) -> Check:
    because = [check for check in checks if check.name == "audit_bucket" and check.status is not CheckStatus.OK]
    if because:
        # Nothing waits once more for a bucket that cannot be had.
        return failed("audit", "this look is in the log alone", f"{because[0].name} did not pass")
    try:
        return ok("audit", f"this look is in {audit_log.store().run} and in the trail")
    except AuditUnavailable as error:
        return failed_by("audit", error.findings)


# --- AWS ------------------------------------------------------------------------------------------------------------


def check_snapshots(preflight: Preflight) -> list[Check]:
    """The bucket of the snapshots, and the snapshot where there is one."""
    about = preflight.clients, preflight.settings.snapshot_bucket
    reached = account_probe.check_bucket(*about, preflight.settings.snapshot_bucket_owner, SNAPSHOT[0])
    if not is_ready([reached]):
        return [reached, *not_made(SNAPSHOT[1:], reached)]
    no_version = "a snapshot that has no version is refused"
    nobody = "a new snapshot then calls nobody; whether that is meant (ApplyOnSnapshot) is not known here"
    return [
        reached,
        _look("snapshot_versioning", "s3:GetBucketVersioning", account_probe.check_versioning, *about, no_version),
        _look("snapshot_events", "s3:GetBucketNotification", account_probe.check_events, *about, nobody, unknown),
        _look("snapshot", "s3:GetObject", _check_snapshot, preflight),
    ]


def check_audit(preflight: Preflight) -> list[Check]:
    """The bucket of the audit, in which approvals are put where the digest of a plan is required."""
    settings = preflight.settings
    about = preflight.clients, settings.audit_bucket
    reached = account_probe.check_bucket(*about, settings.audit_bucket_owner, AUDIT[0])
    if not is_ready([reached]):
        return [reached, *not_made(AUDIT[1:], reached)]
    gone, nobody = "what is overwritten or deleted is gone", "an approval that is put calls nobody"
    events = ok("audit_events", "no approvals are put in this environment, so that no events are needed")
    if settings.needs_approval_objects:
        events = _look("audit_events", "s3:GetBucketNotification", account_probe.check_events, *about, nobody, failed)
    return [
        reached,
        _look("audit_versioning", "s3:GetBucketVersioning", account_probe.check_versioning, *about, gone),
        _look("audit_object_lock", "s3:GetBucketObjectLockConfiguration", account_probe.check_lock, *about),
        events,
        account_probe.check_conditional_writes(*about, settings.audit_folder, AUDIT[-1]),
    ]


def _check_snapshot(preflight: Preflight, name: str) -> Check:
    reference = preflight.request.snapshot
    address = f"s3://{reference.bucket}/{reference.key}"
    try:
        snapshot = read_snapshot(preflight.clients, reference, max_bytes=MAX_BYTES)
    except ProvisioningError as error:
        if error.findings[0].code != "missing_snapshot":
            raise
        why = "which applications there are is not known yet"
        return unknown(name, f"there is none at {address}", why, "put the tfvars file there")
    file_name, settings = reference.key.rpartition("/")[2], preflight.settings
    preflight.declaration, warnings = parse_snapshot(
        snapshot.content, file_name, environment=settings.environment, template=settings.app_secret_id
    )
    preflight.warnings += warnings
    return ok(name, f"{address} declares {len(preflight.declaration.entries)} entries")


def check_topic(preflight: Preflight) -> list[Check]:
    """The topic that approvals, drift and failures are told to."""
    arn = preflight.settings.notify_topic_arn
    return [_look("topic", "sns:GetTopicAttributes", account_probe.check_topic, preflight.clients, arn)]


def check_administrator(preflight: Preflight) -> list[Check]:
    """The administrator's secret."""
    return [_look("administrator_secret", "", _check_administrator, preflight)]


def _check_administrator(preflight: Preflight, name: str) -> Check:
    secret_id = preflight.settings.admin_secret_id
    found = parse_administrator(read_secrets(preflight.clients, [secret_id])[secret_id], preflight.settings)
    preflight.administrator = found
    where = f"{found.host}:{found.port}, database {found.database}"
    return ok(name, f'{secret_id} is the login of "{found.username}" at {where}')


def check_applications(preflight: Preflight) -> list[Check]:
    """The secret of each declared application."""
    if preflight.declaration is None:
        why = "there is no snapshot that can be read, so which they are is not known"
        return [unknown("application_secrets", "the secrets of the applications were not looked at", why)]
    names = name_secrets(preflight.declaration, preflight.settings)
    found = read_secrets(preflight.clients, names.values())
    host = preflight.administrator.host if preflight.administrator else ""
    checks = []
    for entry in preflight.declaration.entries:
        name, secret = f"secret:{entry.application}", found[names[entry.application]]
        if isinstance(secret, Finding):
            checks.append(failed_by(name, [secret]))
            continue
        parsed = parse_application_secret(secret.text, entry, secret.secret_id, host)
        if not isinstance(parsed, Credentials):
            checks.append(failed_by(name, parsed))
        elif host and parsed.warnings:
            checks.append(ok(name, parsed.warnings[0].message, next_step=parsed.warnings[0].next_step))
        else:
            checks.append(ok(name, f'{secret.secret_id} is the login of "{entry.username}"'))
    return checks


# --- the server -----------------------------------------------------------------------------------------------------


def check_server(preflight: Preflight) -> list[Check]:
    """The way to the server, where each step stands on the one before; then what it is and what it lets us do."""
    administrator, ca_bundle = preflight.administrator, preflight.settings.ca_bundle
    if administrator is None:
        return not_made(SERVER, failed("administrator_secret", ""))
    deadline = Deadline(preflight.seconds_left, at_most=ANSWER_SECONDS)
    checks = server_probe.walk(administrator.host, administrator.port, ca_bundle, deadline)
    if not is_ready(checks):
        return [*checks, *not_made(SERVER[len(checks) :], checks[-1])]
    address = ServerAddress(administrator.host, administrator.port, tls_context(ca_bundle), deadline)
    login = Login(address, administrator.username, administrator.password, administrator.database)
    try:
        with enter(login) as connection:
            checks.append(ok("login", f'"{login.username}" logs in, and the server knows the password too'))
            facts, run = server_probe.read_facts(connection), find_run(connection)
            preflight.warnings += [run] if run else []
            checks += judge.check_facts(facts)
            checks.append(_check_public_schema(login, facts))
            if facts.is_standby:
                writer = next(check for check in checks if check.name == "writer")
                return [*checks, *not_made(server_probe.CHANGES, writer)]
            checks += server_probe.try_changes(connection, facts)
    except (SqlError, ProvisioningError) as error:
        name = SERVER[len(checks)]
        if name != "login":
            checks.append(unknown(name, f"the server broke off: {error}"))
        elif isinstance(error, SqlError):
            checks.append(failed_by(name, [connection_finding(login, error)]))
        else:
            checks.append(failed_by(name, error.findings))
    return [*checks, *not_made(SERVER[len(checks) :], checks[-1])]


def _check_public_schema(login: Login, facts: ServerFacts) -> Check:
    """By template1: a new database is made from template0, which lets nobody in, and is its twin unless changed."""
    try:
        with login.connect("template1") as connection:
            public = server_probe.read_public_schema(connection)
    except (SqlError, ProvisioningError) as error:
        return unknown("public_schema", f"template1 does not let us in: {error}")
    if public is None:
        return ok("public_schema", 'template1 has no schema "public"')
    return judge.check_public_schema(public, facts)
