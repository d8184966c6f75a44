"""What stops a run is said at once and completely, and what is blocked is neither changed nor called unchanged."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.desired import new_database
from provisioner.core.guard import build_plan, verify_roles_and_markers
from provisioner.core.model import AccessLevel, Declaration, Entry, Layout
from provisioner.core.ownership import Ownership
from provisioner.core.plan import CreateDatabase, CreateRole
from provisioner.core.state import AclItem, Marker, PasswordCheck, RoleFacts, Server

MARK = Marker("dev")
OWNER = Entry("shop", "shop", "owner")
READER = Entry("read", "shop", "reader", AccessLevel.READER)
ADMINISTRATOR = RoleFacts("admin", createdb=True, createrole=True, administrator_inherits=True)


def scope_of(*entries: Entry, roles: tuple[RoleFacts, ...] = (), owned: str = "", **fields: Any) -> Ownership:
    """Over roles of ours and, where `owned` names an owner, the database `shop` of ours."""
    server = Server(18, "admin", "rdsadmin", {role.name: role for role in (ADMINISTRATOR, *roles)}, {}, **fields)
    if owned:
        facts = replace(new_database("shop", owned, server), marker=MARK)
        server = replace(server, databases={"shop": facts})
    return Ownership(Declaration(Layout.STANDALONE, active=True, environment="dev", entries=entries), server, "dev")


def ours(name: str, **fields: Any) -> RoleFacts:
    return RoleFacts(name, marker=MARK, **fields)


def blockers(ownership: Ownership) -> list[str]:
    return [finding.code for finding in build_plan(ownership).blockers]


def test_a_fleet_that_is_new_is_not_blocked() -> None:
    assert blockers(scope_of(OWNER, READER)) == []


@pytest.mark.parametrize(
    ("ownership", "codes"),
    [
        (scope_of(READER), ["database_missing"]),
        (scope_of(OWNER, roles=(RoleFacts("owner"),)), ["foreign_role"]),
        (scope_of(OWNER, roles=(RoleFacts("owner", marker=Marker("prod")),)), ["foreign_role"]),
        (scope_of(OWNER, roles=(ours("owner", superuser=True),)), ["privileged_role"]),
        (scope_of(OWNER, roles=(ours("owner", bypass_rls=True, replication=True),)), ["privileged_role"]),
        (scope_of(OWNER, roles=(ours("owner"), ours("other")), owned="other"), ["owner_change"]),
        (scope_of(OWNER, roles=(ours("owner"), RoleFacts("other")), owned="other"), ["foreign_owner"]),
        (
            scope_of(replace(OWNER, access_level=AccessLevel.EDITOR), roles=(ours("owner"),), owned="owner"),
            ["owner_change"],
        ),
        (scope_of(READER, roles=(ours("reader"), RoleFacts("other")), owned="other"), ["foreign_database"]),
        (
            replace(scope_of(READER, roles=(RoleFacts("other"),), owned="other"), adopt=frozenset({"read"})),
            ["foreign_owner"],
        ),
        (scope_of(READER, owned="admin"), []),
        (scope_of(replace(OWNER, extensions=("x",))), ["extension_unavailable"]),
        (scope_of(replace(OWNER, extensions=("x",)), available_extensions={"x": False}), ["extension_not_trusted"]),
        (scope_of(replace(OWNER, username="admin")), ["administrator"]),
        (
            scope_of(OWNER, READER, roles=(ours("owner", has_admin_option=False),), owned="owner"),
            ["administrator_lacks_admin"],
        ),
    ],
)
def test_blockers(ownership: Ownership, codes: list[str]) -> None:
    assert blockers(ownership) == codes


def test_an_administrator_that_lacks_admin_does_not_block_a_run_that_changes_nothing() -> None:
    ownership = scope_of(OWNER, roles=(ours("owner", has_admin_option=False),), owned="owner")
    assert blockers(ownership) == ["administrator_lacks_admin"]
    facts = ownership.server.databases["shop"]
    itself, public = facts.groups
    items = (*(item for item in itself.items if item.grantee == "owner"), AclItem("owner", "admin", "CONNECT"))
    settled = replace(facts, groups=(replace(itself, items=items), public))
    plan = build_plan(replace(ownership, server=replace(ownership.server, databases={"shop": settled})))
    assert (plan.changes, plan.blockers) == ((), ())


def test_all_blockers_are_shown_at_once() -> None:
    ownership = scope_of(OWNER, READER, roles=(RoleFacts("owner"), RoleFacts("reader", superuser=True)))
    assert sorted(blockers(ownership)) == ["foreign_role", "foreign_role", "privileged_role"]


def test_an_adopted_entry_is_taken_with_its_role_and_its_database() -> None:
    ownership = scope_of(OWNER, roles=(RoleFacts("owner", comment="of the shop"),), owned="owner")
    facts = replace(ownership.server.databases["shop"], marker=None)
    ownership = replace(ownership, server=replace(ownership.server, databases={"shop": facts}))
    assert blockers(ownership) == ["foreign_database", "foreign_role"]
    plan = build_plan(replace(ownership, adopt=frozenset({"shop"})))
    assert plan.blockers == ()
    assert [change.action for change in plan.changes][:2] == ["adopt_role", "adopt_database"]


def test_to_adopt_one_entry_takes_no_other() -> None:
    ownership = scope_of(OWNER, READER, roles=(RoleFacts("owner"), RoleFacts("reader")))
    assert blockers(replace(ownership, adopt=frozenset({"shop"}))) == ["foreign_role"]


def test_what_is_blocked_is_neither_changed_nor_called_unchanged() -> None:
    plan = build_plan(scope_of(OWNER, roles=(RoleFacts("owner", createdb=True),), owned="owner"))
    assert plan.changes == ()
    assert plan.unchanged == ()


def test_every_entry_has_a_thing_that_is_unchanged_where_nothing_is() -> None:
    ownership = scope_of(OWNER, roles=(ours("owner"),), owned="owner")
    plan = build_plan(ownership)
    assert [(item.action, item.database, item.username) for item in plan.unchanged] == [
        ("database", "shop", "owner"),
        ("password", "shop", "owner"),
        ("privileges", "shop", "owner"),
        ("role", "shop", "owner"),
    ]


@pytest.mark.parametrize(
    ("role", "check", "code"),
    [
        (ours("owner", can_login=False), PasswordCheck.CURRENT, "nologin"),
        (ours("owner", valid_until="2099-01-01"), PasswordCheck.CURRENT, "expiry"),
        (ours("owner", connection_limit=3), PasswordCheck.CURRENT, "connection_limit"),
        (ours("owner"), PasswordCheck.ROTATING, "rotation"),
        (ours("owner"), PasswordCheck.UNKNOWN, "password_unknown"),
    ],
)
def test_an_operators_decision_is_a_warning_and_no_change(role: RoleFacts, check: PasswordCheck, code: str) -> None:
    plan = build_plan(scope_of(OWNER, roles=(role,), passwords={"owner": check}))
    assert [finding.code for finding in plan.warnings] == [code]
    assert [change.action for change in plan.changes if not change.database] == []


def test_what_is_no_longer_declared_is_an_orphan() -> None:
    plan = build_plan(scope_of(roles=(ours("owner"),), owned="owner"))
    assert plan.changes == ()
    assert [finding.code for finding in plan.warnings] == ["orphaned_database", "orphaned_role"]


def test_what_the_server_does_not_show_after_the_changes_is_left_over() -> None:
    changes = (CreateRole(username="owner"), CreateDatabase(database="shop", username="owner"))
    codes = [finding.message for finding in verify_roles_and_markers(scope_of(OWNER), changes)]
    assert [text.split(" ")[0] for text in codes] == ["create_role", "create_database"]
    assert verify_roles_and_markers(scope_of(OWNER, roles=(ours("owner"),), owned="owner"), changes) == ()
