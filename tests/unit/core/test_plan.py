"""A plan is a value: printable, and told apart by what it does and not by what it counts."""

from dataclasses import replace

import pytest

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.kinds import ObjectKind
from provisioner.core.plan import Plan
from provisioner.core.state import Role, Target
from unit.core.shop import OWNER, ours, ownership_of, plan_of

TABLES = Target(ObjectKind.TABLE, schema="app", owner="o", acl="one")

GRANT = Change(
    ChangeKind.GRANT,
    database="shop",
    username="r",
    owner="o",
    grantor="o",
    privileges=("SELECT",),
    targets=(TABLES,),
    object_count=2,
)


PLAN = Plan("dev", changes=(GRANT, Change(ChangeKind.CREATE_ROLE, username="r")))


def test_a_digest_is_the_hash_of_what_is_done() -> None:
    assert PLAN.digest == Plan("dev", changes=tuple(reversed(PLAN.changes))).digest
    assert PLAN.digest.startswith("sha256:")
    assert len(PLAN.digest) == len("sha256:") + 64


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, environment="prod"),
        replace(PLAN, changes=PLAN.changes[:1]),
        replace(PLAN, changes=(replace(GRANT, privileges=("INSERT",)), PLAN.changes[1])),
        replace(PLAN, changes=(replace(GRANT, username="s"), PLAN.changes[1])),
        replace(PLAN, changes=(replace(GRANT, grant_option=True), PLAN.changes[1])),
        replace(PLAN, changes=(GRANT, Change(ChangeKind.CREATE_ROLE, username="r", createdb=True))),
        replace(PLAN, blockers=(Finding("foreign_role", "it is not ours"),)),
    ],
)
def test_a_digest_tells_apart_what_does_something_else(other: Plan) -> None:
    assert other.digest != PLAN.digest


def test_a_digest_counts_neither_objects_nor_warnings() -> None:
    assert replace(PLAN, changes=(replace(GRANT, object_count=9), PLAN.changes[1])).digest == PLAN.digest
    assert replace(PLAN, warnings=(Finding("nologin", "disabled"),)).digest == PLAN.digest


def test_a_blocker_stands_against_its_database_and_role_and_against_all_where_it_names_none() -> None:
    elsewhere = replace(GRANT, database="ledger", username="s")
    plan = Plan("dev", changes=(GRANT, elsewhere, Change(ChangeKind.CREATE_ROLE, username="r")))
    assert plan.unblocked_changes == plan.changes
    assert replace(plan, blockers=(Finding("x", "y", database="shop"),)).unblocked_changes == (
        elsewhere,
        plan.changes[2],
    )
    assert replace(plan, blockers=(Finding("x", "y", username="r"),)).unblocked_changes == (elsewhere,)
    assert replace(plan, blockers=(Finding("x", "y"),)).unblocked_changes == ()


def test_a_blocked_reader_keeps_only_what_is_granted_to_it_back() -> None:
    reader = replace(GRANT, username="reader")
    others = (GRANT, Change(ChangeKind.CREATE_DATABASE, database="shop", username=GRANT.owner))
    plan = Plan("dev", changes=(*others, reader), blockers=(Finding("foreign_role", "y", username="reader"),))
    assert plan.unblocked_changes == others
    assert plan.blocker_of(reader) == plan.blockers[0]


def test_a_blocked_owner_keeps_its_databases_back_and_a_blocked_grantor_what_it_granted() -> None:
    granted = replace(GRANT, username="reader", grantor="editor")
    changes = (GRANT, Change(ChangeKind.CREATE_DATABASE, database="shop", username=GRANT.owner), granted)
    assert Plan("dev", changes, (Finding("x", "y", username=GRANT.owner),)).unblocked_changes == ()
    assert Plan("dev", changes, (Finding("x", "y", username="editor"),)).unblocked_changes == changes[:2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("o",), ("o", "x", "y")),
        (("x", "y"), ("x", "z")),
        (('x" of "y',), ("x", "y")),
    ],
)
def test_a_digest_counts_whose_objects_are_changed(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    plans = [
        Plan("dev", (replace(GRANT, targets=tuple(replace(TABLES, owner=owner) for owner in owners)),))
        for owners in (one, other)
    ]
    assert plans[0].digest != plans[1].digest


def test_a_digest_tells_names_with_quotes_in_them_apart_and_objects_of_extensions_from_others() -> None:
    future = replace(TABLES, creator="o1", schema='a" in schema "b')
    targets = [
        TABLES,
        replace(TABLES, extension=True),
        future,
        replace(TABLES, creator='o1" in schema "a', schema="b"),
    ]
    assert len({Plan("dev", (replace(GRANT, targets=(target,)),)).digest for target in targets}) == 4


def test_what_is_blocked_is_neither_changed_nor_called_unchanged() -> None:
    plan = plan_of(ownership_of(OWNER, roles=(Role("owner", createdb=True),), owned="owner"))
    assert plan.changes == ()
    assert plan.unchanged == ()
    assert [(item.action, item.database, item.username) for item in plan.unknown] == [
        ("database", "shop", "owner"),
        ("password", "shop", "owner"),
        ("privileges", "shop", "owner"),
        ("role", "shop", "owner"),
    ]
    database, role = (f"blocked: {blocker.message}" for blocker in plan.blockers)
    assert [item.detail for item in plan.unknown] == [database, role, database, role]


def test_every_entry_has_a_thing_that_is_unchanged_where_nothing_is() -> None:
    ownership = ownership_of(OWNER, roles=(ours("owner"),), owned="owner")
    plan = plan_of(replace(ownership, secrets={"owner": "arn"}))
    assert [(item.action, item.database, item.username) for item in plan.unchanged] == [
        ("database", "shop", "owner"),
        ("password", "shop", "owner"),
        ("privileges", "shop", "owner"),
        ("role", "shop", "owner"),
    ]
