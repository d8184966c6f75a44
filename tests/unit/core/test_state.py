"""Access control lists become flat grants, and memberships are followed to their end."""

from provisioner.core.state import AclItem, Grant, Membership, ObjectGroup, ObjectKind, Target, all_members, grants_of

TABLE = Target(ObjectKind.TABLE, schema="app", owner="o")


def test_a_grant_option_is_a_grant_of_its_own_beside_the_privilege() -> None:
    groups = [ObjectGroup(TABLE, (AclItem("o", "a", "SELECT", grantable=True), AclItem("a", "b", "SELECT")))]
    assert grants_of(groups) == {
        Grant(TABLE, "a", "SELECT", "o"),
        Grant(TABLE, "a", "SELECT", "o", option=True),
        Grant(TABLE, "b", "SELECT", "a"),
    }


def test_members_are_found_through_others_and_a_circle_ends() -> None:
    memberships = [Membership("top", "a", "x"), Membership("a", "b", "x"), Membership("b", "a", "x")]
    assert all_members("top", memberships) == {"a", "b"}
    assert all_members("nobody", memberships) == frozenset()
