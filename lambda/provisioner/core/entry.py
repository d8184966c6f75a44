"""The attributes of one entry of `application_databases` come in; an `Entry` goes out, or everything wrong with it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
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
_SECRET_NAME = re.compile(
    r"[A-Za-z0-9/_+=.@-]{1,512}"
    r"|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}"
)


def read_entry(application: str, attributes: Fields) -> Entry | None:
    """Read one entry; None where it has no valid names or level, so that nothing more can be said about it.

    Null means the default, as in Terraform.
    """
    given = {name: value for name, value in attributes.values.items() if value is not None}
    fields = replace(attributes, values=given)
    # Names come first, so that the other findings can carry them.
    names = Entry(application, _name(fields, "database_name"), _name(fields, "username"))
    fields = replace(fields, subject=names)
    _refuse_unknown(fields, attributes.values)
    level = _access_level(fields)
    entry = replace(
        names,
        access_level=level or AccessLevel.OWNER,
        secret_name=_secret_name(fields),
        createdb=_createdb(fields, level),
        connection_limit=_connection_limit(fields),
        extensions=_extensions(fields, level),
        accepted_findings=_accepted_findings(fields),
    )
    return entry if names.database and names.username and level else None


def repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _refuse_unknown(fields: Fields, names: Iterable[str]) -> None:
    for name in names:
        if name not in _ATTRIBUTES:
            near = difflib.get_close_matches(name[:80], _ATTRIBUTES, n=1)
            next_step = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(_ATTRIBUTES)}"
            fields.refuse("unknown_attribute", name, f"there is no attribute {redact(name)}", next_step)


def _string(fields: Fields, attribute: str) -> str | None:
    return fields.read(attribute, str, "a string", "write it in quotes")


def _name(fields: Fields, attribute: str) -> str:
    if attribute not in fields.values:
        state = "is null" if attribute in fields.lines else "is missing"
        fields.refuse("missing_attribute", attribute, f"{attribute} {state}, and it is required", "add it")
    name = _string(fields, attribute)
    if name is None:
        return ""
    code, problem = "invalid_name", _name_problem(name)
    if not problem and (name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)):
        code, problem = "reserved_name", f'"{name}" is reserved by PostgreSQL or RDS'
    if problem:
        fields.refuse(code, attribute, f"{attribute} {problem}", f"choose another {attribute}")
        return ""
    return name


def _name_problem(name: str) -> str:
    """Return what keeps a name from being one, never the name itself unless it can be shown."""
    label = f'"{name}"' if redact(name) == name else f"of {len(name)} characters"
    checks = (
        (not name, "is empty"),
        (len(name.encode(errors="replace")) > 63, f"{label} is longer than 63 bytes: PostgreSQL would cut it silently"),
        (name != name.lower(), f"{label} has upper-case letters"),
        (not _NAME.fullmatch(name), f"{label} must be a lower-case letter, then letters, digits, _ or -"),
    )
    return next((problem for failed, problem in checks if failed), "")


def _access_level(fields: Fields) -> AccessLevel | None:
    if "access_level" not in fields.values:
        return AccessLevel.OWNER
    level = _string(fields, "access_level")
    if level in list(AccessLevel):
        return AccessLevel(level)
    if level is not None:
        next_step = f"use one of {', '.join(AccessLevel)}"
        fields.refuse("invalid_value", "access_level", "access_level is not one that exists", next_step)
    return None


def _secret_name(fields: Fields) -> str:
    name = _string(fields, "secret_name")
    if name is not None and not _SECRET_NAME.fullmatch(name):
        message = f"secret_name of {len(name)} characters is neither a name nor an ARN of Secrets Manager"
        next_step = "use 1 to 512 of letters, digits and /_+=.@-, or leave it out for the default"
        fields.refuse("invalid_value", "secret_name", message, next_step)
    return name or ""


def _createdb(fields: Fields, level: AccessLevel | None) -> bool:
    createdb = fields.read("createdb", bool, "true or false", "write true or false without quotes") or False
    if createdb:
        _refuse_unless_owner(fields, level, "createdb", "remove it, or make the entry an owner")
    return createdb


def _refuse_unless_owner(fields: Fields, level: AccessLevel | None, attribute: str, next_step: str) -> None:
    if level not in {None, AccessLevel.OWNER}:
        message = f'{attribute} is for owners only, and access_level is "{level}"'
        fields.refuse("invalid_value", attribute, message, next_step)


def _connection_limit(fields: Fields) -> int | None:
    limit = fields.read("connection_limit", Decimal, "a number", "write a whole number without quotes")
    # The bounds come first: 1e999999999 as a whole number would fill the memory.
    if limit is None or (0 <= limit <= MAX_CONNECTION_LIMIT and limit == int(limit)):
        return None if limit is None else int(limit)
    message = f"connection_limit must be a whole number from 0 to {MAX_CONNECTION_LIMIT}"
    fields.refuse("invalid_value", "connection_limit", message, "leave it out for no limit")
    return None


def _extensions(fields: Fields, level: AccessLevel | None) -> tuple[str, ...]:
    names = _strings(fields, "extensions", "extension", '["citext"]')
    for name in names:
        if not _NAME.fullmatch(name):
            next_step = "a lower-case letter, then letters, digits, _ or -, at most 63"
            fields.refuse("invalid_name", "extensions", f"{redact(name)} is no extension's name", next_step)
    if fields.values.get("extensions"):
        _refuse_unless_owner(fields, level, "extensions", "move them to the entry of the database's owner")
    return names


def _accepted_findings(fields: Fields) -> tuple[str, ...]:
    codes = _strings(fields, "accepted_findings", "finding", '["public_can_create"]')
    for code in codes:
        if code not in ACCEPTABLE:
            message = f"{redact(code)} is no finding that can be accepted"
            next_step = f"those that can are {', '.join(sorted(ACCEPTABLE))}"
            fields.refuse("invalid_value", "accepted_findings", message, next_step)
    return codes


def _strings(fields: Fields, attribute: str, singular: str, example: str) -> tuple[str, ...]:
    items = fields.read(attribute, tuple, "a list of strings", f"write a list: {example}") or ()
    for item in items:
        if not isinstance(item.content, str):
            there = replace(fields, prefix="each of ", lines={attribute: item.line})
            there.refuse_type(attribute, item.content, "a string", f"write each in quotes: {example}")
    strings = tuple(item.content for item in items if isinstance(item.content, str))
    for name in repeated(strings):
        fields.refuse("duplicate", attribute, f'{singular} "{redact(name)}" is listed twice', "remove one")
    return strings
