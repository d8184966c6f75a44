"""Calls the function of an environment by hand: shows the plan, asks where it must, applies, and fails when it failed.

    python3 infra/rds_provision.py --environment dev --tfvars terraform.tfvars
    python3 infra/rds_provision.py --environment prod --dry-run

Exit status: 0 done (or nothing to do), 1 the function or AWS refused, 2 wrong usage, 3 not approved.
`make rds-provision` and `make rds-provision-dry-run` call this with the variables of the same names.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# A run may take the fifteen minutes of Lambda; calling again by itself would make a second run of it.
PATIENCE = Config(read_timeout=920, connect_timeout=10, retries={"total_max_attempts": 1}, tcp_keepalive=True)
MOST_CALLS = 20
SUFFIXES = (".tfvars", ".tfvars.json")
COLOURS = {"+": "32", "~": "33", "-": "31", "!": "1;31", "?": "35"}


class Stopped(Exception):
    """The command ends here: a message for a person and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        """Keep both."""
        super().__init__(message)
        self.status = status


class FunctionFailed(Exception):
    """What the function raised: one of its named errors, with its message."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the kind, which decides what happens next."""
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True)
class Target:
    """Where things are: the function to call, where its snapshot lies, and the environments without a gate."""

    function_name: str
    bucket: str
    key: str
    ungated: frozenset[str]


