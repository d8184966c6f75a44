"""Statements that a person is told to run quote the names in them, which may be of a tenant's making."""

import re

from stack.binaries import ROOT

# A name put between quotes by hand, behind a word of SQL.
BY_HAND = re.compile(
    r'\b(TO|FROM|BY|ROLE|SCHEMA|DATABASE|ROUTINE|GRANT|REVOKE|DROP|EXTENSION|SUBSCRIPTION|OWNED BY) "\{', re.MULTILINE
)


def test_no_statement_quotes_a_name_by_hand() -> None:
    sources = sorted((ROOT / "lambda/provisioner").rglob("*.py"))
    found = [f"{path.name}: {line.strip()}" for path in sources for line in path.read_text().splitlines()
             if BY_HAND.search(line)]  # fmt: skip
    assert found == []
