"""The bench wraps functions of the product by name; a name that is gone would be noticed half an hour too late."""

import importlib
from operator import attrgetter

import pytest

from bench import report
from bench.call import PHASES

PLACES = [place for places in PHASES.values() for place in places]


@pytest.mark.parametrize("place", PLACES)
def test_what_a_phase_is_made_of_is_there(place: str) -> None:
    module, _, name = place.partition(".")
    assert callable(attrgetter(name)(importlib.import_module(f"provisioner.{module}")))


def test_a_table_is_put_between_its_marks_and_nothing_else_is_touched() -> None:
    page = "a\n<!-- measured: one -->\nold\n<!-- end -->\nb\n<!-- measured: two -->\nkept\n<!-- end -->\n"

    filled = report.fill(page, {"one": "new", "absent": "nowhere"})

    assert filled == "a\n<!-- measured: one -->\nnew\n<!-- end -->\nb\n<!-- measured: two -->\nkept\n<!-- end -->\n"
