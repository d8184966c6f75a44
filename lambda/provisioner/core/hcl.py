"""The text of a tfvars file in HCL comes in, its values go out; what Terraform would refuse is reported."""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

from hcl2.parser import parser
from lark import Token, Tree
from lark.exceptions import UnexpectedToken

from provisioner.core.document import Attribute, Content, NotLiteral, Object, parse_number, redact
from provisioner.core.fields import Problems
from provisioner.core.hcl_tokens import NO_HCL, read_tokens, syntax_error

_ESCAPES = re.compile(r"\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\(.)|([$%])\4(?=\{)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
# One minus before a number; any other operation is not computed.
_NUMBER = re.compile(r"(-?)[ \t]*([0-9][0-9.eE+-]*)")
_WORDS = {"identifier", "keyword", "literal_value"}
_OWN_NAME = re.compile("0|[1-9][0-9]{,14}")
_LITERALS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_LOOPS = {"for_tuple_expr", "for_object_expr"}
_NUMBERS = {"int_lit", "unary_op"}
_REFUSED = {
    "function_call": ("function_call", "function call", "write the value itself: Terraform calls no functions here"),
    "identifier": ("reference", "reference", "write the value itself, in quotes if it is a string"),
}


def _tree(text: str, file_name: str) -> Tree[Token]:
    """Return what the grammar makes of the tokens of a text; raise `InvalidSnapshot` where it makes nothing."""
    grammar = parser()
    terminals = {each.pattern.value: each.name for each in grammar.terminals if each.pattern.type == "str"}
    terminals |= {"=": "EQ", ":": "COLON", "\n": "NL_OR_COMMENT"}
    parsing: Any = grammar.parse_interactive()
    offset = 0
    with suppress(UnexpectedToken):
        for kind, found, offset, end, line in read_tokens(text, file_name):
            # A keyword is a name where the grammar has no use for it.
            terminal = terminals.get(found, kind)
            terminal = terminal if terminal in parsing.choices() else kind
            parsing.feed_token(Token(terminal, found, offset, line, 0, line, 0, end))
        offset = len(text)
        tree: Tree[Token] = parsing.feed_eof()
        return tree
    # Raised here, since the error of the parser holds source text, and would come along.
    raise syntax_error(NO_HCL, text, offset, file_name)


class HclReader:
    """Reads the tree that python-hcl2's grammar makes of the tokens; names and strings come from the text."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._refusals = 0

    def read(self) -> Object:
        """Return the attributes of the top level; what Terraform would refuse anywhere is reported.

        Raises `InvalidSnapshot` where the text is no HCL.
        """
        attributes = []
        for item in _trees(_child(_tree(self._text, self._problems.file_name), 0)):
            name = self._source(_child(item, 0))
            if item.data == "block":
                self._refuse("block", "a tfvars file has no blocks", "write name = { ... }", item, redact(name))
                continue
            content = self._content(_child(item, -1), redact(name))
            attributes.append(Attribute(name, content, item.meta.line))
        return Object(tuple(attributes))

    def _content(self, node: Tree[Token], path: str) -> Content:
        while node.data == "expr_term":
            node = _child(node, 0)
        if node.data == "tuple":
            return tuple(
                Attribute(str(number), self._content(item, f"{path}[{number}]"), item.meta.line)
                for number, item in enumerate(_trees(node))
            )
        if node.data == "object":
            return Object(tuple(self._attribute(element, path) for element in _trees(node)))
        refusals = self._refusals
        self._refuse_names_and_calls(node, path)
        return self._literal(node) if self._refusals == refusals else NotLiteral.REFUSED

    def _literal(self, node: Tree[Token]) -> str | Decimal | bool | NotLiteral | None:
        source = self._source(node)
        literal: str | Decimal | bool | NotLiteral | None = NotLiteral.COMPUTED
        if source.startswith('"') and not _trees(node):
            literal = _ESCAPES.sub(_unescape, source[1:-1])
        elif node.data in _NUMBERS and (number := _NUMBER.fullmatch(source)):
            literal = parse_number(number[1] + number[2])
        elif node.data == "literal_value":
            literal = _LITERALS[source]
        elif node.data in _LOOPS:
            literal = NotLiteral.FOR
        return literal

    def _attribute(self, element: Tree[Token], path: str) -> Attribute:
        key = self._key(_child(_child(element, 0), 0), path)
        content = self._content(_child(element, -1), f"{path}.{redact(key)}")
        return Attribute(key, content, element.meta.line)

    def _key(self, node: Tree[Token], path: str) -> str | NotLiteral:
        """Return a key that is its own name, or a string; other numbers and truths are not written out."""
        source, key = self._source(node), _child(node, 0) if node.data == "expr_term" else node
        is_own_name = key.data in _WORDS or _OWN_NAME.fullmatch(source)
        content = source if is_own_name else self._content(node, path)
        if isinstance(content, str | NotLiteral):
            return content
        if isinstance(content, bool | Decimal):
            return NotLiteral.COMPUTED
        self._refuse("key_type", "a key must be a string", "write the key in quotes", node, path)
        return NotLiteral.REFUSED

    def _refuse_names_and_calls(self, root: Tree[Token], path: str) -> None:
        """Report what Terraform could not compute without variables and functions.

        What a `for` binds would need scopes of its own: what stands in one is Terraform's to judge. Iterative, since a
        chain of operators makes a tree as deep as it is long.
        """
        pending = [root]
        while pending:
            node = pending.pop()
            if node.data in _REFUSED:
                code, what, instead = _REFUSED[str(node.data)]
                self._refuse(code, f"a {what} stands here", instead, node, path)
            elif node.data in {"object", "tuple"}:
                self._content(node, path)
            elif not _is_loop(node):
                # The name of an attribute is no reference.
                pending += [part for part in _trees(node) if part.data != "get_attr"]

    def _source(self, node: Tree[Token]) -> str:
        return self._text[node.meta.start_pos : node.meta.end_pos]

    def _refuse(self, code: str, message: str, next_step: str, node: Tree[Token], path: str) -> None:
        self._refusals += 1
        self._problems.refuse(code, message, next_step, self._problems.location(node.meta.line, path))


def _trees(node: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in node.children if isinstance(child, Tree) and child.data != "new_line_or_comment"]


def _child(node: Tree[Token], index: int) -> Tree[Token]:
    return _trees(node)[index]


def _is_loop(node: Tree[Token]) -> bool:
    """Whether this is a `for`, or a template with one in it."""
    return node.data in _LOOPS or any(
        inner.data == "template_for_start" for part in _trees(node) for inner in _trees(part)
    )


def _unescape(match: re.Match[str]) -> str:
    short, long, letter, doubled = match.groups()
    if letter:
        return _ESCAPED[letter]
    return doubled or chr(int(short or long, 16))
