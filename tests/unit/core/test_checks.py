"""What stops a run is said at once and completely, and what the server does not show after it."""

from dataclasses import replace

import pytest

from provisioner.core.access_levels import AccessLevel
from provisioner.core.ownership import Ownership
from provisioner.core.state import Grant, Marker, Role
from unit.core.shop import OWNER, READER, ours, ownership_of, plan_of


def blockers(ownership: Ownership) -> list[str]:
    return [finding.code for finding in plan_of(ownership).blockers]


def test_a_fleet_that_is_new_is_not_blocked() -> None:
    assert blockers(ownership_of(OWNER, READER)) == []


@pytest.mark.parametrize(
    ("ownership", "codes"),
    [
        (ownership_of(READER), ["database_missing"]),
        (ownership_of(OWNER, roles=(Role("owner"),)), ["foreign_role"]),
        (ownership_of(OWNER, roles=(Role("owner", marker=Marker("prod")),)), ["foreign_role"]),
        (ownership_of(OWNER, roles=(ours("owner", superuser=True),)), ["privileged_role"]),
        (ownership_of(OWNER, roles=(ours("owner", bypass_rls=True, replication=True),)), ["privileged_role"]),
        (
            replace(ownership_of(OWNER, roles=(Role("owner", createrole=True),)), adopt=frozenset({"shop"})),
            ["privileged_role"],
        ),
        (ownership_of(OWNER, roles=(ours("owner", createrole=True),)), []),
        (ownership_of(OWNER, roles=(ours("owner"), ours("other")), owned="other"), ["owner_change"]),
        (ownership_of(OWNER, roles=(ours("owner"), Role("other")), owned="other"), ["foreign_owner"]),
        (
            ownership_of(replace(OWNER, access_level=AccessLevel.EDITOR), roles=(ours("owner"),), owned="owner"),
            ["owner_change"],
        ),
        (ownership_of(READER, roles=(ours("reader"), Role("other")), owned="other"), ["foreign_database"]),
        (
            replace(ownership_of(READER, roles=(Role("other"),), owned="other"), adopt=frozenset({"read"})),
            ["foreign_owner"],
        ),
        (ownership_of(READER, owned="admin"), []),
        (ownership_of(replace(OWNER, extensions=("x",))), ["extension_unavailable"]),
        (
            ownership_of(replace(OWNER, extensions=("x",)), available_extensions={"x": "the RDS master"}),
            ["extension_not_trusted"],
        ),
        (ownership_of(replace(OWNER, username="admin")), ["administrator"]),
        (
            ownership_of(OWNER, READER, roles=(ours("owner", has_admin_option=False),), owned="owner"),
            ["administrator_lacks_admin"],
        ),
    ],
)
def test_blockers(ownership: Ownership, codes: list[str]) -> None:
    assert blockers(ownership) == codes


def test_an_administrator_that_lacks_admin_does_not_block_a_run_that_changes_nothing() -> None:
    ownership = ownership_of(OWNER, roles=(ours("owner", has_admin_option=False),), owned="owner")
    assert blockers(ownership) == ["administrator_lacks_admin"]
    facts = ownership.server.databases["shop"]
    itself, public = facts.groups
    items = (*(item for item in itself.items if item.grantee == "owner"), Grant("owner", "admin", "CONNECT"))
    settled = replace(facts, groups=(replace(itself, items=items), public))
    plan = plan_of(replace(ownership, server=replace(ownership.server, databases={"shop": settled})))
    assert (plan.changes, plan.blockers) == ((), ())


def test_all_blockers_are_shown_at_once() -> None:
    ownership = ownership_of(OWNER, READER, roles=(Role("owner"), Role("reader", superuser=True)))
    assert sorted(blockers(ownership)) == ["foreign_role", "foreign_role", "privileged_role"]


def test_an_adopted_entry_is_taken_with_its_role_and_its_database() -> None:
    ownership = ownership_of(OWNER, roles=(Role("owner", marker=Marker(comment="of the shop")),), owned="owner")
    facts = replace(ownership.server.databases["shop"], marker=Marker())
    ownership = replace(ownership, server=replace(ownership.server, databases={"shop": facts}))
    assert blockers(ownership) == ["foreign_database", "foreign_role"]
    plan = plan_of(replace(ownership, adopt=frozenset({"shop"})))
    assert plan.blockers == ()
    assert [change.action for change in plan.changes][:2] == ["adopt_role", "adopt_database"]


def test_a_database_of_ours_whose_owner_is_not_is_told_of_no_other_environment() -> None:
    found = plan_of(ownership_of(OWNER, roles=(Role("owner"),), owned="owner")).blockers
    assert [(item.code, "its mark" in item.message) for item in found] == [
        ("foreign_database", False),
        ("foreign_role", False),
    ]


def test_to_adopt_one_entry_takes_no_other() -> None:
    ownership = ownership_of(OWNER, READER, roles=(Role("owner"), Role("reader")))
    assert blockers(replace(ownership, adopt=frozenset({"shop"}))) == ["foreign_role"]
