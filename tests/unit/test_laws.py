"""Laws of the house that no linter knows: where SQL may be written."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.binaries import ROOT

PACKAGE = ROOT / "lambda/provisioner"
# What is sent to a server is put together by these; the findings of the rest may quote SQL for people to run.
SENDERS = sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("edges/*.py")])
# At the start of a text or after a semicolon: messages may name a statement, senders begin with one.
DDL = re.compile(r"(^|;)\s*(CREATE|ALTER|DROP|REASSIGN|COMMENT ON|GRANT|REVOKE)\s+[A-Z{\"]")
CATALOG = re.compile(r"\bFROM\s+(pg_catalog\.)?pg_\w+")
ROOMS_OF_QUESTIONS = {
    "access_catalogs.py",
    "database_catalogs.py",
    "holding_obstacles.py",
    "holding_queries.py",
    "leaving_catalogs.py",
    "leaving_sessions.py",
    "lock.py",
    "lock_watch.py",
    "server_catalogs.py",
    "server_probe.py",
}


def texts(path: Path) -> Iterator[str]:
    """Every string of a module that is no docstring."""
    tree = ast.parse(path.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


@pytest.mark.parametrize("path", SENDERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_ddl_is_written_in_one_module_of_the_core(path: Path) -> None:
    assert [text for text in texts(path) if DDL.search(text)] == []


def test_the_module_of_ddl_would_be_noticed() -> None:
    assert any(DDL.search(text) for text in texts(PACKAGE / "core/ddl.py"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_catalogs_are_asked_where_their_rows_are_read(path: Path) -> None:
    found = [text for text in texts(path) if CATALOG.search(text)]
    assert bool(found) == (path.name in ROOMS_OF_QUESTIONS)