def main() -> int:
    """Run the command and return the exit status."""
    arguments = parse_arguments()
    try:
        provision(arguments)
    except Stopped as stopped:
        print(paint(str(stopped), "31"), file=sys.stderr)
        return stopped.status
    except FunctionFailed as failed:
        print(paint(f"the function failed: {failed}", "31"), file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(paint(f"AWS refused: {error}", "31"), file=sys.stderr)
        return 1
    return 0


def provision(arguments: argparse.Namespace) -> None:
    """Plan, show, ask, apply; where the function ran out of time, the same again for what is left."""
    target = find_target(arguments)
    for _ in range(MOST_CALLS):
        preview = upload_preview(target, arguments.tfvars) if arguments.tfvars else {}
        plan = call(target, {**describe_run(arguments), **preview, "mode": "dry_run"})
        show_plan(plan)
        if arguments.dry_run:
            return
        approval = ask_for_approval(arguments, target, plan)
        snapshot = upload_snapshot(target, arguments.tfvars) if arguments.tfvars else {}
        try:
            show_outcome(call(target, {**describe_run(arguments), **snapshot, **approval, "mode": "apply"}))
        except FunctionFailed as failed:
            if failed.kind != "OutOfTime":
                raise
            print("The function ran out of time; going on with what is left.", file=sys.stderr)
        else:
            return
    raise Stopped(f"not done after {MOST_CALLS} calls: look at the duration of the runs before calling again")


def describe_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of the event that say who asks for what."""
    given = {
        "environment": arguments.environment,
        "requested_by": arguments.requested_by,
        "build_id": arguments.build_id,
        "run_id": arguments.run_id,
        "adopt": arguments.adopt,
        "fail_fast": arguments.fail_fast or None,
    }
    return {name: value for name, value in given.items() if value not in (None, "", [])}


# --- where things are -------------------------------------------------------------------------------------------------


def find_target(arguments: argparse.Namespace) -> Target:
    """From the options and environment variables; what they leave open, from the outputs of the stack."""
    environment = arguments.environment
    is_complete = arguments.function_name and (arguments.bucket or not arguments.tfvars)
    outputs = {} if is_complete else read_outputs(arguments.stack_name or f"rds-provisioner-{environment}")
    bucket = arguments.bucket or outputs.get("SnapshotBucket", "")
    if arguments.tfvars and not bucket:
        raise Stopped(
            "where does the snapshot go? Give --bucket, SNAPSHOT_BUCKET, or the --stack-name of the function", 2
        )
    key = arguments.key or outputs.get("SnapshotKey", "{environment}/terraform.tfvars")
    ungated = outputs.get("UngatedEnvironments", "" if outputs else "dev")
    return Target(
        function_name=arguments.function_name or outputs.get("FunctionName", f"rds-provisioner-{environment}"),
        bucket=bucket,
        key=key.replace("{environment}", environment),
        ungated=frozenset(os.environ.get("UNGATED_ENVIRONMENTS", ungated).split(",")),
    )


def read_outputs(stack_name: str) -> dict[str, str]:
    """The outputs of the stack; none where there is no such stack, or it may not be looked at."""
    try:
        [stack] = client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    except (ClientError, BotoCoreError) as error:
        print(f"The stack {stack_name} cannot be read ({error}): taking the usual names.", file=sys.stderr)
        return {}
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def client(service: str, config: Config | None = None) -> Any:
    """A client in the region of the surroundings; AWS_ENDPOINT_URL leads it elsewhere."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return boto3.client(service, region_name=region, config=config)  # type: ignore[call-overload]


# --- what is sent -----------------------------------------------------------------------------------------------------


def upload_preview(target: Target, tfvars: Path) -> dict[str, Any]:
    """Put the snapshot beside the real one, where it calls nobody, and name it for the dry run."""
    content = tfvars.read_bytes()
    name = hashlib.sha256(content).hexdigest()[:16] + suffix_of(target.key)
    return upload(target.bucket, f"{target.key.rpartition('/')[0]}/previews/{name}", content)


def upload_snapshot(target: Target, tfvars: Path) -> dict[str, Any]:
    """Put the snapshot where the function, its schedule and its rule look for it."""
    return upload(target.bucket, target.key, tfvars.read_bytes())


def upload(bucket: str, key: str, content: bytes) -> dict[str, Any]:
    """Put an object and return the field of the event that names it."""
    version = client("s3").put_object(Bucket=bucket, Key=key, Body=content).get("VersionId")
    return {"tfvars": {"bucket": bucket, "key": key} | ({"version_id": version} if version else {})}


def suffix_of(name: str) -> str:
    """The ending that says whether a snapshot is HCL or JSON."""
    return next((suffix for suffix in reversed(SUFFIXES) if name.endswith(suffix)), "")


def call(target: Target, event: dict[str, Any]) -> dict[str, Any]:
    """Call the function and wait for its answer. Raises FunctionFailed."""
    print(f"{event['mode']} by {target.function_name} ...", file=sys.stderr)
    answer = client("lambda", PATIENCE).invoke(FunctionName=target.function_name, Payload=json.dumps(event).encode())
    payload = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" in answer:
        # Without an account's permission to it, or killed, the function says no more than that.
        error = payload if isinstance(payload, dict) else {}
        raise FunctionFailed(error.get("errorType", "Unknown"), error.get("errorMessage", str(payload)))
    return dict(payload)


# --- the gate ---------------------------------------------------------------------------------------------------------


def ask_for_approval(arguments: argparse.Namespace, target: Target, plan: dict[str, Any]) -> dict[str, Any]:
    """The approval of the plan that was shown, as a field of the event; none where none is needed. Raises Stopped."""
    digest = plan["plan_digest"]
    if plan["blockers"]:
        raise Stopped("the plan is blocked: nothing was changed")
    if arguments.plan_digest and digest != arguments.plan_digest:
        raise Stopped(f"the plan is now {digest} and not {arguments.plan_digest}, which was approved", 3)
    if plan["status"] == "no_change" or (arguments.environment in target.ungated and not arguments.approve):
        return {}
    approver = arguments.approved_by
    if not arguments.approve:
        if not sys.stdin.isatty():
            raise Stopped(f"{arguments.environment} is gated: approve {digest} with --approve and --approved-by", 3)
        approver = approver or getpass.getuser()
        if input(f"Apply this plan to {arguments.environment} as {approver}? Only 'yes' will do: ").strip() != "yes":
            raise Stopped("not approved: nothing was changed", 3)
    if not approver:
        raise Stopped("who approves? Give --approved-by or APPROVED_BY", 2)
    return {"approval": {"allow_db_provision": True, "approved_by": approver, "plan_digest": digest}}


# --- what is shown ----------------------------------------------------------------------------------------------------


def show_plan(plan: dict[str, Any]) -> None:
    """Print the plan as the function wrote it, coloured by what each line does."""
    for line in plan["plan_text"].splitlines():
        symbol = line.strip()[:1] if line.startswith("  ") else ""
        print(paint(line, COLOURS[symbol]) if symbol in COLOURS else line)
    print(f"status: {plan['status']}, digest: {plan['plan_digest']}")


def show_outcome(answer: dict[str, Any]) -> None:
    """Print what became of the apply, and where it is written down."""
    for change in answer["changes"]:
        if change["status"] not in ("success", "no_change"):
            print(paint(f"  {change['status']}: {change['action']} {change['username']} {change['detail']}", "31"))
    numbers = ", ".join(f"{number} {name}" for name, number in answer["summary"].items() if number)
    print(paint(f"{answer['status']}: {numbers or 'nothing to do'}", "1;32"))
    for name, address in answer["audit"].items():
        if address:
            print(f"  {name}: {address}")


def paint(text: str, colour: str) -> str:
    """The text in a colour, on a terminal; plain into a file, or where NO_COLOR is set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{colour}m{text}\033[0m"


# --- the command line -------------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """The options; most of them can be given as environment variables, as pipelines do."""
    variables = os.environ
    parser = argparse.ArgumentParser(description="Provision the databases of one environment, by hand.")
    parser.add_argument("--environment", required=True)
    parser.add_argument("--tfvars", type=Path, help="the snapshot to put into the bucket; else the one that lies there")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    parser.add_argument(
        "--approve",
        action="store_true",
        default=variables.get("ALLOW_DB_PROVISION") == "true",
        help="approve without being asked (ALLOW_DB_PROVISION=true)",
    )
    parser.add_argument("--approved-by", default=variables.get("APPROVED_BY", ""), help="who approves (APPROVED_BY)")
    parser.add_argument(
        "--plan-digest", default=variables.get("PLAN_DIGEST", ""), help="apply only this plan (PLAN_DIGEST)"
    )
    parser.add_argument(
        "--adopt",
        type=lambda names: names.split(","),
        default=[],
        help="applications whose role and database are taken over, with commas between",
    )
    parser.add_argument("--fail-fast", action="store_true", help="begin nothing more after the first failed change")
    parser.add_argument("--build-id", default=variables.get("BUILD_ID", ""))
    parser.add_argument("--run-id", default=variables.get("RUN_ID", ""))
    parser.add_argument("--requested-by", default=variables.get("REQUESTED_BY") or getpass.getuser())
    parser.add_argument("--function-name", default=variables.get("FUNCTION_NAME", ""))
    parser.add_argument("--bucket", default=variables.get("SNAPSHOT_BUCKET", ""))
    parser.add_argument("--key", default=variables.get("SNAPSHOT_KEY", ""))
    parser.add_argument("--stack-name", default=variables.get("STACK_NAME", ""))
    arguments = parser.parse_args()
    if arguments.tfvars and not arguments.tfvars.is_file():
        parser.error(f"there is no file {arguments.tfvars}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
