"""A report of access in, one HTML file out: no script, no address from elsewhere, every value escaped by the template.

The only module that knows the template engine; it is loaded in this mode alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from jinja2 import Environment, PackageLoader, StrictUndefined

from provisioner.core.access_report import AccessReport, RoleFact, describe
from provisioner.core.access_rows import NO, UNKNOWN, AccessRow
from provisioner.core.state import PUBLIC
from provisioner.core.text import sanitize

# Databases side by side in one table: what fits a sheet of paper.
MATRIX_WIDTH = 6
_LONGEST = 5_000
_SUPERUSER = "attribute SUPERUSER"
_WORDS = {"yes": "expected", NO: "beyond", UNKNOWN: "unknown"}


def render_html(report: AccessReport) -> str:
    """The whole report as one file."""
    environment = Environment(
        autoescape=True,
        finalize=_printable,
        loader=PackageLoader("provisioner.core"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("access.html").render(_view(report))


def _printable(value: object) -> object:
    """What a template puts out: texts as one printable line each, but for what a macro has made of them."""
    return sanitize(value, _LONGEST) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _view(report: AccessReport) -> dict[str, object]:
    rows = [row for row in report.rows if row.role and not row.path.startswith(_SUPERUSER)]
    by_database = _grouped(rows, "database")
    by_role = _grouped(rows, "role")
    superusers = sorted({row.role for row in report.rows} & {each.name for each in report.roles if _is_super(each)})
    beyond = [row for row in rows if row.expected == NO]
    return {
        "about": report.about,
        "summary": report.summary(),
        "warnings": report.warnings,
        "superusers": superusers,
        "beyond_level": [_line(row) for row in beyond if row.declared_level],
        "of_public": [_line(row) for row in beyond if row.role == PUBLIC],
        "without_level": [_line(row) for row in beyond if not row.declared_level and row.role != PUBLIC],
        "matrices": _matrices(report, rows),
        "since": report.difference.since,
        "added": [_line(row) for row in report.difference.added],
        "removed": [_line(row) for row in report.difference.removed],
        "changed": [each for each in report.reasons if each.timestamp_utc > report.difference.since],
        "databases": [
            {
                "fact": each,
                "anchor": f"database-{number}",
                "rows": [_line(row) for row in by_database.get(each.name, ())],
                "dormant": [item for database, item in report.dormant if database == each.name],
                "reasons": [item for item in report.reasons if item.database == each.name],
            }
            for number, each in enumerate(report.databases, 1)
        ],
        "roles": [
            {
                "fact": each,
                "anchor": f"role-{number}",
                "databases": _summaries(by_role.get(each.name, ())),
                "is_superuser": each.name in superusers,
            }
            for number, each in enumerate(report.roles, 1)
        ],
    }


def _is_super(role: RoleFact) -> bool:
    return "SUPERUSER" in role.attributes


def _grouped(rows: Iterable[AccessRow], name: str) -> dict[str, list[AccessRow]]:
    key = attrgetter(name)
    return {value: list(group) for value, group in groupby(sorted(rows, key=key), key)}


def _line(row: AccessRow) -> dict[str, object]:
    """A row with the word and the class of what is expected of it."""
    return {"row": row, "word": _WORDS[row.expected], "name": _name(row.role)}


def _name(role: str) -> str:
    return "PUBLIC (every role)" if role == PUBLIC else sanitize(role, 63)


def _summaries(rows: Sequence[AccessRow]) -> list[dict[str, str]]:
    return [
        {"database": database, "words": describe(found), "class": _class(found)}
        for database, found in _grouped(rows, "database").items()
    ]


def _class(rows: Sequence[AccessRow]) -> str:
    expected = {row.expected for row in rows}
    if NO in expected:
        return "beyond" if rows[0].declared_level or rows[0].role == PUBLIC else "foreign"
    return "unknown" if UNKNOWN in expected else "expected"


def _matrices(report: AccessReport, rows: Sequence[AccessRow]) -> list[dict[str, object]]:
    """Tables of roles by databases, a few databases each, with the roles that are in one of those."""
    names = [each.name for each in report.databases]
    unknown = {each.name for each in report.databases if each.unknown}
    cells: dict[tuple[str, str], list[AccessRow]] = {}
    for row in rows:
        cells.setdefault((row.role, row.database), []).append(row)
    order = {"beyond": 0, "foreign": 1, "unknown": 2, "expected": 3}
    found = []
    for start in range(0, len(names), MATRIX_WIDTH):
        part = names[start : start + MATRIX_WIDTH]
        lines = []
        for role in sorted({role for role, database in cells if database in part}):
            line = [_cell(cells.get((role, database), []), is_unknown=database in unknown) for database in part]
            worst = min(order.get(cell["class"], 4) for cell in line)
            lines.append((worst, {"role": _name(role), "cells": line}))
        found.append({"databases": part, "lines": [line for _, line in sorted(lines, key=lambda item: item[0])]})
    return found


def _cell(rows: Sequence[AccessRow], *, is_unknown: bool) -> dict[str, str]:
    if is_unknown:
        return {"words": "unknown", "class": "unknown"}
    return {"words": describe(rows), "class": _class(rows)} if rows else {"words": "no access", "class": "none"}
