"""Who can do what: the administrator's session and the snapshot in, the report stored; reads only, beside any run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provisioner.audit_log import AuditLog
from provisioner.core import keys
from provisioner.core.access_html import render_html
from provisioner.core.access_report import (
    AccessReport,
    DatabaseFact,
    RoleFact,
    compare,
    parse_report,
    reasons,
    render_csv,
    render_json,
)
from provisioner.core.audit import read_csv
from provisioner.core.errors import Finding
from provisioner.core.leaving import is_quarantined
from provisioner.core.model import Declaration, Outcome, RunStatus, Status
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.plan import Plan
from provisioner.core.report import RunResult
from provisioner.core.state import Server
from provisioner.core.text import join_names
from provisioner.edges.access_catalogs import read_access
from provisioner.edges.clock import now_utc
from provisioner.edges.postgres import Login
from provisioner.edges.server_catalogs import observe_server
from provisioner.observation import Session, count_workers, own_session

# How many stored reports are tried as the one before, and how large one may be.
MAX_TRIED, MAX_REPORT_BYTES = 3, 24 * 1024 * 1024


def report_access(
    declaration: Declaration, login: Login, session: Session, warnings: Iterable[Finding], audit_log: AuditLog
) -> RunResult:
    """Look, and store the report in three formats.

    Raises:
        DatabaseUnavailable: the server broke off, is a standby, or is too old.
        OutOfTime: there was not time enough to look at everything that is declared.
        AuditUnavailable: the report could not be stored.
    """
    with own_session(login):
        server = observe_server(session.connection, declaration.by_database)
    ownership = Ownership(declaration, server, audit_log.settings.environment)
    report = _with_difference(_look(login, ownership, audit_log), audit_log)
    unknown = [_unknown(each) for each in report.databases if each.unknown]
    if missing := sorted(declaration.by_database.keys() - server.databases.keys()):
        message = f"nobody can do anything in what is declared and not on the server: {join_names(missing)}"
        unknown.append(Finding("access_not_there", message, "apply the snapshot; then ask again"))
    report = replace(report, warnings=tuple(sorted({*report.warnings, *warnings, *unknown})))
    _store(report, audit_log)
    _record(report, audit_log)
    plan = Plan(audit_log.settings.environment, warnings=report.warnings)
    return RunResult(RunStatus.REPORTED, plan, text=report.text())


def _look(login: Login, ownership: Ownership, audit_log: AuditLog) -> AccessReport:
    server, environment, databases = ownership.server, ownership.environment, ownership.by_database
    ours = [each for each in server.databases.values() if each.name in databases or has_marker(each, environment)]
    found = read_access(login, ours, ownership, count_workers(server, audit_log.settings))
    rows = tuple(row for _, told, _ in found for row in told)
    trail = audit_log.bucket.get(keys.trail(audit_log.bucket.folder))
    return AccessReport(
        about=_about(server, audit_log),
        databases=tuple(
            DatabaseFact(
                each.name, each.owner, each.name in databases, has_marker(each, environment), each.unreadable_reason
            )
            for each, _, _ in found
        ),
        roles=_roles(ownership, {row.role for row in rows}),
        access=rows,
        dormant=tuple(item for _, _, dormant in found for item in dormant),
        reasons=reasons(read_csv(trail.content or b"")[0], rows),
    )


def _about(server: Server, audit_log: AuditLog) -> dict[str, str]:
    provenance = audit_log.provenance()
    return {
        "environment": provenance.environment,
        "created": audit_log.started,
        "run_id": provenance.run_id,
        "build_id": provenance.build_id,
        "requested_by": provenance.requested_by,
        "snapshot_version": provenance.snapshot_version,
        "postgresql": str(server.version),
        "system_identifier": server.system_identifier,
        "administrator": server.administrator,
    }


def _roles(ownership: Ownership, named: set[str]) -> tuple[RoleFact, ...]:
    """The roles that rows name, the managed and the declared, with what they may do on the server as a whole."""
    found, known = [], named | ownership.by_role.keys()
    for name, role in sorted(ownership.server.roles.items()):
        if name not in known and not ownership.manages(name):
            continue
        attributes = {
            "SUPERUSER": role.superuser,
            "CREATEROLE": role.createrole,
            "CREATEDB": role.createdb,
            "REPLICATION": role.replication,
            "BYPASSRLS": role.bypass_rls,
            "NOLOGIN": not role.can_login,
            f"quarantined since {role.marker.quarantined}": is_quarantined(role),
            "password expired": role.expired,
            "the administrator of this function": name == ownership.server.administrator,
        }
        told = tuple(word for word, holds in attributes.items() if holds)
        member_of = tuple(sorted({item.role for item in ownership.memberships_of.get(name, ())}))
        found.append(RoleFact(name, name in ownership.by_role, ownership.manages(name), told, member_of))
    return tuple(found)


def _unknown(database: DatabaseFact) -> Finding:
    message = f'who can do what in database "{database.name}" is unknown: {database.unknown}'
    next_step = "give the administrator CONNECT on it, or mend what keeps it out; then ask again"
    return Finding("access_unknown", message, next_step, database=database.name)


def _with_difference(report: AccessReport, audit_log: AuditLog) -> AccessReport:
    """What came and went since the newest stored report that can be read; what cannot is named."""
    bucket, warnings = audit_log.bucket, []
    for key in bucket.newest_keys(keys.access_folder(bucket.folder), ".json", MAX_TRIED):
        content = bucket.get(key, MAX_REPORT_BYTES).content
        try:
            since, rows = parse_report(content or b"", audit_log.settings.environment)
        except ValueError as error:
            message = f"{bucket.address(key)} is ignored: {error}"
            warnings.append(Finding("access_report_unreadable", message, "find out who put it there"))
        else:
            report = replace(report, difference=compare(rows, report.access, since))
            break
    return replace(report, warnings=tuple(warnings))


def _store(report: AccessReport, audit_log: AuditLog) -> None:
    key = keys.access(audit_log.bucket.folder, audit_log.started, audit_log.run_token)
    files = {"html": render_html(report), "csv": render_csv(report.access), "json": render_json(report)}
    stored = {f"access_{name}": audit_log.bucket.put_if_absent(f"{key}.{name}", text) for name, text in files.items()}
    audit_log.locations = replace(audit_log.locations, **stored)


def _record(report: AccessReport, audit_log: AuditLog) -> None:
    """One outcome for each database, and one for each warning; the trail gets the summary."""
    now = now_utc()
    audit_log.plan_summary = report.summary()
    audit_log.record(
        Outcome(
            "access",
            each.name,
            "",
            Status.UNKNOWN if each.unknown else Status.DRY_RUN,
            now,
            message=each.unknown or report.summary_of(each.name),
        )
        for each in report.databases
    )
    audit_log.record_findings(report.warnings, action="warning", status=Status.WARNING)
