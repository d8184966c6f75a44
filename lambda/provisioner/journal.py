"""What a run writes down: outcomes in as they happen, log lines at once, and at the end the audit in S3.

Every outcome is in the log before it is in S3, so that a change of which the trail could not be written is not lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from provisioner.core.audit import (
    Provenance,
    build_outcomes,
    build_provenance,
    build_rows,
    open_run_key,
    parse_csv,
    plan_key,
    render_csv,
    run_key,
    trail_key,
)
from provisioner.core.errors import AuditUnavailable, Finding, RunInProgress
from provisioner.core.model import Outcome, Request, Settings, Status
from provisioner.core.open_run import OpenRun, StoredPlan, parse_note, parse_plan, render_note, settle
from provisioner.core.report import AuditLocations, render_markdown, render_text, summarize
from provisioner.edges.audit_store import (
    append_again,
    append_trail,
    read_stored,
    replace_stored,
    store_plan,
    store_run,
)
from provisioner.edges.clock import now_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from provisioner.core.plan import Plan
    from provisioner.core.script import Script
    from provisioner.edges.aws import AwsClients


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
    # Of the note that a run leaves while it changes the server (`core.open_run`); all is told once every change that
    # was begun has an outcome that is certain.
    note_etag: str = ""
    is_open: bool = False
    is_all_told: bool = False

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

    def settle_cut_off_run(self, plan: Plan) -> None:
        """Write the rows that a run owes which began to change the server and was cut off; to be called under the lock.

        Cut off in the middle itself, the next call continues: what is stored is not stored twice.

        Raises:
            AuditUnavailable: S3 did not give or take it.
        """
        bucket, note_key = self.settings.audit_bucket, self._note_key()
        note, self.note_etag = read_stored(self.clients, bucket, note_key)
        if not note:
            return
        try:
            run = parse_note(note)
            if run is None:
                return
            stored = parse_plan(read_stored(self.clients, bucket, run.plan_key)[0])
        except ValueError:
            message = f"a run was cut off, and what it had planned cannot be read from s3://{bucket}/{note_key}"
            finding = Finding("cut_off_run", message, "find its rows in the log of the function")
            self.record_findings([finding], action="settle", status=Status.ERROR)
        else:
            self._settle(run, stored, plan)
        self.note_etag = replace_stored(self.clients, bucket, note_key, render_note(None).encode(), self.note_etag)

    def _settle(self, run: OpenRun, stored: StoredPlan, plan: Plan) -> None:
        bucket, trail = self.settings.audit_bucket, trail_key(self.settings.audit_prefix, self.settings.environment)
        run_csv, _ = read_stored(self.clients, bucket, run.run_key)
        append_again(self.clients, bucket, trail, run_csv)
        settled, _ = read_stored(self.clients, bucket, run.settled_key)
        if not settled:
            rows = settle(stored, run_csv, plan.changes, run.run_token, now_utc())
            if not rows:
                return
            store_run(self.clients, bucket, run.settled_key, rows)
            settled = render_csv(rows, header=True).encode()
        append_again(self.clients, bucket, trail, settled)
        count = len(parse_csv(settled))
        message = f"run {run.run_token} was cut off; {count} of its changes stand, and the trail has them now"
        next_step = f"see s3://{bucket}/{run.settled_key}"
        self.record_findings([Finding("cut_off_run", message, next_step)], action="settle", status=Status.WARNING)

    def open_run(self) -> None:
        """Leave the note that this run is changing the server: no trail, no change.

        Raises:
            AuditUnavailable: S3 did not take it.
            RunInProgress: another run has left one since this one took the lock, so it has lost it.
        """
        prefix, environment = self.settings.audit_prefix, self.settings.environment
        plan = self.locations.plan.removeprefix(f"s3://{self.settings.audit_bucket}/")
        run = OpenRun(self.run_token, plan, run_key(prefix, environment, self.begun, self.run_token))
        content = render_note(run).encode()
        bucket = self.settings.audit_bucket
        try:
            self.note_etag = replace_stored(self.clients, bucket, self._note_key(), content, self.note_etag)
        except AuditUnavailable as error:
            if error.findings[0].code == "audit_contended":
                raise RunInProgress(error.findings) from None
            raise
        self.is_open = True

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
        if self.is_open and self.is_all_told:
            self._take_note_away()
        return self.locations

    def _take_note_away(self) -> None:
        try:
            replace_stored(
                self.clients, self.settings.audit_bucket, self._note_key(), render_note(None).encode(), self.note_etag
            )
        except AuditUnavailable as error:
            # The rows are stored; the next run finds the note, compares, and takes it away.
            self.log.error("note_not_taken_away", extra={"detail": str(error)})

    def _note_key(self) -> str:
        return open_run_key(self.settings.audit_prefix, self.settings.environment)

    def _provenance(self) -> Provenance:
        return build_provenance(
            self.settings, self.request, snapshot_version=self.snapshot_version, plan_digest=self.plan_digest
        )


def _plan_document(plan: Plan, script: Script, provenance: Provenance) -> dict[str, object]:
    return {
        **asdict(provenance),
        "summary": summarize(plan),
        "changes": [{**change.to_json(), "identity": change.identity()} for change in plan.changes],
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
