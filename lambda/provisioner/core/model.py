"""The values that a run passes on: what was asked, what is declared, what came of it.

Everything here is immutable and free of secrets: a password never enters the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from provisioner.core.access_levels import AccessLevel

T = TypeVar("T")

# --- what was asked -------------------------------------------------------------------------------------------------


class Mode(StrEnum):
    """How far a run goes: the first three are one run that stops at different points; the others only look."""

    APPLY = "apply"
    DRY_RUN = "dry_run"
    DRIFT = "drift"
    ACCESS = "access"
    PREFLIGHT = "preflight"


class Trigger(StrEnum):
    """Who called: a person or pipeline that waits for the answer, or S3 through EventBridge."""

    DIRECT = "direct"
    SNAPSHOT_EVENT = "snapshot_event"
    APPROVAL_EVENT = "approval_event"
    SECRET_EVENT = "secret_event"  # noqa: S105 - no password


@dataclass(frozen=True, slots=True)
class Approval:
    """What a caller says about permission; where approvals are objects, `plan_digest` names one, and no more counts."""

    allow_db_provision: bool = False
    approved_by: str = ""
    plan_digest: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotReference:
    """Where the snapshot lies; an empty `version_id` means the newest.

    One that came in the event itself (`inline`) lies nowhere and has no version; `key` is then its file's name.
    """

    bucket: str
    key: str
    version_id: str = ""
    inline: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    environment: str
    mode: Mode
    trigger: Trigger
    snapshot: SnapshotReference
    build_id: str = ""
    run_id: str = ""
    requested_by: str = ""
    approval: Approval = field(default_factory=Approval)
    fail_fast: bool = False
    adopt: tuple[str, ...] = ()
    quarantine: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    # Of an event that says that it changed: the secret, by its name or its ARN.
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The function's configuration; templates are already filled in with the environment, but for `{app}`."""

    environment: str
    snapshot_bucket: str
    snapshot_key: str
    audit_bucket: str
    audit_prefix: str
    admin_secret_id: str
    app_secret_id: str
    database_host: str
    database_port: int
    database_name: str
    ca_bundle: str
    ungated_environments: frozenset[str]
    digest_environments: frozenset[str]
    notify_topic_arn: str
    max_workers: int
    retire_after_days: int = 7
    # The account that the bucket must belong to; empty where it is not said.
    snapshot_bucket_owner: str = ""
    audit_bucket_owner: str = ""
    approval_hours: int = 24

    @property
    def needs_approval_objects(self) -> bool:
        """Whether approvals are objects in this environment, and nothing else counts."""
        return self.environment in self.digest_environments

    @property
    def audit_folder(self) -> str:
        return f"{self.audit_prefix}/{self.environment}"

    @property
    def bucket_owners(self) -> tuple[tuple[str, str], ...]:
        owners = (self.snapshot_bucket, self.snapshot_bucket_owner), (self.audit_bucket, self.audit_bucket_owner)
        return tuple(pair for pair in owners if pair[1])


# --- what is declared -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of `application_databases`; `application` is its key."""

    application: str
    database: str
    username: str
    access_level: AccessLevel = AccessLevel.OWNER
    secret_name: str = ""
    createdb: bool = False
    connection_limit: int | None = None
    extensions: tuple[str, ...] = ()
    accepted_findings: tuple[str, ...] = ()

    def secret_id(self, template: str) -> str:
        """The secret of its role: the one that it names, or that of its application (`{app}`)."""
        return self.secret_name or template.replace("{app}", self.application)


@dataclass(frozen=True)
class Declaration:
    """What a snapshot declares, entries ordered by application; `path` is that of the block in the file."""

    entries: tuple[Entry, ...]
    path: str = "application_databases"

    @cached_property
    def by_role(self) -> Mapping[str, tuple[Entry, ...]]:
        return group_by(self.entries, "username", "application")

    @cached_property
    def by_database(self) -> Mapping[str, tuple[Entry, ...]]:
        return group_by(self.entries, "database", "application")

    def secrets(self, template: str) -> tuple[tuple[Entry, str], ...]:
        return tuple((entry, entry.secret_id(template)) for entry in self.entries)

    @property
    def has_extensions(self) -> bool:
        return any(entry.extensions for entry in self.entries)


def group_by(items: Iterable[T], attribute: str, *order: str) -> dict[str, tuple[T, ...]]:
    """Items by the value of an attribute, sorted by it; those of one group by the attributes that are named besides."""
    key = attrgetter(attribute)
    return {name: tuple(group) for name, group in groupby(sorted(items, key=attrgetter(attribute, *order)), key)}


# --- what came of it ------------------------------------------------------------------------------------------------


class RunStatus(StrEnum):
    """How a run ended that did not fail: the status of its answer."""

    APPLIED = "applied"
    NO_CHANGE = "no_change"
    PLANNED = "planned"
    DRIFTED = "drifted"
    IN_SYNC = "in_sync"
    APPROVAL_REQUIRED = "approval_required"
    SUPERSEDED = "superseded"
    REPORTED = "reported"
    READY = "ready"
    NOT_READY = "not_ready"


class Status(StrEnum):
    SUCCESS = "success"
    NO_CHANGE = "no_change"
    WARNING = "warning"
    ERROR = "error"
    DRY_RUN = "dry_run"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"  # of a run that was interrupted: the server does not show whether it was done


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change, or of one thing that needed none; the source of an audit row.

    `timestamp_utc` is ISO 8601 with milliseconds and `Z`, the moment this outcome was known; `duration_ms` is the
    time of the statement or transaction that it belongs to; `identity` says which change it is, as that itself does.
    """

    action: str
    database: str
    username: str
    status: Status
    timestamp_utc: str
    duration_ms: int = 0
    message: str = ""
    identity: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        return self.status is Status.SUCCESS
