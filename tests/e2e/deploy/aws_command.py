"""So much of the AWS command line as the runbook uses, over botocore: operations and options as each describes them."""

import json
import sys
from pathlib import Path
from typing import Any

import boto3
import jmespath
from botocore import xform_name
from botocore.config import Config


def convert(shape: Any, text: str) -> Any:
    """An option's text as the shape wants it: a file, JSON, or the shorthand of one level."""
    if text.startswith("file://"):
        text = Path(text.removeprefix("file://")).read_text(encoding="utf-8")
    if shape.type_name in ("structure", "map", "list") and text[:1] in "{[":
        return json.loads(text)
    if shape.type_name in ("structure", "map"):
        return dict(pair.split("=", 1) for pair in text.split(","))
    if shape.type_name in ("integer", "long"):
        return int(text)
    return text.encode() if shape.type_name == "blob" else text


def as_text(shown: Any) -> str:
    """Rows as lines, their cells with tabs between."""
    if not isinstance(shown, list):
        return str(shown)
    if any(isinstance(each, list) for each in shown):
        return "\n".join(as_text(each) for each in shown)
    return "\t".join(map(str, shown))


def main() -> None:
    """Make one call and print its answer."""
    _, service, operation, *words = sys.argv
    options: dict[str, str] = {}
    rest: list[str] = []
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            options[word.removeprefix("--")] = words.pop(0)
        else:
            rest.append(word)
    timeout = int(options.pop("cli-read-timeout", "60"))
    options.pop("cli-binary-format", None)
    query, output = options.pop("query", ""), options.pop("output", "json")
    name = {"s3api": "s3"}.get(service, service)
    client = boto3.client(name, config=Config(read_timeout=timeout))
    [model] = [
        client.meta.service_model.operation_model(each)
        for each in client.meta.service_model.operation_names
        if xform_name(each, "-") == operation
    ]
    members = {xform_name(member, "-"): member for member in model.input_shape.members}
    arguments = {
        members[option]: convert(model.input_shape.members[members[option]], text) for option, text in options.items()
    }
    answer = getattr(client, operation.replace("-", "_"))(**arguments)
    answer.pop("ResponseMetadata", None)
    if rest:
        Path(rest[0]).write_bytes(answer.pop("Payload" if "Payload" in answer else "Body").read())
    shown = jmespath.search(query, answer) if query else answer
    if shown:
        print(as_text(shown) if output == "text" else json.dumps(shown, default=str))


main()
