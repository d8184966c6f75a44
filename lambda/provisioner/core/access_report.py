"""Rows of effective access in, the report out: CSV, JSON, a text, the difference since the report before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from provisioner.core.access_rows import COLUMNS, NO, UNKNOWN, YES, AccessRow
from provisioner.core.audit import AuditRow, csv_cell, write_csv
from provisioner.core.effective_access import Dormant
from provisioner.core.errors import Finding
from provisioner.core.model import Status
from provisioner.core.state import PUBLIC
from provisioner.core.text import count, join_names, sanitize

FORMAT = 1
_LONGEST = 2000
_MAX_TEXT_LINES = 400
# What is told of a role in a database, the most doubtful first; a role without a level is foreign.
VERDICTS = ("beyond", "foreign", "unknown", "expected", "none")


@dataclass(frozen=True, slots=True)
class DatabaseFact:
    """One database of the report; `unknown` says why it could not be looked into."""

    name: str
    owner: str
    declared: bool
    managed: bool
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class RoleFact:
    """One role of the report, with what it may do on the server as a whole and where it comes from."""

    name: str
    declared: bool
    managed: bool
    attributes: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came and went since the report of that time; an empty `since` means that there was none to compare with."""

    since: str = ""
    added: tuple[AccessRow, ...] = ()
    removed: tuple[AccessRow, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessReport:
    """Who can do what, with all that the three files tell; the fields are those of the JSON, `about` on its top."""

    about: Mapping[str, str]
    databases: tuple[DatabaseFact, ...]
    roles: tuple[RoleFact, ...]
    access: tuple[AccessRow, ...]
    dormant: tuple[Dormant, ...] = ()
    reasons: tuple[Mapping[str, str], ...] = ()
    difference: Comparison = Comparison()
    warnings: tuple[Finding, ...] = ()

    def summary(self) -> str:
        roles = len({row.role for row in self.access} - {""})
        beyond = {(row.database, row.role) for row in self.access if row.expected == NO and row.declared_level}
        unknown = sum(bool(each.unknown) for each in self.databases)
        return (
            f"Access: {count(len(self.databases), 'database')}, {count(roles, 'role')}, "
            f"{count(len(self.access), 'path')}; beyond their level: {len(beyond)}; "
            f"unknown: {count(unknown, 'database')}."
        )

    def summary_of(self, database: str) -> str:
        rows = [row for row in self.access if row.database == database]
        beyond = sorted({row.role for row in rows if row.expected == NO and row.declared_level})
        more = f"; beyond their level: {join_names(beyond)}" if beyond else ""
        return f"{len({row.role for row in rows})} roles by {len(rows)} paths{more}"

    def text(self) -> str:
        """The report for a terminal: a line for each role in each database, what is beyond a level first."""
        lines = [self.summary(), ""]
        matrices = build_matrices(self.access, [each.name for each in self.databases], 1)
        for database, (_, roles) in zip(self.databases, matrices, strict=True):
            unknown = f" (unknown: {sanitize(database.unknown, 300)})" if database.unknown else ""
            lines.append(f"{sanitize(database.name, 64)}{unknown}")
            lines += [f"  {sanitize(role, 40):<24} {describe(rows)}" for role, [rows] in roles]
        left = len(lines) - _MAX_TEXT_LINES
        more = [f"... and {left} lines more; the stored report has all"] if left > 0 else []
        return "\n".join([*lines[:_MAX_TEXT_LINES], *more])


def describe(rows: Sequence[AccessRow]) -> str:
    """What one role can do in one database, in words: its level where that is all, else what is beyond it."""
    if not (rows and rows[0].role):
        return "unknown" if rows else "no access"
    level = rows[0].declared_level
    beyond = list(dict.fromkeys(row.capability for row in rows if row.expected != YES))
    every = dict.fromkeys(row.capability for row in rows)
    words = [level] if level else [] if beyond else [f"expected: {', '.join(every)}"]
    if beyond:
        words.append(f"{'BEYOND ITS LEVEL' if level else 'NO LEVEL'}: {', '.join(beyond)}")
    return "; ".join(words)


def judge(rows: Sequence[AccessRow]) -> str:
    """The one of `VERDICTS` that is true of what one role can do in one database."""
    expected = {row.expected for row in rows}
    if NO in expected:
        return "beyond" if rows[0].declared_level or rows[0].role == PUBLIC else "foreign"
    return "unknown" if UNKNOWN in expected else "expected" if rows else "none"


Line = tuple[str, list[Sequence[AccessRow]]]


def build_matrices(
    rows: Iterable[AccessRow], databases: Sequence[str], width: int
) -> Iterator[tuple[Sequence[str], list[Line]]]:
    """Tables of roles by databases, a few databases each: their names; each role that is there, and its rows in each.

    The most doubtful first. What is unknown of a database is so of every role that has no rows there.
    """
    found: dict[str, dict[str, list[AccessRow]]] = {name: {} for name in databases}
    for row in rows:
        found.setdefault(row.database, {}).setdefault(row.role, []).append(row)
    for start in range(0, len(databases), width):
        part = databases[start : start + width]
        roles = sorted({role for name in part for role in found[name]} - {""})
        lines: list[Line] = [
            (role, [found[name].get(role) or found[name].get("", []) for name in part]) for role in roles
        ]
        yield part, sorted(lines, key=lambda line: min(VERDICTS.index(judge(cell)) for cell in line[1]))


def render_csv(rows: Iterable[AccessRow]) -> str:
    """The rows as CSV with a header: RFC 4180's quoting, no line breaks in values, formulas defused."""
    lines = map(attrgetter(*COLUMNS), rows)
    return write_csv([COLUMNS, *([csv_cell(value, _LONGEST) for value in line] for line in lines)])


def render_json(report: AccessReport) -> str:
    """The report as JSON; docs/schemas/access.schema.json describes it."""
    fields = asdict(report)
    return json.dumps({"format": FORMAT, **fields.pop("about"), "summary": report.summary(), **fields}, indent=1)


def parse_report(content: bytes, environment: str) -> tuple[str, tuple[AccessRow, ...]]:
    """The time and the rows of a stored report.

    Raises:
        ValueError: it is none of this environment.
    """
    try:
        document = json.loads(content)
        about = _text(document["environment"]), document["format"]
        created = _text(document["created"])
        rows = tuple(AccessRow(**{name: _text(value) for name, value in row.items()}) for row in document["access"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        about, created, rows = ("", None), "", ()
    if about != (environment, FORMAT):
        raise ValueError("it is not a report of this environment")
    return created, rows


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return sanitize(value, _LONGEST)


def compare(before: Sequence[AccessRow], now: Sequence[AccessRow], since: str) -> Comparison:
    """What came and went: a path is the same as long as database, role, capability and path are.

    What a level gives follows whatever its owner makes. Of any other path it counts as well what it leads to.
    """
    return Comparison(since, added=_more(now, before), removed=_more(before, now))


def _more(rows: Sequence[AccessRow], others: Sequence[AccessRow]) -> tuple[AccessRow, ...]:
    paths, places = {_identity(row) for row in others}, {_place(row) for row in others}
    return tuple(
        row for row in rows if _identity(row) not in paths or (row.expected != YES and _place(row) not in places)
    )


def _place(row: AccessRow) -> tuple[str, ...]:
    return *_identity(row), sanitize(row.scope, _LONGEST)


def _identity(row: AccessRow) -> tuple[str, ...]:
    # As they come back from a stored report.
    database, role, path = (sanitize(each, _LONGEST) for each in (row.database, row.role, row.path))
    return database, role, row.capability, path.removeprefix(f"level {row.declared_level}: ")


def reasons(trail: Iterable[AuditRow], rows: Iterable[AccessRow]) -> tuple[Mapping[str, str], ...]:
    """For each role in a database the newest change of the trail that was made for it, and by which run."""
    wanted = {(row.database, row.role) for row in rows}
    found = {
        (row.database, row.username): row
        for row in trail
        if row.status is Status.SUCCESS and (row.database, row.username) in wanted
    }
    names = ("timestamp_utc", "run_id", "build_id", "approved_by", "requested_by")
    return tuple(
        {"database": database, "role": role, **{name: getattr(row, name) for name in names}, "change": row.action}
        for (database, role), row in sorted(found.items())
    )
