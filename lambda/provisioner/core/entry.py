"""The attributes of one entry of `application_databases` come in; an `Entry` goes out, or everything wrong with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from provisioner.core.access_levels import ACCEPTABLE, AccessLevel
from provisioner.core.document import redact
from provisioner.core.fields import Fields
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
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NAMES_ARE = "a lower-case letter, then lower-case letters, digits, _ or -, at most 63 in all"
_IN_QUOTES = 'write a list of names in quotes: ["...", "..."]'
_LEVEL = re.compile("|".join(AccessLevel))
_ACCEPTABLE = re.compile("|".join(ACCEPTABLE))
_SECRET_NAME = re.compile(
    r"[A-Za-z0-9/_+=.@-]{1,512}"
    r"|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}"
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
    levels, accepted = f"one of {', '.join(AccessLevel)}", f"one of {', '.join(sorted(ACCEPTABLE))}"
    next_step = "write one of those in quotes"
    level = fields.text("access_level", pattern=_LEVEL, code="invalid_value", wanted=levels, next_step=next_step)
    entry = replace(
        names,
        access_level=AccessLevel(level or AccessLevel.OWNER),
        secret_name=_secret_name(fields),
        createdb=fields.read("createdb", bool, "true or false", "write true or false without quotes") or False,
        connection_limit=_connection_limit(fields),
        extensions=_strings(fields, "extensions", _NAME, "invalid_name", _NAMES_ARE),
        accepted_findings=_strings(fields, "accepted_findings", _ACCEPTABLE, "invalid_value", accepted),
    )
    for attribute in ("createdb", "extensions"):
        if getattr(entry, attribute) and entry.access_level is not AccessLevel.OWNER:
            message = f'{attribute} is for owners only, and access_level is "{entry.access_level}"'
            fields.refuse("invalid_value", attribute, message, "move it to the entry of the database's owner")
    return entry if names.database and names.username and level else None


def _refuse_unknown(fields: Fields, names: Iterable[str]) -> None:
    for name in names:
        if name not in _ATTRIBUTES:
            near = difflib.get_close_matches(name[:80], _ATTRIBUTES, n=1)
            next_step = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(_ATTRIBUTES)}"
            fields.refuse("unknown_attribute", name, f"there is no attribute {redact(name)}", next_step)


def _name(fields: Fields, attribute: str) -> str:
    if attribute not in fields.values:
        fields.refuse("missing_attribute", attribute, f"{attribute} is missing or null, and it is required", "add it")
    next_step = f"choose another {attribute}"
    name = fields.text(attribute, pattern=_NAME, code="invalid_name", wanted=_NAMES_ARE, next_step=next_step)
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
        message = f'{attribute} "{name}" is reserved by PostgreSQL or RDS'
        fields.refuse("reserved_name", attribute, message, next_step)
        return ""
    return name


def _secret_name(fields: Fields) -> str:
    return fields.text(
        "secret_name",
        limit=1024,
        pattern=_SECRET_NAME,
        code="invalid_value",
        wanted="a name or an ARN of Secrets Manager",
        next_step="use 1 to 512 of letters, digits and /_+=.@-, or leave it out for the default",
    )


def _connection_limit(fields: Fields) -> int | None:
    limit = fields.read("connection_limit", Decimal, "a number", "write a whole number without quotes")
    # The bounds come first: 1e999999999 as a whole number would fill the memory.
    if limit is None or (0 <= limit <= MAX_CONNECTION_LIMIT and limit == int(limit)):
        return None if limit is None else int(limit)
    message = f"connection_limit must be a whole number from 0 to {MAX_CONNECTION_LIMIT}"
    fields.refuse("invalid_value", "connection_limit", message, "leave it out for no limit")
    return None


def _strings(fields: Fields, attribute: str, pattern: re.Pattern[str], code: str, wanted: str) -> tuple[str, ...]:
    items = fields.read(attribute, tuple, "a list of strings", _IN_QUOTES) or ()
    each = (replace(fields, values={attribute: item}, prefix="each of ") for item in items)
    texts = [item.text(attribute, pattern=pattern, code=code, wanted=wanted, next_step=_IN_QUOTES) for item in each]
    return tuple(dict.fromkeys(text for text in texts if text))
