"""The text of a tfvars file in HCL comes in, a document of values out; what Terraform would refuse is reported."""

from __future__ import annotations

import bisect
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import hcl2
from lark import Token, Tree
from lark.exceptions import LarkError

from provisioner.core.document import Attribute, NotLiteral, Object, Value, parse_number, redact
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.masking import MaskingError, mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provisioner.core.document import Content
    from provisioner.core.fields import Problems

_ESCAPES = re.compile(r"\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\(.)|([$%])\4(?=\{)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_LITERALS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_LOOPS = {"for_intro", "template_for_start"}
_SYNTAX_STEP = "check it with terraform fmt"


def read_hcl(text: str, problems: Problems) -> Object:
    """Read a whole file.

    Raises:
        InvalidSnapshot: the text is no HCL that Terraform would read.
    """
    return _HclReader(text, problems).read()


class _HclReader:
    """Reads the tree that python-hcl2 makes of the masked text; names, strings and lines come from the original."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._masked = ""
        self._line_ends = [match.start() for match in re.finditer("\n", text)]

    def read(self) -> Object:
        """Return the attributes of the top level; what Terraform would refuse anywhere is put in the problems."""
        body = _child(self._parse(), 0)
        fields = []
        previous = None
        for item in _trees(body):
            if item.data == "new_line_or_comment":
                continue
            name = redact(self._source(_child(item, 0)))
            if previous is not None and not self._starts_line(_start(item)):
                self._refuse("syntax", "an argument must start on a line of its own", _SYNTAX_STEP, item, name)
            previous = item
            if item.data == "block":
                self._refuse("block", "a tfvars file has no blocks", "write name = { ... }", item, name)
                continue
            value = self._value(_child(item, -1), name)
            fields.append(Attribute(self._source(_child(item, 0)), value, self._line(_start(item))))
        return Object(tuple(fields))

    def _parse(self) -> Tree[Token]:
        try:
            self._masked = mask(self._text)
            return hcl2.parses_to_tree(self._masked)
        except MaskingError as problem:
            code, message, offset = problem.code, problem.reason, problem.offset
        except LarkError as error:
            code, message = "syntax", "this is not HCL that Terraform would read"
            offset = _error_offset(error, len(self._text))
        # Raised here and not in the handler: the error of the parser holds source text, and would come along.
        line = self._line(offset)
        column = offset - (self._line_ends[line - 2] if line > 1 else -1)
        where = f"{self._problems.file_name}:{line} column {column}"
        next_step = "split the file or flatten it" if code in {"too_large", "too_deep"} else _SYNTAX_STEP
        raise InvalidSnapshot(Finding(code, message, next_step, where))

    def _value(self, node: Tree[Token], path: str) -> Value:
        return Value(self._content(node, path), self._line(_start(node)))

    def _content(self, node: Tree[Token], path: str) -> Content:
        node = _unwrapped(node)
        if node.data == "tuple":
            items = _trees(node, but="new_line_or_comment")
            return tuple(self._value(item, f"{path}[{number}]") for number, item in enumerate(items))
        if node.data == "object":
            return Object(tuple(self._field(element, path) for element in self._elements(node, path)))
        plain = self._literal(node)
        if isinstance(plain, NotLiteral) and not self._refuse_names_and_calls(node, path):
            return NotLiteral.REFUSED
        return plain

    def _literal(self, node: Tree[Token]) -> str | Decimal | bool | NotLiteral | None:
        """Return a literal, or what stands in its place."""
        literal: str | Decimal | bool | NotLiteral | None = NotLiteral.COMPUTED
        if node.data == "string":
            literal = self._string(node)
        elif node.data in {"int_lit", "float_lit"}:
            literal = parse_number(self._source(node))
        elif node.data == "unary_op" and (digits := _negated(node)):
            literal = parse_number(f"-{digits}")
        elif node.data == "literal_value":
            literal = _LITERALS[self._source(node)]
        return literal

    def _field(self, element: Tree[Token], path: str) -> Attribute:
        key = self._field_key(_child(_child(element, 0), 0), path)
        value = self._value(_child(element, -1), f"{path}.{redact(key)}")
        return Attribute(key, value, self._line(_start(element)))

    def _field_key(self, node: Tree[Token], path: str) -> str | NotLiteral:
        """Return a key as Terraform reads it: a bare word is its own name, a number is written out."""
        if node.data == "keyword" or _is_bare_word(node):
            return self._source(node)
        content = self._content(node, path)
        key = _as_key(content)
        if key is None:
            self._refuse("key_type", "a key must be a string", "write the key in quotes", node, path)
        return NotLiteral.REFUSED if key is None else key

    def _elements(self, node: Tree[Token], path: str) -> Iterator[Tree[Token]]:
        """Yield the elements of an object, refusing what the grammar lets pass: separators left out or misplaced."""
        separated = True
        first = next((child for child in _trees(node) if child.data == "object_elem"), None)
        for child in node.children[1:-1]:
            if isinstance(child, Token):
                if self._starts_line(child.start_pos or 0):
                    self._refuse("syntax", "a comma must not start a line", _SYNTAX_STEP, node, path)
                separated = True
            elif child.data == "object_elem":
                if child is first and self._source(_child(child, 0)) == "for":
                    self._refuse("syntax", "for starts an expression here", "write the key in quotes", child, path)
                if not separated and not self._starts_line(_start(child)):
                    message = "elements must be separated by a comma or a line"
                    self._refuse("syntax", message, _SYNTAX_STEP, child, path)
                separated = False
                yield child

    # --- computed values: never taken, but the references and functions in them are found

    def _refuse_names_and_calls(self, root: Tree[Token], path: str) -> bool:
        """Return whether Terraform could compute this without variables and functions; report them where not.

        Iterative, since a chain of operators makes a tree as deep as it is long.
        """
        before = len(self._problems.findings) + self._problems.suppressed
        pending: list[tuple[Tree[Token], frozenset[str]]] = [(root, frozenset())]
        while pending:
            node, names = pending.pop()
            if node.data == "function_call":
                next_step = "write the value itself: Terraform calls no functions here"
                self._refuse("function_call", "a function call stands here", next_step, node, path)
            elif _is_bare_word(node):
                if self._source(node) not in names | _LITERALS.keys():
                    next_step = "write the value itself, in quotes if it is a string"
                    self._refuse("reference", "a reference stands here", next_step, node, path)
            else:
                self._refuse_broken_line(node, path)
                pending.extend(self._inside(node, names, path))
        return len(self._problems.findings) + self._problems.suppressed == before

    def _inside(
        self, node: Tree[Token], names: frozenset[str], path: str
    ) -> Iterator[tuple[Tree[Token], frozenset[str]]]:
        """Yield what is to be checked inside `node`, each with the names that a `for` around it gives."""
        if node.data == "object":
            for element in self._elements(node, path):
                key = _child(_child(element, 0), 0)
                if key.data != "keyword" and not _is_bare_word(key):
                    yield key, names
                yield _child(element, -1), names
            return
        bound = names | {
            self._source(name) for loop in _loops(node) for name in _trees(loop) if name.data == "identifier"
        }
        for child in _trees(node, but="get_attr"):
            yield child, names if child.data == "for_intro" else bound

    def _refuse_broken_line(self, node: Tree[Token], path: str) -> None:
        """Refuse a line break beside an operator: the masked text has none left where HCL allows it."""
        if node.data not in {"binary_term", "conditional"}:
            return
        operators = [child for child in [*node.children, *_child(node, 0).children] if isinstance(child, Token)]
        broken = any(token.startswith("\n") for token in operators)
        if broken or any(child.data == "new_line_or_comment" for child in _trees(node)):
            self._refuse("syntax", "an expression must stay on its line", _SYNTAX_STEP, node, path)

    # --- the original text

    def _string(self, node: Tree[Token]) -> str | NotLiteral:
        if any(_trees(part) for part in _trees(node)):
            return NotLiteral.TEMPLATE
        if self._text.startswith("<<", _start(node)):
            return NotLiteral.HEREDOC
        return _ESCAPES.sub(_unescape, self._source(node)[1:-1])

    def _source(self, node: Tree[Token]) -> str:
        return self._text[_start(node) : _end(node)]

    def _line(self, offset: int) -> int:
        return bisect.bisect_left(self._line_ends, offset) + 1

    def _starts_line(self, offset: int) -> bool:
        """Return whether only blanks stand between the start of a line and this offset."""
        offset -= 1
        while offset >= 0 and self._masked[offset] in " \t":
            offset -= 1
        return offset < 0 or self._masked[offset] == "\n"

    def _refuse(self, code: str, message: str, next_step: str, node: Tree[Token], path: str) -> None:
        self._problems.refuse(code, message, next_step, self._problems.location(self._line(_start(node)), path))


def _loops(node: Tree[Token]) -> list[Tree[Token]]:
    """Return the heads of the `for` expressions and directives that stand directly in a node or in a string."""
    parts = [node, *(child for child in _trees(node) if child.data == "string_part")]
    return [child for part in parts for child in _trees(part) if child.data in _LOOPS]


def _trees(node: Tree[Token], *, but: str = "") -> list[Tree[Token]]:
    return [child for child in node.children if isinstance(child, Tree) and child.data != but]


def _child(node: Tree[Token], index: int) -> Tree[Token]:
    return _trees(node)[index]


def _unwrapped(node: Tree[Token]) -> Tree[Token]:
    """Return what stands in parentheses or in an `expr_term`, unless it is a bare word."""
    while node.data == "expr_term" and not _is_bare_name(node):
        inner = _trees(node, but="new_line_or_comment")
        if len(inner) != 1:
            break
        node = inner[0]
    return node


def _is_bare_name(node: Tree[Token]) -> bool:
    return _is_bare_word(node) and _child(node, 0).data == "identifier"


def _is_bare_word(node: Tree[Token]) -> bool:
    inner = _trees(node)
    return node.data == "expr_term" and len(inner) == 1 and inner[0].data in {"identifier", "literal_value"}


def _negated(node: Tree[Token]) -> str:
    """Return the digits of a number with a minus before it, nothing for any other operation."""
    operator, operand = node.children
    inner = _trees(operand) if isinstance(operand, Tree) else []
    if operator == "-" and len(inner) == 1 and inner[0].data in {"int_lit", "float_lit"}:
        return str(inner[0].children[0])
    return ""


def _start(node: Tree[Token]) -> int:
    return int(node.meta.start_pos)


def _end(node: Tree[Token]) -> int:
    return int(node.meta.end_pos)


def _as_key(content: Content) -> str | NotLiteral | None:
    """Return a value converted to a string, as Terraform does with a key that is no string; None where it cannot."""
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, Decimal):
        return _written_out(content)
    return content if isinstance(content, (str, NotLiteral)) and content is not NotLiteral.HEREDOC else None


def _written_out(number: Decimal) -> str | NotLiteral:
    # 1e999999999, written out, would fill the memory.
    if abs(number.adjusted()) >= 100:
        return NotLiteral.COMPUTED
    digits = f"{number:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _unescape(match: re.Match[str]) -> str:
    short, long, letter, doubled = match.groups()
    if letter:
        return _ESCAPED[letter]
    return doubled or chr(int(short or long, 16))


def _error_offset(error: LarkError, length: int) -> int:
    offset = getattr(error, "pos_in_stream", None)
    return min(max(offset, 0), length) if isinstance(offset, int) else length
