"""What came of a run in, rows of the audit and their CSV out, and back."""

from __future__ import annotations

import csv
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


def read_csv(content: bytes) -> tuple[tuple[AuditRow, ...], int]:
    """The rows of a CSV that `render_csv` made, however it was saved since, and how many lines are none of ours."""
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
