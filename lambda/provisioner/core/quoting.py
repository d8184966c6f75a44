"""Texts of SQL, each quoted by its type: what a statement is put together from.

DDL takes no bind parameters, so quoting is decided by the type of the argument: a plain text is a name and is always
quoted, so is a `Literal`, and `Keywords` are ours and hold nothing but capital letters. The literals rely on
`standard_conforming_strings`, which every connection of ours switches on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


def quote(name: str) -> str:
    """A name of somebody else's making, any characters but NUL."""
    return '"' + name.replace('"', '""') + '"'


class Literal(str):
    """A text of somebody else's making."""

    __slots__ = ()

    def sql(self) -> str:
        return "'" + self.replace("'", "''") + "'"


class Statement(str):
    """SQL that stands as it is: a finished statement, or a part of one."""

    __slots__ = ()


class Quoted(Statement):
    """A name as the server itself quoted it (`pg_identify_object`), with its schema and the types of its arguments."""

    __slots__ = ()


class Keywords(Statement):
    """Keywords of SQL that this module writes; `ValueError` for anything but capital letters, commas and spaces."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not re.fullmatch(r"[A-Z, ]+", text):
            raise ValueError(f"not words of SQL: {text!r}")
        return super().__new__(cls, text)


@dataclass(frozen=True, slots=True)
class PasswordStatement:
    """A statement that sets a role's password, without it: a plan holds no secret, so it comes when it is sent.

    The server is sent a SCRAM verifier and never the password, since its log may keep every statement.
    """

    text: Statement
    role: str

    def __str__(self) -> str:
        return f"{self.text} PASSWORD '********'"

    def complete(self, verifier: str) -> Statement:
        return statement("{} PASSWORD {}", self.text, Literal(verifier))


def array(values: Iterable[str], kind: str = "text") -> str:
    """An array of values that are given as text, for a query."""
    return f"ARRAY[{', '.join(Literal(value).sql() for value in values)}]::{kind}[]"


def to_sql(item: str) -> str:
    """A text as its type says; one of no type of ours is a name."""
    if isinstance(item, Statement):
        return item
    return item.sql() if isinstance(item, Literal) else quote(item)


def statement(template: str, *arguments: str) -> Statement:
    """Fill the `{}` of a template, each argument quoted as its type says."""
    return Statement(template.format(*map(to_sql, arguments)))
