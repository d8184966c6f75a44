"""A tfvars file in; its declaration, or every problem with the person's own file and line, out; and its way to S3."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.snapshot import parse_snapshot
from provisioner.core.text import sanitize
from rds_provisioner_cli.aws import client, explain, failures
from rds_provisioner_cli.stopped import Exit, Stopped

if TYPE_CHECKING:
    from provisioner.core.model import Declaration
    from rds_provisioner_cli.target import Target

SUFFIXES = (".tfvars.json", ".tfvars")


def read_file(path: Path) -> bytes:
    """The content of a file. Raises Stopped."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Stopped(f"{path} cannot be read: {error.strerror}", Exit.USAGE) from None


def check_file(path: Path, content: bytes, environment: str = "") -> tuple[Declaration | None, tuple[Finding, ...]]:
    """What a file declares and its warnings, or None and what is wrong; for any environment where that is empty."""
    try:
        return parse_snapshot(content, str(path), environment=environment)
    except InvalidSnapshot as refused:
        # As a person goes through the file.
        return None, tuple(sorted(refused.findings, key=_line_of))


def _line_of(finding: Finding) -> int:
    found = re.search(r":(\d+)", finding.where)
    return int(found[1]) if found else 0


def refuse_other_format(path: Path, target: Target) -> None:
    """Raise Stopped where the function would take the file for another format than it has."""
    if suffix_of(path.name) != suffix_of(target.key):
        message = f"{path} cannot take the place of {target.key}: the ending says whether it is HCL or JSON"
        raise Stopped(f"{message}; write it as {suffix_of(target.key)}, or change SnapshotKey of the stack", Exit.USAGE)


def bring_along(path: Path, content: bytes) -> dict[str, Any]:
    """The field of a dry run that holds the file itself, so that it is planned before it is put anywhere."""
    return {"tfvars": {"inline": content.decode(), "name": sanitize(str(path), 1000)}}


def upload_snapshot(target: Target, content: bytes) -> dict[str, Any]:
    """Put the file where the function and its rule look for it, and name it for the apply. Raises Stopped."""
    place = {"bucket": target.snapshot_bucket(), "key": target.key}
    try:
        version = client("s3").put_object(Bucket=place["bucket"], Key=place["key"], Body=content).get("VersionId")
    except failures() as error:
        raise Stopped(f"the snapshot cannot be put into {place['bucket']}: {explain(error)}") from None
    return {"tfvars": place | ({"version_id": version} if version else {})}


def suffix_of(name: str) -> str:
    """The ending that says whether a snapshot is HCL or JSON."""
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
