"""The report of who can do what: its files, what came and went, what is no report."""

import csv
import io
import json
from dataclasses import replace

import jsonschema
import pytest

from provisioner.core.access_facts import Capability
from provisioner.core.access_report import (
    VERDICTS,
    build_matrices,
    compare,
    describe,
    judge,
    parse_report,
    reasons,
    render_csv,
    render_json,
)
from provisioner.core.access_rows import COLUMNS, AccessRow
from provisioner.core.audit import AuditRow
from provisioner.core.model import Status
from stack.access_example import example
from stack.binaries import ROOT

SCHEMA = json.loads((ROOT / "docs/schemas/access.schema.json").read_text())


def test_the_json_is_what_its_schema_says_and_the_schema_has_the_words_of_the_code() -> None:
    document = json.loads(render_json(example(is_hostile=True)))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert SCHEMA["$defs"]["row"]["properties"]["capability"]["enum"] == list(Capability)
    assert set(SCHEMA["required"]) == document.keys()


def test_the_csv_has_the_columns_of_the_contract_and_one_row_for_each_path() -> None:
    report = example()
    rows = list(csv.reader(io.StringIO(render_csv(report.access))))
    assert rows[0] == ["database", "role", "capability", "scope", "path", "declared_level", "managed", "expected"]
    assert len(rows) == len(report.access) + 1
    assert tuple(rows[0]) == COLUMNS
    assert len(set(map(tuple, rows))) == len(rows)


def test_a_stored_report_is_read_again() -> None:
    report = example(is_hostile=True)
    created, rows = parse_report(render_json(report).encode(), "prod")
    assert (created, rows) == (report.about["created"], report.access)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"null", b'{"format": 1}', b"[" * 100_000, b"\xff", render_json(example()).encode()],
)
def test_what_is_no_report_of_this_environment_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a report of this environment"):
        parse_report(content, "dev")


def test_a_report_with_other_values_than_texts_is_refused() -> None:
    document = json.loads(render_json(example()))
    document["access"][0]["role"] = ["x"]
    with pytest.raises(ValueError, match="not a report"):
        parse_report(json.dumps(document).encode(), "prod")


def test_what_came_and_what_went_is_told_and_a_table_more_is_neither() -> None:
    rows = example().access
    number = next(each for each, row in enumerate(rows) if row.expected == "yes" and 0 < each < len(rows) - 1)
    more = replace(rows[number], scope="2 tables in schema public")
    difference = compare(rows[1:], (*rows[:number], more, *rows[number + 1 : -1]), "then")
    assert difference.added == rows[:1]
    assert difference.removed == rows[-1:]


def test_a_table_more_is_both_where_no_level_gives_it() -> None:
    rows = example().access
    number = next(each for each, row in enumerate(rows) if row.expected == "no" and row.declared_level)
    more = replace(rows[number], scope="2 tables in schema public")
    difference = compare(rows, (*rows[:number], more, *rows[number + 1 :]), "then")
    assert (difference.added, difference.removed) == ((more,), (rows[number],))


def test_a_name_that_does_not_print_is_no_difference_to_itself() -> None:
    report = example()
    rows = tuple(replace(row, role="a\nb\u202ec", path=f"level x:\n{row.path}") for row in report.access)
    since, before = parse_report(render_json(replace(report, access=rows)).encode(), "prod")
    difference = compare(before, rows, since)
    assert (difference.added, difference.removed) == ((), ())


def test_a_role_that_is_not_listed_where_something_is_unknown_is_unknown_and_the_most_doubtful_come_first() -> None:
    rows = example().access
    more = AccessRow("billing", "", "unknown", "the database", "more than 20000 paths", "", "no", "unknown")
    [(_, shop), (_, billing)] = build_matrices([*rows, more], ["shop", "billing"], 1)
    verdicts = [judge(found) for _, [found] in shop]
    assert shop[0][0] == "shop_reader"
    assert verdicts == sorted(verdicts, key=VERDICTS.index)
    [(names, both)] = build_matrices([*rows, more], ["shop", "billing"], 2)
    assert list(names) == ["shop", "billing"]
    assert {role: describe(cells[1]) for role, cells in both}["shop_reader"] == "unknown"
    assert "" not in {role for role, _ in (*both, *billing)}


def test_the_reason_is_the_last_change_that_succeeded_for_the_role_in_the_database() -> None:
    row = next(row for row in example().access if row.role == "shop_reader")
    audit = AuditRow(
        "t1", "prod", "b1", "r1", "shop", "shop_reader", "grant", Status.SUCCESS, 1, "", "tf", "alice", "v", "d"
    )
    trail = [audit, replace(audit, timestamp_utc="t2", run_id="r2"), replace(audit, run_id="r3", status=Status.ERROR)]
    [reason] = reasons([*trail, replace(audit, username="another")], [row])
    assert (reason["run_id"], reason["approved_by"], reason["change"]) == ("r2", "alice", "grant")
