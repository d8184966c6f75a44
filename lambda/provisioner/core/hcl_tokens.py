"""HCL text comes in; the same text goes out with comments and contents of strings blanked, every offset unchanged.

The parser of python-hcl2 sees blanked text only: none of its errors can quote a secret, and nothing hostile reaches its
patterns, some of which take quadratic time. What it reads otherwise than Terraform is refused or rewritten here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from provisioner.core.document import parse_number

MAX_NESTING = 64
"""How deep brackets, templates and strings may stand in each other; a tfvars file of a platform needs about six."""

MAX_TOKENS = 150_000
"""What the parser takes a few seconds and 300 MB for at the worst; 2,000 applications need 40,000."""

NO_HCL = "this is not HCL that Terraform would read"

# Names may be written in any alphabet; whether they are names is asked of what was found.
_NAME = r"[A-Za-z_\x80-\ud7ff\ue000-\U0010ffff][A-Za-z0-9_\x80-\ud7ff\ue000-\U0010ffff-]*+"
_BLANK = r"[ \t]+|(?:\#|//)[^\n]*|/\*.*?\*/"
_CODE = re.compile(
    rf"""
      (?P<blank>{_BLANK})
    | (?P<newline>\r?\n)
    | (?P<name>{_NAME})
    | (?P<number>[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?!\w|\.[0-9]))
    | (?P<quote>")
    | (?P<loop>\{{(?=(?:{_BLANK}|\r?\n)*+for(?![A-Za-z0-9_\x80-\U0010ffff-])))
    | (?P<open>[{{\[(])
    | (?P<close>[}}\])])
    | (?P<heredoc><<-?(?P<marker>{_NAME})\r?\n)
    | (?P<end>\.\*|\.\.\.)
    | (?P<operator>=>|[=!<>]=|&&|\|\||<(?!<)|/(?!\*)|[=:?,.+*%>])
    | (?P<sign>[-!])
    | (?P<strip>~)
    """,
    re.VERBOSE | re.DOTALL,
)
# Lone surrogates are the bytes that were no UTF-8.
_STRING = re.compile(
    r"""(?:[^"\\$%\r\n\ud800-\udfff]++|[$]{2}[{]|%{2}[{]|[$%](?![{])|\\(?:[nrt"\\]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}
        |U(?!0000[dD][89a-fA-F])(?:0010|000[0-9a-fA-F])[0-9a-fA-F]{4}))*+""",
    re.VERBOSE,
)
_HEREDOC_LINE = re.compile(r"(?:[^$%\r\n\ud800-\udfff]++|[$]{2}[{]|%{2}[{]|[$%](?![{]))*+(?:\r?\n)?")
_TEMPLATE = re.compile(r"[$%][{]~?")
# What Go strips from the line of a marker: the blanks of Unicode, and not Python's additions to them.
_MARKER_BLANKS = "\t\v\f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_PAIRS = {"{": "}", "[": "]", "(": ")", "$": "}"}


class TokenError(Exception):
    """The text is no HCL, or more of it than is read; `reason` says which, `offset` where."""

    def __init__(self, reason: str, offset: int, code: str = "syntax") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.offset = offset


def blank(text: str) -> str:
    """Return the blanked text, of the same length as `text`.

    A string or heredoc becomes a quoted string of `x`; the code of a template in it stays. Newlines stay where they
    separate something, the first of several, and become blanks elsewhere: each costs the parser as much as a value.

    Raises `TokenError` for what the parser would let pass and Terraform refuses, and text that is too deep or too long.
    """
    blanking = _Blanking(text)
    while blanking.position < len(text):
        blanking.step()
    last = blanking.frames[-1]
    if last.kind:
        raise TokenError("this is never closed", last.offset)
    return "".join(blanking.pieces)


@dataclass(slots=True)
class _Frame:
    """What is open: the file, a bracket by its character, `$` for a template, `"` for a string, `<` for a heredoc."""

    kind: str
    offset: int
    marker: str = ""
    has_lines: bool = False
    has_value: bool = False
    previous: str = ""

    @property
    def is_after_operand(self) -> bool:
        return self.previous in {"operand", "name"}


@dataclass(slots=True)
class _Blanking:
    text: str
    position: int = 0
    tokens: int = 0
    frames: list[_Frame] = field(default_factory=lambda: [_Frame("", 0, has_lines=True)])
    pieces: list[str] = field(default_factory=list)

    def step(self) -> None:
        frame = self.frames[-1]
        if frame.kind == '"':
            self._string()
        elif frame.kind == "<":
            self._heredoc(frame)
        else:
            self._code(frame)

    def _code(self, frame: _Frame) -> None:
        match = _CODE.match(self.text, self.position)
        if match is None:
            raise self._unreadable()
        kind, found = str(match.lastgroup), match.group()
        if kind == "blank" or (kind == "strip" and frame.kind == "$"):
            self._put(" " * len(found))
        elif kind == "newline":
            self._newline(frame, found)
        else:
            self._count()
            if kind == "operator":
                self._operator(frame, found)
            elif kind == "sign":
                self._sign(frame, found)
            elif kind == "close":
                self._close(frame, found)
            elif kind in {"end", "strip"}:
                frame.previous = "operand"
                self._put(found)
            else:
                self._operand(frame, kind, match)

    def _newline(self, frame: _Frame, found: str) -> None:
        if not frame.has_lines or frame.previous == "newline":
            self._put(" " * len(found))
            return
        if frame.previous in {"operator", "sign"}:
            raise TokenError("an expression must stay on its line", self.position)
        frame.previous, frame.has_value = "newline", False
        self._put(found.replace("\r", " "))

    def _operator(self, frame: _Frame, found: str) -> None:
        if frame.previous == "newline":
            raise TokenError("a line must not start with this", self.position)
        if frame.previous == "for" and not frame.has_lines:
            raise TokenError("for starts an expression here; write a key in quotes", self.position)
        if found in {"=", ":", ","}:
            frame.has_value = found != ","
        frame.previous = "" if found == "," else "operator"
        self._put(found)

    def _sign(self, frame: _Frame, found: str) -> None:
        """Rewrite what the parser would misread: it takes `-12` for a number after another one, and one sign only."""
        if frame.is_after_operand:
            found = found.replace("-", "*")
        elif frame.previous == "sign":
            found = " "
        frame.previous = "operator" if frame.is_after_operand else "sign"
        self._put(found)

    def _operand(self, frame: _Frame, kind: str, match: re.Match[str]) -> None:
        found = match.group()
        goes_on = found == "[" or (found == "(" and frame.previous == "name")
        if frame.has_lines and frame.has_value and frame.is_after_operand and not goes_on:
            raise TokenError("elements must be separated by a comma or a line, arguments by a line", self.position)
        frame.previous = "operand"
        if kind == "name":
            self._name(frame, found)
        elif kind == "number":
            self._number(found)
        elif kind == "heredoc":
            self._refuse_no_name(match["marker"])
            self._open("<", marker=match["marker"])
            self._put('"' + "x" * (len(found) - 1))
        else:
            self._open(found, has_lines=kind == "open" and found == "{")
            self._put(found)

    def _name(self, frame: _Frame, found: str) -> None:
        self._refuse_no_name(found)
        if found in {"for", "in", "if"}:
            frame.previous = found
        elif found not in {"true", "false", "null"}:
            frame.previous = "name"
        self._put(found if found.isascii() else re.sub(r"[^\x00-\x7f]", "x", found))

    def _number(self, found: str) -> None:
        try:
            parse_number(found)
        except ValueError:
            raise TokenError("the exponent of this number is too large", self.position) from None
        self._put(found)

    def _refuse_no_name(self, found: str) -> None:
        if not found.isascii() and not found.replace("-", "_").isidentifier():
            raise self._unreadable()

    def _string(self) -> None:
        match = _STRING.match(self.text, self.position)
        self._put("x" * len(match.group()) if match else "")
        if self.text.startswith('"', self.position):
            self.frames.pop()
            self._put('"')
        elif self.position < len(self.text):
            self._template("the string spans lines or has an invalid escape")

    def _heredoc(self, frame: _Frame) -> None:
        """Blank to the end of the line or to a template; a line that is the marker alone ends the heredoc."""
        if self.text[self.position - 1] == "\n":
            end = self.text.find("\n", self.position)
            line = self.text[self.position : end].removesuffix("\r")
            if end >= 0 and line.strip(_MARKER_BLANKS) == frame.marker:
                self.frames.pop()
                self._put("x" * (len(line) - 1) + '"')
                return
        match = _HEREDOC_LINE.match(self.text, self.position)
        found = match.group() if match else ""
        self._put("x" * len(found))
        if not found.endswith("\n") and self.position < len(self.text):
            self._template()

    def _template(self, otherwise: str = NO_HCL) -> None:
        match = _TEMPLATE.match(self.text, self.position)
        if match is None:
            raise self._unreadable(otherwise)
        self._count()
        self._open("$")
        self._put(match.group().replace("~", " "))

    def _count(self) -> None:
        self.tokens += 1
        if self.tokens > MAX_TOKENS:
            raise TokenError(f"the file has more than {MAX_TOKENS} tokens", self.position, "too_large")

    def _open(self, kind: str, *, marker: str = "", has_lines: bool = False) -> None:
        if len(self.frames) > MAX_NESTING:
            raise TokenError(f"more than {MAX_NESTING} brackets stand in each other", self.position, "too_deep")
        self.frames.append(_Frame(kind, self.position, marker, has_lines))

    def _close(self, frame: _Frame, found: str) -> None:
        if _PAIRS.get(frame.kind) != found:
            raise TokenError("this closes nothing", self.position)
        self.frames.pop()
        self._put(found)

    def _put(self, piece: str) -> None:
        self.pieces.append(piece)
        self.position += len(piece)

    def _unreadable(self, reason: str = NO_HCL) -> TokenError:
        if "\ud800" <= self.text[self.position] <= "\udfff":
            return TokenError("the file is not UTF-8", self.position, "not_utf8")
        return TokenError(reason, self.position)
