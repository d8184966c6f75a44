"""A difference in an effect changes the digest of its unit, and of no other."""

from dataclasses import replace

import pytest

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.kinds import ObjectKind
from provisioner.core.plan import Plan
from provisioner.core.state import Target
from provisioner.core.units import Unit, Validity, collect_units, digest_plan, digest_unit

ARN = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:shop-AbCdEf"
TABLES = Target(ObjectKind.TABLE, schema="public", owner="shop_user")
GRANT = Change(
    ChangeKind.GRANT,
    database="shop",
    username="reader",
    owner="shop_user",
    grantor="shop_user",
    privileges=("SELECT",),
    targets=(TABLES,),
)
FUTURE = Change(
    ChangeKind.GRANT_DEFAULT,
    database="shop",
    username="reader",
    owner="shop_user",
    grantor="shop_user",
    privileges=("SELECT",),
    targets=(Target(ObjectKind.TABLE, owner="shop_user", creator="shop_user"),),
)
REVOKE = Change(
    ChangeKind.REVOKE,
    database="shop",
    username="reader",
    owner="shop_user",
    grantor="shop_user",
    privileges=("INSERT",),
    targets=(TABLES,),
)
OTHERS: tuple[Change, ...] = (
    Change(ChangeKind.CREATE_ROLE, username="bank_user", secret=ARN),
    Change(ChangeKind.CREATE_DATABASE, database="bank", username="bank_user"),
    Change(ChangeKind.SET_PASSWORD, username="third", secret=ARN),
)
EFFECTS: dict[str, tuple[Change, Change]] = {
    "the secret of a new role": (
        Change(ChangeKind.CREATE_ROLE, username="shop_user", secret=ARN),
        Change(ChangeKind.CREATE_ROLE, username="shop_user", secret=ARN + "x"),
    ),
    "the attributes of a new role": (
        Change(ChangeKind.CREATE_ROLE, username="shop_user", secret=ARN),
        Change(ChangeKind.CREATE_ROLE, username="shop_user", secret=ARN, createdb=True),
    ),
    "the secret of a password": (
        Change(ChangeKind.SET_PASSWORD, username="shop_user", secret=ARN),
        Change(ChangeKind.SET_PASSWORD, username="shop_user", secret=ARN + "x"),
    ),
    "an attribute": (
        Change(ChangeKind.ALTER_ROLE, username="shop_user", connection_limit=5),
        Change(ChangeKind.ALTER_ROLE, username="shop_user", connection_limit=6),
    ),
    "a membership": (
        Change(ChangeKind.REVOKE_MEMBERSHIP, username="reader", subject="a"),
        Change(ChangeKind.REVOKE_MEMBERSHIP, username="editor", subject="a"),
    ),
    "an adoption": (
        Change(ChangeKind.ADOPT_ROLE, username="shop_user"),
        Change(ChangeKind.ALTER_ROLE, username="shop_user", createdb=False),
    ),
    "the owner of a database": (
        Change(ChangeKind.CREATE_DATABASE, database="shop", username="shop_user"),
        Change(ChangeKind.CREATE_DATABASE, database="shop", username="reader"),
    ),
    "the adoption of a database": (
        Change(ChangeKind.ADOPT_DATABASE, database="shop", username="shop_user"),
        Change(ChangeKind.ADOPT_DATABASE, database="shop", username="reader"),
    ),
    "a privilege": (GRANT, replace(GRANT, privileges=("INSERT", "SELECT"))),
    "who is granted to": (GRANT, replace(GRANT, username="editor")),
    "who grants": (GRANT, replace(GRANT, grantor="other")),
    "the right to pass on": (REVOKE, replace(REVOKE, grant_option=True)),
    "whose objects": (GRANT, replace(GRANT, targets=(replace(TABLES, owner="other"),))),
    "the schema": (GRANT, replace(GRANT, targets=(replace(TABLES, schema="own"),))),
    "the kind of object": (GRANT, replace(GRANT, targets=(replace(TABLES, kind=ObjectKind.SEQUENCE),))),
    "objects of an extension": (REVOKE, replace(REVOKE, targets=(replace(TABLES, extension=True),))),
    "who creates": (FUTURE, replace(FUTURE, targets=(Target(ObjectKind.TABLE, owner="other", creator="other"),))),
    "an extension": (
        Change(ChangeKind.CREATE_EXTENSION, database="shop", username="shop_user", subject="citext"),
        Change(ChangeKind.CREATE_EXTENSION, database="shop", username="shop_user", subject="hstore"),
    ),
    "what is revoked of what is created later": (
        replace(FUTURE, kind=ChangeKind.REVOKE_DEFAULT),
        replace(FUTURE, kind=ChangeKind.REVOKE_DEFAULT, privileges=("DELETE", "SELECT")),
    ),
    "how a role comes back": (
        Change(ChangeKind.RESTORE_ROLE, username="shop_user", reason="may log in"),
        Change(ChangeKind.RESTORE_ROLE, username="shop_user", reason="NOLOGIN as before it was quarantined"),
    ),
    "a quarantine": (
        Change(ChangeKind.QUARANTINE_ROLE, username="shop_user", reason="may not log in"),
        Change(ChangeKind.DROP_ROLE, username="shop_user", reason="retired"),
    ),
    "who loses a database that is kept": (
        Change(ChangeKind.KEEP_DATABASE, database="shop", username="shop_user", reason='closed to "reader"'),
        Change(ChangeKind.KEEP_DATABASE, database="shop", username="shop_user", reason='closed to "editor"'),
    ),
    "to whom objects pass": (
        Change(ChangeKind.PASS_OBJECTS, database="shop", username="leaver", subject="shop_user; table; leaver"),
        Change(ChangeKind.PASS_OBJECTS, database="shop", username="leaver", subject="admin; table; leaver"),
    ),
    "to whom a database is given": (
        Change(ChangeKind.GIVE_DATABASE, database="shop", username="shop_user", reason="from the administrator"),
        Change(ChangeKind.GIVE_DATABASE, database="shop", username="reader", reason="from the administrator"),
    ),
    "what goes with a role": (
        Change(ChangeKind.DROP_ROLE, username="leaver", reason="retired"),
        Change(ChangeKind.DROP_ROLE, username="leaver", reason="retired; its members lose what it had"),
    ),
}


