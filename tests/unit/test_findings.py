"""docs/findings.md has a line for every code that the product says, and for no other."""

import ast
import re
from collections.abc import Iterator

from provisioner.core import hcl
from provisioner.edges import secret_store
from stack.binaries import ROOT

PACKAGE = ROOT / "lambda/provisioner"
DOCUMENTED = re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs/findings.md").read_text(), re.MULTILINE)
# Who is given the code of a finding, and at which place.
MAKERS = {
    "Finding": 0,
    "add_finding": 0,
    "problem": 0,
    "unavailable": 0,
    "refuse": 0,
    "Fields": 2,
    "_refuse": 0,
    "_refuse_together": 0,
    "_error": 1,
}
CODE = re.compile(r"[a-z]+(_[a-z0-9]+)*")


def said() -> set[str]:
    # What is wrong with an event has one code.
    found = {"event", *(code for path in PACKAGE.rglob("*.py") for code in codes_in(ast.parse(path.read_text())))}
    # Those that stand in tables.
    found |= {code for code, *_ in secret_store._PROBLEMS.values()}
    found |= {code for code, *_ in hcl._REFUSED.values()}
    return {code for code in found if CODE.fullmatch(code)}


def codes_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = MAKERS.get(getattr(node.func, "id", getattr(node.func, "attr", "")))
            given = [] if place is None else [*node.args[place : place + 1]]
            given += [word.value for word in node.keywords if word.arg == "code" and place is not None]
            for each in given:
                yield from literals(each)
        elif isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] in (["code"], ["codes"]):
            yield from literals(node.value)


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that a value may be; of a condition and of the keys of a table none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif isinstance(node, ast.Dict):
        for value in node.values:
            yield from literals(value)
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get":
        # `codes.get(kind, "the code of all others")`
        for argument in node.args[1:]:
            yield from literals(argument)
    elif isinstance(node, ast.JoinedStr):
        start = node.values[0]
        if isinstance(start, ast.Constant) and start.value == "secret_":
            yield from ("secret_username", "secret_dbname")


def test_every_code_is_documented_once() -> None:
    assert sorted(DOCUMENTED) == sorted(set(DOCUMENTED))
    assert said() - set(DOCUMENTED) == set()


def test_every_documented_code_is_said() -> None:
    texts = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(DOCUMENTED) - texts - {"secret_username", "secret_dbname"} == set()
