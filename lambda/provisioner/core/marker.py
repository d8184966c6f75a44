"""Our mark on a role or a database: a comment that holds JSON. Comment text in, marker out, and back.

The mark says that the object is ours to change and in which environment. A role's comment can only be written by a
role with CREATEROLE (from PostgreSQL 16 and ADMIN on it), so a tenant cannot forge one; a database's comment can be
written by its owner, so the marker on a database counts only together with a marked owner (see `core.ownership`).
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

from provisioner.core.state import Marker

MANAGED_BY = "rds-provisioner"
# What is read of a comment. That of a database is its owner's to write, so it is short; that of a role is not, and
# names the databases that are being created for it.
MAX_COMMENT_CHARACTERS, MAX_ROLE_COMMENT_CHARACTERS = 8_192, 1_000_000
# What the comment calls each field of a mark, and what it is where the comment does not say.
_FIELDS = {each.name: (each.name, each.default) for each in fields(Marker) if each.compare}
_FIELDS["has_temporary_membership"] = ("borrowed", False)


def parse_marker(comment: str) -> Marker:
    """Read a comment; one that is not ours is the comment of a mark of no environment, whatever it holds."""
    try:
        value = json.loads(comment) if MANAGED_BY in comment else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("managed_by") != MANAGED_BY:
        return Marker(comment=comment)
    marker = Marker(**{field: _read(value.get(name), default) for field, (name, default) in _FIELDS.items()})
    if not marker.environment or not isinstance(value.get("creating", []), list):
        return Marker(comment=comment)
    return replace(marker, current=comment == render_marker(marker))


def render_marker(marker: Marker) -> str:
    """Write the comment for a marker; what is empty is left out, and the older comment cut where all is too long."""
    value = {name: item for field, (name, default) in _FIELDS.items() if (item := getattr(marker, field)) != default}
    text = json.dumps({"managed_by": MANAGED_BY, **value}, ensure_ascii=False)
    if len(text) > MAX_COMMENT_CHARACTERS and marker.comment:
        return render_marker(replace(marker, comment=marker.comment[: len(marker.comment) // 2]))
    return text


def _read(item: object, default: object) -> Any:
    """What a comment says of one field; of another type it says nothing."""
    if isinstance(item, list) and isinstance(default, tuple):
        return tuple(sorted(_encodable(name) for name in item if isinstance(name, str)))
    if not isinstance(item, type(default)):
        return default
    return _encodable(item) if isinstance(item, str) else item


def _encodable(text: str) -> str:
    """The text without lone surrogates: JSON can say one, and no file, statement or log can hold it."""
    return text.encode("utf-8", "replace").decode("utf-8")
