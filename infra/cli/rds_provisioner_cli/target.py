"""An environment and what was given on the command line in, where its function, snapshot and audit are out."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rds_provisioner_cli.aws import client, error_code, expect_owner, explain, failures
from rds_provisioner_cli.stopped import Exit, Stopped


@dataclass(frozen=True)
class Given:
    """What the caller said of the places; empty where it said nothing."""

    environment: str
    function_name: str = ""
    bucket: str = ""
    key: str = ""
    stack_name: str = ""

    @property
    def stack(self) -> str:
        """The stack that knows the rest."""
        return self.stack_name or f"rds-provisioner-{self.environment}"


@dataclass(frozen=True)
class Target:
    """The function to call, where its snapshot and its audit lie, and what its gate asks for."""

    environment: str
    function_name: str
    bucket: str
    key: str
    ungated: frozenset[str]
    digest_required: frozenset[str]
    # Why the stack could not be asked; empty where it was, or did not have to be.
    unknown: str = ""

    @property
    def plain_name(self) -> str:
        """The function's name without alias, account and region, which its log group is called by."""
        words = self.function_name.split(":")
        return words[6] if words[0] == "arn" else words[0]

    @property
    def needs_digest(self) -> bool:
        """Whether an apply needs the digest of a plan that somebody has read."""
        return self.environment in self.digest_required

    @property
    def is_gated(self) -> bool:
        """Whether an apply needs an approval."""
        return self.environment not in self.ungated or self.needs_digest

    def snapshot_bucket(self) -> str:
        """The bucket that snapshots are put into. Raises Stopped where nobody named it."""
        if self.bucket:
            return self.bucket
        reason = f" ({self.unknown})" if self.unknown else ""
        message = f"where does the snapshot go? Give --bucket, SNAPSHOT_BUCKET or --stack-name{reason}"
        raise Stopped(message, Exit.USAGE)


def find_target(given: Given, *, with_bucket: bool) -> Target:
    """From what was given; what it leaves open, from the outputs of the stack. Raises Stopped."""
    is_complete = given.function_name and (given.bucket or not with_bucket)
    outputs, unknown = ({}, "") if is_complete else read_outputs(given.stack)
    key = given.key or outputs.get("SnapshotKey", "{environment}/terraform.tfvars")
    # A stack without such environments has no such output; without a stack the settings' own defaults hold.
    ungated = outputs.get("UngatedEnvironments", "" if outputs else "dev")
    digest_required = outputs.get("RequirePlanDigest", "" if outputs else "prod")
    return Target(
        environment=given.environment,
        function_name=given.function_name or outputs.get("FunctionName", given.stack),
        bucket=given.bucket or outputs.get("SnapshotBucket", ""),
        key=key.replace("{environment}", given.environment),
        ungated=_names(os.environ.get("UNGATED_ENVIRONMENTS", ungated)),
        digest_required=_names(os.environ.get("REQUIRE_PLAN_DIGEST", digest_required)),
        unknown=unknown,
    )


def find_audit(given: Given) -> tuple[str, str]:
    """The bucket of the audit, and what its keys begin with. Raises Stopped."""
    bucket, prefix = os.environ.get("AUDIT_BUCKET", ""), os.environ.get("AUDIT_PREFIX", "governance")
    if bucket:
        return bucket, prefix
    outputs, unknown = read_outputs(given.stack)
    if "AuditBucket" not in outputs:
        reason = unknown or f"the stack {given.stack} names none"
        raise Stopped(f"where is the audit? Set AUDIT_BUCKET, or give --stack-name ({reason})", Exit.USAGE)
    return outputs["AuditBucket"], outputs.get("AuditPrefix", prefix)


def find_trail(given: Given) -> str:
    """The `s3://` address of the audit trail. Raises Stopped."""
    bucket, prefix = find_audit(given)
    return f"s3://{bucket}/{prefix}/{given.environment}/rds_provision_audit.csv"


def read_outputs(stack_name: str) -> tuple[dict[str, str], str]:
    """The outputs of the stack; none, and why, where there is none that may be looked at. Raises Stopped."""
    try:
        [stack] = client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    except failures() as error:
        # Whoever is not signed in, or has no network, need not be told about names.
        if error_code(error) not in {"ValidationError", "AccessDenied", "AccessDeniedException"}:
            raise Stopped(explain(error)) from None
        if "does not exist" in str(error):
            return {}, f"there is no stack {stack_name}"
        return {}, f"the stack {stack_name} cannot be read: {error}"
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    for bucket in ("SnapshotBucket", "AuditBucket"):
        expect_owner(outputs.get(bucket, ""), outputs.get(f"{bucket}Owner", ""))
    return outputs, ""


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())
