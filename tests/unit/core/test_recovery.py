"""A run that was interrupted leaves a note; whoever finds it writes the rows that it owes, and no others."""

import contextlib
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.audit import AuditRow, Provenance, build_rows, read_csv, render_csv
from provisioner.core.changes import Change, ChangeKind, PlannedChange
from provisioner.core.kinds import ObjectKind
from provisioner.core.model import Declaration, Outcome, Status
from provisioner.core.ownership import Ownership
from provisioner.core.recovery import (
    InProgress,
    parse_in_progress,
    recovered_rows,
    render_in_progress,
    shows,
)
from provisioner.core.state import Database, Grant, Marker, ObjectGroup, PasswordCheck, Role, Server, Target
from provisioner.core.stored_plan import StoredPlan, UnreadableRecord, parse_plan

RUN = InProgress("token-1", "governance/dev/plans/p.json", "governance/dev/runs/20261122T101112.123Z-token-1.csv")
PROVENANCE = Provenance("dev", "build-1", "run-1", "terraform", "alice", "version-1", "sha256:1")
CREATE = PlannedChange("create_role", "", "a", ("login role",), "login role")
SET = Change(ChangeKind.SET_PASSWORD, username="b")
PASSWORD = PlannedChange("set_password", "", "b", SET.identity[3:], SET.detail)
NOW = "2026-11-22T10:11:12.123Z"


def seen(*, role: str = "a", password: PasswordCheck = PasswordCheck.CURRENT) -> Ownership:
    marked = {name: Role(name, marker=Marker("dev")) for name in ("b", role)}
    owner = Role("o", marker=Marker("dev", creating=("begun",)))
    databases = {
        "shop": Database("shop", "o", marker=Marker("dev"), groups=GROUPS, extensions=frozenset({"citext"})),
        "begun": Database("begun", "o"),
        "foreign": Database("foreign", "o"),
    }
    server = Server(160000, "admin", "postgres", marked | {"o": owner}, databases, passwords={"b": password})
    return Ownership(Declaration(entries=()), server, "dev")


TABLE = Target(ObjectKind.TABLE, "s", "o", "new")
GROUPS = (
    ObjectGroup(Target(ObjectKind.SCHEMA, "s", "o"), ()),
    ObjectGroup(TABLE, (Grant("o", "b", "SELECT"),)),
    ObjectGroup(Target(ObjectKind.TABLE, "s", "other", "new"), ()),
)


def rows(
    run_csv: bytes = b"", *, left: list[Change] | None = None, ownership: Ownership | None = None
) -> tuple[AuditRow, ...]:
    told = read_csv(run_csv)[0]
    return recovered_rows(
        StoredPlan(PROVENANCE, (CREATE, PASSWORD)), told, left or [], ownership or seen(), "token-1", NOW
    )


def csv_of(*outcomes: Outcome) -> bytes:
    return render_csv(build_rows(PROVENANCE, outcomes), header=True).encode()


def outcome(item: PlannedChange, status: Status, message: str = "") -> Outcome:
    return Outcome(item.action, item.database, item.username, status, NOW, message=message or item.detail)


def planned(change: Change) -> PlannedChange:
    return PlannedChange(change.action, change.database, change.username, change.identity[3:], change.detail)


def test_a_note_is_read_as_it_was_written() -> None:
    assert parse_in_progress(render_in_progress(RUN).encode(), "governance/dev") == RUN
    assert parse_in_progress(render_in_progress(None).encode(), "governance/dev") is None


@pytest.mark.parametrize(
    ("plan", "run"),
    [
        ("governance/prod/plans/p.json", RUN.run_key),
        (RUN.plan_key, "governance/prod/runs/x.csv"),
        (RUN.plan_key, ""),
        (RUN.plan_key, "governance/dev/rds_provision_audit.csv"),
        (RUN.plan_key, "governance/dev/runs/../../prod/runs/x.csv"),
        ("governance/dev/runs/x.csv", RUN.run_key),
    ],
)
def test_a_note_names_only_plans_and_runs_of_its_own_environment(plan: str, run: str) -> None:
    note = json.dumps({"run_token": "t", "plan": plan, "run": run}).encode()
    with pytest.raises(UnreadableRecord):
        parse_in_progress(note, "governance/dev")


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"", None, b"[]", b"1"])
def test_what_cannot_be_read_is_not_ours(content: bytes | None) -> None:
    with pytest.raises(UnreadableRecord):
        parse_in_progress(content, "governance/dev")
    with pytest.raises(UnreadableRecord):
        parse_plan(content, "dev")


