"""Whether the function would work here: a request in, one line a check out, and that in the audit.

Each check says what it found by itself. What follows from another that failed is `unknown`, never left out. Nothing is
changed: what has to be written to be known is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from provisioner.audit_log import AuditLog
from provisioner.core.credentials import Administrator, parse_administrator_secret
from provisioner.core.errors import (
    AuditUnavailable,
    DatabaseUnavailable,
    Finding,
    OutOfTime,
    ProvisioningError,
    SecretUnavailable,
)
from provisioner.core.model import Declaration, Outcome, Request, RunStatus, Settings, Status
from provisioner.core.plan import Plan
from provisioner.core.preflight import Check, CheckStatus, count_checks, failed, failed_by, is_ready, ok, unknown
from provisioner.core.report import RunResult
from provisioner.core.snapshot import parse_snapshot
from provisioner.edges import account_probe, server_probe
from provisioner.edges.aws import AwsClients, AwsError, translate_errors
from provisioner.edges.clock import Deadline, now_utc
from provisioner.edges.lock import find_run
from provisioner.edges.postgres import Login, ServerAddress, reach, tls_context
from provisioner.edges.secret_store import has_pending_rotation, read_secrets
from provisioner.edges.server_findings import OUT_OF_TIME
from provisioner.edges.snapshot_store import read_snapshot
from provisioner.edges.sqlstates import SqlError
from provisioner.observation import enter
from provisioner.run_secrets import parse_secrets

# How a check stands in the audit, where `success` is a change that was made.
_ROWS = {CheckStatus.OK: Status.NO_CHANGE, CheckStatus.FAILED: Status.ERROR, CheckStatus.UNKNOWN: Status.UNKNOWN}


@dataclass
class Preflight:
    """What all checks share; what one found that others build on is kept here."""

    request: Request
    settings: Settings
    clients: AwsClients
    deadline: Deadline
    declaration: Declaration | None = None
    administrator: Administrator | None = field(default=None, repr=False)
    warnings: list[Finding] = field(default_factory=list)


# The names of checks, in their order, by what makes them; one that ends early leaves the rest of its names unknown.
Groups = Mapping[Callable[[Preflight], Iterator[Check]], Sequence[str]]


def check_everything(request: Request, audit_log: AuditLog, deadline: Deadline) -> RunResult:
    """Make every check and store the look.

    An audit that cannot be stored is one more check that failed: this answers on the worst of days.
    """
    preflight = Preflight(request, audit_log.settings, audit_log.clients, deadline)
    # Made before threads share them.
    _ = preflight.clients.s3, preflight.clients.secrets, preflight.clients.sns
    checks = [*_side_by_side(preflight, FIRST), *_side_by_side(preflight, THEN)]
    now = now_utc()
    audit_log.record(
        Outcome("preflight", "", "", _ROWS[check.status], now, message=f"{check.name}: {check.text}")
        for check in checks
    )
    audit_log.record_findings(preflight.warnings, action="warning", status=Status.WARNING)
    audit_log.plan_summary = count_checks(checks)
    checks.append(_store(checks, audit_log))
    status = RunStatus.READY if is_ready(checks) else RunStatus.NOT_READY
    plan = Plan(request.environment, warnings=(*preflight.warnings, *audit_log.findings))
    return RunResult(status, plan, checks=checks)


def _side_by_side(preflight: Preflight, groups: Groups) -> list[Check]:
    """Make groups of checks at once; what does not end in time is unknown and left behind."""
    pool, found = ThreadPoolExecutor(len(groups)), [list[Check]() for _ in groups]
    started = [pool.submit(_make, *each, preflight, made) for each, made in zip(groups.items(), found, strict=True)]
    wait(started, timeout=max(0.0, preflight.deadline.seconds_left()))
    pool.shutdown(wait=False, cancel_futures=True)
    late = "not looked at", "no answer in the function's time", OUT_OF_TIME.next_step
    return [
        check
        for made, names in zip(map(list, found), groups.values(), strict=True)
        for check in (*made, *(unknown(name, *late) for name in names[len(made) :]))
    ]


def _make(
    check: Callable[[Preflight], Iterator[Check]], names: Sequence[str], preflight: Preflight, found: list[Check]
) -> None:
    """Put what a group finds into `found`, check by check."""
    try:
        for each in check(preflight):
            found.append(each)  # noqa: PERF402 - what was found before an error, or before time was up, is kept
    except Exception as error:  # noqa: BLE001 - one check that breaks hides no other
        found.append(_broken(names[min(len(found), len(names) - 1)], error))
    because = next((each.name for each in found if each.status is CheckStatus.FAILED), found[-1].name)
    found += _standing_on(because, names[len(found) :])


def _standing_on(because: str, names: Sequence[str]) -> list[Check]:
    return [unknown(name, "not looked at", f"{because} did not pass", f"see to {because} first") for name in names]


def _broken(name: str, error: Exception) -> Check:
    """What ended a group of checks, as the line of the one that met it."""
    if isinstance(error, ProvisioningError) and not isinstance(error, OutOfTime):
        return failed_by(name, error.findings)
    why, next_step = f"the check itself broke ({type(error).__name__})", "tell who maintains it"
    if isinstance(error, (SqlError, OutOfTime)):
        why = f"the server broke off: {error}"
        next_step = error.next_step if isinstance(error, SqlError) else OUT_OF_TIME.next_step
    return unknown(name, "not looked at", why, next_step)


def _store(checks: Sequence[Check], audit_log: AuditLog) -> Check:
    if any(check.name == "audit_bucket" and check.status is not CheckStatus.OK for check in checks):
        # Nothing waits once more for a bucket that cannot be had.
        return failed(
            "audit", "this look is in the log alone", "audit_bucket did not pass", "see to audit_bucket first"
        )
    try:
        return ok("audit", f"this look is in {audit_log.store().run} and in the trail")
    except AuditUnavailable as error:
        return failed_by("audit", error.findings)


# --- AWS ------------------------------------------------------------------------------------------------------------


def _look(name: str, permission: str, check: Callable[..., Check], *about: object) -> Check:
    """Make one check of AWS for which the function needs a right for preflight alone; without it the rest goes on."""
    try:
        with translate_errors():
            return check(name, *about)
    except AwsError as failure:
        return unknown(name, "not looked at", f"AWS did not say: {failure.code}", failure.next_step(permission))


def check_snapshots(preflight: Preflight) -> Iterator[Check]:
    about = preflight.clients, preflight.settings.snapshot_bucket
    yield (reached := account_probe.check_bucket("snapshot_bucket", *about))
    if reached.status is not CheckStatus.OK:
        return
    yield _look("snapshot_versioning", "s3:GetBucketVersioning", account_probe.check_versioning, *about)
    why = "a new snapshot then calls nobody; whether that is meant (ApplyOnSnapshot) is not known here"
    yield _look("snapshot_events", "s3:GetBucketNotification", account_probe.check_events, *about, why, unknown)
    yield _check_snapshot(preflight)


def _check_snapshot(preflight: Preflight) -> Check:
    reference = preflight.request.snapshot
    address = f"s3://{reference.bucket}/{reference.key}"
    try:
        snapshot = read_snapshot(preflight.clients, reference)
    except ProvisioningError as error:
        if error.findings[0].code != "missing_snapshot":
            raise
        why = "which applications there are is not known yet"
        return unknown("snapshot", f"there is none at {address}", why, "put the tfvars file there")
    file_name, settings = reference.key.rpartition("/")[2], preflight.settings
    preflight.declaration, warnings = parse_snapshot(
        snapshot.content, file_name, environment=settings.environment, template=settings.app_secret_id
    )
    preflight.warnings += warnings
    return ok("snapshot", f"{address} declares {len(preflight.declaration.entries)} entries")


def check_audit(preflight: Preflight) -> Iterator[Check]:
    """The bucket of the audit, in which approvals are put where the digest of a plan is required."""
    settings = preflight.settings
    about = preflight.clients, settings.audit_bucket
    yield (reached := account_probe.check_bucket("audit_bucket", *about))
    if reached.status is not CheckStatus.OK:
        return
    yield _look("audit_versioning", "s3:GetBucketVersioning", account_probe.check_versioning, *about)
    yield _look("audit_object_lock", "s3:GetBucketObjectLockConfiguration", account_probe.check_lock, *about)
    if settings.needs_approval_objects:
        why = "an approval that is put calls nobody"
        yield _look("audit_events", "s3:GetBucketNotification", account_probe.check_events, *about, why, failed)
    else:
        yield ok("audit_events", "no approvals are put in this environment, so that no events are needed")
    yield account_probe.check_conditional_writes("audit_conditional_writes", *about, settings.audit_folder)


def check_topic(preflight: Preflight) -> Iterator[Check]:
    about = preflight.clients, preflight.settings.notify_topic_arn
    yield _look("topic", "sns:GetTopicAttributes", account_probe.check_topic, *about)


def check_administrator(preflight: Preflight) -> Iterator[Check]:
    secret_id = preflight.settings.admin_secret_id
    found = parse_administrator_secret(read_secrets(preflight.clients, [secret_id])[secret_id], preflight.settings)
    preflight.administrator = found
    where = f"{found.host}:{found.port}, database {found.database}"
    yield ok("administrator_secret", f'{secret_id} is the login of "{found.username}" at {where}')


def check_applications(preflight: Preflight) -> Iterator[Check]:
    if preflight.declaration is None:
        why = "there is no snapshot that can be read, so which they are is not known"
        yield unknown("application_secrets", "not looked at", why, "see to snapshot first")
        return
    if not preflight.declaration.entries:
        yield ok("application_secrets", "no application is declared")
    named = preflight.declaration.secrets(preflight.settings.app_secret_id)
    found = read_secrets(preflight.clients, [secret_id for _, secret_id in named])
    host = preflight.administrator.host if preflight.administrator else ""
    roles, problems = parse_secrets(named, found, host)
    for entry, secret_id in named:
        name = f"secret:{entry.application}"
        credentials = roles.get(entry.username)
        if credentials is None:
            its = [each for each in problems if each.username == entry.username]
            yield failed_by(name, [each for each in its if each.database in {"", entry.database}] or its)
            continue
        try:
            has_pending_rotation(preflight.clients, secret_id, credentials.secret.version_id)
        except SecretUnavailable as error:
            yield failed_by(name, error.findings)
            continue
        if host and credentials.warnings:
            yield ok(name, credentials.warnings[0].message, next_step=credentials.warnings[0].next_step)
        else:
            yield ok(name, f'{secret_id} is the login of "{entry.username}"')


# --- the server -----------------------------------------------------------------------------------------------------


def check_server(preflight: Preflight) -> Iterator[Check]:
    """The way to the server, where each step stands on the one before; then what it is and what it lets us do."""
    administrator, deadline = preflight.administrator, preflight.deadline
    if administrator is None:
        yield from _standing_on("administrator_secret", THEN[check_server])
        return
    host, port = administrator.host, administrator.port
    yield ok("dns", f"{host} is {', '.join(server_probe.resolve(host, port)[:5])}")
    reach(host, port, deadline).close()
    yield ok("route", f"{host}:{port} takes connections")
    address = ServerAddress(host, port, tls_context(preflight.settings.ca_bundle), deadline)
    login = Login(address, administrator.username, administrator.password, administrator.database)
    is_trusted = f"{address} shows a certificate for its name"
    try:
        connection = enter(login)
    except DatabaseUnavailable as error:
        if error.findings[0].code not in {"unreachable", "untrusted"}:
            yield ok("tls", is_trusted)
        raise
    yield ok("tls", is_trusted)
    with connection:
        yield ok("login", f'"{login.username}" logs in, and the server knows the password too')
        preflight.warnings += find_run(connection)
        yield server_probe.check_version(connection.version)
        yield from (server_probe.ask(name, connection) for name in server_probe.QUESTIONS)
        yield _check_public_schema(login)
        if server_probe.ask("writer", connection).status is CheckStatus.OK:
            yield from (server_probe.try_change(name, connection) for name in server_probe.CHANGES)


def _check_public_schema(login: Login) -> Check:
    """In template1: a new database is made from template0, which lets nobody in, and is its twin unless changed."""
    try:
        with login.connect("template1") as template:
            return server_probe.check_public_schema(template)
    except DatabaseUnavailable as error:
        return failed_by("public_schema", error.findings)
    except SqlError as error:
        if error.is_limit_of_role:
            why = "an apply has a session in each database, beside its first"
            return failed("public_schema", f"no second session: {error}", why, error.next_step)
        next_step = "as the owner of template1: GRANT CONNECT ON DATABASE template1 TO the administrator"
        return unknown("public_schema", "not looked at", f"template1 does not let us in: {error}", next_step)


FIRST: Groups = {
    check_snapshots: ("snapshot_bucket", "snapshot_versioning", "snapshot_events", "snapshot"),
    check_audit: ("audit_bucket", "audit_versioning", "audit_object_lock", "audit_events", "audit_conditional_writes"),
    check_topic: ("topic",),
    check_administrator: ("administrator_secret",),
}
# What stands on the snapshot and the administrator's secret.
THEN: Groups = {
    check_applications: ("application_secrets",),
    check_server: (
        *("dns", "route", "tls", "login", "version"),
        *server_probe.QUESTIONS,
        *("public_schema", *server_probe.CHANGES),
    ),
}
