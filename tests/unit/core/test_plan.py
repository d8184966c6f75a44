"""A plan is a value: ordered, printable, and told apart by what it does and not by what it counts."""

from dataclasses import replace

import pytest

from provisioner.core.errors import Finding
from provisioner.core.plan import (
    AlterRole,
    Change,
    CreateDatabase,
    CreateRole,
    GrantPrivileges,
    Plan,
    RevokeMembership,
    RevokePrivileges,
    SetPassword,
    diff,
)
from provisioner.core.state import (
    AclItem,
    Database,
    DatabaseFacts,
    Membership,
    ObjectGroup,
    ObjectKind,
    Role,
    State,
    Target,
    grants_of,
)

TABLES = Target(ObjectKind.TABLE, schema="app", owner="o", acl="one")
OTHER_TABLES = replace(TABLES, acl="two")
GRANT = GrantPrivileges(
    database="shop", username="r", owner="o", grantor="o", privileges=("SELECT",), targets=(TABLES,), count=2
)


def facts_of(*groups: ObjectGroup) -> DatabaseFacts:
    return DatabaseFacts("shop", "o", groups=groups)


def changes_between(before: tuple[ObjectGroup, ...], after: tuple[ObjectGroup, ...]) -> tuple[Change, ...]:
    observed = State(databases={"shop": Database("shop", "o", grants=grants_of(before))})
    desired = State(databases={"shop": Database("shop", "o", grants=grants_of(after))})
    return diff(observed, desired, {"shop": facts_of(*before)})


def test_a_missing_role_is_created_with_what_it_is_declared_to_have() -> None:
    role = Role("r", createdb=True, connection_limit=3)
    assert diff(State(), State({"r": role}), {}) == (CreateRole(username="r", createdb=True, connection_limit=3),)


def test_of_a_role_only_what_differs_is_changed() -> None:
    before = Role("r", createdb=True, connection_limit=3, password_current=False)
    after = Role("r", connection_limit=3)
    assert diff(State({"r": before}), State({"r": after}), {}) == (
        AlterRole(username="r", createdb=False),
        SetPassword(username="r"),
    )


def test_a_membership_that_is_not_wanted_goes() -> None:
    before = Role("r", memberships=frozenset({Membership("o", "r", "me")}))
    assert diff(State({"r": before}), State({"r": Role("r")}), {}) == (RevokeMembership(username="r", role="o"),)


def test_a_missing_database_is_created() -> None:
    desired = State(databases={"shop": Database("shop", "o")})
    assert diff(State(), desired, {"shop": facts_of()}) == (CreateDatabase(database="shop", username="o"),)


def test_what_is_only_observed_is_nobodys_business() -> None:
    observed = State({"r": Role("r")}, {"shop": Database("shop", "o")})
    assert diff(observed, State(), {}) == ()


def test_privileges_of_one_grantee_on_all_of_a_schema_are_one_change() -> None:
    after = tuple(
        ObjectGroup(each, (AclItem("o", "r", "SELECT"), AclItem("o", "r", "INSERT"))) for each in (TABLES, OTHER_TABLES)
    )
    before = (ObjectGroup(TABLES, (), 3), ObjectGroup(OTHER_TABLES, (), 4))
    (change,) = changes_between(before, after)
    assert isinstance(change, GrantPrivileges)
    assert (change.privileges, change.whole, change.count) == (("INSERT", "SELECT"), True, 7)
    assert change.detail == 'INSERT, SELECT on 7 tables in schema "app"'


def test_what_an_extension_owns_keeps_a_grant_from_being_one_of_all() -> None:
    extension = ObjectGroup(replace(TABLES, extension=True, acl=""), ())
    (change,) = changes_between(
        (ObjectGroup(TABLES, ()), extension), (ObjectGroup(TABLES, (AclItem("o", "r", "SELECT"),)),)
    )
    assert isinstance(change, GrantPrivileges)
    assert not change.whole


def test_a_privilege_takes_its_grant_option_with_it() -> None:
    (change,) = changes_between((ObjectGroup(TABLES, (AclItem("o", "r", "SELECT", grantable=True),)),), ())
    assert isinstance(change, RevokePrivileges)
    assert not change.option


def test_what_was_passed_on_is_revoked_from_the_last_hand_to_the_first() -> None:
    items = (
        AclItem("o", "a", "SELECT", grantable=True),
        AclItem("a", "c", "SELECT", grantable=True),
        AclItem("c", "b", "SELECT"),
    )
    changes = changes_between((ObjectGroup(TABLES, items),), ())
    assert [change.username for change in changes] == ["b", "c", "a"]


def test_rights_are_given_before_any_is_taken() -> None:
    before = (ObjectGroup(TABLES, (AclItem("o", "a", "SELECT"),)),)
    after = (ObjectGroup(TABLES, (AclItem("o", "z", "SELECT"),)),)
    assert [(change.action, change.username) for change in changes_between(before, after)] == [
        ("grant", "z"),
        ("revoke", "a"),
    ]


def test_objects_of_somebody_else_are_named_as_such() -> None:
    theirs = replace(GRANT, targets=(replace(TABLES, owner="editor"),))
    assert GRANT.detail == 'SELECT on 2 tables in schema "app"'
    assert theirs.detail == 'SELECT on 2 tables of "editor" in schema "app"'


# --- the digest -------------------------------------------------------------------------------------------------------

PLAN = Plan("dev", changes=(GRANT, CreateRole(username="r")))


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
        replace(PLAN, changes=(replace(GRANT, option=True), PLAN.changes[1])),
        replace(PLAN, changes=(GRANT, CreateRole(username="r", createdb=True))),
        replace(PLAN, blockers=(Finding("foreign_role", "it is not ours"),)),
    ],
)
def test_a_digest_tells_apart_what_does_something_else(other: Plan) -> None:
    assert other.digest != PLAN.digest


def test_a_digest_counts_neither_objects_nor_warnings() -> None:
    assert replace(PLAN, changes=(replace(GRANT, count=9), PLAN.changes[1])).digest == PLAN.digest
    assert replace(PLAN, warnings=(Finding("nologin", "disabled"),)).digest == PLAN.digest


# --- what a blocker leaves open ---------------------------------------------------------------------------------------


def test_a_blocker_stands_against_its_database_and_role_and_against_all_where_it_names_none() -> None:
    elsewhere = replace(GRANT, database="ledger", username="s")
    plan = Plan("dev", changes=(GRANT, elsewhere, CreateRole(username="r")))
    assert plan.unblocked_changes == plan.changes
    assert replace(plan, blockers=(Finding("x", "y", database="shop"),)).unblocked_changes == (
        elsewhere,
        plan.changes[2],
    )
    assert replace(plan, blockers=(Finding("x", "y", username="r"),)).unblocked_changes == (elsewhere,)
    assert replace(plan, blockers=(Finding("x", "y"),)).unblocked_changes == ()


def test_a_blocked_reader_keeps_only_what_is_granted_to_it_back() -> None:
    reader = replace(GRANT, username="reader")
    others = (GRANT, CreateDatabase(database="shop", username=GRANT.owner))
    plan = Plan("dev", changes=(*others, reader), blockers=(Finding("foreign_role", "y", username="reader"),))
    assert plan.unblocked_changes == others
    assert plan.blocker_of(reader) == plan.blockers[0]


def test_a_blocked_owner_keeps_its_databases_back_and_a_blocked_grantor_what_it_granted() -> None:
    granted = replace(GRANT, username="reader", grantor="editor")
    changes = (GRANT, CreateDatabase(database="shop", username=GRANT.owner), granted)
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
