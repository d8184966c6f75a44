from __future__ import annotations

import pytest

from provisioner.core.errors import InvalidSnapshot
from provisioner.core.hcl_tokens import MAX_NESTING, MAX_TOKENS, Token, read_tokens

# The tokens of a text, each where it stands; what is none of them is a blank.
TOKENS = {
    "a string": ('a = "b c"', 'a = "   "'),
    "escapes": (r'a = "\"\\\n\u00e9"', 'a = "            "'),
    "escaped templates": ('a = "$${b} %%{c}"', 'a = "           "'),
    "the text around a template": ('a = "b${c}d"', 'a = " ${c} "'),
    "a string in a template": ('a = "${"}"}"', 'a = "${" "}"'),
    "strip marks": ('a = "${~ 1 ~}"', 'a = "${  1 } "'),
    "comments": ("a = 1 # b\n// c\n/* d\n */ e = 2", "a = 1    \n              e = 2"),
    "no comment in a string": ('a = "# // /*"', 'a = "       "'),
    "a heredoc": ("a = <<E\nb\n E\nc = 1", 'a = "     " \nc = 1'),
    "a template in a heredoc": ("a = <<E\n${b}\nE\n", 'a = "   ${b} "\n'),
    "line ends of windows": ("a = 1\r\nb = 2\r\n", "a = 1\n b = 2\n "),
    "lines in brackets, not in braces": ("a = [\n1]\nb = {\nc = (\n1)\n}", "a = [ 1]\nb = {\nc = ( 1)\n}"),
    "names that are not ascii": ("é-ü1 = ñ", "é-ü1 = ñ"),
    "blank lines": ("\n\na = 1\n\n\nb = 2", "  a = 1\n  b = 2"),
    "a template before what would end a heredoc": ("a = <<E\n${b}E\nE\n", 'a = "   ${b}  "\n'),
    "signs": ("a = 1--2", "a = 1- 2"),
    "an index, and a fraction": ("a = b.0.0 + 0.0", "a = b.0.0 + 0.0"),
}


def rendered(text: str, tokens: list[Token]) -> str:
    blanks = [" "] * len(text)
    for token in tokens:
        blanks[token.start : token.start + len(token.text)] = token.text
    return "".join(blanks)


@pytest.mark.parametrize(("text", "tokens"), TOKENS.values(), ids=TOKENS.keys())
def test_tokens_stand_where_they_are_written_and_hold_no_contents(text: str, tokens: str) -> None:
    assert rendered(text, read_tokens(text, "x")[1:]) == tokens


REFUSED = {
    "a string over two lines": ('a = "b\nc"', 6),
    "an unknown escape": (r'a = "b\c"', 6),
    "an unclosed string": ('a = "b', 4),
    "an unclosed comment": ("a = /* b", 4),
    "an unclosed heredoc": ("a = <<E\nb\n", 4),
    "an unclosed bracket": ("a = [1", 4),
    "a bracket closed by another": ("a = [1)", 6),
    "a carriage return alone": ("a\rb", 1),
    "a strip mark without a template": ("a = { b = 1 ~}", 12),
    "a heredoc without a marker": ("a = << E\n", 4),
}


@pytest.mark.parametrize(("text", "offset"), REFUSED.values(), ids=REFUSED.keys())
def test_broken_text_is_refused_where_it_breaks(text: str, offset: int) -> None:
    with pytest.raises(InvalidSnapshot) as caught:
        read_tokens(text, "x")
    (finding,) = caught.value.findings
    line = text.count("\n", 0, offset) + 1
    assert (finding.code, finding.where) == ("syntax", f"x:{line} column {offset + 1}")


def test_nesting_is_allowed_to_its_limit_and_no_deeper() -> None:
    read_tokens("[" * MAX_NESTING + "]" * MAX_NESTING, "x")
    with pytest.raises(InvalidSnapshot, match="more than 64 brackets"):
        read_tokens("[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1), "x")


def test_tokens_are_counted_to_their_limit_and_no_further() -> None:
    read_tokens("(" + "," * (MAX_TOKENS - 2) + ")", "x")
    with pytest.raises(InvalidSnapshot, match="more than 200000 tokens"):
        read_tokens("(" + "," * (MAX_TOKENS - 1) + ")", "x")
