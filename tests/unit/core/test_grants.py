"""What should be granted over what stands: the levels on what is ours, and everything else as it is."""

from dataclasses import replace

import pytest

from provisioner.core.errors import Finding
from provisioner.core.grants import DatabasePolicy
from provisioner.core.kinds import ObjectKind
from provisioner.core.ownership import Ownership
from provisioner.core.state import PUBLIC, Grant, Membership, ObjectGroup, Target
from unit.core.shop import TABLES, ownership_over, with_option

DATABASE = Target(ObjectKind.DATABASE, owner="owner")


def wanted_grants(ownership: Ownership, findings: list[Finding] | None = None) -> dict[Target, frozenset[Grant]]:
    policy, found = (
        DatabasePolicy(ownership.server.databases["shop"], ownership),
        [] if findings is None else findings,
    )
    return {group.target: policy.wanted_grants(group, found) for group in policy.all_groups()}


def wanted(ownership: Ownership, target: Target, findings: list[Finding] | None = None) -> set[tuple[str, str]]:
    grants = wanted_grants(ownership, findings).get(target, frozenset())
    return {(grant.grantee, grant.privilege) for grant in grants}


def test_the_database_is_the_owners_the_declared_roles_and_the_administrators() -> None:
    assert wanted(ownership_over(), DATABASE) == {
        ("owner", "CONNECT"), ("owner", "TEMPORARY"), ("owner", "CREATE"), ("admin", "CONNECT"),
        ("editor", "CONNECT"), ("editor", "TEMPORARY"), ("reader", "CONNECT"),
    }  # fmt: skip


def test_tables_follow_the_levels_and_a_role_without_an_entry_here_has_nothing() -> None:
    items = (Grant("owner", "reader", "INSERT"), Grant("owner", "elsewhere", "SELECT"))
    assert wanted(ownership_over(ObjectGroup(TABLES, items)), TABLES) == {
        ("reader", "SELECT"), ("editor", "SELECT"), ("editor", "INSERT"), ("editor", "UPDATE"), ("editor", "DELETE")
    }  # fmt: skip


def test_what_strangers_and_everybody_hold_on_tables_stays() -> None:
    items = (Grant("owner", "stranger", "INSERT"), Grant("owner", PUBLIC, "SELECT"))
    assert {("stranger", "INSERT"), (PUBLIC, "SELECT")} <= wanted(ownership_over(ObjectGroup(TABLES, items)), TABLES)


@pytest.mark.parametrize(
    "target",
    [
        replace(TABLES, extension=True),
        replace(TABLES, owner="stranger"),
        replace(TABLES, schema="theirs"),
        Target(ObjectKind.ROUTINE, owner="owner", creator="owner"),
        replace(TABLES, creator="owner"),
        Target(ObjectKind.COLUMN, schema="public", owner="owner"),
    ],
    ids=["of an extension", "of a stranger", "in a stranger's schema", "routines", "defaults in a schema", "columns"],
)
def test_nothing_is_granted_on(target: Target) -> None:
    theirs = ObjectGroup(Target(ObjectKind.SCHEMA, schema="theirs", owner="stranger"), ())
    assert wanted(ownership_over(theirs, ObjectGroup(target, ())), target) == set()


def test_a_column_keeps_what_the_level_allows_on_the_table_and_loses_the_rest() -> None:
    column = Target(ObjectKind.COLUMN, schema="public", owner="owner")
    items = (Grant("owner", "reader", "SELECT"), Grant("owner", "reader", "UPDATE"))
    assert wanted(ownership_over(ObjectGroup(column, items)), column) == {("reader", "SELECT")}


def test_a_schema_of_the_owner_is_covered_also_through_pg_database_owner() -> None:
    for holder in ("owner", "pg_database_owner"):
        schema = Target(ObjectKind.SCHEMA, schema="app", owner=holder)
        assert {("reader", "USAGE"), ("editor", "USAGE")} <= wanted(ownership_over(ObjectGroup(schema, ())), schema)


def test_future_objects_of_every_managed_creator_are_covered() -> None:
    theirs = ObjectGroup(replace(TABLES, owner="editor"), ())
    future = Target(ObjectKind.TABLE, owner="editor", creator="editor")
    assert wanted(ownership_over(theirs), future) == {("reader", "SELECT")}


def test_a_member_that_loses_its_membership_is_no_creator() -> None:
    future = Target(ObjectKind.TABLE, owner="reader", creator="reader")
    by_us, by_another = (Membership("owner", "reader", grantor) for grantor in ("admin", "stranger"))
    assert wanted(ownership_over(memberships=(by_us,)), future) == set()
    assert wanted(ownership_over(memberships=(by_another,)), future) != set()


def test_a_privilege_of_a_strangers_giving_stays_and_is_reported() -> None:
    items = (*with_option("owner", "stranger", "INSERT"), Grant("stranger", "reader", "INSERT"))
    findings: list[Finding] = []
    assert ("reader", "INSERT") in wanted(ownership_over(ObjectGroup(TABLES, items)), TABLES, findings)
    assert [each.code for each in findings] == ["privilege_beyond_reach"]


def test_a_chain_that_ends_at_a_stranger_is_held_whole() -> None:
    items = (
        *with_option("owner", "editor", "TRUNCATE"),
        *with_option("editor", "reader", "TRUNCATE"),
        Grant("reader", "stranger", "TRUNCATE"),
    )
    group, findings = ObjectGroup(TABLES, items), list[Finding]()
    ownership = ownership_over(group)
    assert set(items) <= wanted_grants(ownership, findings)[TABLES]
    assert sorted((each.code, each.username) for each in findings) == [
        ("dependent_grants", "editor"),
        ("dependent_grants", "reader"),
    ]


def test_the_giving_of_a_managed_role_is_taken_back_though_the_level_allows_the_privilege() -> None:
    items = (*with_option("owner", "editor", "SELECT"), Grant("editor", "reader", "SELECT"))
    ownership = ownership_over(ObjectGroup(TABLES, items))
    grants = wanted_grants(ownership)[TABLES]
    assert [grant for grant in grants if grant.grantor != "owner"] == []
    assert Grant("owner", "reader", "SELECT") in grants


def test_a_public_of_another_that_nobody_may_use_is_out_of_reach() -> None:
    ownership = ownership_over(version=14)
    facts = ownership.server.databases["shop"]
    closed = tuple(
        replace(group, items=()) if group.target.kind is ObjectKind.SCHEMA else group for group in facts.groups
    )
    findings: list[Finding] = []
    databases = {"shop": replace(facts, groups=closed)}
    wanted_grants(replace(ownership, server=replace(ownership.server, databases=databases)), findings)
    assert sorted((each.code, each.username) for each in findings) == [
        ("level_out_of_reach", "editor"),
        ("level_out_of_reach", "owner"),
        ("level_out_of_reach", "reader"),
    ]
