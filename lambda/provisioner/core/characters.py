"""A text in, one printable line of bounded length out: what a log line, a cell or a message may show."""

from __future__ import annotations


def make_plain(text: str, limit: int) -> str:
    """The text as one line of at most `limit` characters; an excess ends in an ellipsis.

    What does not print (controls, line breaks, bidirectional overrides, lone surrogates) becomes a space: it can make
    a line or a cell look like something else than it is.
    """
    if not text.isprintable():
        text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