def test_rows_written_for_a_run_lie_beside_its_own() -> None:
    assert RUN.recovered_key == "governance/dev/runs/20261122T101112.123Z-token-1-settled.csv"


def test_what_stands_is_told_with_the_name_and_approval_of_the_run_that_did_it() -> None:
    created, password = rows()
    assert (created.action, created.username, created.status) == ("create_role", "a", Status.SUCCESS)
    assert created.message == "login role; planned by run token-1, which was cut off, and found to stand"
    assert (created.run_id, created.approved_by, created.plan_digest) == ("run-1", "alice", "sha256:1")
    assert (password.action, password.timestamp_utc) == ("set_password", NOW)


def test_what_is_still_to_do_was_not_done() -> None:
    assert [row.action for row in rows(left=[SET])] == ["create_role"]


def test_what_the_server_does_not_show_is_unknown_whatever_is_declared() -> None:
    created, password = rows(ownership=seen(role="another", password=PasswordCheck.UNKNOWN))
    assert (created.status, password.status) == (Status.UNKNOWN, Status.UNKNOWN)
    assert created.message.endswith("which was cut off, and the server does not show whether it was made")


def test_what_the_run_told_itself_is_not_told_again() -> None:
    assert [row.action for row in rows(csv_of(outcome(CREATE, Status.SUCCESS)))] == ["set_password"]


def test_what_the_run_never_began_is_not_told_again() -> None:
    skipped = csv_of(outcome(CREATE, Status.SKIPPED, "the roles could not be changed"))
    assert [row.action for row in rows(skipped)] == ["set_password"]


def test_a_change_that_the_run_took_for_failed_is_told_when_it_stands() -> None:
    """The answer to a COMMIT was lost: the run had to say error."""
    created, password = rows(csv_of(outcome(CREATE, Status.ERROR)))
    assert (created.action, password.action) == ("create_role", "set_password")
    assert created.message == "login role; planned by run token-1, which ended with errors, and found to stand"


