"""The kinds of object that privileges are granted on, with the facts of each."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ObjectKind(StrEnum):
    """The kinds of object; the values are the words of the plan.

    `letter` is that of `acldefault` and of `pg_default_acl`. `named_by` says how one of its objects is named in a
    statement; objects of a kind that has it are observed and changed in groups. `public_by_default` are the privileges
    that PostgreSQL gives everybody on a new one.
    """

    letter: str
    named_by: str
    public_by_default: tuple[str, ...]

    DATABASE = "database", "d", "", ("CONNECT", "TEMPORARY")
    SCHEMA = "schema", "n"
    TABLE = "table", "r", "name"  # and view, materialized view, foreign and partitioned table: ON TABLE covers them all
    SEQUENCE = "sequence", "s", "name"
    COLUMN = "column", "c", "table and column"
    ROUTINE = "routine", "f", "", ("EXECUTE",)
    TYPE = "type", "T", "", ("USAGE",)
    LARGE_OBJECT = "large object", "L"

    def __new__(cls, words: str, letter: str = "", named_by: str = "", public_by_default: tuple[str, ...] = ()) -> Self:
        kind = str.__new__(cls, words)
        kind._value_, kind.letter, kind.named_by, kind.public_by_default = words, letter, named_by, public_by_default
        return kind

    @classmethod
    def of_letter(cls, letter: str) -> ObjectKind:
        """The kind of a row; `pg_default_acl` has a letter of its own for sequences."""
        return next(kind for kind in cls if kind.letter == ("s" if letter == "S" else letter))

    @property
    def keyword(self) -> str:
        """What SQL calls one of them; with an S, all of them."""
        return self.value.upper()
