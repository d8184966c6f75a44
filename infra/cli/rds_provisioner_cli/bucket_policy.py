"""The policy that a bucket of its own has of `infra/storage.yaml`, for a bucket that somebody made before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Beside the command line in the repository; an installed command line has none.
STORAGE = Path(__file__).resolve().parents[2] / "storage.yaml"


def audit_statements(
    bucket: str, partition: str = "aws", template: Path = STORAGE, *, with_approvers: bool = False
) -> list[dict[str, Any]]:
    """The statements of the audit bucket's policy that need no parameter, as JSON-ready values.

    Asked for, the one that names approvers comes too: their ARNs have to be put in the place of the parameter's name.

    Raises:
        OSError: the template is not there.
    """
    import yaml  # noqa: PLC0415 - the other commands do without

    class Loader(yaml.SafeLoader):
        """YAML with the short forms of CloudFormation's functions, which come out as pairs of name and value."""

    def read(loader: Any, name: str, node: Any) -> tuple[str, Any]:
        if isinstance(node, yaml.ScalarNode):
            return name, loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return name, loader.construct_sequence(node, deep=True)
        return name, loader.construct_mapping(node, deep=True)

    Loader.add_multi_constructor("!", read)  # type: ignore[no-untyped-call]
    content = yaml.load(template.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    statements = content["Resources"]["AuditBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    arn = f"arn:{partition}:s3:::{bucket}"
    # A pair is a condition with what it chooses from.
    chosen = [each if isinstance(each, dict) else each[1][1] for each in statements]
    return [
        _fill(each, arn) for each, stands in zip(chosen, statements, strict=True) if with_approvers or each is stands
    ]


def _fill(value: Any, arn: str) -> Any:
    """A part of the template with the bucket's ARN in the place of the functions that stand for it."""
    if isinstance(value, tuple):
        _, what = value
        return arn if what == "AuditBucket.Arn" else str(what).replace("${AuditBucket.Arn}", arn)
    if isinstance(value, dict):
        return {name: _fill(each, arn) for name, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, arn) for each in value]
    return value
