"""An event and the settings in, a `Request` out: what was asked, or everything that is wrong with the asking."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provisioner.core.errors import Finding, InvalidRequest
from provisioner.core.model import Approval, Mode, Request, SnapshotReference, Trigger
from provisioner.core.text import join_names, sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.core.model import Settings

DIRECT_FIELDS = frozenset(
    {"environment", "mode", "tfvars", "build_id", "run_id", "requested_by", "approval", "fail_fast", "adopt"}
)
PLACE_FIELDS = frozenset({"bucket", "key", "version_id"})
TFVARS_FIELDS = PLACE_FIELDS | {"inline", "name"}
APPROVAL_FIELDS = frozenset({"allow_db_provision", "approved_by", "plan_digest"})

SNAPSHOT_SUFFIXES = (".tfvars", ".tfvars.json")

_MAX_TEXT = 256
_MAX_KEY = 1024  # the limit of S3, for keys and for version ids
_MAX_ADOPTED = 1000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OBJECT_CREATED = ("aws.s3", "Object Created")


def parse_request(event: object, settings: Settings) -> Request:
    """Understand a direct event, or the `Object Created` event that S3 sends through EventBridge.

    In a direct event only `environment` is required; an absent `mode` is `apply`. A direct event may name the
    configured snapshot or another one in the folder of this environment; an S3 event only the configured one.

    Raises `InvalidRequest` with every problem at once.
    """
    if not isinstance(event, dict):
        raise InvalidRequest(_problem("event", "the event is not a JSON object"))
    reader = _Reader()
    from_eventbridge = "detail-type" in event or "detail" in event
    request = (_read_snapshot_event if from_eventbridge else _read_direct)(reader, event, settings)
    if reader.problems:
        raise InvalidRequest(reader.problems)
    return request


def _read_direct(reader: _Reader, event: Mapping[str, object], settings: Settings) -> Request:
    reader.refuse_unknown(event, DIRECT_FIELDS, "")
    tfvars = reader.fields(event, "tfvars", TFVARS_FIELDS)
    approval = reader.fields(event, "approval", APPROVAL_FIELDS)
    mode = reader.mode(event)
    request = Request(
        environment=settings.environment,
        mode=mode,
        trigger=Trigger.DIRECT,
        snapshot=_read_inline(reader, tfvars, mode) if "inline" in tfvars else _read_place(reader, tfvars, settings),
        build_id=reader.text(event, "build_id"),
        run_id=reader.text(event, "run_id"),
        requested_by=reader.text(event, "requested_by"),
        approval=Approval(
            allow_db_provision=reader.flag(approval, "allow_db_provision", "approval.", default=False),
            approved_by=reader.text(approval, "approved_by", "approval."),
            plan_digest=reader.digest(approval),
        ),
        fail_fast=reader.flag(event, "fail_fast", default=False),
        adopt=reader.names(event, "adopt"),
    )
    reader.refuse_environment(event, settings.environment)
    return request


def _read_place(reader: _Reader, tfvars: Mapping[str, object], settings: Settings) -> SnapshotReference:
    place = SnapshotReference(
        bucket=reader.text(tfvars, "bucket", "tfvars.", default=settings.snapshot_bucket),
        key=reader.text(tfvars, "key", "tfvars.", default=settings.snapshot_key, limit=_MAX_KEY),
        version_id=reader.text(tfvars, "version_id", "tfvars.", limit=_MAX_KEY),
    )
    reader.refuse_bucket(place.bucket, settings, "tfvars.bucket")
    if not _is_key_of_environment(place.key, settings):
        reader.refuse_key(place.key, settings, "tfvars.key")
    if "name" in tfvars:
        reader.refuse(
            "tfvars.name", "tfvars.name is the name of a text in the event, and there is none", "leave it out"
        )
    return place


def _read_inline(reader: _Reader, tfvars: Mapping[str, object], mode: Mode) -> SnapshotReference:
    """A text that the event brings along, to be planned before it is put anywhere."""
    if mode is not Mode.DRY_RUN:
        next_step = 'set "mode": "dry_run"; to apply it, put it where the snapshot lies'
        reader.refuse("tfvars.inline", "a text in the event can be planned and nothing else", next_step)
    for name in sorted(PLACE_FIELDS & tfvars.keys()):
        reader.refuse(f"tfvars.{name}", f"tfvars.{name} and tfvars.inline name two snapshots", "leave one of them out")
    text = tfvars["inline"]
    if not isinstance(text, str):
        reader.refuse("tfvars.inline", "tfvars.inline is not a text", "send the content of the file as a string")
        text = ""
    name = reader.text(tfvars, "name", "tfvars.", default="terraform.tfvars", limit=_MAX_KEY)
    # What is no text after all is refused as a file with the same bytes would be.
    return SnapshotReference("", name, inline=text.encode("utf-8", "surrogatepass"))


def _read_snapshot_event(reader: _Reader, event: Mapping[str, object], settings: Settings) -> Request:
    # AWS adds fields to its events as it likes, so unknown ones are no mistake here.
    if (event.get("source"), event.get("detail-type")) != _OBJECT_CREATED:
        raise InvalidRequest(
            _problem(
                "detail-type",
                "the event comes from EventBridge and is not the `Object Created` event of S3",
                "send only those events from the rule",
            )
        )
    detail = reader.fields(event, "detail", None)
    bucket = reader.text(reader.fields(detail, "bucket", None, "detail."), "name", "detail.bucket.")
    stored = reader.fields(detail, "object", None, "detail.")
    key = reader.text(stored, "key", "detail.object.", limit=_MAX_KEY)
    # Absent where the bucket is not versioned; reading the snapshot refuses that.
    version_id = reader.text(stored, "version-id", "detail.object.", limit=_MAX_KEY)
    event_id = reader.text(event, "id")
    reader.refuse_bucket(bucket, settings, "detail.bucket.name")
    if key != settings.snapshot_key:
        reader.refuse_key(key, settings, "detail.object.key")
    return Request(
        environment=settings.environment,
        mode=Mode.APPLY,
        trigger=Trigger.SNAPSHOT_EVENT,
        snapshot=SnapshotReference(bucket, key, version_id),
        build_id=event_id,
        run_id=event_id,
        requested_by="eventbridge",
    )


def _is_key_of_environment(key: str, settings: Settings) -> bool:
    """Whether a key is the configured one, or lies in a folder that is this environment's own."""
    if key == settings.snapshot_key:
        return True
    folders = settings.snapshot_key.split("/")[:-1]
    if settings.environment not in folders:
        return False
    own = "/".join(folders[: folders.index(settings.environment) + 1]) + "/"
    return key.startswith(own) and key.endswith(SNAPSHOT_SUFFIXES)


