"""Memberships are followed to their end."""

from provisioner.core.state import Membership, all_members


def test_members_are_found_through_others_and_a_circle_ends() -> None:
    memberships = [Membership("top", "a", "x"), Membership("a", "b", "x"), Membership("b", "a", "x")]
    assert all_members("top", memberships) == {"a", "b"}
    assert all_members("nobody", memberships) == frozenset()
