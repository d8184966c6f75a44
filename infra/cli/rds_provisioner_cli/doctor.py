"""An environment in, one line a check out: what the function's preflight says, and what only its caller can see."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from provisioner.core.preflight import Check, CheckStatus, failed, ok, unknown
from rds_provisioner_cli.aws import client, error_code, explain, failures
from rds_provisioner_cli.bucket_policy import audit_statements
from rds_provisioner_cli.function import call
from rds_provisioner_cli.stopped import Exit, FunctionFailed, Stopped
from rds_provisioner_cli.target import Given, find_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from rds_provisioner_cli.screen import Screen

STYLES = {"ok": "green", "failed": "bold red", "unknown": "yellow"}
# By the worst line, which is the first of these that there is.
EXITS = {CheckStatus.FAILED: Exit.FAILED, CheckStatus.UNKNOWN: Exit.CHANGES, CheckStatus.OK: Exit.DONE}
ALARMS = "failures|crashes|drift|stuck-lock|duration|failure-queue|silence|fleet"
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}


@dataclass(frozen=True)
class Stack:
    """The stack of an environment: its state, its parameters as they were resolved, its outputs; empty if unknown."""

    status: str
    parameters: dict[str, str]
    outputs: dict[str, str]


def examine(given: Given, screen: Screen, *, as_json: bool) -> Exit:
    """Make every check and show them; the exit status follows the worst. Raises Stopped."""
    stack, checks = _check_stack(given)
    checks += _check_around(given, stack)
    answer, found = _call_preflight(given, screen)
    # Whether events that are off are meant is known here.
    told = {check.name for check in checks}
    checks += [check for check in found if check.name not in told]
    worst = next(status for status in EXITS if status is CheckStatus.OK or any(c.status is status for c in checks))
    _show(checks, screen)
    if as_json:
        document = {"environment": given.environment, "status": worst.value, "checks": [*map(asdict, checks)]}
        screen.document(json.dumps({**document, "preflight": answer}, indent=2))
    return EXITS[worst]


def show_policy(given: Given, screen: Screen) -> Exit:
    """Print the statements that the policy of an audit bucket that was there before has to have. Raises Stopped."""
    stack, _ = _check_stack(given)
    if "AuditBucket" not in stack.outputs:
        raise Stopped(f"the stack {given.stack} names no audit bucket", Exit.FAILED)
    try:
        by_object = "RequirePlanDigest" in stack.outputs
        statements = audit_statements(stack.outputs["AuditBucket"], with_approvers=by_object)
    except OSError as error:
        raise Stopped(f"infra/storage.yaml is read for this, in a clone of the repository: {error}") from None
    screen.document(json.dumps(statements, indent=2))
    return Exit.DONE


def _show(checks: list[Check], screen: Screen) -> None:
    lines = [
        (check.name, check.status.value, "; ".join(filter(None, (check.what, check.why))), check.next_step)
        for check in checks
    ]
    screen.table(("check", "", "found", "next step"), lines, STYLES)
    counts = [f"{sum(check.status is status for check in checks)} {status}" for status in CheckStatus]
    screen.say(", ".join(counts), "bold")


def _call_preflight(given: Given, screen: Screen) -> tuple[dict[str, Any] | None, list[Check]]:
    try:
        answer = call(
            find_target(given, with_bucket=False), {"environment": given.environment, "mode": "preflight"}, screen
        )
    except FunctionFailed as error:
        why = "one that knows no preflight is older than this command" if "mode" in error.message else ""
        return None, [failed("function", error.message, why, "see its log, or deploy this version")]
    except Stopped as error:
        if error.status is Exit.INTERRUPTED:
            raise
        return None, [
            unknown("function", str(error), "nothing that the function sees is known", "lambda:InvokeFunction")
        ]
    checks = [Check(**{**each, "status": CheckStatus(each["status"])}) for each in answer["checks"]]
    warnings = [ok(each["code"], each["message"], next_step=each["next_step"]) for each in answer["warnings"]]
    return answer, [ok("function", "it answers"), *checks, *warnings]


# --- what only the caller can see -----------------------------------------------------------------------------------


def _check_stack(given: Given) -> tuple[Stack, list[Check]]:
    try:
        [found] = client("cloudformation").describe_stacks(StackName=given.stack)["Stacks"]
    except failures() as error:
        if error_code(error) == "ValidationError":
            check = failed("stack", f"there is no stack {given.stack}", next_step="deploy it, or give --stack-name")
        else:
            check = unknown("stack", explain(error), next_step="cloudformation:DescribeStacks")
        return Stack("", {}, {}), [check]
    parameters = {
        each["ParameterKey"]: each.get("ResolvedValue") or each["ParameterValue"]
        for each in found.get("Parameters", [])
    }
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    stack = Stack(found["StackStatus"], parameters, outputs)
    if not re.fullmatch(r"(CREATE|UPDATE|IMPORT)_COMPLETE(_CLEANUP_IN_PROGRESS)?", stack.status):
        why = "what stands may be of an older version, or half of one"
        next_step = "see its events: aws cloudformation describe-stack-events"
        return stack, [failed("stack", f"{given.stack} is {stack.status}", why, next_step)]
    names = ("Gate", "ApplyOnSnapshot", "DriftScheduleState")
    said = ", ".join(f"{name}={parameters[name]}" for name in names if name in parameters)
    return stack, [ok("stack", f"{given.stack} is {stack.status}" + (f" ({said})" if said else ""))]


def _check_around(given: Given, stack: Stack) -> list[Check]:
    """What the outputs of the stack name; a permission that is missing is unknown and hides nothing."""
    checks: list[tuple[str, str, str, Callable[[], Check]]] = [
        ("alias", "FunctionName", "lambda:GetAlias", lambda: _check_alias(stack)),
        ("snapshot_events", "SnapshotBucket", "s3:GetBucketNotification", lambda: _check_snapshot_events(stack)),
        ("audit_events", "AuditBucket", "s3:GetBucketNotification", lambda: _check_approval_events(stack)),
        ("audit_policy", "AuditBucket", "s3:GetBucketPolicy", lambda: _check_policy(given, stack)),
        ("subscribers", "TopicArn", "sns:ListSubscriptionsByTopic", lambda: _check_subscribers(stack)),
        ("failure_queue", "FailureQueueUrl", "sqs:GetQueueAttributes", lambda: _check_queue(stack)),
        ("alarms", "TopicArn", "cloudwatch:DescribeAlarms", lambda: _check_alarms(given)),
    ]
    return [_ask(name, output, permission, check, stack) for name, output, permission, check in checks]


def _ask(name: str, output: str, permission: str, check: Callable[[], Check], stack: Stack) -> Check:
    if output not in stack.outputs:
        return unknown(name, "not looked at", f"the stack names no {output}", "deploy this version")
    try:
        return check()
    except failures() as error:
        if error_code(error) in _DENIED:
            return unknown(name, "you may not look", next_step=f"allow {permission}")
        return unknown(
            name, explain(error), next_step="see whether what the stack made is still there, then look again"
        )
    except OSError as error:
        return unknown(name, f"not looked at: {type(error).__name__}", next_step="run it in a clone of the repository")


def _check_alias(stack: Stack) -> Check:
    name, _, alias = stack.outputs["FunctionName"].rpartition(":")
    deployed = stack.outputs.get("FunctionVersion", "")
    serving = client("lambda").get_alias(FunctionName=name, Name=alias)["FunctionVersion"]
    if serving == deployed or not deployed:
        return ok("alias", f"{alias} is version {serving}")
    why = "somebody rolled it back, or pointed it elsewhere"
    return failed(
        "alias", f"{alias} is version {serving}, the stack made {deployed}", why, "deploy again when it is mended"
    )


def _sends_events(bucket: str) -> bool:
    return "EventBridgeConfiguration" in client("s3").get_bucket_notification_configuration(Bucket=bucket)


def _check_snapshot_events(stack: Stack) -> Check:
    bucket = stack.outputs["SnapshotBucket"]
    if _sends_events(bucket):
        return ok("snapshot_events", f"{bucket} sends its events to EventBridge")
    if stack.parameters.get("ApplyOnSnapshot") == "DISABLED":
        return ok("snapshot_events", f"{bucket} sends no events, and ApplyOnSnapshot=DISABLED asks for none")
    why = "a new snapshot calls nobody"
    next_step = "see the runbook: the call that switches it on replaces the notifications that the bucket has"
    return failed("snapshot_events", f"{bucket} sends no events to EventBridge", why, next_step)


def _check_approval_events(stack: Stack) -> Check:
    bucket = stack.outputs["AuditBucket"]
    if "RequirePlanDigest" not in stack.outputs:
        return ok("audit_events", "no approvals are put in this environment")
    if _sends_events(bucket):
        return ok("audit_events", f"{bucket} sends its events to EventBridge")
    why = "an approval that is put calls nobody"
    next_step = "see the runbook: the call that switches it on replaces the notifications that the bucket has"
    return failed("audit_events", f"{bucket} sends no events to EventBridge", why, next_step)


def _check_policy(given: Given, stack: Stack) -> Check:
    bucket = stack.outputs["AuditBucket"]
    wanted = {each["Sid"] for each in audit_statements(bucket)}
    try:
        policy = json.loads(client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    except failures() as error:
        if error_code(error) != "NoSuchBucketPolicy":
            raise
        policy = {"Statement": []}
    missing = sorted(wanted - {each.get("Sid") for each in policy["Statement"]})
    if not missing:
        return ok("audit_policy", f"the policy of {bucket} has the statements of infra/storage.yaml")
    why = "others may write over what is stored; statements of another name may say the same"
    next_step = f"rds-provisioner doctor {given.environment} --policy prints what to add"
    return unknown("audit_policy", f"the policy of {bucket} lacks {', '.join(missing)}", why, next_step)


def _check_subscribers(stack: Stack) -> Check:
    pages = client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=stack.outputs["TopicArn"])
    found = [each["SubscriptionArn"].startswith("arn:") for page in pages for each in page["Subscriptions"]]
    if any(found):
        return ok("subscribers", f"{sum(found)} are told of approvals, drift and failures")
    what = f"{len(found)} have still to confirm the mail of AWS" if found else "nobody is subscribed"
    next_step = "deploy with NotificationEmail, and confirm the mail"
    return failed("subscribers", what, "nobody hears of approvals, drift and failures", next_step)


def _check_queue(stack: Stack) -> Check:
    name = "ApproximateNumberOfMessages"
    answer = client("sqs").get_queue_attributes(QueueUrl=stack.outputs["FailureQueueUrl"], AttributeNames=[name])
    depth = int(answer["Attributes"][name])
    if not depth:
        return ok("failure_queue", "no event failed for good")
    next_step = 'see "A message in the failure queue" in docs/operations.md'
    return failed("failure_queue", f"{depth} events failed for good", "what they asked for was not done", next_step)


def _check_alarms(given: Given) -> Check:
    prefix = f"rds-provisioner-{given.environment}-"
    pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    alarms = {each["AlarmName"]: each["StateValue"] for page in pages for each in page["MetricAlarms"]}
    # The alarms of dev-2 begin so, too.
    mine = {name: state for name, state in alarms.items() if re.fullmatch(re.escape(prefix) + f"({ALARMS})", name)}
    raised = sorted(name for name, state in mine.items() if state == "ALARM")
    if raised:
        return failed(
            "alarms", f"in alarm: {', '.join(raised)}", next_step="each names its chapter of docs/operations.md"
        )
    if not mine:
        return failed("alarms", f"there is no alarm {prefix}...", "nobody is fetched", "deploy the stack again")
    return ok("alarms", f"{len(mine)} alarms, none raised")
