"""What stands and what should: the changes between the two, few and in order."""

from dataclasses import replace

import pytest

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.difference import desired_database, diff
from provisioner.core.state import (
    PUBLIC,
    AclItem,
    Database,
    DatabaseFacts,
    Marker,
    ObjectGroup,
    ObjectKind,
    Role,
    State,
    Target,
    grants_of,
)
from unit.core.shop import MARK, ownership_over

TABLES = Target(ObjectKind.TABLE, schema="app", owner="o", acl="one")

OTHER_TABLES = replace(TABLES, acl="two")


def facts_of(*groups: ObjectGroup) -> DatabaseFacts:
    return DatabaseFacts("shop", "o", groups=groups)


def changes_between(before: tuple[ObjectGroup, ...], after: tuple[ObjectGroup, ...]) -> tuple[Change, ...]:
    observed = State(databases={"shop": Database("shop", "o", grants=grants_of(before))})
    desired = State(databases={"shop": Database("shop", "o", grants=grants_of(after))})
    return diff(observed, desired, {"shop": facts_of(*before)})


def test_a_missing_database_is_created() -> None:
    desired = State(databases={"shop": Database("shop", "o")})
    assert diff(State(), desired, {"shop": facts_of()}) == (
        Change(ChangeKind.CREATE_DATABASE, database="shop", username="o"),
    )


def test_what_is_only_observed_is_nobodys_business() -> None:
    observed = State({"r": Role("r")}, {"shop": Database("shop", "o")})
    assert diff(observed, State(), {}) == ()


def test_privileges_of_one_grantee_on_all_of_a_schema_are_one_change() -> None:
    after = tuple(
        ObjectGroup(each, (AclItem("o", "r", "SELECT"), AclItem("o", "r", "INSERT"))) for each in (TABLES, OTHER_TABLES)
    )
    before = (ObjectGroup(TABLES, (), 3), ObjectGroup(OTHER_TABLES, (), 4))
    (change,) = changes_between(before, after)
    assert change.kind is ChangeKind.GRANT
    assert (change.privileges, change.covers_schema, change.object_count) == (("INSERT", "SELECT"), True, 7)
    assert change.detail == 'INSERT, SELECT on 7 tables in schema "app"'


def test_what_an_extension_owns_keeps_a_grant_from_being_one_of_all() -> None:
    extension = ObjectGroup(replace(TABLES, extension=True, acl=""), ())
    (change,) = changes_between(
        (ObjectGroup(TABLES, ()), extension), (ObjectGroup(TABLES, (AclItem("o", "r", "SELECT"),)),)
    )
    assert change.kind is ChangeKind.GRANT
    assert not change.covers_schema


def test_a_privilege_takes_its_grant_option_with_it() -> None:
    (change,) = changes_between((ObjectGroup(TABLES, (AclItem("o", "r", "SELECT", grantable=True),)),), ())
    assert change.kind is ChangeKind.REVOKE
    assert not change.grant_option


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


DATABASE = Target(ObjectKind.DATABASE, owner="owner")


@pytest.mark.parametrize(
    "facts",
    [
        DatabaseFacts("shop", "owner"),
        DatabaseFacts("shop", "owner", marker=Marker("prod")),
        DatabaseFacts("shop", "editor", marker=MARK),
        DatabaseFacts("shop", "stranger", marker=MARK),
    ],
    ids=["unmarked", "of another environment", "of another role", "offered by a stranger"],
)
def test_a_database_that_is_not_ours_is_desired_as_it_is(facts: DatabaseFacts) -> None:
    group = ObjectGroup(DATABASE, (AclItem("owner", PUBLIC, "CONNECT"),))
    facts = replace(facts, groups=(group,))
    ownership = ownership_over()
    ownership = replace(ownership, server=replace(ownership.server, databases={"shop": facts}))
    assert desired_database(facts, ownership, []).grants == grants_of([group])
