"""Whatever a name or a text holds, it cannot end its quotes; and what is not quoted holds nothing but words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.quoting import Keywords, Literal, statement


@given(st.text(), st.text())
def test_a_name_or_a_text_cannot_end_its_quotes(name: str, text: str) -> None:
    sql = statement("{} {}", name, Literal(text))
    assert sql == '"' + name.replace('"', '""') + "\" '" + text.replace("'", "''") + "'"
    inside = sql[1 : 1 + len(name.replace('"', '""'))]
    assert '"' not in inside.replace('""', "")


@pytest.mark.parametrize("text", ["", "select", "SELECT; DROP", 'SELECT "', "SELECT 'x'", "SELECT\n"])
def test_words_hold_nothing_but_words(text: str) -> None:
    with pytest.raises(ValueError, match="not words of SQL"):
        Keywords(text)
