"""The bytes of a tfvars file come in; a declaration with its warnings goes out, or every problem at once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal

from provisioner.core.declaration import parse_declaration
from provisioner.core.document import Attribute, Content, NotLiteral, Object, parse_number, redact
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.fields import Problems, attributes_by_key
from provisioner.core.model import Declaration

MAX_BYTES = 1_048_576
"""The largest file that is read; 2,000 applications are 270 KB of HCL."""


def parse_snapshot(
    content: bytes, file_name: str, *, environment: str, template: str = "{app}"
) -> tuple[Declaration, tuple[Finding, ...]]:
    """Return what a tfvars file declares, and warnings (code `inactive`).

    `file_name` ends in `.tfvars` (HCL) or `.json` and is what the findings call the file. An empty `environment` takes
    a file of any. `template` is the id of the secret of an entry (`{app}`) that names none.

    Raises `InvalidSnapshot` with one finding per problem, each with file, line (HCL) and path; never with a value that
    could be a secret.
    """
    problems = Problems(file_name)
    _refuse_unreadable(content, file_name)
    document = _read_json(content, problems) if file_name.endswith(".json") else _read_hcl(content, problems)
    return parse_declaration(document, problems, environment=environment, template=template)


def _refuse_unreadable(content: bytes, file_name: str) -> None:
    finding = None
    if len(content) > MAX_BYTES:
        message = f"the file has {len(content)} bytes, more than the {MAX_BYTES} that are read"
        finding = Finding("too_large", message, "move what is not Terraform variables elsewhere", file_name)
    elif not content.strip():
        next_step = "to declare nothing on purpose, write application_databases = {}"
        finding = Finding("empty", "the file is empty", next_step, file_name)
    elif content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        message = "the file starts with a byte-order mark"
        finding = Finding("byte_order_mark", message, "save it as UTF-8 without one", file_name)
    elif not file_name.endswith((".json", ".tfvars")):
        next_step = "name it terraform.tfvars (HCL) or terraform.tfvars.json"
        finding = Finding("unknown_format", "the ending of the file's name says no format", next_step, file_name)
    if finding:
        raise InvalidSnapshot(finding)


def _read_hcl(content: bytes, problems: Problems) -> Object:
    # Loaded here: the parser is a fifth of a cold start, and a snapshot in JSON has no use for it.
    from provisioner.core.hcl import HclReader  # noqa: PLC0415

    # Terraform takes any bytes in a comment; as lone surrogates they are found anywhere else.
    return HclReader(content.decode("utf-8", "surrogateescape"), problems).read()


def _read_json(content: bytes, problems: Problems) -> Object:
    finding = Finding(
        "syntax", "this is not a JSON object that Terraform would read", "check it with jq", problems.file_name
    )
    try:
        document = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=tuple,
            parse_int=parse_number,
            parse_float=parse_number,
            parse_constant=parse_number,
        )
        if isinstance(document, tuple):
            return _json_object(tuple(pair for pair in document if pair[0] != "//"), "", problems)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        finding = Finding("not_utf8", "the file is not UTF-8", "save it as UTF-8", problems.location(line))
    except json.JSONDecodeError as error:
        finding = replace(finding, where=f"{finding.where}:{error.lineno} column {error.colno}")
    except RecursionError:
        message = "too many brackets stand in each other"
        finding = Finding("too_deep", message, "flatten it", problems.file_name)
    except ValueError:
        # A number that is none, of which no place is known.
        pass
    raise InvalidSnapshot(finding)


def _json_object(pairs: tuple[tuple[str, object], ...], path: str, problems: Problems) -> Object:
    """Build an object whose keys all differ: Terraform refuses keys twice in JSON, wherever they stand."""
    attributes = (
        Attribute(key, _json_value(item, f"{path}.{redact(key)}".lstrip("."), problems)) for key, item in pairs
    )
    return Object(tuple(attributes_by_key(Object(tuple(attributes)), path, problems).values()))


def _json_value(item: object, path: str, problems: Problems) -> Content:
    if isinstance(item, tuple):
        return _json_object(item, path, problems)
    if isinstance(item, list):
        values = (_json_value(each, f"{path}[{number}]", problems) for number, each in enumerate(item))
        return tuple(Attribute(str(number), value) for number, value in enumerate(values))
    if isinstance(item, str) and re.search(r"[$%]\{", item):
        return NotLiteral.COMPUTED
    if item is None or isinstance(item, (str, bool, Decimal)):
        return item
    raise TypeError(f"json made a {type(item).__name__}")
