"""What came of a run in, rows of the audit and their CSV out, and the keys under which a run is stored."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any

from provisioner.core.errors import Finding
from provisioner.core.model import Outcome, Status
from provisioner.core.text import sanitize

_MAX_MESSAGE = 1000
_MAX_FIELD = 256

# What a spreadsheet runs as a formula, also as full-width characters, which some turn into plain ones. The apostrophe
# itself is among them, so that a reader can undo the defusing: strip one leading apostrophe.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")

_TRAIL = "rds_provision_audit"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The columns that all rows of a run share; a request that could not be understood leaves most of them empty."""

    environment: str
    build_id: str = ""
    run_id: str = ""
    requested_by: str = ""
    approved_by: str = ""
    snapshot_version: str = ""
    plan_digest: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row; the fields are the columns, in the order of the contract (the first ten are the first generation's)."""

    timestamp_utc: str
    environment: str
    build_id: str
    run_id: str
    database: str
    username: str
    action: str
    status: Status
    duration_ms: int
    message: str
    requested_by: str
    approved_by: str
    snapshot_version: str
    plan_digest: str


COLUMNS = tuple(each.name for each in fields(AuditRow))


def build_rows(provenance: Provenance, outcomes: Iterable[Outcome]) -> tuple[AuditRow, ...]:
    return tuple(_build_row(provenance, outcome) for outcome in outcomes)


def build_outcomes(
    findings: Iterable[Finding], *, action: str, timestamp_utc: str, status: Status = Status.ERROR
) -> tuple[Outcome, ...]:
    """One outcome for each finding: what was refused, or warned of, at the stage that `action` names."""
    return tuple(
        Outcome(action, finding.database, finding.username, status, timestamp_utc, message=str(finding))
        for finding in findings
    )


def render_csv(rows: Iterable[AuditRow], *, header: bool) -> str:
    r"""The rows as CSV, one line each, with the column names before them where `header` says so.

    Quoting is RFC 4180's; lines end in a line feed alone, which spreadsheets and `grep` both take. No value holds a
    line break, so a row is a line. A value that a spreadsheet would run as a formula, or that starts with an
    apostrophe, gets an apostrophe in front: stripping one gives the value back.
    """
    return write_csv([*([COLUMNS] if header else []), *map(attrgetter(*COLUMNS), rows)])


def write_csv(lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


HEADER = render_csv((), header=True).encode("utf-8")


def parse_csv(content: bytes) -> tuple[AuditRow, ...]:
    """The rows of a CSV that `render_csv` made with a header; none where it is empty or somebody else's."""
    return read_csv(content)[0]


def read_csv(content: bytes) -> tuple[tuple[AuditRow, ...], int]:
    """The rows of a CSV as they were written, however it was saved since, and how many lines are none of ours."""
    rows: list[AuditRow] = []
    others = 0
    lines = _read_lines(content)
    if next(lines, None) != COLUMNS:
        return (), int(bool(content))
    for line in lines:
        row = _parse_row(line)
        if row:
            rows.append(row)
        else:
            others += bool(line)
    return tuple(rows), others


def is_as_written(content: bytes) -> bool:
    """Whether a CSV is what runs have written and nothing else: the header, and a row with our columns in each line."""
    if not content.startswith(HEADER) or not content.endswith(b"\n") or b"\r" in content:
        return False
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        lines = sum(len(line) == len(COLUMNS) for line in reader)
    except (UnicodeDecodeError, csv.Error):
        return False
    return lines == content.count(b"\n")


def trail_key(folder: str) -> str:
    """The CSV that every run of the environment appends to; `folder` is where its objects lie."""
    return f"{folder}/{_TRAIL}.csv"


def unread_archive_key(trail: str, etag: str) -> str:
    """Where a trail is kept that is too large to be read."""
    return f"{trail.rpartition('/')[0]}/archive/{_TRAIL}-{_key_safe(etag).strip('-')}.csv"


def unreadable_key(key: str, etag: str) -> str:
    """Where an object that is not what should stand under its key is put aside."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/unreadable/{_key_safe(etag).strip('-')}-{name}"


def archive_key(trail: str, content: bytes) -> str:
    """Where a full trail is kept: the time of its first row, and the hash of its content, so two are never one."""
    folder = trail.rpartition("/")[0]
    first_row = content.split(b"\n", 2)[1:2]
    started = _key_timestamp(b"".join(first_row).split(b",", 1)[0].decode("ascii", "replace"))
    return f"{folder}/archive/{_TRAIL}-{started}-{hashlib.sha256(content).hexdigest()[:12]}.csv"


def run_key(folder: str, timestamp_utc: str, run_token: str) -> str:
    """The CSV of one run; the token makes it unique, the time in front makes a listing read in order."""
    return f"{folder}/runs/{_key_timestamp(timestamp_utc)}-{_key_safe(run_token)}.csv"


def access_key(folder: str, timestamp_utc: str, run_token: str) -> str:
    """The three files of a report of access, without their endings; the time in front makes a listing read in order."""
    return f"{access_folder(folder)}{_key_timestamp(timestamp_utc)}-{_key_safe(run_token)}"


def access_folder(folder: str) -> str:
    return f"{folder}/access/"


def in_progress_key(folder: str) -> str:
    """The record of the run that is changing the server; one for the environment, since one run does at a time."""
    return f"{folder}/open_run.json"


def plan_key(folder: str, timestamp_utc: str, plan_digest: str, run_token: str) -> str:
    """The plan of one run as JSON, findable by its time and the start of its digest."""
    digest = _key_safe(plan_digest.removeprefix("sha256:"))[:12]
    return f"{folder}/plans/{_key_timestamp(timestamp_utc)}-{digest}-{_key_safe(run_token)}.json"


def markdown_key(plan: str) -> str:
    return f"{plan.removesuffix('.json')}.md"


def _build_row(provenance: Provenance, outcome: Outcome) -> AuditRow:
    known = asdict(provenance) | asdict(outcome)
    limits = {"message": _MAX_MESSAGE}
    texts = [name for name in COLUMNS if name not in {"status", "duration_ms"}]
    cells = {name: csv_cell(known[name], limits.get(name, _MAX_FIELD)) for name in texts}
    return AuditRow(status=outcome.status, duration_ms=outcome.duration_ms, **cells)


def _read_lines(content: bytes) -> Iterator[tuple[str, ...]]:
    """The lines of a CSV; one that the reader refuses, such as one with a huge field, is a line of one value."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""))
    while True:
        try:
            line = next(reader, None)
        except csv.Error:
            line = ["?"]
        if line is None:
            return
        yield tuple(line)


def _parse_row(line: tuple[str, ...]) -> AuditRow | None:
    """A line as a row; None where `render_csv` would not have written it so."""
    values: dict[str, Any] = dict(zip(COLUMNS, line, strict=False))
    duration = str(values.get("duration_ms"))
    is_ours = len(line) == len(COLUMNS) and values["status"] in set(Status) and re.fullmatch("[0-9]{1,12}", duration)
    if not is_ours or not all(_is_csv_cell(cell) for cell in line):
        return None
    return AuditRow(**{**values, "status": Status(values["status"]), "duration_ms": int(duration)})


def _is_csv_cell(text: str) -> bool:
    """Whether `csv_cell` could have written it: one printable line, and an apostrophe exactly where one is needed."""
    plain = text.removeprefix("'")
    is_plain = sanitize(text, _MAX_MESSAGE + 1) == text
    return is_plain and plain.startswith(_FORMULA_STARTS) == (plain != text)


def csv_cell(text: str, limit: int = _MAX_FIELD) -> str:
    """A text as a value of a CSV: one printable line, and nothing that a spreadsheet would run as a formula."""
    # Leading blanks go: some spreadsheets look for the formula behind them.
    plain = sanitize(text, limit).lstrip()
    return f"'{plain}" if plain.startswith(_FORMULA_STARTS) else plain


def _key_timestamp(timestamp_utc: str) -> str:
    return _key_safe(timestamp_utc.replace("-", "").replace(":", ""))


def _key_safe(text: str) -> str:
    """The text as part of an S3 key that needs no escaping anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128]
