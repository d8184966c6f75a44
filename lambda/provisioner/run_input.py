"""A request in, what is declared, every secret and a connection out; everything that is refused before the look."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from hashlib import sha256

from provisioner.approvals import find_evidence
from provisioner.audit_log import AuditLog
from provisioner.core.declaration import refuse_administrator_login
from provisioner.core.errors import Finding, InvalidRequest, InvalidSnapshot, SecretUnavailable
from provisioner.core.gate import may_change
from provisioner.core.model import Declaration, Mode, Request, Trigger
from provisioner.core.rotation import ignored, roles_of
from provisioner.core.snapshot import parse_snapshot
from provisioner.core.stored_plan import read_asked
from provisioner.core.text import join_names
from provisioner.edges.clock import Deadline
from provisioner.edges.lock import application_name
from provisioner.edges.snapshot_store import read_snapshot
from provisioner.observation import Session, connect_and_lock
from provisioner.run_secrets import RunSecrets, load_secrets
from provisioner.telemetry import logger

# How long a call waits for another run, and the share of its function's time that an event waits, which nobody would
# send again: Lambda gives it three tries, which outlast any run of the same function, and what is left is enough for
# the work or most of it.
LOCK_SECONDS = 5.0
WAITING_SHARE = 0.6


class NotConcerned(Exception):
    """An event about something that this environment does not declare; nothing is wrong, and nothing was looked at."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.findings = (finding,)


def read_and_connect(
    request: Request, audit_log: AuditLog, deadline: Deadline, lock: ExitStack
) -> tuple[Request, Declaration, RunSecrets, Session, tuple[Finding, ...]]:
    """Read what is declared and every secret, then connect, with the lock where the run may change something.

    The request comes back with what was asked for the plan, where it is that of an approval that was put.
    """
    read = partial(_read_input, request, audit_log, deadline)
    request, declaration, secrets, warnings = read()
    seconds = deadline.seconds_left() * WAITING_SHARE
    session = connect_and_lock(
        secrets.login,
        min(seconds, LOCK_SECONDS) if request.trigger is Trigger.DIRECT else seconds,
        partial(read_snapshot, audit_log.clients, request.snapshot),
        with_lock=may_change(request, audit_log.settings),
    )
    lock.enter_context(session.connection)
    if session.has_waited:
        # What the run before knew may be newer than what this one has read.
        request, declaration, secrets, warnings = read()
    login = replace(secrets.login, version=session.connection.version, session=application_name(session.session_id))
    return request, declaration, replace(secrets, login=login), session, (*warnings, *session.warnings)


def _read_input(
    request: Request, audit_log: AuditLog, deadline: Deadline
) -> tuple[Request, Declaration, RunSecrets, tuple[Finding, ...]]:
    """What is declared and every secret, with what is to be warned of; all refusals of them come from here."""
    declaration, warnings = _load_snapshot(request, audit_log)
    if request.trigger is Trigger.APPROVAL_EVENT:
        plans = find_evidence(audit_log, request.approval.plan_digest).plans
        asked = read_asked((each.content for each in plans), request.environment)
        audit_log.request = request = replace(request, **asked)  # type: ignore[arg-type]
    if request.secret and not roles_of(request.secret, declaration, audit_log.settings.app_secret_id):
        raise NotConcerned(ignored(request.secret, f"it is none of an entry of {request.environment}"))
    _refuse_unknown_adoptions(request, declaration)
    # A report of access logs in as nobody but the administrator.
    needs_secrets = replace(declaration, entries=()) if request.mode is Mode.ACCESS else declaration
    secrets = load_secrets(needs_secrets, audit_log.settings, audit_log.clients, deadline)
    # One secret that changed is not kept waiting by another that is broken; what is broken is a blocker then.
    if secrets.problems and request.mode is not Mode.DRY_RUN and not request.secret:
        raise SecretUnavailable(secrets.problems)
    refuse_administrator_login(declaration, secrets.login.username)
    return request, declaration, secrets, (*warnings, *secrets.warnings)


def _load_snapshot(request: Request, audit_log: AuditLog) -> tuple[Declaration, tuple[Finding, ...]]:
    parse = partial(parse_snapshot, environment=request.environment, template=audit_log.settings.app_secret_id)
    if request.snapshot.inline is not None:
        audit_log.snapshot_sha256 = sha256(request.snapshot.inline).hexdigest()
        return parse(request.snapshot.inline, request.snapshot.key)
    try:
        snapshot = read_snapshot(audit_log.clients, request.snapshot)
    except InvalidSnapshot as error:
        if not request.secret or error.findings[0].code != "missing_snapshot":
            raise
        raise NotConcerned(ignored(request.secret, "there is no snapshot yet")) from None
    audit_log.snapshot_version, audit_log.snapshot_sha256 = snapshot.version_id, snapshot.sha256
    logger.info("snapshot", extra={"version_id": snapshot.version_id, "sha256": snapshot.sha256})
    return parse(snapshot.content, request.snapshot.key.rpartition("/")[2])


def _refuse_unknown_adoptions(request: Request, declaration: Declaration) -> None:
    unknown = sorted(set(request.adopt) - {entry.application for entry in declaration.entries})
    if unknown:
        message = f"adopt names what the snapshot does not declare: {join_names(unknown)}"
        raise InvalidRequest(Finding("adopt", message, "name keys of application_databases", "adopt"))
