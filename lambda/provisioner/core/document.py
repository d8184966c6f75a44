"""The values of a tfvars file as they are written, whatever its format: literals with their lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum


class NotLiteral(Enum):
    """What stands in a file where a literal does not: why, in place of the value."""

    FOR = "a for expression"
    COMPUTED = "a template, a heredoc or another computed value"
    REFUSED = "already reported"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One of an object or, its number as the key, of a list; the line is 0 where the format does not tell (JSON)."""

    key: str | NotLiteral
    content: Content
    line: int = 0


@dataclass(frozen=True, slots=True)
class Object:
    """An object as it is written: in order, duplicates kept."""

    attributes: tuple[Attribute, ...]


Content = str | Decimal | bool | None | tuple[Attribute, ...] | Object | NotLiteral

_SHOWABLE = re.compile(r"[A-Za-z0-9_-]{1,80}(\[[0-9]+\])?")
_MAX_EXPONENT = 2**31 - 1


def parse_number(digits: str) -> Decimal:
    """Return a number as it is written; `ValueError` where it is none, or its exponent beyond what Terraform reads."""
    try:
        number = Decimal(digits)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or (number and abs(number.adjusted()) > _MAX_EXPONENT):
        raise ValueError("no number that Terraform would read")
    return number


def redact(name: str | NotLiteral) -> str:
    """Return the name if it is one that can be shown; else what it looks like, since it could be a secret."""
    if isinstance(name, NotLiteral):
        return "<computed key>"
    return name if _SHOWABLE.fullmatch(name) else f"<{len(name)} characters>"
