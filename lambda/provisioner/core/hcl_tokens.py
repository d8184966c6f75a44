"""HCL text comes in, its tokens by Terraform's rules go out; comments and the contents of strings are none.

The lexer of python-hcl2 reads some of them otherwise, and some of its patterns take quadratic time: its grammar gets
these tokens instead. What the grammar would let pass and Terraform refuses is refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from provisioner.core.document import parse_number
from provisioner.core.errors import Finding, InvalidSnapshot

MAX_NESTING = 64
"""How deep brackets, templates and strings may stand in each other; a tfvars file of a platform needs about six."""

MAX_TOKENS = 200_000
"""What the parser takes a few seconds and 300 MB for at the worst; 2,000 applications need 42,000."""

NO_HCL = "this is not HCL that Terraform would read"
FMT = "check it with terraform fmt"
_SPLIT = "split the file or flatten it"

# Names may be written in any alphabet; whether they are names is asked of what was found.
_NAME = r"[A-Za-z_\x80-\ud7ff\ue000-\U0010ffff][A-Za-z0-9_\x80-\ud7ff\ue000-\U0010ffff-]*+"
_BLANK = r"[ \t]+|(?:\#|//)[^\n]*|/\*.*?\*/"
# A dot and digits behind a value are an index, and no fraction.
_CODE = re.compile(
    rf"""
      (?P<blank>{_BLANK})
    | (?P<newline>\r?\n)
    | (?P<NAME>{_NAME})
    | (?P<number>(?<=\.)[0-9]++(?!\w)|[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?!\w|\.[0-9]))
    | (?P<quote>")
    | (?P<loop>\{{(?=(?:{_BLANK}|\r?\n)*+for(?![A-Za-z0-9_\x80-\U0010ffff-])))
    | (?P<end>\[\*\]|\.\*|\.\.\.)
    | (?P<open>[{{\[(])
    | (?P<close>~?\}}|[\])])
    | (?P<heredoc><<-?(?P<marker>{_NAME})\r?\n)
    | (?P<operator>=>|[=!<>]=|&&|\|\||::|<(?!<)|/(?!\*)|[=:?.+*%>])
    | (?P<comma>,)
    | (?P<sign>[-!])
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
_TEMPLATE = re.compile(r"([$%][{])~?")
# What Go strips from the line of a marker: the blanks of Unicode, and not Python's additions to them.
_MARKER_BLANKS = "\t\v\f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_CLOSERS = {"{": "}", "[": "]", "(": ")", "${": "}", "%{": "}", '"': '"'}
_STARTS_OPERAND = frozenset({"NAME", "number", "quote", "open", "loop", "heredoc"})
_ENDS_OPERAND = frozenset({"NAME", "INT_LITERAL", "close", "end"})


class Token(NamedTuple):
    """`text` is as the grammar has it: a quote for a heredoc's marker, a newline without its carriage return."""

    kind: str
    text: str
    start: int
    end: int
    line: int


def read_tokens(text: str, file_name: str) -> list[Token]:
    """Return the tokens behind a first newline; of newlines only those that separate something, one of several.

    `kind` is `NAME` or `INT_LITERAL`, the terminals of the grammar; any other token is known by its text. Raises
    `InvalidSnapshot` for what the grammar would let pass and Terraform refuses, and for text that is too deep or long.
    """
    lexer = _Lexer(text, file_name)
    while lexer.position < len(text):
        lexer.step()
    last = lexer.frames[-1]
    if last.kind:
        raise syntax_error("this is never closed", text, last.offset, file_name)
    return lexer.tokens


def syntax_error(
    message: str, text: str, offset: int, file_name: str, code: str = "syntax", next_step: str = FMT
) -> InvalidSnapshot:
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    return InvalidSnapshot(Finding(code, message, next_step, f"{file_name}:{line} column {column}"))


@dataclass(slots=True)
class _Frame:
    """What is open: the file, a bracket or template by its characters, `"` for a string or (by its marker) heredoc."""

    kind: str
    offset: int
    marker: str = ""
    has_lines: bool = False
    has_value: bool = False


@dataclass(slots=True)
class _Lexer:
    text: str
    file_name: str
    position: int = 0
    line: int = 1
    frames: list[_Frame] = field(default_factory=lambda: [_Frame("", 0, has_lines=True)])
    tokens: list[Token] = field(default_factory=lambda: [Token("newline", "\n", 0, 0, 1)])

    def step(self) -> None:
        frame = self.frames[-1]
        if frame.kind == '"':
            self._string(frame)
            return
        match = _CODE.match(self.text, self.position)
        if match is None:
            raise self._unreadable()
        kind, found = str(match.lastgroup), match.group()
        if kind == "newline":
            self._newline(frame, found)
        # Several signs stand as one: the grammar has one, and no operation is computed.
        elif kind == "blank" or (kind == self.tokens[-1].kind == "sign"):
            self._skip(found)
        else:
            self._refuse_misplaced(frame, self.tokens[-1], kind, found)
            self._token(frame, kind, match)

    def _newline(self, frame: _Frame, found: str) -> None:
        previous = self.tokens[-1].kind
        if not frame.has_lines or previous == "newline":
            self._skip(found)
            return
        if previous in {"operator", "sign"}:
            raise self._error("an expression must stay on its line")
        frame.has_value = False
        self._put("newline", found, "\n")

    def _refuse_misplaced(self, frame: _Frame, previous: Token, kind: str, found: str) -> None:
        """Refuse what the grammar takes, which knows less of lines and of what has to stand between two values."""
        if kind in {"operator", "comma"}:
            if previous.kind == "newline":
                raise self._error("a line must not start with this")
            if previous.text == "for" and not frame.has_lines:
                raise self._error("for starts an expression here; write a key in quotes")
        elif kind in _STARTS_OPERAND and previous.kind in _ENDS_OPERAND and frame.has_lines and frame.has_value:
            goes_on = found == "[" or (found == "(" and previous.kind == "NAME")
            if not goes_on:
                raise self._error("elements must be separated by a comma or a line, arguments by a line")

    def _token(self, frame: _Frame, kind: str, match: re.Match[str]) -> None:
        found = match.group()
        if kind == "close":
            self._close(frame, found, found.removeprefix("~"))
        elif kind in {"quote", "open", "loop"}:
            self._open(found, found, has_lines=kind == "open" and found == "{")
        elif kind == "heredoc":
            self._refuse_no_name(match["marker"])
            self._open(found, '"', marker=match["marker"])
        elif kind == "number":
            self._refuse_no_number(found)
            # An index, which has no fraction here, is all for which the grammar tells numbers apart.
            self._put("INT_LITERAL", found)
        else:
            if kind == "NAME":
                self._refuse_no_name(found)
            elif found in {"=", ":", ","}:
                frame.has_value = found != ","
            self._put(kind, found)

    def _refuse_no_number(self, found: str) -> None:
        try:
            parse_number(found)
        except ValueError:
            raise self._error("the exponent of this number is too large") from None

    def _refuse_no_name(self, found: str) -> None:
        if not found.replace("-", "_").isidentifier():
            raise self._unreadable()

    def _string(self, frame: _Frame) -> None:
        """Skip to the end of the string or of a heredoc's line, or to a template; a marker alone ends the heredoc."""
        if frame.marker and self.text[self.position - 1] == "\n":
            end = self.text.find("\n", self.position)
            line = self.text[self.position : end].removesuffix("\r")
            if end >= 0 and line.strip(_MARKER_BLANKS) == frame.marker:
                self._close(frame, line, '"')
                return
        match = (_HEREDOC_LINE if frame.marker else _STRING).match(self.text, self.position)
        found = match.group() if match else ""
        self._skip(found)
        if not frame.marker and self.text.startswith('"', self.position):
            self._close(frame, '"', '"')
        elif self.position < len(self.text) and not found.endswith("\n"):
            template = _TEMPLATE.match(self.text, self.position)
            if template is None:
                raise self._unreadable(NO_HCL if frame.marker else "the string spans lines or has an invalid escape")
            self._open(template[0], template[1])

    def _open(self, found: str, text: str, *, marker: str = "", has_lines: bool = False) -> None:
        if len(self.frames) > MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} brackets stand in each other", "too_deep", _SPLIT)
        self.frames.append(_Frame(text, self.position, marker, has_lines))
        self._put("open", found, text)

    def _close(self, frame: _Frame, found: str, text: str) -> None:
        is_strip_mark = found.startswith("~")
        if _CLOSERS.get(frame.kind) != text or (is_strip_mark and frame.kind not in {"${", "%{"}):
            raise self._error("this closes nothing")
        self.frames.pop()
        self._put("close", found, text)

    def _put(self, kind: str, found: str, text: str = "") -> None:
        if len(self.tokens) > MAX_TOKENS:
            raise self._error(f"the file has more than {MAX_TOKENS} tokens", "too_large", _SPLIT)
        self.tokens.append(Token(kind, text or found, self.position, self.position + len(found), self.line))
        self._skip(found)

    def _skip(self, found: str) -> None:
        self.position += len(found)
        self.line += found.count("\n")

    def _unreadable(self, message: str = NO_HCL) -> InvalidSnapshot:
        if "\ud800" <= self.text[self.position] <= "\udfff":
            return self._error("the file is not UTF-8", "not_utf8", "save it as UTF-8")
        return self._error(message)

    def _error(self, message: str, code: str = "syntax", next_step: str = FMT) -> InvalidSnapshot:
        return syntax_error(message, self.text, self.position, self.file_name, code, next_step)
