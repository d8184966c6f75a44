"""An access control list as PostgreSQL prints it in, its grants out: each privilege, each right to pass one on.

The server could take lists apart itself (`aclexplode`), for a quarter more of what the query costs it in each
database; the integration tests hold this reading against that one on every version.
Format: https://www.postgresql.org/docs/current/ddl-priv.html
"""

from __future__ import annotations

import re
from functools import lru_cache

from provisioner.core.state import PUBLIC, Grant, Unreadable

_PRIVILEGES = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
    "X": "EXECUTE",
    "U": "USAGE",
    "s": "SET",
    "A": "ALTER SYSTEM",
}
# An element of an array: in quotes with backslashes, or as it is.
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^{},"\\]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# A name is in quotes, its own doubled, unless it is letters, digits and underscores.
_ITEM = re.compile(r'("(?:[^"]|"")*"|[^"=]*)=([A-Za-z*]*)/("(?:[^"]|"")*"|[^"/]+)', re.DOTALL)
_PRIVILEGE = re.compile(r"([A-Za-z])(\*?)")


def parse_acl(text: str) -> tuple[Grant, ...]:
    """The items of a list such as `{owner=arw/owner,=r/owner}`, in order.

    Raises Unreadable: it is none, or has a privilege that PostgreSQL 13 to 18 do not know.
    """
    parts = (plain or _ESCAPED.sub(r"\1", quoted) for quoted, plain in _ELEMENT.findall(text))
    return tuple(sorted(item for part in parts for item in _parse_item(part)))


# Thousands of lists have the same items, and each grant is one object in all of them.
@lru_cache(maxsize=10_000)
def _parse_item(text: str) -> tuple[Grant, ...]:
    found = _ITEM.fullmatch(text)
    if not found:
        raise Unreadable("an access control list that cannot be read")
    items = []
    grantee, grantor = _name(found[1]) or PUBLIC, _name(found[3])
    for letter, option in _PRIVILEGE.findall(found[2]):
        if letter not in _PRIVILEGES:
            raise Unreadable(f'an access control list with an unknown privilege "{letter}"')
        items.append(Grant(grantor, grantee, _PRIVILEGES[letter]))
        items += [Grant(grantor, grantee, _PRIVILEGES[letter], grant_option=True)] if option else []
    return tuple(items)


def _name(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
