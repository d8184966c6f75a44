"""Our mark on a role or a database: a comment that holds JSON. Comment text in, marker out, and back.

The mark says that the object is ours to change and in which environment. A role's comment can only be written by a
role with CREATEROLE (from PostgreSQL 16 and ADMIN on it), so a tenant cannot forge one; a database's comment can be
written by its owner, so the marker on a database counts only together with a marked owner (see `core.ownership`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from provisioner.core.state import NO_LIMIT, Marker

MANAGED_BY = "rds-provisioner"
# What is read of a comment. That of a database is its owner's to write, so it is short; that of a role is not, and
# names the databases that are being created for it.
MAX_COMMENT_CHARACTERS, MAX_ROLE_COMMENT_CHARACTERS = 8_192, 1_000_000


def parse_marker(comment: str) -> Marker:
    """Read a comment; one that is not ours is the comment of a mark of no environment, whatever it holds."""
    try:
        value = json.loads(comment) if MANAGED_BY in comment else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("managed_by") != MANAGED_BY or not _text(value, "environment"):
        return Marker(comment=comment)
    creating = value.get("creating", [])
    if not isinstance(creating, list):
        return Marker(comment=comment)
    marker = Marker(
        environment=_text(value, "environment"),
        creating=tuple(sorted(_encodable(name) for name in creating if isinstance(name, str))),
        has_temporary_membership=value.get("borrowed") is True,
        comment=_text(value, "comment"),
        quarantined=_text(value, "quarantined"),
        kept=_text(value, "kept"),
        kept_from=_text(value, "kept_from"),
        login=value.get("login") is not False,
        connection_limit=limit if isinstance(limit := value.get("connection_limit"), int) else NO_LIMIT,
    )
    return replace(marker, current=comment == render_marker(marker))


def render_marker(marker: Marker) -> str:
    """Write the comment for a marker; what is empty is left out, and the older comment cut where all is too long."""
    value = {
        "managed_by": MANAGED_BY,
        "environment": marker.environment,
        "connection_limit": None if marker.connection_limit == NO_LIMIT else marker.connection_limit,
        "login": None if marker.login else False,
        "creating": list(marker.creating) or None,
        "borrowed": marker.has_temporary_membership or None,
        "quarantined": marker.quarantined or None,
        "kept": marker.kept or None,
        "kept_from": marker.kept_from or None,
        "comment": marker.comment or None,
    }
    text = json.dumps({name: item for name, item in value.items() if item is not None}, ensure_ascii=False)
    if len(text) > MAX_COMMENT_CHARACTERS and marker.comment:
        return render_marker(replace(marker, comment=marker.comment[: len(marker.comment) // 2]))
    return text


def _text(value: dict[str, Any], name: str) -> str:
    item = value.get(name, "")
    return _encodable(item) if isinstance(item, str) else ""


def _encodable(text: str) -> str:
    """The text without lone surrogates: JSON can say one, and no file, statement or log can hold it."""
    return text.encode("utf-8", "replace").decode("utf-8")
