"""An event and the settings in, a `Request` out: what was asked, or everything that is wrong with the asking."""

from __future__ import annotations

from dataclasses import replace

from provisioner.core import keys
from provisioner.core.errors import Finding, InvalidRequest
from provisioner.core.fields import CORRECT_IT, Fields, Problems, Shape
from provisioner.core.model import Approval, Mode, Request, Settings, SnapshotReference, Trigger
from provisioner.core.rotation import DETAIL_TYPES, EVENT_NAMES, EVENT_SOURCE, secret_in
from provisioner.core.text import join_names, sanitize

DIRECT_FIELDS = frozenset(
    {
        "environment", "mode", "tfvars", "build_id", "run_id", "requested_by", "approval", "fail_fast",
        "adopt", "quarantine", "retire",
    }
)  # fmt: skip
PLACE_FIELDS = frozenset({"bucket", "key", "version_id"})
INLINE_FIELDS = frozenset({"inline", "name"})
APPROVAL_FIELDS = frozenset({"allow_db_provision", "approved_by", "plan_digest"})

SNAPSHOT_SUFFIXES = (".tfvars", ".tfvars.json")

_CODE = "event"
_KEY = Shape(limit=1024)  # the limit of S3, for keys and for version ids
_MODE = Shape(f"one of {', '.join(Mode)}", "|".join(Mode))
_NAMES = Shape("a name in quotes", ".+", 'such as ["keycloak"]')
_DIGEST = Shape(
    "the digest of a plan",
    "(sha256:[0-9a-f]{64})?",
    "copy plan_digest from the answer of a dry run: sha256: and 64 hexadecimal digits",
)


def parse_request(event: object, settings: Settings) -> Request:
    """Understand a direct event, or what EventBridge sends: `Object Created` of S3, or a secret that changed.

    In a direct event only `environment` is required; an absent `mode` is `apply`. A direct event may name the
    configured snapshot or another one in the folder of this environment; an S3 event only the configured one, or an
    approval of this environment.

    Raises `InvalidRequest` with every problem at once.
    """
    if not isinstance(event, dict):
        next_step = 'send one, such as {"environment": "dev", "mode": "dry_run"}'
        raise InvalidRequest(Finding(_CODE, "the event is not a JSON object", next_step, where="event"))
    fields = Fields(event, Problems(), _CODE)
    from_eventbridge = "detail-type" in event or "detail" in event
    read = _read_secret_event if event.get("source") == EVENT_SOURCE else _read_s3_event
    request = (read if from_eventbridge else _read_direct)(fields, settings)
    fields.problems.raise_if_any(InvalidRequest)
    return request


def _read_direct(event: Fields, settings: Settings) -> Request:
    _refuse_unknown(event, DIRECT_FIELDS)
    tfvars, approval = _inside(event, "tfvars"), _inside(event, "approval")
    _refuse_unknown(approval, APPROVAL_FIELDS)
    mode = Mode(event.text("mode", _MODE, Mode.APPLY))
    request = Request(
        environment=settings.environment,
        mode=mode,
        trigger=Trigger.DIRECT,
        snapshot=_read_inline(tfvars, mode) if "inline" in tfvars.values else _read_place(tfvars, settings),
        build_id=event.text("build_id"),
        run_id=event.text("run_id"),
        requested_by=event.text("requested_by"),
        approval=Approval(
            allow_db_provision=_read_flag(approval, "allow_db_provision"),
            approved_by=approval.text("approved_by"),
            plan_digest=approval.text("plan_digest", _DIGEST),
        ),
        fail_fast=_read_flag(event, "fail_fast"),
        adopt=_read_asked(event, "adopt", mode, Mode.DRIFT),
        quarantine=_read_asked(event, "quarantine", mode),
        retire=_read_asked(event, "retire", mode),
    )
    _refuse_environment(event, settings.environment)
    return request


def _read_place(tfvars: Fields, settings: Settings) -> SnapshotReference:
    _refuse_unknown(tfvars, PLACE_FIELDS)
    place = SnapshotReference(
        bucket=tfvars.text("bucket", default=settings.snapshot_bucket),
        key=tfvars.text("key", _KEY, settings.snapshot_key),
        version_id=tfvars.text("version_id", _KEY),
    )
    _refuse_bucket(tfvars, "bucket", place.bucket, settings)
    if not _is_key_of_environment(place.key, settings):
        _refuse_key(tfvars, place.key, settings)
    return place


def _read_inline(tfvars: Fields, mode: Mode) -> SnapshotReference:
    """A text that the event brings along, to be planned before it is put anywhere."""
    _refuse_unknown(tfvars, INLINE_FIELDS)
    if mode is not Mode.DRY_RUN:
        next_step = 'set "mode": "dry_run"; to apply it, put it where the snapshot lies'
        tfvars.refuse(_CODE, "inline", "a text in the event can be planned and nothing else", next_step)
    text = tfvars.read("inline", str, "a string", "send the content of the file") or ""
    name = tfvars.text("name", _KEY, "terraform.tfvars")
    # What is no text after all is refused as a file with the same bytes would be.
    return SnapshotReference("", name, inline=text.encode("utf-8", "surrogatepass"))


