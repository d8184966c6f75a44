"""What a declared role should be, and what leads there."""

from dataclasses import replace

import pytest

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.roles import role_changes
from provisioner.core.state import Membership, PasswordCheck, Role
from provisioner.core.warnings import find_warnings
from unit.core.shop import OWNER, READER, ours, ownership_of, ownership_over


def test_a_missing_role_is_created_with_what_it_is_declared_to_have() -> None:
    entry = replace(OWNER, createdb=True, connection_limit=3)
    assert role_changes(ownership_of(entry)) == [
        Change(ChangeKind.CREATE_ROLE, username="owner", createdb=True, connection_limit=3)
    ]


def test_of_a_role_only_what_differs_is_changed() -> None:
    before = ours("owner", createdb=True, connection_limit=3)
    entry = replace(OWNER, connection_limit=3)
    assert role_changes(ownership_of(entry, roles=(before,), passwords={"owner": PasswordCheck.DIFFERS})) == [
        Change(ChangeKind.ALTER_ROLE, username="owner", createdb=False),
        Change(ChangeKind.SET_PASSWORD, username="owner", reason="the server has another password than the secret"),
    ]


def test_a_membership_that_is_not_wanted_goes() -> None:
    memberships = (Membership("owner", "reader", "admin"),)
    ownership = ownership_of(OWNER, READER, roles=(ours("owner"), ours("reader")), memberships=memberships)
    assert role_changes(ownership) == [Change(ChangeKind.REVOKE_MEMBERSHIP, username="reader", subject="owner")]


def test_a_role_that_is_not_ours_is_desired_as_it_is() -> None:
    reader = Role("reader", createdb=True, createrole=True, connection_limit=3)
    assert role_changes(ownership_of(READER, roles=(reader,))) == []


@pytest.mark.parametrize(
    ("version", "grantor", "stays"), [(15, "rdsadmin", False), (16, "admin", False), (16, "rdsadmin", True)]
)
def test_a_membership_in_a_managed_role_goes_where_it_is_ours_to_revoke(
    version: int, grantor: str, *, stays: bool
) -> None:
    ownership = ownership_over(version=version, memberships=(Membership("owner", "reader", grantor),))
    left = [change.username for change in role_changes(ownership) if change.kind is ChangeKind.REVOKE_MEMBERSHIP]
    assert left == ([] if stays else ["reader"])
    codes = [finding.code for finding in find_warnings(ownership) if finding.username == "reader"]
    assert codes == (["membership_of_another_grantor"] if stays else [])
