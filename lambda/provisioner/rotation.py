"""A run that a changed secret has caused: its whole plan in, what of it may be done without anybody's approval out."""

from __future__ import annotations

from dataclasses import replace

from provisioner.audit_log import AuditLog
from provisioner.core.credentials import parse_application_secret
from provisioner.core.errors import SecretUnavailable
from provisioner.core.gate import needs_approval
from provisioner.core.model import Request, Status, Trigger
from provisioner.core.ownership import Ownership
from provisioner.core.plan import Plan
from provisioner.core.rotation import keep_passwords, roles_of, unproved
from provisioner.core.state import PasswordCheck
from provisioner.edges.probe import probe_login
from provisioner.edges.secret_store import read_previous
from provisioner.run_secrets import RunSecrets


def follow_secret(
    request: Request, plan: Plan, ownership: Ownership, secrets: RunSecrets, audit_log: AuditLog
) -> tuple[Request, Plan]:
    """The new passwords of a plan, and the request that brings them; in a gated environment only those that are proved.

    Proved is that the server's present password is the one that the same secret held before: whoever declares another
    secret for a role would have to know the role's password already. What is not proved is planned like a new snapshot,
    and waits for an approval.
    """
    if request.trigger is not Trigger.SECRET_EVENT:
        return request, plan
    roles = roles_of(request.secret, ownership.declaration, audit_log.settings.app_secret_id)
    passwords = keep_passwords(plan, roles, ownership.secret_problems)
    if needs_approval(audit_log.settings):
        doubtful = [
            each.username for each in passwords.changes if not _is_proved(each.username, ownership, secrets, audit_log)
        ]
        if doubtful:
            warnings = (*plan.warnings, *map(unproved, doubtful))
            return replace(request, trigger=Trigger.SNAPSHOT_EVENT), replace(plan, warnings=warnings)
    others = replace(plan, changes=passwords.left, blockers=(), warnings=(), unchanged=(), unknown=())
    audit_log.record_plan(others, Status.SKIPPED)
    audit_log.plan_digest = passwords.digest
    return request, passwords


def _is_proved(role: str, ownership: Ownership, secrets: RunSecrets, audit_log: AuditLog) -> bool:
    secret = secrets.credentials[role].secret
    before = replace(secret, text=read_previous(audit_log.clients, secret.arn))
    entry = ownership.declaration.by_role[role][0]
    try:
        previous = parse_application_secret(before, entry, secrets.login.address.host)
    except SecretUnavailable:
        return False
    facts = ownership.server.roles[role]
    return probe_login(secrets.login.address, previous, facts) is PasswordCheck.CURRENT
