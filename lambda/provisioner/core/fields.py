"""Untrusted mappings come in; values go out, and everything that is wrong with them at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from provisioner.core.document import Attribute, NotLiteral, Object, redact
from provisioner.core.errors import Finding, ProvisioningError
from provisioner.core.model import Entry

MAX_FINDINGS = 200
"""More problems than this are counted, not listed: the answer of an invocation has a size."""

MAX_TEXT = 256

T = TypeVar("T")


@dataclass(slots=True)
class Problems:
    """Where findings are collected while something is read; `file_name` is what their places begin with."""

    file_name: str = ""
    findings: list[Finding] = field(default_factory=list)
    suppressed: int = 0

    def refuse(self, code: str, message: str, next_step: str, where: str, subject: Entry | None = None) -> None:
        """Keep one problem; `where` comes from `location`, `subject` gives the audit row its names."""
        if len(self.findings) >= MAX_FINDINGS:
            self.suppressed += 1
            return
        database, username = (subject.database, subject.username) if subject else ("", "")
        self.findings.append(Finding(code, message, next_step, where, database, username))

    def location(self, line: int, path: str = "") -> str:
        """Return `terraform.tfvars:12 application_databases.keycloak`."""
        return f"{self.file_name}{f':{line}' if line else ''} {path}".strip()

    def raise_if_any(self, error: type[ProvisioningError]) -> None:
        if self.suppressed:
            message = f"{self.suppressed} more problems are not listed"
            self.findings.append(Finding("too_many", message, "mend those above first", self.file_name))
        if self.findings:
            raise error(self.findings)


@dataclass(frozen=True, slots=True)
class Fields:
    """One untrusted mapping: a value that is not what is wanted is kept as a problem and reads as if it were absent.

    `path` stands before a key in the place of a finding ("approval."), `prefix` in its message; `code` is that of a
    value of the wrong type. `lines` and `line`, the mapping's own, are those of a file.
    """

    values: Mapping[str, object]
    problems: Problems
    code: str
    path: str = ""
    prefix: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    line: int = 0
    subject: Entry | None = None

    def read(self, name: str, kind: type[T], wanted: str, next_step: str = "") -> T | None:
        """Return the value of a key, None where it is absent or of another type; a bool is no number."""
        value = self.values.get(name, NotLiteral.REFUSED)
        if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
            return value
        self.refuse_type(name, value, wanted, next_step)
        return None

    def text(
        self,
        name: str,
        default: str = "",
        *,
        limit: int = MAX_TEXT,
        pattern: re.Pattern[str] | None = None,
        code: str = "",
        wanted: str = "",
        next_step: str = "",
    ) -> str:
        """Return a printable string; `wanted` says what the pattern asks for, `code` is that of another string."""
        wanted = wanted or f"a string of at most {limit} characters without control characters"
        value = self.read(name, str, wanted, next_step)
        if value is None:
            return default
        if len(value) <= limit and value.isprintable() and (pattern is None or pattern.fullmatch(value)):
            return value
        self.refuse(code or self.code, name, f"{self.prefix}{name} must be {wanted}", next_step)
        return default

    def refuse(self, code: str, name: str, message: str, next_step: str) -> None:
        """Keep a problem with the value of a key."""
        where = self.problems.location(self.lines.get(name, self.line), f"{self.path}{redact(name)}")
        self.problems.refuse(code, message, next_step, where, self.subject)

    def refuse_type(self, name: str, value: object, wanted: str, next_step: str) -> None:
        """Keep the problem that a value is not what is wanted, unless it was reported already."""
        code = self.code
        if value is NotLiteral.REFUSED:
            return
        if value is NotLiteral.FOR:
            code, next_step = "for_expression", "write the values out"
        elif isinstance(value, NotLiteral):
            code = "computed_value"
        self.refuse(code, name, f"{self.prefix}{redact(name)} must be {wanted}, not {describe(value)}", next_step)


def attributes_by_key(found: Object, path: str, problems: Problems) -> dict[str, Attribute]:
    """Return the attributes by key, the first of each, and refuse duplicates: in HCL the last would silently win."""
    by_key: dict[str, Attribute] = {}
    for each in found.attributes:
        where = problems.location(each.line, f"{path}.{redact(each.key)}".lstrip("."))
        if isinstance(each.key, NotLiteral):
            if each.key is not NotLiteral.REFUSED:
                problems.refuse("computed_key", f"the key is {each.key.value}", "write the key itself", where)
        elif each.key in by_key:
            lines = f"on lines {by_key[each.key].line} and {each.line}" if each.line else "twice"
            message = f"the key {redact(each.key)} stands {lines}; the last would silently win"
            problems.refuse("duplicate_key", message, "keep one of them", where)
        else:
            by_key[each.key] = each
    return by_key


def describe(value: object) -> str:
    """Describe a value by its type alone: it could be a secret."""
    if isinstance(value, NotLiteral):
        return value.value
    if value is None:
        return "null"
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "an object")


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a bool"),
    (str, "a string"),
    ((int, float, Decimal), "a number"),
    ((list, tuple), "a list"),
)
