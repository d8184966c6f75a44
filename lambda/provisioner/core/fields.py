"""Untrusted mappings come in; values go out, and everything that is wrong with them at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypeVar

from provisioner.core.document import Attribute, NotLiteral, Object, redact
from provisioner.core.errors import Finding, ProvisioningError
from provisioner.core.model import Entry

MAX_FINDINGS = 200
"""More problems than this are counted, not listed: the answer of an invocation has a size."""

MAX_ITEMS = 1000

CORRECT_IT = "correct it, or leave it out"

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
class Shape:
    """What a string has to be, in words and by a pattern; what to do about another, and its code if it has its own."""

    wanted: str = ""
    pattern: str = ".*"
    next_step: str = CORRECT_IT
    code: str = ""
    limit: int = 256

    def refusal(self, value: str) -> str:
        """What a string that is not of this shape has to be; empty for one that is."""
        if len(value) <= self.limit and value.isprintable() and re.fullmatch(self.pattern, value):
            return ""
        return self.wanted or f"a string of at most {self.limit} characters without control characters"


TEXT = Shape()


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
        """Return the value of a key, None where it is absent or, which is a problem, of another type."""
        value = self.find(name, kind)
        if value is None:
            self.refuse_type(name, self.values.get(name, NotLiteral.REFUSED), wanted, next_step)
        return value

    def find(self, name: str, kind: type[T]) -> T | None:
        """Return the value of a key, None where it is absent or of another type; a bool is no number."""
        value = self.values.get(name)
        return value if isinstance(value, kind) and isinstance(value, bool) == (kind is bool) else None

    def text(self, name: str, shape: Shape = TEXT, default: str = "") -> str:
        value = self.read(name, str, "a string", shape.next_step)
        wanted = "" if value is None else shape.refusal(value)
        if wanted:
            self.refuse(shape.code or self.code, name, f"{self.prefix}{name} must be {wanted}", shape.next_step)
        return default if wanted or value is None else value

    def texts(self, name: str, kind: type[Sequence[object]], shape: Shape) -> tuple[str, ...]:
        """Return the strings of a list, each once."""
        items = self.read(name, kind, "a list of strings", shape.next_step) or ()
        if len(items) > MAX_ITEMS:
            self.refuse(self.code, name, f"{name} must be a list of at most {MAX_ITEMS} strings", shape.next_step)
            return ()
        found: list[str] = []
        for number, item in enumerate(items):
            content, line = (item.content, item.line) if isinstance(item, Attribute) else (item, 0)
            place = f"{name}[{number}]"
            found.append(replace(self, values={place: content}, lines={place: line}).text(place, shape))
        return tuple(dict.fromkeys(filter(None, found)))

    def refuse(self, code: str, name: str, message: str, next_step: str) -> None:
        """Keep a problem with the value of a key, or, where it is empty, with the mapping itself."""
        path = f"{self.path}{redact(name)}" if name else self.path.removesuffix(".")
        where = self.problems.location(self.lines.get(name, self.line), path)
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
    return _WORDS.get(type(value), "an object")


_WORDS: dict[type, str] = {
    type(None): "null",
    bool: "a bool",
    str: "a string",
    **dict.fromkeys((int, float, Decimal), "a number"),
    **dict.fromkeys((list, tuple), "a list"),
}
