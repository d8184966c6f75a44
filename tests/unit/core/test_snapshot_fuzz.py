from __future__ import annotations

from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from provisioner.core.errors import InvalidSnapshot
from provisioner.core.hcl_tokens import read_tokens
from provisioner.core.model import Declaration
from provisioner.core.snapshot import parse_snapshot
from unit.examples import at_most

SECRET = "pa55!word"
NAMES = st.sampled_from(["terraform.tfvars", "terraform.tfvars.json"])
FILES = [path.read_bytes() for path in sorted((Path(__file__).parent / "snapshots").iterdir())]
PLANTED = [content.replace(b"10.1.1.0", SECRET.encode()).replace(b"4711", SECRET.encode()) for content in FILES]
# Pieces from which something close to HCL is put together.
PIECES = [
    "application_databases",
    "rds_config",
    "environment",
    "enabled",
    "database_name",
    "username",
    "access_level",
    "extensions",
    "createdb",
    "connection_limit",
    "=",
    " = ",
    ":",
    ",",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\n",
    "\r\n",
    " ",
    '"',
    '"a"',
    '"dev"',
    '"owner"',
    "a",
    "b-c",
    "é",
    "null",
    "true",
    "for",
    "in",
    "if",
    "x => y",
    "1",
    "-1",
    "1e9",
    "1.5",
    "#",
    "//",
    "/*",
    "*/",
    "<<E\n",
    "\nE\n",
    "<<-E\n",
    "${",
    "%{",
    "$${",
    "~",
    "\\",
    "\\n",
    "\\u12",
    "+",
    "-",
    "?",
    "!",
    "...",
    ".",
    "[*]",
    ".*",
    "f(",
    "var.x",
    f'"{SECRET}"',
    f"{SECRET}",
    "\x00",
    "\ufeff",
    "\u2028",
    "'",
    "`",
    "@",
    ";",
]


def outcome(content: bytes, name: str) -> str:
    """Return what is told about a file; anything but a declaration or a refusal fails the test by raising."""
    try:
        declaration, warnings = parse_snapshot(content, name, environment="dev")
    except InvalidSnapshot as refusal:
        return f"{refusal} {refusal.findings!r} {refusal.__context__!r}"
    assert isinstance(declaration, Declaration)
    return repr(warnings)


@given(content=st.binary(max_size=300), name=NAMES)
@settings(max_examples=at_most(300), deadline=None, derandomize=True)
def test_any_bytes_are_read_or_refused(content: bytes, name: str) -> None:
    outcome(content, name)


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40), name=NAMES)
@example(pieces=["a", "=", '"', "${", "<<E\n", "\nE\n"], name="terraform.tfvars")
@settings(max_examples=at_most(600), deadline=None, derandomize=True)
def test_anything_close_to_hcl_is_read_or_refused_without_its_secret(pieces: list[str], name: str) -> None:
    assert SECRET not in outcome("".join(pieces).encode(), name)


@given(data=st.data(), content=st.sampled_from(PLANTED), name=NAMES)
@settings(max_examples=at_most(300), deadline=None, derandomize=True)
def test_a_mutated_file_is_read_or_refused_without_its_secret(data: st.DataObject, content: bytes, name: str) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(start + 30, len(content))))
        content = content[:start] + data.draw(st.sampled_from(PIECES)).encode() + content[end:]
    told = outcome(content, name)
    assert SECRET not in told


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_tokens_stand_where_they_are_written(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        tokens = read_tokens(text, "x")
    except InvalidSnapshot:
        return
    position = 0
    for token in tokens[1:]:
        assert position <= token.start < token.end
        assert token.text in {text[token.start : token.end], '"', "\n", "${", "%{", "}"}
        assert token.line == text.count("\n", 0, token.start) + 1
        position = token.end
    assert position <= len(text)
