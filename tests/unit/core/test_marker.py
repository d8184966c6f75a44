"""A mark survives being written and read, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.marker import parse_marker, render_marker
from provisioner.core.state import Marker

MARKERS = st.builds(
    Marker,
    environment=st.text(min_size=1),
    creating=st.lists(st.text(), unique=True).map(lambda names: tuple(sorted(names))),
    has_temporary_membership=st.booleans(),
    comment=st.text(),
)


def test_a_mark_is_short_where_it_says_little() -> None:
    assert render_marker(Marker("dev")) == '{"managed_by": "rds-provisioner", "environment": "dev"}'


def test_a_mark_says_what_is_under_way() -> None:
    assert render_marker(Marker("dev", creating=("one", "two"), has_temporary_membership=True)) == (
        '{"managed_by": "rds-provisioner", "environment": "dev", "creating": ["one", "two"], "borrowed": true}'
    )


@given(MARKERS)
def test_what_was_written_is_read(marker: Marker) -> None:
    assert parse_marker(render_marker(marker)) == marker


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "managed by rds-provisioner",
        '"rds-provisioner"',
        '["rds-provisioner"]',
        '{"managed_by": "somebody else of rds-provisioner", "environment": "dev"}',
        '{"managed_by": "rds-provisioner"}',
        '{"managed_by": "rds-provisioner", "environment": 1}',
        '{"managed_by": "rds-provisioner", "environment": "dev", "creating": "one"}',
        '{"managed_by": "rds-provisioner", "environment": "dev"',
        "[" * 100_000 + "rds-provisioner",
    ],
)
def test_other_comments_are_no_mark(comment: str) -> None:
    assert parse_marker(comment) == Marker(comment=comment)


def test_a_mark_with_what_we_would_not_write_is_not_current() -> None:
    marker = parse_marker('{"managed_by": "rds-provisioner", "environment": "dev", "verifier": "0123abcd"}')
    assert not marker.current
    assert parse_marker(render_marker(marker)).current


@given(st.text())
def test_no_comment_breaks_the_reading(comment: str) -> None:
    parse_marker(comment)
    parse_marker(f"{comment}rds-provisioner{comment}")


def test_fields_of_another_type_are_read_as_empty() -> None:
    comment = (
        '{"managed_by": "rds-provisioner", "environment": "dev", "creating": [1, "one"], "borrowed": "yes",'
        ' "comment": null}'
    )
    assert parse_marker(comment) == Marker("dev", creating=("one",))


def test_a_lone_surrogate_in_a_mark_becomes_a_question_mark() -> None:
    managed = r'"managed_by": "rds-provisioner"'
    comment = "{" + managed + r', "environment": "x\ud800", "comment": "a\udfffb", "creating": ["\ud801"]}'
    marker = parse_marker(comment)
    assert (marker.environment, marker.comment, marker.creating) == ("x?", "a?b", ("?",))
    render_marker(marker).encode()
