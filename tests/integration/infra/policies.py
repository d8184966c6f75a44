"""Whether IAM would let a call through, by the policies of the caller and of the bucket: an evaluator of our own.

It knows what our templates use and refuses to guess: another element or operator of a condition is an error.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from integration.infra.deployed_template import as_list

Statement = dict[str, Any]
KNOWN = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
# Of a value that the request has; what it has not is said by the operator's own rules.
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringLike": fnmatchcase,
    "ArnEquals": fnmatchcase,
    "ArnLike": fnmatchcase,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
}


@dataclass(frozen=True)
class Call:
    """A request: who makes it, what it does to what, and the keys that conditions ask for."""

    principal: str
    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)


def is_let_through(call: Call, identity: Iterable[Statement], resource: Iterable[Statement] = ()) -> bool:
    """Whether the caller's own policies or the resource's allow a call of the same account, and none denies it."""
    fitting = [each for each in identity if _fits(each, call)]
    fitting += [each for each in resource if _is_for(each["Principal"], call.principal) and _fits(each, call)]
    effects = {each["Effect"] for each in fitting}
    assert effects <= {"Allow", "Deny"}
    return "Allow" in effects and "Deny" not in effects


def put(principal: str, key: str, bucket: str = "acme-governance", *, only_new: bool = True) -> Call:
    """A PutObject over TLS, by default one that says that nothing may be there yet."""
    context = {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true"}
    context |= {"s3:if-none-match": "*"} if only_new else {}
    return _object_call(principal, "s3:PutObject", key, bucket, context)


def get(principal: str, key: str, bucket: str = "acme-governance") -> Call:
    """A GetObject over TLS."""
    return _object_call(principal, "s3:GetObject", key, bucket, {"aws:SecureTransport": "true"})


def delete(principal: str, key: str, bucket: str = "acme-governance") -> Call:
    """A DeleteObject over TLS."""
    return _object_call(principal, "s3:DeleteObject", key, bucket, {"aws:SecureTransport": "true"})


def _object_call(principal: str, action: str, key: str, bucket: str, context: dict[str, str]) -> Call:
    account = principal.split(":")[4]
    return Call(principal, action, f"arn:aws:s3:::{bucket}/{key}", {**context, "aws:ResourceAccount": account})


def _fits(statement: Statement, call: Call) -> bool:
    assert statement.keys() <= KNOWN, statement
    context = {**call.context, "aws:PrincipalArn": call.principal}
    return (
        any(fnmatchcase(call.action.lower(), each.lower()) for each in as_list(statement["Action"]))
        and any(fnmatchcase(call.resource, each) for each in as_list(statement["Resource"]))
        and all(
            _holds(operator, context.get(key), as_list(wanted))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, value: str | None, wanted: list[Any]) -> bool:
    """Any of the values that are wanted will do; to a negated operator none may."""
    if operator == "Null":
        return [str(value is None).lower()] == [str(each).lower() for each in wanted]
    if operator.endswith("IfExists") and value is None:
        return True
    plain = operator.removesuffix("IfExists")
    positive = plain.replace("Not", "", 1)
    matches = value is not None and any(OPERATORS[positive](value, str(each)) for each in wanted)
    return matches if positive == plain else not matches


def _is_for(principal: Any, caller: str) -> bool:
    return principal == "*" or caller in as_list(principal.get("AWS", []))
