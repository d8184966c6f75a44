"""What stands and what should: the changes between the two, few and in order."""

from dataclasses import replace
from operator import attrgetter

import pytest

from provisioner.core import difference
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.kinds import ObjectKind
from provisioner.core.state import PUBLIC, Database, Grant, Marker, ObjectGroup, Target
from unit.core.shop import MARK, OWNER, differences_of, ours, ownership_of, ownership_over, with_option

TABLES = Target(ObjectKind.TABLE, schema="app", owner="o", acl="one")

OTHER_TABLES = replace(TABLES, acl="two")


def changes_between(before: tuple[ObjectGroup, ...], after: tuple[ObjectGroup, ...]) -> list[Change]:
    database = Database("shop", "o", groups=before)
    present = {group.target: group for group in (*(replace(each, items=()) for each in after), *before)}
    wanted = {group.target: frozenset(group.items) for group in after}
    pairs = ((group, wanted.get(target, frozenset())) for target, group in present.items())
    return sorted(difference.grant_changes(database, "o", pairs), key=attrgetter("order"))


def test_lists_of_what_is_not_told_apart_are_each_compared_with_what_is_wanted_of_themselves() -> None:
    target = Target(ObjectKind.LARGE_OBJECT, owner="o")
    groups = [ObjectGroup(target, (Grant("o", grantee, "SELECT"),)) for grantee in ("a", "b")]
    pairs = [(group, frozenset(group.items)) for group in groups]
    assert list(difference.grant_changes(Database("shop", "o", groups=tuple(groups)), "o", pairs)) == []


def test_a_missing_database_is_created() -> None:
    (found,) = differences_of(ownership_of(OWNER))
    assert found.changes[0] == Change(ChangeKind.CREATE_DATABASE, database="shop", username="owner")


def test_what_is_only_observed_is_nobodys_business() -> None:
    assert differences_of(ownership_of(roles=(ours("owner"),), owned="owner")) == ()


def test_privileges_of_one_grantee_on_all_of_a_schema_are_one_change() -> None:
    after = tuple(
        ObjectGroup(each, (Grant("o", "r", "SELECT"), Grant("o", "r", "INSERT"))) for each in (TABLES, OTHER_TABLES)
    )
    before = (ObjectGroup(TABLES, (), 3), ObjectGroup(OTHER_TABLES, (), 4))
    (change,) = changes_between(before, after)
    assert change.kind is ChangeKind.GRANT
    assert (change.privileges, change.covers_schema, change.object_count) == (("INSERT", "SELECT"), True, 7)
    assert change.detail == 'INSERT, SELECT on 7 tables in schema "app"'


@pytest.mark.parametrize(("schemas", "tables", "is_whole"), [(100, 1, True), (101, 1, False), (101, 50_000, True)])
def test_the_objects_of_many_schemas_are_named(schemas: int, tables: int, *, is_whole: bool) -> None:
    targets = [replace(TABLES, schema=f"s{number}") for number in range(schemas)]
    after = tuple(ObjectGroup(target, (Grant("o", "r", "SELECT"),)) for target in targets)
    changes = changes_between(tuple(ObjectGroup(target, (), tables) for target in targets), after)
    assert {change.covers_schema for change in difference.name_objects(changes)} == {is_whole}


def test_what_an_extension_owns_keeps_a_grant_from_being_one_of_all() -> None:
    extension = ObjectGroup(replace(TABLES, extension=True, acl=""), ())
    (change,) = changes_between(
        (ObjectGroup(TABLES, ()), extension), (ObjectGroup(TABLES, (Grant("o", "r", "SELECT"),)),)
    )
    assert change.kind is ChangeKind.GRANT
    assert not change.covers_schema


def test_a_privilege_takes_its_grant_option_with_it() -> None:
    (change,) = changes_between((ObjectGroup(TABLES, (*with_option("o", "r", "SELECT"),)),), ())
    assert change.kind is ChangeKind.REVOKE
    assert not change.grant_option


def test_what_was_passed_on_is_revoked_from_the_last_hand_to_the_first() -> None:
    items = (
        *with_option("o", "a", "SELECT"),
        *with_option("a", "c", "SELECT"),
        Grant("c", "b", "SELECT"),
    )
    changes = changes_between((ObjectGroup(TABLES, items),), ())
    assert [change.username for change in changes] == ["b", "c", "a"]


def test_rights_are_given_before_any_is_taken() -> None:
    before = (ObjectGroup(TABLES, (Grant("o", "a", "SELECT"),)),)
    after = (ObjectGroup(TABLES, (Grant("o", "z", "SELECT"),)),)
    assert [(change.action, change.username) for change in changes_between(before, after)] == [
        ("grant", "z"),
        ("revoke", "a"),
    ]


def test_what_many_roles_pass_on_to_each_other_is_revoked_by_the_hands_it_went_through() -> None:
    """Sixty of them have more ways to the last than anybody could follow one by one."""
    givers = ["o", *(f"r{number:02}" for number in range(60))]
    passed = tuple(
        grant
        for place, giver in enumerate(givers)
        for to in givers[place + 1 :]
        for grant in with_option(giver, to, "UPDATE")
    )
    changes = changes_between((ObjectGroup(TABLES, passed),), (ObjectGroup(TABLES, ()),))
    assert [change.grantor for change in changes] == [
        giver for place, giver in reversed([*enumerate(givers)]) for _ in givers[place + 1 :]
    ]


DATABASE = Target(ObjectKind.DATABASE, owner="owner")


@pytest.mark.parametrize(
    "facts",
    [
        Database("shop", "owner"),
        Database("shop", "owner", marker=Marker("prod")),
        Database("shop", "editor", marker=MARK),
        Database("shop", "stranger", marker=MARK),
    ],
    ids=["unmarked", "of another environment", "of another role", "offered by a stranger"],
)
def test_a_database_that_is_not_ours_is_desired_as_it_is(facts: Database) -> None:
    group = ObjectGroup(DATABASE, (Grant("owner", PUBLIC, "CONNECT"),))
    facts = replace(facts, groups=(group,))
    ownership = ownership_over()
    ownership = replace(ownership, server=replace(ownership.server, databases={"shop": facts}))
    assert difference.of(facts, ownership).changes == ()
