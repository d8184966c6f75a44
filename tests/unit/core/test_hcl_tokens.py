from __future__ import annotations

import pytest

from provisioner.core.hcl_tokens import MAX_NESTING, MAX_TOKENS, TokenError, blank

BLANKED = {
    "a string": ('a = "b c"', 'a = "xxx"'),
    "escapes": (r'a = "\"\\\n\u00e9"', 'a = "xxxxxxxxxxxx"'),
    "escaped templates": ('a = "$${b} %%{c}"', 'a = "xxxxxxxxxxx"'),
    "the text around a template": ('a = "b${c}d"', 'a = "x${c}x"'),
    "a string in a template": ('a = "${"}"}"', 'a = "${"x"}"'),
    "strip marks": ('a = "${~ 1 ~}"', 'a = "${  1  }"'),
    "comments": ("a = 1 # b\n// c\n/* d\n */ e = 2", "a = 1    \n              e = 2"),
    "no comment in a string": ('a = "# // /*"', 'a = "xxxxxxx"'),
    "a heredoc": ("a = <<E\nb\n E\nc = 1", 'a = "xxxxxx"\nc = 1'),
    "a template in a heredoc": ("a = <<E\n${b}\nE\n", 'a = "xxx${b}x"\n'),
    "line ends of windows": ("a = 1\r\nb = 2\r\n", "a = 1 \nb = 2 \n"),
    "lines in brackets, not in braces": ("a = [\n1]\nb = {\nc = (\n1)\n}", "a = [ 1]\nb = {\nc = ( 1)\n}"),
    "names that are not ascii": ("é-ü1 = ñ", "x-x1 = x"),
}


@pytest.mark.parametrize(("text", "blanked"), BLANKED.values(), ids=BLANKED.keys())
def test_the_blanked_text_hides_contents_and_keeps_offsets(text: str, blanked: str) -> None:
    assert blank(text) == blanked


REFUSED = {
    "a string over two lines": ('a = "b\nc"', 6),
    "an unknown escape": (r'a = "b\c"', 6),
    "an unclosed string": ('a = "b', 4),
    "an unclosed comment": ("a = /* b", 4),
    "an unclosed heredoc": ("a = <<E\nb\n", 4),
    "an unclosed bracket": ("a = [1", 4),
    "a bracket closed by another": ("a = [1)", 6),
    "a carriage return alone": ("a\rb", 1),
    "a heredoc without a marker": ("a = << E\n", 4),
}


@pytest.mark.parametrize(("text", "offset"), REFUSED.values(), ids=REFUSED.keys())
def test_broken_text_is_refused_where_it_breaks(text: str, offset: int) -> None:
    with pytest.raises(TokenError) as caught:
        blank(text)
    assert (caught.value.code, caught.value.offset) == ("syntax", offset)


def test_nesting_is_allowed_to_its_limit_and_no_deeper() -> None:
    blank("[" * MAX_NESTING + "]" * MAX_NESTING)
    with pytest.raises(TokenError, match="more than 64 brackets"):
        blank("[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1))


def test_tokens_are_counted_to_their_limit_and_no_further() -> None:
    blank("," * MAX_TOKENS)
    with pytest.raises(TokenError, match="more than 150000 tokens"):
        blank("," * (MAX_TOKENS + 1))
