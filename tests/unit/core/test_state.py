"""Memberships are followed to their end; objects are told in words."""

from provisioner.core.kinds import ObjectKind
from provisioner.core.state import Membership, Target, all_members


def test_members_are_found_through_others_and_a_circle_ends() -> None:
    memberships = [Membership("top", "a", "x"), Membership("a", "b", "x"), Membership("b", "a", "x")]
    assert all_members({"top"}, memberships) == {"a", "b"}
    assert all_members({"nobody"}, memberships) == frozenset()
    assert all_members({"nobody", "b"}, memberships) == {"a", "b"}


def test_what_is_in_no_schema_is_told_of_none() -> None:
    assert Target(ObjectKind.LARGE_OBJECT, owner="a").in_words(2) == "2 large objects"
    assert Target(ObjectKind.TABLE, owner="a", schema="s").in_words(2) == '2 tables in schema "s"'