def digests(*changes: Change, blockers: tuple[Finding, ...] = ()) -> dict[Unit, str]:
    plan = Plan("prod", changes, blockers)
    return {unit: digest_unit(unit, effects) for unit, effects in plan.units.items()}


def test_a_membership_is_of_the_unit_of_the_role_that_is_granted() -> None:
    """Up to 14 a role may grant itself to anybody: its noise is no change of the others."""
    [unit] = collect_units([Change(ChangeKind.REVOKE_MEMBERSHIP, username="reader", subject="shop_user")], [])
    assert (unit.kind, unit.name) == ("role", "shop_user")


def test_every_kind_of_change_is_among_the_effects() -> None:
    shown = {change.kind for pair in EFFECTS.values() for change in pair}
    assert shown == set(ChangeKind) - {ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP}


@pytest.mark.parametrize("name", EFFECTS)
def test_a_difference_in_an_effect_changes_its_unit_and_no_other(name: str) -> None:
    before, after = EFFECTS[name]
    first, second = digests(before, *OTHERS), digests(after, *OTHERS)
    changed = {unit for unit in first | second if first.get(unit) != second.get(unit)}
    assert len(changed) == 1
    assert changed.isdisjoint(digests(*OTHERS))
    assert Plan("prod", (before, *OTHERS)).digest != Plan("prod", (after, *OTHERS)).digest


def test_what_a_tenant_does_all_day_changes_nothing() -> None:
    assert digests(replace(GRANT, object_count=1)) == digests(replace(GRANT, object_count=5000))
    again = Change(ChangeKind.SET_PASSWORD, username="reader", secret=ARN)
    assert digests(again) == digests(replace(again, reason="another"))


def test_the_order_of_changes_does_not_matter() -> None:
    assert Plan("prod", (GRANT, REVOKE, *OTHERS)).digest == Plan("prod", (*reversed(OTHERS), REVOKE, GRANT)).digest


def test_what_only_ends_an_interrupted_run_is_no_effect() -> None:
    assert digests(Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username="shop_user"), GRANT) == digests(GRANT)


def test_what_stands_against_a_unit_is_of_that_unit() -> None:
    blocker = Finding("database_closed", "closed", database="bank")
    first, second = digests(GRANT, *OTHERS), digests(GRANT, *OTHERS, blockers=(blocker,))
    assert {unit for unit in first if first[unit] != second[unit]} == {Unit("database", "bank")}


@pytest.mark.parametrize(
    "other",
    [
        Validity("staging", "db", 5432, "1", "admin"),
        Validity("prod", "other", 5432, "1", "admin"),
        Validity("prod", "db", 5433, "1", "admin"),
        Validity("prod", "db", 5432, "2", "admin"),
        Validity("prod", "db", 5432, "1", "master"),
    ],
)
def test_a_plan_holds_for_one_environment_server_and_administrator(other: Validity) -> None:
    plan = Plan("prod", (GRANT,), validity=Validity("prod", "db", 5432, "1", "admin"))
    assert plan.digest != replace(plan, validity=other).digest


def test_a_stored_plan_can_be_checked_against_its_digest() -> None:
    plan = Plan("prod", (GRANT, *OTHERS), validity=Validity("prod", "db", 5432, "1", "admin"))
    assert plan.validity is not None
    assert plan.digest == digest_plan(plan.validity, digests(GRANT, *OTHERS).values())