def _read_s3_event(event: Fields, settings: Settings) -> Request:
    """A snapshot that was put, or an approval; where both lie in one bucket the key tells them apart."""
    # AWS adds fields to its events as it likes, so unknown ones are no mistake here.
    if (event.values.get("source"), event.values.get("detail-type")) != ("aws.s3", "Object Created"):
        message = "the event comes from EventBridge and is not the `Object Created` event of S3"
        raise InvalidRequest(Finding(_CODE, message, "send only those events from the rule", "detail-type"))
    detail = _inside(event, "detail")
    bucket, stored = _inside(detail, "bucket"), _inside(detail, "object")
    # The version is absent where the bucket is not versioned; reading the snapshot refuses that.
    place = SnapshotReference(
        bucket=bucket.text("name"),
        key=stored.text("key", _KEY),
        version_id=stored.text("version-id", _KEY),
    )
    request, approved = _unattended(event, settings), keys.approved_digest(place.key, settings.audit_folder)
    if place.bucket == settings.audit_bucket and (approved or place.bucket != settings.snapshot_bucket):
        _refuse_approval(stored, place.key, approved, settings)
        return replace(request, trigger=Trigger.APPROVAL_EVENT, approval=Approval(plan_digest=approved))
    _refuse_bucket(bucket, "name", place.bucket, settings)
    if place.key != settings.snapshot_key:
        _refuse_key(stored, place.key, settings)
    return replace(request, snapshot=place)


def _read_secret_event(event: Fields, settings: Settings) -> Request:
    """What CloudTrail says of a secret that changed; whether it is one of ours, the snapshot will tell."""
    detail = _inside(event, "detail")
    is_known = event.values.get("detail-type") in DETAIL_TYPES and detail.values.get("eventName") in EVENT_NAMES
    if not is_known:
        message = "the event of Secrets Manager is none after which a password has to follow"
        raise InvalidRequest(Finding(_CODE, message, f"send only {', '.join(EVENT_NAMES)}", "detail.eventName"))
    secret = secret_in(detail.values)
    if not secret or _KEY.refusal(secret):
        detail.refuse(_CODE, "", "the event names no secret", "send it as CloudTrail writes it")
    request = _unattended(event, settings)
    return replace(request, trigger=Trigger.SECRET_EVENT, requested_by="secretsmanager", secret=secret)


def _unattended(event: Fields, settings: Settings) -> Request:
    """What an event asks for that nobody waits for: the configured snapshot, applied."""
    event_id = event.text("id")
    return Request(
        environment=settings.environment,
        mode=Mode.APPLY,
        trigger=Trigger.SNAPSHOT_EVENT,
        snapshot=SnapshotReference(settings.snapshot_bucket, settings.snapshot_key),
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


# --- the values of a field --------------------------------------------------------------------------------------------


def _inside(parent: Fields, name: str) -> Fields:
    path = f"{parent.path}{name}."
    return replace(parent, values=parent.read(name, dict, "an object", CORRECT_IT) or {}, path=path, prefix=path)


def _read_flag(fields: Fields, name: str) -> bool:
    return fields.read(name, bool, "true or false", "write it without quotes") or False


def _read_asked(event: Fields, name: str, mode: Mode, *also: Mode) -> tuple[str, ...]:
    names = event.texts(name, list, _NAMES)
    if names and mode not in {Mode.APPLY, Mode.DRY_RUN, *also}:
        message = f"the mode {mode} looks at what stands, and {name} asks for a change"
        event.refuse(_CODE, name, message, 'set "mode": "dry_run" to see what it would do')
    return names


# --- what is refused --------------------------------------------------------------------------------------------------


def _refuse_unknown(fields: Fields, known: frozenset[str]) -> None:
    unknown = sorted(sanitize(f"{fields.path}{name}", 64) for name in fields.values if name not in known)
    if unknown:
        allowed = ", ".join(sorted(f"{fields.path}{name}" for name in known))
        message = f"the event has fields that nothing reads: {join_names(unknown)}"
        fields.problems.refuse(_CODE, message, f"known are: {allowed}", unknown[0])


def _refuse_environment(event: Fields, environment: str) -> None:
    if event.values.get("environment") != environment:
        message = f'the event is not for "{environment}", which is all this function serves'
        next_step = f'say "environment": "{environment}", or call the function of the other environment'
        event.refuse(_CODE, "environment", message, next_step)


def _refuse_bucket(fields: Fields, name: str, bucket: str, settings: Settings) -> None:
    if bucket != settings.snapshot_bucket:
        message = f"the snapshot lies in another bucket than {settings.snapshot_bucket}"
        fields.refuse(_CODE, name, message, "leave the bucket out, or change the setting SNAPSHOT_BUCKET")


def _refuse_key(fields: Fields, key: str, settings: Settings) -> None:
    message = f'the key "{sanitize(key, 128)}" is not a snapshot of {settings.environment}'
    fields.refuse(_CODE, "key", message, f"the configured key is {settings.snapshot_key} (setting SNAPSHOT_KEY)")


def _refuse_approval(stored: Fields, key: str, digest: str, settings: Settings) -> None:
    if not settings.needs_approval_objects:
        message = f"{settings.environment} is not changed by approved plans (setting REQUIRE_PLAN_DIGEST)"
        stored.refuse(_CODE, "key", message, "call the function itself, or require the digest of a plan")
    elif not digest:
        message = f'the key "{sanitize(key, 128)}" is not that of an approval of {settings.environment}'
        known = keys.approval(settings.audit_folder, "<64 hexadecimal digits>")
        stored.refuse(_CODE, "key", message, f"approvals are {known} (setting AUDIT_PREFIX)")
