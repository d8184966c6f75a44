"""What was applied in, nothing out where the server shows all of it: otherwise the error that says what it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from provisioner.core.errors import ApplyFailed, Finding, OutOfTime, PlanBlocked, PlanChanged
from provisioner.core.model import Status
from provisioner.core.ownership import Ownership
from provisioner.core.plan import Plan
from provisioner.core.proof import verify_roles_and_markers
from provisioner.core.state import PasswordCheck, Role
from provisioner.edges.leaving_catalogs import observe_leaving
from provisioner.edges.postgres import Connection, Login
from provisioner.edges.probe import probe_login
from provisioner.edges.server_catalogs import observe_server
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.unit_results import ApplyResult
from provisioner.observation import connection_finding
from provisioner.run_secrets import RunSecrets


def probe_new_password(ownership: Ownership, secrets: RunSecrets, role: str) -> PasswordCheck:
    facts = ownership.server.roles.get(role) or Role(role)
    return probe_login(secrets.login.address, secrets.credentials[role], facts)


def verify_after_apply(
    ownership: Ownership, plan: Plan, applied: ApplyResult, login: Login, session: Connection
) -> None:
    """Raise unless every change was made and the server, asked again, says so too.

    Raises:
        ApplyFailed: a change failed, or a role is not as declared after all.
        OutOfTime: databases, or logins that prove a password, were left for the next run.
        PlanBlocked, PlanChanged: some changes were blocked, or not approved; all others are made and proved.
    """
    failures, out_of_time = applied.failures, applied.out_of_time
    if not out_of_time:
        try:
            failures += _look_again(ownership, plan, applied, login, session)
        except OutOfTime:
            out_of_time = True
    if failures:
        raise ApplyFailed((*failures, *plan.unapproved, *plan.blockers))
    if out_of_time:
        raise OutOfTime((_out_of_time(applied), *plan.unapproved, *plan.blockers))
    if plan.unapproved:
        raise PlanChanged((*plan.unapproved, *plan.blockers))
    if plan.blockers:
        raise PlanBlocked(plan.blockers)


def _out_of_time(applied: ApplyResult) -> Finding:
    counts = Counter(outcome.status for outcome in applied.outcomes)
    left, cut_off = counts[Status.SKIPPED], counts[Status.ERROR]
    what = f"{left} changes were not begun, of {cut_off} the server's answer was not heard, all others are done"
    if not left and not cut_off:
        what = "not every new password was proved, or what was done was not looked at again"
    message = f"the function's time was nearly up: {what}"
    return Finding("out_of_time", message, "call again: the next run continues where this one ended")


def _look_again(
    ownership: Ownership, plan: Plan, applied: ApplyResult, login: Login, session: Connection
) -> tuple[Finding, ...]:
    """What the server, observed once more, does not show of the changes that were made."""
    made = {item.identity for item in applied.outcomes if item.is_success}
    if not made:
        return ()
    try:
        server = observe_server(session, ownership.by_database.keys())
        leaving = observe_leaving(session, server, ownership.leaving)
    except SqlError as error:
        return (connection_finding(login, error),)
    passwords = {role: check for role, check in applied.logins.items() if check is not None}
    server = replace(server, passwords=passwords)
    return verify_roles_and_markers(
        replace(ownership, server=server, leaving=leaving),
        made=[change for change in plan.changes if change.identity in made],
        left=[*(change for change in plan.changes if change.identity not in made), *plan.left],
    )
