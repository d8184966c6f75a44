"""Tells from an HTTP request which AWS operation it is, by the protocol's own marks or botocore's description of it."""

import functools
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import botocore.session
from botocore.model import OperationModel


@dataclass(frozen=True)
class Request:
    """An HTTP request to AWS; header names are lower case."""

    service: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


def describe_operation(request: Request) -> tuple[str, dict[str, Any]]:
    """The operation's name and its parameters; a REST operation's parameters are those in path and query."""
    if target := request.headers.get("x-amz-target"):
        return target.rpartition(".")[2], json.loads(request.body or b"{}")
    form = dict(parse_qsl(request.body.decode(errors="replace"))) if request.body else {}
    if action := form.get("Action") or request.query.get("Action"):
        return action, {**request.query, **form}
    fitting = [fit for operation in _operations(request.service) if (fit := operation.fit(request))]
    # Of those that fit, the one that demands the most: ListObjects fits whenever ListObjectsV2 does.
    return max(fitting, key=lambda fit: fit[0])[1:] if fitting else ("Unknown", {"path": request.path})


@dataclass(frozen=True)
class _RestOperation:
    name: str
    method: str
    path: re.Pattern[str]
    fixed_query: frozenset[tuple[str, str]]
    needed_query: frozenset[str]
    needed_headers: frozenset[str]

    def fit(self, request: Request) -> tuple[int, str, dict[str, Any]] | None:
        if request.method != self.method or not (match := self.path.fullmatch(request.path)):
            return None
        if any(request.query.get(name) != value for name, value in self.fixed_query):
            return None
        if not self.needed_query <= request.query.keys() or not self.needed_headers <= request.headers.keys():
            return None
        demands = len(self.fixed_query) + len(self.needed_query) + len(self.needed_headers)
        parameters = {name: unquote(value) for name, value in match.groupdict().items()}
        owner = {"ExpectedBucketOwner": request.headers.get("x-amz-expected-bucket-owner")}
        return demands, self.name, {**parameters, **request.query, **(owner if owner["ExpectedBucketOwner"] else {})}


@functools.cache
def _operations(service: str) -> tuple[_RestOperation, ...]:
    try:
        model = botocore.session.get_session().get_service_model(service)
    except botocore.exceptions.UnknownServiceError:
        return ()
    return tuple(_describe(model.operation_model(name)) for name in model.operation_names)


def _describe(operation: OperationModel) -> _RestOperation:
    uri, _, query = operation.http["requestUri"].partition("?")
    parts = re.split(r"\{(\w+)(\+?)\}", uri)
    pattern = re.escape(parts[0])
    for name, greedy, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.+' if greedy else '[^/]+'})" + re.escape(text)
    return _RestOperation(
        name=operation.name,
        method=operation.http["method"],
        path=re.compile(pattern + "/?"),
        fixed_query=frozenset(parse_qsl(query, keep_blank_values=True)),
        needed_query=frozenset(_needed(operation, "querystring")),
        needed_headers=frozenset(name.lower() for name in _needed(operation, "header")),
    )


def _needed(operation: OperationModel, location: str) -> list[str]:
    shape = operation.input_shape
    if shape is None:
        return []
    members = [shape.members[name] for name in shape.required_members]
    return [member.serialization["name"] for member in members if member.serialization.get("location") == location]
