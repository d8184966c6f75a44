"""One reader for every untrusted mapping: what is wrong is said by type and place, all at once, and never quoted."""

from __future__ import annotations

from decimal import Decimal

import pytest

from provisioner.core.document import NotLiteral, Object
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.fields import MAX_FINDINGS, Fields, Problems, Shape, describe
from provisioner.core.model import Entry


def fields(**values: object) -> Fields:
    return Fields(values, Problems("terraform.tfvars"), "wrong_type")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "a bool"),
        ("tr0ub4dor", "a string"),
        (7, "a number"),
        (1.5, "a number"),
        (Decimal(1), "a number"),
        ([], "a list"),
        ((), "a list"),
        ({}, "an object"),
        (Object(()), "an object"),
        (NotLiteral.COMPUTED, "a template, a heredoc or another computed value"),
    ],
)
def test_a_value_is_described_by_its_type_alone(value: object, words: str) -> None:
    assert describe(value) == words


@pytest.mark.parametrize(("kind", "value"), [(str, 7), (bool, 1), (int, True), (list, {}), (dict, []), (str, None)])
def test_a_value_of_another_type_is_refused_and_reads_as_absent(kind: type, value: object) -> None:
    found = fields(name=value)
    assert found.read("name", kind, "what is wanted", "correct it") is None
    (finding,) = found.problems.findings
    message = f"name must be what is wanted, not {describe(value)}"
    assert finding == Finding("wrong_type", message, "correct it", "terraform.tfvars name")


@pytest.mark.parametrize("value", [False, "", 0, [], {}])
def test_a_value_that_is_empty_is_a_value(value: object) -> None:
    found = fields(name=value)
    assert found.read("name", type(value), "what it is") == value
    assert found.problems.findings == []


def test_what_is_absent_is_no_problem() -> None:
    found = fields()
    assert found.read("name", str, "a string") is None
    assert found.text("name", default="default") == "default"
    assert found.problems.findings == []


def test_what_was_reported_already_is_not_reported_again() -> None:
    found = fields(name=NotLiteral.REFUSED)
    assert found.read("name", str, "a string") is None
    assert found.problems.findings == []


@pytest.mark.parametrize(
    ("value", "code", "next_step"),
    [
        (NotLiteral.FOR, "for_expression", "write the values out"),
        (NotLiteral.COMPUTED, "computed_value", "write it in quotes"),
        (7, "wrong_type", "write it in quotes"),
    ],
)
def test_what_is_no_literal_has_a_code_of_its_own(value: object, code: str, next_step: str) -> None:
    found = fields(name=value)
    found.read("name", str, "a string", "write it in quotes")
    assert [(each.code, each.next_step) for each in found.problems.findings] == [(code, next_step)]


@pytest.mark.parametrize("value", ["x" * 9, "a\nb", "a\u202eb", "\ud800", "B"])
def test_a_text_that_is_too_long_unprintable_or_of_another_shape_reads_as_its_default(value: str) -> None:
    found = fields(name=value)
    read = found.text("name", Shape("lower-case letters", "[a-z]*", limit=8), "default")
    assert read == "default"
    assert [each.message for each in found.problems.findings] == ["name must be lower-case letters"]


def test_a_finding_has_the_line_the_path_and_the_names_of_its_subject() -> None:
    found = Fields(
        {"name": 1},
        Problems("terraform.tfvars"),
        "wrong_type",
        path="application_databases.a.",
        lines={"name": 7},
        line=5,
        subject=Entry("a", "d", "u"),
    )
    found.read("name", str, "a string")
    found.refuse("missing_attribute", "other", "other is missing", "add it")
    assert [(each.where, each.database, each.username) for each in found.problems.findings] == [
        ("terraform.tfvars:7 application_databases.a.name", "d", "u"),
        ("terraform.tfvars:5 application_databases.a.other", "d", "u"),
    ]


def test_a_problem_with_the_mapping_itself_has_its_place() -> None:
    found = Fields({}, Problems(), "event", path="detail.")
    found.refuse("event", "", "the event names no secret", "send it as CloudTrail writes it")
    assert [each.where for each in found.problems.findings] == ["detail"]


def test_a_key_that_could_be_a_secret_is_not_shown() -> None:
    found = fields(**{"tr0ub4dor&3": 1})
    found.read("tr0ub4dor&3", str, "a string")
    assert "tr0ub4dor" not in repr(found.problems.findings)


def test_all_problems_are_raised_at_once_and_very_many_are_counted() -> None:
    problems = Problems("terraform.tfvars")
    problems.raise_if_any(InvalidSnapshot)
    for number in range(MAX_FINDINGS + 5):
        problems.refuse("wrong_type", f"problem {number}", "correct it", problems.location(number))
    with pytest.raises(InvalidSnapshot) as caught:
        problems.raise_if_any(InvalidSnapshot)
    *kept, last = caught.value.findings
    assert len(kept) == MAX_FINDINGS
    assert (last.code, last.message) == ("too_many", "5 more problems are not listed")
