"""What a declared role should be, and what leads there."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.difference import diff
from provisioner.core.roles import desired_roles
from provisioner.core.state import Membership, Role, RoleFacts, State
from unit.core.shop import ownership_over

if TYPE_CHECKING:
    from provisioner.core.errors import Finding


def test_a_missing_role_is_created_with_what_it_is_declared_to_have() -> None:
    role = Role("r", createdb=True, connection_limit=3)
    assert diff(State(), State({"r": role}), {}) == (
        Change(ChangeKind.CREATE_ROLE, username="r", createdb=True, connection_limit=3),
    )


def test_of_a_role_only_what_differs_is_changed() -> None:
    before = Role("r", createdb=True, connection_limit=3, password_current=False)
    after = Role("r", connection_limit=3)
    assert diff(State({"r": before}), State({"r": after}), {}) == (
        Change(ChangeKind.ALTER_ROLE, username="r", createdb=False),
        Change(ChangeKind.SET_PASSWORD, username="r", reason="the server has another password than the secret"),
    )


def test_a_membership_that_is_not_wanted_goes() -> None:
    before = Role("r", memberships=frozenset({Membership("o", "r", "me")}))
    assert diff(State({"r": before}), State({"r": Role("r")}), {}) == (
        Change(ChangeKind.REVOKE_MEMBERSHIP, username="r", subject="o"),
    )


def test_a_role_that_is_not_ours_is_desired_as_it_is() -> None:
    ownership = ownership_over()
    reader = RoleFacts("reader", createdb=True, createrole=True, connection_limit=3)
    ownership = replace(ownership, server=replace(ownership.server, roles={**ownership.server.roles, "reader": reader}))
    role = desired_roles(ownership, [])["reader"]
    assert (role.createdb, role.createrole, role.connection_limit, role.managed) == (True, True, 3, False)


@pytest.mark.parametrize(
    ("version", "grantor", "stays"), [(15, "rdsadmin", False), (16, "admin", False), (16, "rdsadmin", True)]
)
def test_a_membership_in_a_managed_role_goes_where_it_is_ours_to_revoke(
    version: int, grantor: str, *, stays: bool
) -> None:
    findings: list[Finding] = []
    ownership = ownership_over(version=version, memberships=(Membership("owner", "reader", grantor),))
    assert bool(desired_roles(ownership, findings)["reader"].memberships) is stays
    assert [each.code for each in findings] == (["membership_of_another_grantor"] if stays else [])
