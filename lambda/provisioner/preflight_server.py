"""The server as preflight sees it: the administrator's login in, one line for each check of it out."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from functools import partial
from typing import TYPE_CHECKING

from provisioner.core import preflight as report
from provisioner.core.credentials import scram_verifier
from provisioner.core.errors import Finding, OutOfTime, ProvisioningError
from provisioner.core.preflight import Check, failed, failed_by, not_made, ok, unknown
from provisioner.edges import server_probe
from provisioner.edges.lock import find_run
from provisioner.edges.observe import Login
from provisioner.edges.postgres import Connection, ServerAddress, tls_context
from provisioner.edges.sqlstates import SqlError
from provisioner.observation import connection_finding

if TYPE_CHECKING:
    from provisioner.core.credentials import Administrator
    from provisioner.core.preflight import PublicSchema, ServerFacts
    from provisioner.edges.clock import Deadline

SALT_BYTES = 16

WAY = ("dns", "route", "tls", "login")
SERVER = ("version", "writer", "rights", "administrator_database", "rds_iam", "public_schema")
CHANGES = ("verifiers", "temporary_membership", "default_privileges")


def check_server(administrator: Administrator, ca_bundle: str, deadline: Deadline) -> tuple[list[Check], list[Finding]]:
    """Walk to the server and look at it; each step of the way stands on the one before.

    `deadline` says until when an answer is waited for. The findings are warnings: that a run is at work.
    """
    names = (*WAY, *SERVER, *CHANGES)
    checks: list[Check] = []
    for check in (_check_dns, _check_route, partial(_check_tls, ca_bundle)):
        checks.append(check(administrator, deadline))
        if not report.is_ready(checks):
            return [*checks, *not_made(names[len(checks) :], checks[-1])], []
    address = ServerAddress(administrator.host, administrator.port, tls_context(ca_bundle), deadline)
    login = Login(address, administrator.username, administrator.password, administrator.database)
    try:
        connection = login.connect()
    except (SqlError, ProvisioningError) as error:
        findings = [connection_finding(login, error)] if isinstance(error, SqlError) else error.findings
        refused = failed_by("login", findings)
        return [*checks, refused, *not_made(names[len(WAY) :], refused)], []
    with connection:
        checks.append(ok("login", f'"{administrator.username}" logs in, and the server knows the password too'))
        found, warnings = _check_session(login, connection)
        return [*checks, *found], warnings


def _check_dns(administrator: Administrator, deadline: Deadline) -> Check:
    pool = ThreadPoolExecutor(1)
    asked = pool.submit(server_probe.resolve, administrator.host, administrator.port)
    try:
        # The resolver has no timeout of its own.
        addresses = asked.result(timeout=deadline.seconds_left())
    except (OSError, UnicodeError, WaitedTooLong) as error:
        reason = "no answer in time" if isinstance(error, WaitedTooLong) else "the name does not resolve"
        next_step = "correct the host in the administrator's secret or DB_HOST; see the DNS settings of the VPC"
        return failed("dns", f"{administrator.host}: {reason}", next_step=next_step)
    finally:
        pool.shutdown(wait=False)
    return ok("dns", f"{administrator.host} is {', '.join(addresses[:5])}")


def _check_route(administrator: Administrator, deadline: Deadline) -> Check:
    where = f"{administrator.host}:{administrator.port}"
    try:
        server_probe.reach(administrator.host, administrator.port, deadline.seconds_left())
    except OSError as error:
        next_step = "see the security groups of function and instance, the port, and whether the instance is available"
        return failed("route", f"{where}: {server_probe.why_unreachable(error)}", next_step=next_step)
    return ok("route", f"{where} takes connections")


def _check_tls(ca_bundle: str, administrator: Administrator, deadline: Deadline) -> Check:
    where = f"{administrator.host}:{administrator.port}"
    try:
        address = ServerAddress(administrator.host, administrator.port, tls_context(ca_bundle), deadline)
        return ok("tls", f"{where} shows a certificate for its name: {server_probe.shake_hands(address)}")
    except ProvisioningError as error:
        return failed_by("tls", error.findings)
    except OSError as error:
        next_step = "check that the host is the instance's own name, and that the certificate bundle is current"
        return failed("tls", f"{where}: {server_probe.why_unreachable(error)}", "no password was sent", next_step)


def _check_session(login: Login, connection: Connection) -> tuple[list[Check], list[Finding]]:
    try:
        facts = server_probe.read_facts(connection)
        run = find_run(connection)
    except (SqlError, OutOfTime) as error:
        return [unknown(name, f"the server broke off: {error}") for name in (*SERVER, *CHANGES)], []
    warnings = [run] if run else []
    checks = [
        report.check_version(facts),
        report.check_writer(facts),
        report.check_rights(facts),
        report.check_administrator_database(facts),
        report.check_iam(facts),
        _check_public_schema(login, facts),
    ]
    if facts.is_standby:
        return [*checks, *not_made(CHANGES, checks[1])], warnings
    return [*checks, *_check_changes(connection, facts)], warnings


def _check_public_schema(login: Login, facts: ServerFacts) -> Check:
    """By template1: a new database is made from template0, which lets nobody in, and is its twin unless changed."""
    public: PublicSchema | None
    try:
        with login.connect("template1") as connection:
            public = server_probe.read_public_schema(connection)
    except (SqlError, ProvisioningError) as error:
        return unknown("public_schema", f"template1 does not let us in: {error}")
    if public is None:
        return ok("public_schema", 'template1 has no schema "public"')
    return report.check_public_schema(public, facts)


def _check_changes(connection: Connection, facts: ServerFacts) -> list[Check]:
    role = f"rds-provisioner preflight {secrets.token_hex(8)}"
    verifier = scram_verifier(secrets.token_urlsafe(32), os.urandom(SALT_BYTES))
    try:
        found = server_probe.try_changes(connection, role, verifier)
    except OutOfTime:
        return [unknown(name, "no answer in time") for name in CHANGES]
    worked = {
        "verifiers": "a role is created with a SCRAM verifier",
        "temporary_membership": "the administrator makes itself a member of a role and takes that back",
        "default_privileges": "default privileges of a role are set by a member of it",
    }
    return [_judge_change(name, what, found, facts) for name, what in worked.items()]


def _judge_change(name: str, what: str, found: server_probe.Tried, facts: ServerFacts) -> Check:
    if name not in found:
        return unknown(name, "not tried", "what it stands on was refused before, or the connection was lost")
    error = found[name] or (found.get("temporary_membership_back") if name == "temporary_membership" else None)
    if error is None:
        return ok(name, f"{what}; it was rolled back")
    next_step = report.explain_password_refusal(facts) if name == "verifiers" else error.next_step
    return failed(name, f"the server refused it: {error}", f"an apply needs that {what}", next_step)
