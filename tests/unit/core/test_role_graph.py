"""Who may act as whom: INHERIT, SET and ADMIN as each version means them."""

import pytest

from provisioner.core.role_graph import RoleGraph
from provisioner.core.state import Membership, Role, Server


def graph(version: int, *memberships: Membership, **facts: Role) -> RoleGraph:
    names = {name for item in memberships for name in (item.role, item.member)}
    roles = {name: Role(name) for name in names} | facts
    return RoleGraph(Server(version, "admin", "rdsadmin", roles, {}, memberships=memberships))


def test_up_to_15_a_role_inherits_by_its_own_attribute_and_may_always_set_role() -> None:
    chain = Membership("b", "a", "x"), Membership("c", "b", "x")
    found = graph(15, *chain, b=Role("b", inherits=False))
    assert found.inherited("a").keys() == {"a", "b"}
    assert found.settable("a").keys() == {"a", "b", "c"}
    assert found.inheritors["b"] == {"a", "b"}


def test_from_16_each_membership_says_both_for_itself() -> None:
    chain = (
        Membership("b", "a", "x", inherit_option=False, set_option=True),
        Membership("c", "b", "x", inherit_option=True, set_option=False),
    )
    found = graph(16, *chain, b=Role("b", inherits=False))
    assert found.inherited("a").keys() == {"a"}
    assert found.settable("a").keys() == {"a", "b"}
    assert found.inherited("b").keys() == {"b", "c"}


def test_each_membership_that_begins_a_path_has_one_and_the_shortest_is_told() -> None:
    first, second = Membership("b", "a", "x"), Membership("c", "a", "x")
    long, short = Membership("d", "b", "x"), Membership("e", "c", "x")
    last = Membership("d", "e", "x"), Membership("d", "c", "y")
    found = graph(16, first, second, long, short, *last)
    assert set(found.inherited("a")["d"]) == {(first, long), (second, last[1])}


@pytest.mark.parametrize(("version", "names"), [(15, {"a", "b"}), (16, set())])
def test_createrole_administers_every_role_but_superusers_up_to_15(version: int, names: set[str]) -> None:
    facts = {"me": Role("me", createrole=True), "root": Role("root", superuser=True)}
    found = graph(version, Membership("a", "b", "x"), **facts)
    assert found.administered("me").keys() == names


def test_admin_of_a_role_that_is_not_inherited_counts_up_to_15() -> None:
    memberships = (
        Membership("helper", "me", "x", inherit_option=False, set_option=False),
        Membership("app", "helper", "x", admin_option=True),
    )
    assert graph(16, *memberships).administered("me").keys() == set()
    plain = (Membership("helper", "me", "x"), memberships[1])
    assert graph(15, *plain, me=Role("me", inherits=False)).administered("me").keys() == {"app"}
    assert graph(16, *plain).administered("me").keys() == {"app"}
