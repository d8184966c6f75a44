"""A run that was cut off leaves a note; whoever finds it writes the rows that it owes, and no others."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.audit import AuditRow, Provenance, build_rows, render_csv
from provisioner.core.model import Outcome, Status
from provisioner.core.open_run import (
    OpenRun,
    PlannedChange,
    StoredPlan,
    parse_note,
    parse_plan,
    render_note,
    settle,
)
from provisioner.core.plan import SetPassword

RUN = OpenRun("token-1", "governance/dev/plans/p.json", "governance/dev/runs/20261122T101112.123Z-token-1.csv")
PROVENANCE = Provenance("dev", "build-1", "run-1", "terraform", "alice", "version-1", "sha256:1")
CREATE = PlannedChange(("create_role", "", "a", "login role"), "create_role", "", "a", "login role")
SET = SetPassword(username="b")
PASSWORD = PlannedChange(SET.identity(), "set_password", "", "b", SET.detail)
NOW = "2026-11-22T10:11:12.123Z"


def rows(run_csv: bytes = b"", *, left: list[SetPassword] | None = None) -> tuple[AuditRow, ...]:
    return settle(StoredPlan(PROVENANCE, (CREATE, PASSWORD)), run_csv, left or [], "token-1", NOW)


def csv_of(*outcomes: Outcome) -> bytes:
    return render_csv(build_rows(PROVENANCE, outcomes), header=True).encode()


def outcome(item: PlannedChange, status: Status) -> Outcome:
    return Outcome(item.action, item.database, item.username, status, NOW, message=item.detail)


def test_a_note_is_read_as_it_was_written() -> None:
    assert parse_note(render_note(RUN).encode()) == RUN
    assert parse_note(render_note(None).encode()) is None


def test_rows_written_for_a_run_lie_beside_its_own() -> None:
    assert RUN.settled_key == "governance/dev/runs/20261122T101112.123Z-token-1-settled.csv"


def test_what_stands_is_told_with_the_name_and_approval_of_the_run_that_did_it() -> None:
    created, password = rows()
    assert (created.action, created.username, created.status) == ("create_role", "a", Status.SUCCESS)
    assert created.message == "login role; planned by run token-1, which was cut off, and found to stand"
    assert (created.run_id, created.approved_by, created.plan_digest) == ("run-1", "alice", "sha256:1")
    assert (password.action, password.timestamp_utc) == ("set_password", NOW)


def test_what_is_still_to_do_was_not_done() -> None:
    assert [row.action for row in rows(left=[SET])] == ["create_role"]


def test_what_the_run_told_itself_is_not_told_again() -> None:
    assert [row.action for row in rows(csv_of(outcome(CREATE, Status.SUCCESS)))] == ["set_password"]


def test_a_change_that_the_run_took_for_failed_is_told_when_it_stands() -> None:
    """The answer to a COMMIT was lost: the run had to say error."""
    assert [row.action for row in rows(csv_of(outcome(CREATE, Status.ERROR)))] == ["create_role", "set_password"]


def test_a_csv_of_somebody_else_tells_nothing() -> None:
    assert len(rows(b"when,what\n1,2\n")) == 2


def test_a_stored_plan_is_read_back() -> None:
    change = {"action": "create_role", "database": "", "username": "a", "detail": "login role", "destructive": False}
    document = {
        "environment": "dev",
        "build_id": "build-1",
        "run_id": "run-1",
        "requested_by": "terraform",
        "approved_by": "alice",
        "snapshot_version": "version-1",
        "plan_digest": "sha256:1",
        "changes": [change | {"identity": ["create_role", "", "a", "login role"]}],
    }
    assert parse_plan(json.dumps(document).encode()) == StoredPlan(PROVENANCE, (CREATE,))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["run_token", "plan", "run", "changes", "environment", "identity", "action"])


@pytest.mark.parametrize("parse", [parse_note, parse_plan])
@given(content=st.binary(max_size=50) | st.dictionaries(FIELDS, JSON).map(lambda value: json.dumps(value).encode()))
def test_whatever_lies_there_is_read_or_refused_with_a_value_error(parse: Any, content: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse(content)
