"""An access control list as PostgreSQL prints it is read item by item, whatever the names in it."""

import pytest

from provisioner.core.acl import parse_acl
from provisioner.core.state import Grant, Unreadable


def test_a_list_is_read_item_by_item() -> None:
    assert parse_acl("{owner=rU/owner,reader=r/owner}") == (
        Grant("owner", "owner", "SELECT"),
        Grant("owner", "owner", "USAGE"),
        Grant("owner", "reader", "SELECT"),
    )


def test_a_star_is_the_option_of_the_privilege_before_it() -> None:
    assert parse_acl("{reader=r*w/owner}") == (
        Grant("owner", "reader", "SELECT"),
        Grant("owner", "reader", "SELECT", grant_option=True),
        Grant("owner", "reader", "UPDATE"),
    )


def test_no_grantee_is_everybody() -> None:
    assert parse_acl("{=c/owner}") == (Grant("owner", "public", "CONNECT"),)


@pytest.mark.parametrize("text", ["{}", "", "{owner=/owner}"])
def test_an_empty_list_has_no_items(text: str) -> None:
    assert parse_acl(text) == ()


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        (r'"\"two words\"=r/owner"', "two words"),
        (r'"\"a=r/b\"=r/owner"', "a=r/b"),
        (r'"\"a,b}\"=r/owner"', "a,b}"),
        (r'"\"a\"\"b\"=r/owner"', 'a"b'),
        (r'"\"a\\b\"=r/owner"', r"a\b"),
        ('"\\"a\nb\\"=r/owner"', "a\nb"),
        ("Jörg=r/owner", "Jörg"),
        (r'"\"Jörg\"=r/owner"', "Jörg"),
    ],
)
def test_a_name_may_hold_anything(printed: str, name: str) -> None:
    assert parse_acl(f"{{{printed},other=r/owner}}") == tuple(
        sorted([Grant("owner", name, "SELECT"), Grant("owner", "other", "SELECT")])
    )


def test_the_grantor_may_have_any_name_too() -> None:
    assert parse_acl(r'{"reader=r/\"a=/\"\"b\""}') == (Grant('a=/"b', "reader", "SELECT"),)


@pytest.mark.parametrize("text", ["{nothing}", "{reader=r}", "{reader=r/}", "{reader=1/owner}", r'{"\"a=r/owner"}'])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        parse_acl(text)


def test_a_privilege_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(Unreadable, match='unknown privilege "z"'):
        parse_acl("{reader=rz/owner}")


def test_a_grant_option_is_a_grant_of_its_own_beside_the_privilege() -> None:
    assert set(parse_acl("{a=r*/o,b=r/a}")) == {
        Grant("o", "a", "SELECT"),
        Grant("o", "a", "SELECT", grant_option=True),
        Grant("a", "b", "SELECT"),
    }
