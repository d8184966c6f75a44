"""What a run writes down: outcomes in as they happen, log lines at once, and at the end the audit in S3.

Every outcome is in the log before it is in S3, so that a change of which the trail could not be written is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from provisioner.core import keys
from provisioner.core.approval import ApprovedPlan
from provisioner.core.audit import AuditRow, Provenance, build_outcomes, build_rows, render_csv
from provisioner.core.changes import build_outcome
from provisioner.core.errors import AuditUnavailable, Finding, RunInProgress
from provisioner.core.model import Mode, Outcome, Request, Settings, Status
from provisioner.core.plan import Plan
from provisioner.core.recovery import InProgress, render_in_progress
from provisioner.core.report import AuditLocations, render_markdown
from provisioner.core.script import Script
from provisioner.core.stored_plan import render_plan
from provisioner.core.text import sanitize
from provisioner.edges.audit_store import AuditBucket
from provisioner.edges.aws import AwsClients
from provisioner.edges.clock import now_utc
from provisioner.telemetry import logger


@dataclass
class AuditLog:
    """The written record of one run; `run_token` makes its objects unique (the id of the invocation)."""

    settings: Settings
    clients: AwsClients
    run_token: str
    request: Request | None = None
    snapshot_version: str = ""
    # The hash of its content, in hexadecimal.
    snapshot_sha256: str = ""
    plan_digest: str = ""
    # The address of a plan to be approved that this very run has stored first.
    unread_plan: str = ""
    # Under which the changes are made, once one is found to count.
    approval: ApprovedPlan | None = None
    # The sums of the plan: all that the trail says of a run that only looks.
    plan_summary: str = ""
    # What was found out about the audit itself; the answer shows it beside the plan's own warnings.
    findings: list[Finding] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    locations: AuditLocations = field(default_factory=AuditLocations)
    started: str = field(default_factory=now_utc)
    # Of the record that a run is changing the server (`core.recovery`); it is owed nothing once every change that was
    # started has an outcome that is certain.
    in_progress_etag: str = ""
    outcomes_complete: bool = False

    @cached_property
    def bucket(self) -> AuditBucket:
        return AuditBucket(self.clients, self.settings.audit_bucket, self.settings.audit_folder)

    @property
    def _run_key(self) -> str:
        return keys.run(self.bucket.folder, self.started, self.run_token)

    def require_request(self) -> Request:
        """The request of a run that got as far as understanding it."""
        if self.request is None:
            raise LookupError("the event was not understood")
        return self.request

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Keep outcomes for the audit and write a log line for each."""
        for outcome in outcomes:
            self.outcomes.append(outcome)
            write = logger.error if outcome.status is Status.ERROR else logger.info
            # `message` is a field of every log record already.
            fields = asdict(outcome)
            words = {name: sanitize(fields.pop(name), 256) for name in ("database", "username")}
            detail = sanitize(fields.pop("message"), 2000)
            write("outcome", extra={**fields, **words, "detail": detail, "plan_digest": self.plan_digest})

    def record_findings(self, findings: Iterable[Finding], *, action: str, status: Status) -> None:
        """Keep findings as outcomes of the stage that `action` names."""
        self.record(build_outcomes(findings, action=action, timestamp_utc=now_utc(), status=status))

    def record_plan(self, plan: Plan, status: Status, outcomes: Sequence[Outcome] = ()) -> None:
        """Record a plan: the outcomes of its changes, those without one as left with a `status`, and the rest of it."""
        self.record(outcomes)
        told, now = {each.identity for each in outcomes}, now_utc()
        for change in plan.changes:
            if change.identity not in told:
                blocker = plan.blocker_of(change)
                message = f"{change.detail}; blocked: {blocker.message}" if blocker else change.detail
                self.record([build_outcome(change, status, now, message)])
        self.record(build_outcome(each, Status.NO_CHANGE, now) for each in plan.unchanged)
        self.record(build_outcome(each, status, now) for each in plan.unknown)
        self.record_findings(plan.warnings, action="warning", status=Status.WARNING)

    def record_applied(self, plan: Plan, outcomes: Sequence[Outcome]) -> None:
        """Record what became of a plan's changes, with the approval under which they were made."""
        note = self.approval.note if self.approval else ""
        done = {Status.SUCCESS, Status.ERROR}
        noted = [replace(each, message=each.message + note) if each.status in done else each for each in outcomes]
        # An error may hide a COMMIT whose answer was lost.
        self.outcomes_complete = not any(outcome.status is Status.ERROR for outcome in outcomes)
        self.record_plan(plan, Status.SKIPPED, noted)

    def render_plan(self, plan: Plan, script: Script) -> str:
        return render_plan(plan, script, self.provenance(), self.request, self.approval.note if self.approval else "")

    def store_plan(self, plan: Plan, content: str) -> None:
        """Store the plan, as JSON (`content`) and as Markdown. Raises `AuditUnavailable`."""
        key = keys.plan(self.bucket.folder, self.started, plan.digest, self.run_token)
        self.locations = AuditLocations(plan=self.bucket.put_if_absent(key, content))
        markdown = render_markdown(plan, self.locations, self.provenance())
        address = self.bucket.put_if_absent(keys.markdown(key), markdown)
        self.locations = replace(self.locations, plan_markdown=address)

    def append(self, rows: Sequence[AuditRow], *, is_first: bool = True) -> str:
        findings = self.bucket.append(rows, is_first=is_first)
        if findings:
            self.findings += findings
            outcomes = build_outcomes(findings, action="settle", timestamp_utc=now_utc(), status=Status.WARNING)
            self.bucket.append(build_rows(self.provenance(), outcomes))
        return self.bucket.address(keys.trail(self.bucket.folder))

    def add_finding(self, code: str, message: str, next_step: str) -> None:
        """Record what was found out about the audit itself."""
        finding = Finding(code, message, next_step)
        self.findings.append(finding)
        self.record_findings([finding], action="settle", status=Status.WARNING)

    def mark_in_progress(self) -> None:
        """Store the record that this run is changing the server: no trail, no change.

        Raises:
            AuditUnavailable: S3 did not take it.
            RunInProgress: another run has left one since this one took the lock, so it has lost it.
        """
        plan = self.locations.plan.removeprefix(self.bucket.address(""))
        try:
            self.put_in_progress(InProgress(self.run_token, plan, self._run_key))
        except AuditUnavailable as error:
            if error.findings[0].code == "audit_contended":
                raise RunInProgress(error.findings) from None
            raise

    def put_in_progress(self, run: InProgress | None) -> None:
        """Put the record of the run that is changing the server in the place of the one that was read.

        Raises AuditUnavailable: S3 did not take it; `audit_contended` where another stands there.
        """
        key, content = keys.in_progress(self.bucket.folder), render_in_progress(run)
        self.in_progress_etag = self.bucket.put_if_unchanged(key, content, self.in_progress_etag)

    def store(self) -> AuditLocations:
        """Store the run's own CSV and append its rows to the trail; say where they are.

        Raises AuditUnavailable: S3 did not take one of them; every row is in the log all the same.
        """
        if not self.outcomes:
            # Nothing is declared, and nothing was found: that it ran is a row all the same.
            self.record([self._summary(Status.NO_CHANGE)])
        rows = build_rows(self.provenance(), self.outcomes)
        try:
            run = self.bucket.put_if_absent(self._run_key, render_csv(rows, header=True))
            trail = self.append(self._rows_of_the_trail(rows))
        except AuditUnavailable as error:
            for row in rows:
                logger.error("audit_row_not_stored", extra={"row": asdict(row)})
            raise AuditUnavailable(error.findings) from None
        self.locations = replace(self.locations, run=run, trail=trail)
        if self.outcomes_complete:
            try:
                self.put_in_progress(None)
            except AuditUnavailable as error:
                # The rows are stored; the next run finds the record, compares, and clears it.
                logger.error("note_not_taken_away", extra={"detail": str(error)})
        return self.locations

    def _rows_of_the_trail(self, rows: tuple[AuditRow, ...]) -> tuple[AuditRow, ...]:
        """What of a run's rows the trail gets: it is the history of changes, so a look is one row, as is a refusal."""
        if self.request is None or self.request.mode is Mode.APPLY:
            return rows
        refusals = tuple(row for row in rows if row.action == "refuse")
        status = Status.ERROR if any(row.status is Status.ERROR for row in rows) else Status.DRY_RUN
        return refusals or build_rows(self.provenance(), [self._summary(status)])

    def _summary(self, status: Status) -> Outcome:
        return Outcome(self.require_request().mode.value, "", "", status, now_utc(), message=self.plan_summary)

    def provenance(self) -> Provenance:
        """What all rows of this run say of it; of a request that could not be read its environment is the function's.

        Where approvals are objects, a name in the event is none.
        """
        known = Provenance(self.settings.environment, plan_digest=self.plan_digest)
        if self.request is None:
            return replace(known, snapshot_version=self.snapshot_version)
        named = self.approval.approved_by if self.approval else ""
        return replace(
            known,
            build_id=self.request.build_id,
            run_id=self.request.run_id,
            requested_by=self.request.requested_by,
            approved_by=named if self.settings.needs_approval_objects else self.request.approval.approved_by,
            snapshot_version=self.snapshot_version or self.request.snapshot.version_id,
        )