@dataclass(slots=True)
class _Reader:
    """Reads one field after the other and collects what is wrong with them; a wrong one reads as its default."""

    problems: list[Finding] = field(default_factory=list)

    def refuse(self, where: str, message: str, next_step: str = "") -> None:
        self.problems.append(_problem(where, message, next_step))

    def refuse_unknown(self, fields: Mapping[str, object], known: frozenset[str], prefix: str) -> None:
        unknown = sorted(sanitize(f"{prefix}{name}", 64) for name in fields if name not in known)
        if unknown:
            allowed = ", ".join(sorted(f"{prefix}{name}" for name in known))
            self.refuse(
                unknown[0], f"the event has fields that nothing reads: {join_names(unknown)}", f"known are: {allowed}"
            )

    def refuse_environment(self, event: Mapping[str, object], environment: str) -> None:
        if "environment" not in event:
            next_step = f'name the environment that this function serves: "environment": "{environment}"'
            self.refuse("environment", "the event names no environment", next_step)
        elif event["environment"] != environment:
            next_step = "call the function of that environment"
            self.refuse(
                "environment", f'the event is not for "{environment}", which is all this function serves', next_step
            )

    def refuse_bucket(self, bucket: str, settings: Settings, where: str) -> None:
        if bucket != settings.snapshot_bucket:
            message = f"the snapshot lies in another bucket than {settings.snapshot_bucket}"
            self.refuse(where, message, "leave the bucket out, or change the setting SNAPSHOT_BUCKET")

    def refuse_key(self, key: str, settings: Settings, where: str) -> None:
        message = f'the key "{sanitize(key, 128)}" is not a snapshot of {settings.environment}'
        self.refuse(where, message, f"the configured key is {settings.snapshot_key} (setting SNAPSHOT_KEY)")

    def fields(
        self, parent: Mapping[str, object], name: str, known: frozenset[str] | None, prefix: str = ""
    ) -> Mapping[str, object]:
        """An object inside the event; with `known` given, no other fields may be in it."""
        value = parent.get(name, {})
        if not isinstance(value, dict):
            self.refuse(f"{prefix}{name}", f"{prefix}{name} is not an object")
            return {}
        if known is not None:
            self.refuse_unknown(value, known, f"{prefix}{name}.")
        return value

    def text(
        self,
        fields: Mapping[str, object],
        name: str,
        prefix: str = "",
        *,
        default: str = "",
        limit: int = _MAX_TEXT,
    ) -> str:
        value = fields.get(name, default)
        if isinstance(value, str) and len(value) <= limit and value.isprintable():
            return value
        self.refuse(
            f"{prefix}{name}", f"{prefix}{name} is not a text of at most {limit} characters without control characters"
        )
        return default

    def flag(self, fields: Mapping[str, object], name: str, prefix: str = "", *, default: bool) -> bool:
        value = fields.get(name, default)
        if isinstance(value, bool):
            return value
        self.refuse(f"{prefix}{name}", f"{prefix}{name} is neither true nor false", "write it without quotes")
        return default

    def mode(self, event: Mapping[str, object]) -> Mode:
        value = event.get("mode", Mode.APPLY.value)
        if isinstance(value, str) and value in set(Mode):
            return Mode(value)
        self.refuse("mode", "the mode is none that there is", f"one of: {', '.join(Mode)}")
        return Mode.DRY_RUN

    def digest(self, approval: Mapping[str, object]) -> str:
        value = self.text(approval, "plan_digest", "approval.")
        if value and not _DIGEST.fullmatch(value):
            next_step = "copy plan_digest from the answer of a dry run: sha256: and 64 hexadecimal digits"
            self.refuse("approval.plan_digest", "approval.plan_digest is not the digest of a plan", next_step)
        return value

    def names(self, event: Mapping[str, object], name: str) -> tuple[str, ...]:
        value = event.get(name, [])
        if (
            isinstance(value, list)
            and len(value) <= _MAX_ADOPTED
            and all(isinstance(each, str) and 0 < len(each) <= _MAX_TEXT and each.isprintable() for each in value)
        ):
            return tuple(dict.fromkeys(value))
        self.refuse(name, f"{name} is not a list of application names", f'such as "{name}": ["keycloak"]')
        return ()


def _problem(where: str, message: str, next_step: str = "") -> Finding:
    return Finding("event", message, next_step, where=where)
