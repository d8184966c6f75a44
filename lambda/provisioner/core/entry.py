"""The attributes of one entry of `application_databases` come in; an `Entry` goes out, or everything wrong with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from provisioner.core.access_levels import ACCEPTABLE, AccessLevel
from provisioner.core.document import redact
from provisioner.core.fields import Fields, Shape
from provisioner.core.model import Entry

MAX_CONNECTION_LIMIT = 2_147_483_647
RESERVED_PREFIXES = ("pg_", "rds_")
RESERVED_NAMES = frozenset(
    {
        # databases and roles that PostgreSQL and RDS make themselves
        "postgres", "template0", "template1", "rdsadmin", "rdsrepladmin", "rdstopmgr", "rdsproxyadmin",
        # words that stand for a role in GRANT and ALTER
        "public", "none", "current_user", "current_role", "session_user", "user",
    }
)  # fmt: skip

_ATTRIBUTES = (
    "database_name", "username", "access_level", "secret_name", "createdb", "connection_limit", "extensions",
    "accepted_findings",
)  # fmt: skip
_IN_QUOTES = "write one of them, in quotes"
_NAME = Shape(
    "a lower-case letter, then lower-case letters, digits, _ or -, at most 63 in all",
    "[a-z][a-z0-9_-]{0,62}",
    "choose another name, in quotes",
    code="invalid_name",
)
_LEVEL = Shape(f"one of {', '.join(AccessLevel)}", "|".join(AccessLevel), _IN_QUOTES, code="invalid_value")
_ACCEPTABLE = Shape(f"one of {', '.join(sorted(ACCEPTABLE))}", "|".join(ACCEPTABLE), _IN_QUOTES, code="invalid_value")
_SECRET_NAME = Shape(
    "a name of 1 to 512 letters, digits and /_+=.@-, or an ARN of Secrets Manager",
    r"[A-Za-z0-9/_+=.@-]{1,512}"
    r"|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}",
    "correct it, or leave it out for the default",
    code="invalid_value",
    limit=1024,
)


def read_entry(application: str, attributes: Fields) -> Entry | None:
    """Read one entry; None where it has no valid names or level, so that nothing more can be said about it.

    Null means the default, as in Terraform.
    """
    given = {name: value for name, value in attributes.values.items() if value is not None}
    fields = replace(attributes, values={"access_level": AccessLevel.OWNER.value, **given})
    # Names come first, so that the other findings can carry them.
    names = Entry(application, _name(fields, "database_name"), _name(fields, "username"))
    fields = replace(fields, subject=names)
    _refuse_unknown(fields, attributes.values)
    level = fields.text("access_level", _LEVEL)
    entry = replace(
        names,
        access_level=AccessLevel(level or AccessLevel.OWNER),
        secret_name=fields.text("secret_name", _SECRET_NAME),
        createdb=fields.read("createdb", bool, "true or false", "write true or false without quotes") or False,
        connection_limit=_connection_limit(fields),
        extensions=fields.texts("extensions", tuple, _NAME),
        accepted_findings=fields.texts("accepted_findings", tuple, _ACCEPTABLE),
    )
    for attribute in ("createdb", "extensions"):
        if getattr(entry, attribute) and entry.access_level is not AccessLevel.OWNER:
            message = f'{attribute} is for owners only, and access_level is "{entry.access_level}"'
            fields.refuse("invalid_value", attribute, message, "move it to the entry of the database's owner")
    return entry if names.database and names.username and level else None


def names_of(secret_id: str) -> frozenset[str]:
    """What a secret may be called by: of an ARN the name in it, with and without the six characters behind it."""
    name = secret_id.partition(":secret:")[2] or secret_id
    return frozenset({name, re.sub(r"-[A-Za-z0-9]{6}$", "", name)} if name != secret_id else {name})


def _refuse_unknown(fields: Fields, names: Iterable[str]) -> None:
    for name in names:
        if name not in _ATTRIBUTES:
            near = difflib.get_close_matches(name[:80], _ATTRIBUTES, n=1)
            next_step = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(_ATTRIBUTES)}"
            fields.refuse("unknown_attribute", name, f"there is no attribute {redact(name)}", next_step)


def _name(fields: Fields, attribute: str) -> str:
    if attribute not in fields.values:
        fields.refuse("missing_attribute", attribute, f"{attribute} is missing or null, and it is required", "add it")
    name = fields.text(attribute, _NAME)
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
        message = f'{attribute} "{name}" is reserved by PostgreSQL or RDS'
        fields.refuse("reserved_name", attribute, message, f"choose another {attribute}")
        return ""
    return name


def _connection_limit(fields: Fields) -> int | None:
    limit = fields.read("connection_limit", Decimal, "a number", "write a whole number without quotes")
    # The bounds come first: 1e999999999 as a whole number would fill the memory.
    if limit is None or (0 <= limit <= MAX_CONNECTION_LIMIT and limit == int(limit)):
        return None if limit is None else int(limit)
    message = f"connection_limit must be a whole number from 0 to {MAX_CONNECTION_LIMIT}"
    fields.refuse("invalid_value", "connection_limit", message, "leave it out for no limit")
    return None
