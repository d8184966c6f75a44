"""The message of an error fits into the answer of a failed invocation, however many names and findings there are."""

import json

import pytest

from provisioner.core.errors import Finding, InvalidRequest
from provisioner.core.request import parse_request
from provisioner.core.text import join_names
from provisioner.settings import read_settings

SETTINGS = read_settings({"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit"})


@pytest.mark.parametrize("character", ["x", "\U0001f600", "\u00e9"])
@pytest.mark.parametrize("count", [1, 2, 300, 5000])
def test_an_error_stays_below_what_lambda_carries(character: str, count: int) -> None:
    error = InvalidRequest(Finding("code", f"{number}{character * 100_000}") for number in range(count))
    assert len(json.dumps(str(error))) < 200_000


def test_names_are_ten_and_a_count() -> None:
    assert join_names(["a", "b"]) == "a, b"
    assert join_names(str(number) for number in range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert len(join_names(["\U0001f600" * 254] * 1000)) < 1000


def test_many_unknown_fields_of_an_event_are_one_short_message() -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_request({"environment": "dev", **{f"f{number}": 1 for number in range(5000)}}, SETTINGS)
    assert len(str(error.value)) < 2000
