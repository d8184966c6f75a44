"""What a run writes down: outcomes in as they happen, log lines at once, and at the end the audit in S3.

Every outcome is in the log before it is in S3, so that a change of which the trail could not be written is not lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from provisioner.core.audit import (
    Provenance,
    build_outcomes,
    build_provenance,
    build_rows,
    plan_key,
    run_key,
    trail_key,
)
from provisioner.core.errors import AuditUnavailable
from provisioner.core.model import Outcome, Request, Settings, Status
from provisioner.core.report import AuditLocations, render_markdown, render_text, summarize
from provisioner.edges.audit_store import append_trail, store_plan, store_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from provisioner.core.errors import Finding
    from provisioner.core.plan import Plan
    from provisioner.core.script import Script
    from provisioner.edges.aws import AwsClients


def now_utc() -> str:
    """The present moment as the audit writes it: ISO 8601, milliseconds, Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Log(Protocol):
    """Where log lines go: an event's name and its fields."""

    def info(self, msg: object, /, *, extra: Mapping[str, object] | None = None) -> None:
        """Write a line about something that went as it should."""

    def error(self, msg: object, /, *, extra: Mapping[str, object] | None = None) -> None:
        """Write a line about something that failed."""


@dataclass
class Journal:
    """The written record of one run; `run_token` makes its objects unique (the id of the invocation)."""

    settings: Settings
    clients: AwsClients
    log: Log
    run_token: str
    request: Request | None = None
    snapshot_version: str = ""
    plan_digest: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    locations: AuditLocations = field(default_factory=AuditLocations)
    begun: str = field(default_factory=now_utc)

    def understood(self) -> Request:
        """The request of a run that got as far as understanding it."""
        if self.request is None:
            raise LookupError("the event was not understood")
        return self.request

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Keep outcomes for the audit and write a log line for each."""
        for outcome in outcomes:
            self.outcomes.append(outcome)
            write = self.log.error if outcome.status is Status.ERROR else self.log.info
            # `message` is a field of every log record already.
            fields = asdict(outcome)
            detail = fields.pop("message")
            write("outcome", extra={**fields, "detail": detail, "plan_digest": self.plan_digest})

    def record_findings(self, findings: Iterable[Finding], *, action: str, status: Status) -> None:
        """Keep findings as outcomes of the stage that `action` names."""
        self.record(build_outcomes(findings, action=action, timestamp_utc=now_utc(), status=status))

    def store_plan(self, plan: Plan, script: Script) -> None:
        """Store the plan with its statements, as JSON and as Markdown.

        Raises:
            AuditUnavailable: S3 did not take it.
        """
        key = plan_key(self.settings.audit_prefix, self.settings.environment, self.begun, plan.digest, self.run_token)
        content = json.dumps(_plan_document(plan, script, self._provenance()), indent=1, ensure_ascii=False)
        address = store_plan(
            self.clients, self.settings.audit_bucket, key, plan_json=content, markdown=render_markdown(plan)
        )
        self.locations = AuditLocations(plan=address)

    def store(self) -> AuditLocations:
        """Store the run's own CSV and append its rows to the trail; say where they are.

        Raises:
            AuditUnavailable: S3 did not take one of them; every row is in the log all the same.
        """
        rows = build_rows(self._provenance(), self.outcomes)
        bucket, prefix, environment = self.settings.audit_bucket, self.settings.audit_prefix, self.settings.environment
        try:
            run = store_run(self.clients, bucket, run_key(prefix, environment, self.begun, self.run_token), rows)
            trail = append_trail(self.clients, bucket, trail_key(prefix, environment), rows)
        except AuditUnavailable as error:
            for row in rows:
                self.log.error("audit_row_not_stored", extra={"row": asdict(row)})
            raise AuditUnavailable(error.findings) from None
        self.locations = AuditLocations(run=run, trail=trail, plan=self.locations.plan)
        return self.locations

    def _provenance(self) -> Provenance:
        return build_provenance(
            self.settings, self.request, snapshot_version=self.snapshot_version, plan_digest=self.plan_digest
        )


def _plan_document(plan: Plan, script: Script, provenance: Provenance) -> dict[str, object]:
    return {
        **asdict(provenance),
        "summary": summarize(plan),
        "changes": [change.to_json() for change in plan.changes],
        "blockers": [asdict(finding) for finding in plan.blockers],
        "warnings": [asdict(finding) for finding in plan.warnings],
        "statements": {
            "roles": [str(item) for item in script.role_statements],
            "databases": [
                {
                    "database": item.name,
                    "create": item.create,
                    "statements": [str(text) for text in (*item.statements, *item.afterwards)],
                }
                for item in script.databases
            ],
        },
        "plan_text": render_text(plan),
    }