GRANT = Change(
    ChangeKind.GRANT,
    database="shop",
    username="b",
    owner="o",
    grantor="o",
    privileges=("SELECT",),
    targets=(replace(TABLE, acl="old"),),
)
REVOKE = Change(
    ChangeKind.REVOKE,
    database="shop",
    username="b",
    owner="o",
    grantor="o",
    privileges=("SELECT",),
    targets=(replace(TABLE, acl="old"),),
)
FUTURE = Target(ObjectKind.TABLE, owner="o", creator="o")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change(ChangeKind.CREATE_ROLE, username="a"), True),
        (Change(ChangeKind.CREATE_ROLE, username="nobody"), False),
        (Change(ChangeKind.ADOPT_ROLE, username="a"), True),
        (Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username="a"), True),
        (Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username="o"), False),
        (Change(ChangeKind.ALTER_ROLE, username="a", createdb=False), True),
        (Change(ChangeKind.ALTER_ROLE, username="a", createdb=True), False),
        (Change(ChangeKind.ALTER_ROLE, username="a", createdb=False, connection_limit=5), False),
        (Change(ChangeKind.SET_PASSWORD, username="b"), True),
        (Change(ChangeKind.SET_PASSWORD, username="a"), False),
        (Change(ChangeKind.REVOKE_MEMBERSHIP, username="a", subject="b"), True),
        (Change(ChangeKind.REVOKE_MEMBERSHIP, username="a", subject="gone"), False),
        (Change(ChangeKind.CREATE_DATABASE, database="shop", username="o"), True),
        (Change(ChangeKind.CREATE_DATABASE, database="begun", username="o"), True),
        (Change(ChangeKind.CREATE_DATABASE, database="foreign", username="o"), False),
        (Change(ChangeKind.CREATE_DATABASE, database="shop", username="a"), False),
        (Change(ChangeKind.CREATE_DATABASE, database="nowhere", username="o"), False),
        (Change(ChangeKind.ADOPT_DATABASE, database="shop", username="o"), True),
        (Change(ChangeKind.ADOPT_DATABASE, database="begun", username="o"), False),
        (Change(ChangeKind.CREATE_EXTENSION, database="shop", username="o", subject="citext"), True),
        (Change(ChangeKind.CREATE_EXTENSION, database="shop", username="o", subject="hstore"), False),
        (GRANT, True),
        (REVOKE, False),
        (replace(GRANT, privileges=("INSERT",)), False),
        (replace(REVOKE, privileges=("INSERT",)), True),
        (replace(GRANT, grant_option=True), False),
        (replace(GRANT, targets=(TABLE, replace(TABLE, owner="other"))), False),
        (replace(GRANT, database="foreign"), False),
        (replace(REVOKE, database="foreign", privileges=("INSERT",)), False),
        (replace(REVOKE, targets=(replace(TABLE, schema="gone"),)), False),
        (replace(GRANT, kind=ChangeKind.GRANT_DEFAULT, targets=(FUTURE,)), False),
        (replace(GRANT, kind=ChangeKind.REVOKE_DEFAULT, targets=(FUTURE,)), True),
    ],
)
def test_success_is_said_only_of_what_the_server_shows(change: Change, *, expected: bool) -> None:
    assert shows(seen(), planned(change)) is expected


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role("q", can_login=False, marker=Marker("dev", quarantined="2026-11-22")), True),
        (Role("q", can_login=True, marker=Marker("dev", quarantined="2026-11-22")), False),
        (Role("q", can_login=False, marker=Marker("dev")), False),
        (Role("q", can_login=False, marker=Marker("stage", quarantined="2026-11-22")), False),
    ],
)
def test_a_quarantine_is_shown_by_a_mark_of_ours_on_a_role_that_cannot_log_in(role: Role, *, expected: bool) -> None:
    ownership = seen()
    ownership = replace(ownership, server=replace(ownership.server, roles={"q": role}))
    assert shows(ownership, planned(Change(ChangeKind.QUARANTINE_ROLE, username="q"))) is expected


@pytest.mark.parametrize("kind", [ChangeKind.DROP_ROLE, ChangeKind.PASS_OBJECTS])
@pytest.mark.parametrize(("role", "expected"), [("gone", True), ("a", False)])
def test_what_a_role_leaves_with_is_shown_by_its_being_gone(kind: ChangeKind, role: str, *, expected: bool) -> None:
    assert shows(seen(), planned(Change(kind, username=role))) is expected


def test_a_change_of_a_form_that_we_do_not_know_is_shown_by_nothing() -> None:
    for action in ("revoke_membership", "grant", "create_extension", "alter_role", "anything"):
        assert not shows(seen(), PlannedChange(action, "shop", "b"))


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
    stored = parse_plan(json.dumps(document).encode(), "dev")
    assert (stored.provenance, stored.changes) == (PROVENANCE, (CREATE,))
    with pytest.raises(UnreadableRecord):
        parse_plan(json.dumps(document).encode(), "prod")


def test_a_plan_of_a_version_that_said_less_of_a_run_is_read_back() -> None:
    stored = json.dumps({"environment": "dev", "changes": []}).encode()
    assert parse_plan(stored, "dev").provenance == Provenance("dev")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["run_token", "plan", "run", "changes", "environment", "identity", "action"])


@pytest.mark.parametrize(
    "parse", [partial(parse_in_progress, folder="governance/dev"), partial(parse_plan, environment="dev")]
)
@given(content=st.binary(max_size=50) | st.dictionaries(FIELDS, JSON).map(lambda value: json.dumps(value).encode()))
def test_whatever_lies_there_is_read_or_refused_with_a_value_error(parse: Any, content: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse(content)
