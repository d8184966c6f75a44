"""HCL text comes in; the same text goes out with comments and string contents blanked, every offset unchanged.

The parser of python-hcl2 is given the masked text only. That has four reasons: no error of the parser can quote a
secret; its patterns for comments and heredocs take quadratic time on hostile text, so they never see one; comments
between two tokens, unicode names and `$${` are legal HCL that its grammar does not know; and broken strings, which
Terraform refuses and that grammar accepts, are found here. Nesting and the number of tokens are bounded on the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_NESTING = 64
"""How deep brackets, templates and strings may stand in each other; a tfvars file of a platform needs about six."""

MAX_TOKENS = 150_000
"""What the parser takes a few seconds and 300 MB for at the worst; 2,000 applications need 40,000."""

_CODE = re.compile(
    r"""
      (?P<blank>[ \t]+)
    | (?P<newline>\r?\n)
    | (?P<comment>(?:\#|//)[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<heredoc><<-?(?P<marker>[^\W\d][\w-]*)\r?\n)
    | (?P<open>[{\[(])
    | (?P<close>[}\])])
    | (?P<quote>")
    | (?P<word>[\w.-]+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(
    r"""
      (?P<literal>[^"\\$%\r\n]+|[$]{2}[{]|%{2}[{])
    | (?P<template>[$%][{])
    | (?P<escape>\\(?:[nrt"\\]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}
        |U(?!0000[dD][89a-fA-F])(?:0010|000[0-9a-fA-F])[0-9a-fA-F]{4}))
    | (?P<end>")
    | (?P<dollar>[$%])
    | (?P<broken>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_HEREDOC = re.compile(r"(?P<literal>[^$%]+|[$]{2}[{]|%{2}[{])|(?P<template>[$%][{])|(?P<dollar>[$%])", re.DOTALL)
_PAIRS = {"{": "}", "[": "]", "(": ")", "$": "}"}


class MaskingError(Exception):
    """The text is no HCL, or more of it than is read; `reason` says which, `offset` where."""

    def __init__(self, code: str, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.offset = offset


def mask(text: str) -> str:
    """Return the masked text, of the same length as `text`.

    A string or heredoc becomes a quoted string of `x`; the code of a template in it stays. Newlines stay where they
    separate something, and become blanks inside brackets, parentheses and templates, where HCL ignores them.

    Raises:
        MaskingError: for a string, heredoc or comment without an end, an invalid escape, a bracket without its pair, or
            text that is too deep or too long.
    """
    masking = _Masking(text)
    while masking.position < len(text):
        masking.step()
    if masking.frames:
        raise MaskingError("syntax", "this is never closed", masking.frames[-1].offset)
    return "".join(masking.pieces)


@dataclass(slots=True)
class _Frame:
    """What is open: a bracket by its character, `$` for a template, `"` for a string, `<` for a heredoc to `end`."""

    kind: str
    offset: int
    end: int = 0


@dataclass(slots=True)
class _Masking:
    text: str
    position: int = 0
    tokens: int = 0
    frames: list[_Frame] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def step(self) -> None:
        top = self.frames[-1].kind if self.frames else ""
        if top == '"':
            self._quoted()
        elif top == "<":
            self._heredoc_body()
        else:
            self._code(top)

    def _code(self, top: str) -> None:
        match = _CODE.match(self.text, self.position)
        if match is None:  # unreachable: the last alternative takes anything
            raise MaskingError("syntax", "this is not HCL", self.position)
        kind, found = str(match.lastgroup), match.group()
        if kind == "marker":
            kind = "heredoc"
        if kind in {"blank", "comment"}:
            self._put(" " * len(found))
        elif kind == "newline":
            self._put(" " * len(found) if top in {"[", "(", "$"} else found.replace("\r", " "))
        elif kind == "block_comment":
            self._block_comment()
        else:
            self._token(kind, match, top)

    def _token(self, kind: str, match: re.Match[str], top: str) -> None:
        self.tokens += 1
        if self.tokens > MAX_TOKENS:
            raise MaskingError("too_large", f"the file has more than {MAX_TOKENS} tokens", match.start())
        found = match.group()
        if kind == "heredoc":
            self._open("<", end=self._heredoc_end(match))
            self._put('"' + "x" * (len(found) - 1))
        elif kind == "quote":
            self._open('"')
            self._put('"')
        elif kind == "open":
            self._open(found)
            self._put(found)
        elif kind == "close":
            self._close(found, top)
        else:
            self._put(self._literal(found, top))

    def _literal(self, found: str, top: str) -> str:
        if found == "\r":
            raise MaskingError("syntax", "there is a carriage return without a line feed", self.position)
        if found == "<" and self._before("<"):
            raise MaskingError("syntax", "this starts no heredoc", self.position)
        if found == "~" and top == "$" and (self._after_template_start() or self._before("}")):
            return " "
        # The grammar's names are ASCII; the name itself is read from the original text.
        if found.isascii() or (self._starts_word() and not found[0].isidentifier() and not found[0].isascii()):
            return found
        return "".join("x" if not c.isascii() and f"x{c}".isidentifier() else c for c in found)

    def _starts_word(self) -> bool:
        return self.position == 0 or not f"x{self.text[self.position - 1]}".isidentifier()

    def _after_template_start(self) -> bool:
        return self.position == self.frames[-1].offset + 2

    def _before(self, character: str) -> bool:
        return self.text.startswith(character, self.position + 1)

    def _block_comment(self) -> None:
        end = self.text.find("*/", self.position + 2)
        if end < 0:
            raise MaskingError("syntax", "the comment is never closed", self.position)
        self._put(" " * (end + 2 - self.position))

    def _quoted(self) -> None:
        match = _QUOTED.match(self.text, self.position)
        if match is None or match.lastgroup == "broken":
            raise MaskingError("syntax", "the string spans lines or has an invalid escape", self.position)
        found = match.group()
        if match.lastgroup == "end":
            self.frames.pop()
            self._put('"')
        elif match.lastgroup == "template":
            self._template(found)
        else:
            self._put("x" * len(found))

    def _heredoc_body(self) -> None:
        frame = self.frames[-1]
        match = _HEREDOC.match(self.text, self.position, frame.end)
        if match is None and self.position != frame.end:
            raise MaskingError("syntax", "a template in the heredoc is never closed", frame.offset)
        if match is None:
            self.frames.pop()
            line_end = self.text.index("\n", frame.end)
            marker = self.text[frame.end : line_end].rstrip()
            self._put("x" * (len(marker) - 1) + '"')
        elif match.lastgroup == "template":
            self._template(match.group())
        else:
            self._put("x" * len(match.group()))

    def _heredoc_end(self, opening: re.Match[str]) -> int:
        """Return the offset of the line that holds the marker alone; that line must end with a newline."""
        marker = opening["marker"]
        start = opening.end()
        while (newline := self.text.find("\n", start)) >= 0:
            if self.text[start:newline].strip(" \t\r") == marker:
                return start
            start = newline + 1
        raise MaskingError("syntax", "the heredoc is never closed", opening.start())

    def _template(self, found: str) -> None:
        self.tokens += 1
        self._open("$")
        self._put(found)

    def _open(self, kind: str, *, end: int = 0) -> None:
        if len(self.frames) == MAX_NESTING:
            raise MaskingError("too_deep", f"more than {MAX_NESTING} brackets stand in each other", self.position)
        self.frames.append(_Frame(kind, self.position, end))

    def _close(self, found: str, top: str) -> None:
        if _PAIRS.get(top) != found:
            raise MaskingError("syntax", "this closes nothing", self.position)
        self.frames.pop()
        self._put(found)

    def _put(self, piece: str) -> None:
        self.pieces.append(piece)
        self.position += len(piece)
