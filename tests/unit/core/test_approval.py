"""What an approval covers: the units that were read, whole or what is left of them, and what depends on no other."""

from dataclasses import replace

import pytest

from provisioner.core.approval import leave_unapproved
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.kinds import ObjectKind
from provisioner.core.plan import Plan
from provisioner.core.state import Target

ARN = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:shop-AbCdEf"
DATABASE = Target(ObjectKind.DATABASE, owner="shop_user")
ROLE = Change(ChangeKind.CREATE_ROLE, username="shop_user", secret=ARN)
CREATE = Change(ChangeKind.CREATE_DATABASE, database="shop", username="shop_user")
GRANT = Change(
    ChangeKind.GRANT,
    database="shop",
    username="reader",
    owner="shop_user",
    grantor="shop_user",
    privileges=("CONNECT",),
    targets=(DATABASE,),
)
REVOKE = Change(
    ChangeKind.REVOKE,
    database="shop",
    username="public",
    owner="shop_user",
    grantor="shop_user",
    privileges=("CONNECT", "TEMPORARY"),
    targets=(DATABASE,),
)
OTHER = Change(ChangeKind.CREATE_DATABASE, database="bank", username="bank_user")
READ = Plan("prod", (ROLE, CREATE, GRANT, REVOKE, OTHER))


def left(now: Plan, read: Plan = READ, continued: tuple[str, ...] = ()) -> tuple[list[tuple[str, str]], set[Change]]:
    """The units that are named, as database and role, and the changes that are left."""
    plan = leave_unapproved(now, read.units, continued)
    named = [(each.database, each.username) for each in plan.unapproved]
    return named, set(plan.changes) - set(plan.unblocked_changes)


def test_what_was_read_is_covered_whole_and_the_digest_stays_what_it_is() -> None:
    assert left(READ) == ([], set())
    assert leave_unapproved(READ, READ.units).digest == READ.digest


def test_what_is_left_of_a_unit_is_covered_too() -> None:
    assert left(Plan("prod", (GRANT, REVOKE))) == ([], set())


def test_a_unit_that_would_do_more_is_left_whole_and_no_other_is() -> None:
    more = replace(GRANT, privileges=("CONNECT", "TEMPORARY"))
    now = Plan("prod", (CREATE, more, REVOKE, OTHER))
    assert left(now) == ([("shop", "")], {CREATE, more, REVOKE})


@pytest.mark.parametrize(
    "now",
    [
        replace(GRANT, targets=(replace(DATABASE, owner="somebody"),)),
        replace(GRANT, grantor="somebody"),
        replace(REVOKE, username="reader"),
    ],
)
def test_the_same_words_about_something_else_are_not_what_was_read(now: Change) -> None:
    assert left(Plan("prod", (now,))) == ([("shop", "")], {now})


def test_what_is_new_on_what_another_role_made_stands_against_that_role_alone() -> None:
    made = Target(ObjectKind.TABLE, owner="reader", creator="reader")
    noise = replace(REVOKE, kind=ChangeKind.REVOKE_DEFAULT, privileges=("INSERT",), targets=(made,), grantor="reader")
    now = Plan("prod", (*READ.changes, noise))
    assert left(now) == ([("", "reader")], {noise, GRANT})


def test_another_secret_leaves_the_role_and_all_that_is_made_in_its_place() -> None:
    role = replace(ROLE, secret=ARN.replace("AbCdEf", "GhIjKl"))
    now = Plan("prod", (role, CREATE, GRANT, REVOKE, OTHER))
    assert left(now) == ([("", "shop_user")], {role, CREATE, GRANT, REVOKE})


def test_a_role_that_is_left_gets_no_grants_and_keeps_nobody_back() -> None:
    password = Change(ChangeKind.SET_PASSWORD, username="reader", secret=ARN)
    now = Plan("prod", (password, *READ.changes))
    assert left(now) == ([("", "reader")], {password, GRANT})


def test_a_unit_that_nobody_read_of_is_left() -> None:
    new = Change(ChangeKind.CREATE_DATABASE, database="new", username="bank_user")
    assert left(Plan("prod", (*READ.changes, new))) == ([("new", "")], {new})


def test_to_mark_what_an_interrupted_run_created_is_to_finish_it_and_to_adopt_another_is_not() -> None:
    adopt = Change(ChangeKind.ADOPT_DATABASE, database="shop", username="shop_user")
    assert left(Plan("prod", (adopt, REVOKE)), continued=("shop",)) == ([], set())
    assert left(Plan("prod", (adopt, REVOKE))) == ([("shop", "")], {adopt, REVOKE})
    someone = replace(adopt, username="somebody")
    assert left(Plan("prod", (someone,)), continued=("shop",)) == ([("shop", "")], {someone})


def test_what_only_ends_an_interrupted_run_needs_not_to_have_been_read() -> None:
    assert left(Plan("prod", (Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username="shop_user"),))) == ([], set())


def test_what_was_blocked_when_it_was_read_is_left_once_it_is_not() -> None:
    blocker = Finding("foreign_role", "shop_user is not managed here", username="shop_user")
    read = replace(READ, blockers=(blocker,))
    assert left(READ, read) == ([("", "shop_user")], {ROLE, CREATE, GRANT, REVOKE})
    # Still blocked, it is left for that, and there is nothing to name besides.
    assert left(read, read) == ([], {ROLE, CREATE, GRANT, REVOKE})
    # Where nothing of it is left to do there is nothing to name either.
    assert left(Plan("prod", (OTHER,)), read) == ([], set())


def test_where_the_whole_plan_was_blocked_nothing_of_it_is_done() -> None:
    read = replace(READ, blockers=(Finding("server_too_old", "12"),))
    assert left(READ, read) == ([("", "")], set(READ.changes))


def test_a_role_is_retired_whole_or_not_at_all() -> None:
    """Noise in somebody else's database, where it holds something, keeps the role and its own database as they are."""
    leaving = (
        Change(ChangeKind.KEEP_DATABASE, database="old", username="leaver", reason="kept"),
        Change(ChangeKind.PASS_OBJECTS, database="old", username="leaver", owner="admin", subject="admin"),
        Change(ChangeKind.PASS_OBJECTS, database="shop", username="leaver", owner="shop_user", subject="shop_user"),
        Change(ChangeKind.DROP_ROLE, username="leaver", reason="retired"),
    )
    noise = replace(REVOKE, privileges=("CREATE",))
    now = Plan("prod", (noise, OTHER, *leaving))
    assert left(now, Plan("prod", (OTHER, *leaving))) == ([("shop", ""), ("", "leaver")], {noise, *leaving})
