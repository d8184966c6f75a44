"""An event in, the function's answer out: waits for it, and waits for other runs where it is told to."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from rds_provisioner_cli.aws import client, error_code, explain, failures
from rds_provisioner_cli.stopped import Exit, FunctionFailed, Stopped

if TYPE_CHECKING:
    from rds_provisioner_cli.screen import Screen
    from rds_provisioner_cli.target import Target

PAUSES = (2.0, 5.0, 10.0, 15.0)


def call(target: Target, event: dict[str, Any], screen: Screen) -> dict[str, Any]:
    """Call the function once. Raises FunctionFailed, or Stopped where there is no answer."""
    try:
        with screen.waiting(f"{event['mode']} by {target.function_name}"):
            payload = json.dumps(event).encode()
            answer = client("lambda", is_patient=True).invoke(FunctionName=target.function_name, Payload=payload)
            content = json.loads(answer["Payload"].read() or b"null")
    except KeyboardInterrupt:
        raise Stopped(_interrupted(target, event["mode"]), Exit.INTERRUPTED) from None
    except failures() as error:
        beside = f" ({target.unknown})" if target.unknown else ""
        raise Stopped(_no_answer(target, error) + beside) from None
    if "FunctionError" in answer:
        # Killed, or out of memory, the function says no more than that.
        told = content if isinstance(content, dict) else {}
        raise FunctionFailed(told.get("errorType", "Unknown"), told.get("errorMessage", str(content)))
    return dict(content)


def call_when_free(target: Target, event: dict[str, Any], screen: Screen, *, wait_seconds: float) -> dict[str, Any]:
    """As `call`; while another run is at work, such as the one that a new snapshot called, try again for some time."""
    deadline = time.monotonic() + wait_seconds
    tries = 0
    while True:
        try:
            return call(target, event, screen)
        except FunctionFailed as failed:
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            if failed.kind != "RunInProgress" or time.monotonic() + pause > deadline:
                raise
            if not tries:
                screen.note(f"Another run is at work: waiting for it, {wait_seconds:.0f} s at most.")
            tries += 1
        try:
            time.sleep(pause)
        except KeyboardInterrupt:
            message = "Interrupted while another run was at work: this one changed nothing."
            raise Stopped(message, Exit.INTERRUPTED) from None


def how_to_look(target: Target) -> str:
    """The commands that show what a run does of which no answer came."""
    return (
        f"  aws logs tail /aws/lambda/{target.plain_name} --since 20m --follow\n"
        f"  rds-provisioner history {target.environment}"
    )


def _interrupted(target: Target, mode: str) -> str:
    if mode != "apply":
        return f"Interrupted. The {mode} goes on in AWS until it is done; it changes nothing."
    message = "Interrupted. The apply goes on in AWS, fifteen minutes at most, and is written down there; look with"
    return f"{message}\n{how_to_look(target)}"


def _no_answer(target: Target, error: Any) -> str:
    if error_code(error) == "ResourceNotFoundException":
        next_step = "is the environment spelled right, and are AWS_REGION and AWS_PROFILE those of its account?"
        return f"there is no function {target.function_name} here: {next_step}"
    reason = explain(error)
    if not reason.startswith("no answer came"):
        return reason
    return f"{reason}; the run may go on in AWS; look with\n{how_to_look(target)}"
