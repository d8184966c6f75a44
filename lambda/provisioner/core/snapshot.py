"""The bytes of a tfvars file come in; a declaration with its warnings goes out, or every problem at once."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING

from provisioner.core.declaration import parse_declaration
from provisioner.core.document import Attribute, NotLiteral, Object, Value, parse_number
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.fields import Problems
from provisioner.core.masking import MAX_NESTING

if TYPE_CHECKING:
    from provisioner.core.model import Declaration

MAX_BYTES = 1_048_576
"""The largest file that is read; 2,000 applications are 270 KB of HCL."""


def parse_snapshot(content: bytes, file_name: str, *, environment: str) -> tuple[Declaration, tuple[Finding, ...]]:
    """Return what a tfvars file declares, and warnings (code `inactive`).

    `file_name` ends in `.tfvars` (HCL) or `.json` and is what the findings call the file. An empty `environment` takes
    a file of any.

    Raises:
        InvalidSnapshot: with one finding per problem, each with file, line (HCL) and path; never with a value that
            could be a secret.
    """
    problems = Problems(file_name)
    text = _decode(content, file_name)
    document = _read_json(text, problems) if _is_json(file_name) else _read_hcl(text, problems)
    return parse_declaration(document, problems, environment=environment)


def _is_json(file_name: str) -> bool:
    if file_name.endswith(".json"):
        return True
    if file_name.endswith(".tfvars"):
        return False
    next_step = "name it terraform.tfvars (HCL) or terraform.tfvars.json"
    raise InvalidSnapshot(
        Finding("unknown_format", "the ending of the file's name says no format", next_step, file_name)
    )


def _decode(content: bytes, file_name: str) -> str:
    if len(content) > MAX_BYTES:
        message = f"the file has {len(content)} bytes, more than the {MAX_BYTES} that are read"
        raise InvalidSnapshot(
            Finding("too_large", message, "move what is not Terraform variables elsewhere", file_name)
        )
    if not content.strip():
        next_step = "to declare nothing on purpose, write application_databases = {}"
        raise InvalidSnapshot(Finding("empty", "the file is empty", next_step, file_name))
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        message = "the file starts with a byte-order mark"
        raise InvalidSnapshot(Finding("byte_order_mark", message, "save it as UTF-8 without one", file_name))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    raise InvalidSnapshot(Finding("not_utf8", "the file is not UTF-8", "save it as UTF-8", f"{file_name}:{line}"))


def _read_hcl(text: str, problems: Problems) -> Object:
    # Loaded here: the parser is a fifth of a cold start, and a snapshot in JSON has no use for it.
    from provisioner.core.hcl import read_hcl  # noqa: PLC0415

    return read_hcl(text, problems)


# --- JSON -----------------------------------------------------------------------------------------------------------


_JSON_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|(?P<open>[\[{])|(?P<close>[\]}])', re.DOTALL)


def _read_json(text: str, problems: Problems) -> Object:
    _refuse_deep_json(text, problems)
    try:
        document = json.loads(
            text,
            object_pairs_hook=_json_object,
            parse_int=parse_number,
            parse_float=parse_number,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        where = f"{problems.file_name}:{error.lineno} column {error.colno}"
    except ValueError:
        where = problems.file_name
    else:
        if isinstance(document, Object):
            return Object(tuple(found for found in document.attributes if found.key != "//"))
        where = problems.file_name
    message = "this is not a JSON object that Terraform would read"
    raise InvalidSnapshot(Finding("syntax", message, "check it with jq", where))


def _refuse_deep_json(text: str, problems: Problems) -> None:
    depth = 0
    for match in _JSON_BRACKETS.finditer(text):
        depth += (match["open"] is not None) - (match["close"] is not None)
        if depth > MAX_NESTING:
            message = f"more than {MAX_NESTING} brackets stand in each other"
            where = f"{problems.file_name}:{text.count(chr(10), 0, match.start()) + 1}"
            raise InvalidSnapshot(Finding("too_deep", message, "flatten it", where))


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


def _json_object(pairs: list[tuple[str, object]]) -> Object:
    return Object(tuple(Attribute(key, _json_value(item)) for key, item in pairs))


def _json_value(item: object) -> Value:
    if isinstance(item, list):
        return Value(tuple(_json_value(each) for each in item))
    if isinstance(item, str) and re.search(r"[$%]\{", item):
        return Value(NotLiteral.TEMPLATE)
    if item is None or isinstance(item, (str, bool, Decimal, Object, NotLiteral)):
        return Value(item)
    raise TypeError(f"json made a {type(item).__name__}")
