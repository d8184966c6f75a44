"""A text in, one printable line of bounded length out: what a log line, a cell or a message may show."""

from __future__ import annotations

from collections.abc import Iterable


def join_names(names: Iterable[str], most: int = 10) -> str:
    """Names as one text of bounded length: the first few, and how many more there are."""
    every = list(names)
    shown = ", ".join(sanitize(name, 80) for name in every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def count(number: int, noun: str) -> str:
    """How many of something, in the plural where that takes an s."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def sanitize(text: str, limit: int) -> str:
    """The text as one line of at most `limit` characters; an excess ends in an ellipsis.

    What does not print (controls, line breaks, bidirectional overrides, lone surrogates) becomes a space: it can make
    a line or a cell look like something else than it is.
    """
    if not text.isprintable():
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
