"""Options in, a run of the function and what a person reads of it out: plan, apply, drift."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.core.errors import InvalidSnapshot
from rds_provisioner_cli.approval import approve
from rds_provisioner_cli.aws import read_object
from rds_provisioner_cli.function import call, call_when_free
from rds_provisioner_cli.psql_script import write_script
from rds_provisioner_cli.snapshot import bring_along, check_file, read_file, refuse_other_format, upload_snapshot
from rds_provisioner_cli.stopped import Exit, FunctionFailed, Stopped
from rds_provisioner_cli.stored_plan import markdown_of, markdown_of_failure, parse_plan, read_plan, show_statements
from rds_provisioner_cli.target import Target, find_target

if TYPE_CHECKING:
    from rds_provisioner_cli.options import Options
    from rds_provisioner_cli.screen import Screen

MAX_CALLS = 20
DIFFERENT = {"planned", "drifted", "applied", "approval_required"}


def look(options: Options, screen: Screen, mode: str) -> Exit:
    """Show what an apply would do (`dry_run`), or whether the server is as declared (`drift`). Raises Stopped."""
    _forget_last_markdown(options)
    try:
        content = _read_and_check(options)
        target = find_target(options.given, with_bucket=False)
        answer = _plan(options, target, content, screen, mode)
        if options.sql:
            _write(options.sql, write_script(read_plan(answer)), screen)
    except Stopped as stopped:
        _tell_failure(options, stopped, screen)
        raise
    _finish(options, answer, screen)
    return _status(options, answer)


def show_stored(options: Options, screen: Screen) -> Exit:
    """Show a plan that a run stored, and write its script; no function is called. Raises Stopped."""
    content = read_object(options.stored) if options.stored.startswith("s3://") else read_file(Path(options.stored))
    plan = parse_plan(content, options.stored)
    if plan["environment"] != options.environment:
        raise Stopped(f"{options.stored} is a plan of {plan['environment']}", Exit.USAGE)
    screen.show_plan(plan["plan_text"])
    if options.show_sql:
        show_statements(plan, screen)
    screen.say(f"asked for by {plan['requested_by']}, digest: {plan['plan_digest']}")
    if options.sql:
        _write(options.sql, write_script(plan), screen)
    if options.as_json:
        screen.document(json.dumps(plan, indent=2))
    return Exit.DONE


def apply(options: Options, screen: Screen) -> Exit:
    """Plan, show, ask, apply; where the function ran out of time, the same again for what is left. Raises Stopped."""
    _forget_last_markdown(options)
    try:
        content = _read_and_check(options)
        target = find_target(options.given, with_bucket=content is not None)
        if options.tfvars:
            refuse_other_format(options.tfvars, target)
        answer = _apply(options, target, content, screen)
    except Stopped as stopped:
        _tell_failure(options, stopped, screen)
        raise
    _finish(options, answer, screen)
    return _status(options, answer)


def _apply(options: Options, target: Target, content: bytes | None, screen: Screen) -> dict[str, Any]:
    for _ in range(MAX_CALLS):
        plan = _plan(options, target, content, screen, "dry_run")
        if plan["blockers"] and not plan["changes"]:
            raise Stopped("the plan is blocked: nothing was changed")
        event = {**options.event(), **approve(options, target, plan, screen), "mode": "apply"}
        if target.needs_digest:
            # What is left after the function ran out of time goes on under the same approval.
            options = replace(options, plan_digest=options.plan_digest or plan["plan_digest"])
        if content is not None:
            event |= upload_snapshot(target, content)
        try:
            answer = call_when_free(target, event, screen, wait_seconds=options.wait)
        except FunctionFailed as failed:
            if failed.kind == "ApprovalRequired" and target.needs_digest:
                line = f"make rds-approve ENV={options.environment} DIGEST={plan['plan_digest']}"
                message = f"{failed.message}\n\nAn approver reads the plan and approves it by:\n\n  {line}\n"
                raise Stopped(message, Exit.NOT_APPROVED) from None
            if failed.kind != "OutOfTime":
                raise
            screen.note("The function ran out of time; going on with what is left.")
        else:
            _show_outcome(answer, screen)
            if answer["status"] == "no_change" and plan["changes"]:
                screen.note("Another run, such as the one that a new snapshot calls, has made these changes meanwhile.")
            return answer
    raise Stopped(f"not done after {MAX_CALLS} calls: look at the duration of the runs before calling again")


def _read_and_check(options: Options) -> bytes | None:
    """The content of the file, which declares something that can be provisioned. Raises Stopped."""
    if options.tfvars is None:
        return None
    content = read_file(options.tfvars)
    declaration, findings = check_file(options.tfvars, content, options.environment)
    if declaration is None:
        raise Stopped("\n".join(map(str, findings)), kind=InvalidSnapshot.__name__)
    return content


def _plan(options: Options, target: Target, content: bytes | None, screen: Screen, mode: str) -> dict[str, Any]:
    event = {**options.event(), "mode": mode}
    event.pop("fail_fast", None)
    if options.tfvars and content is not None:
        event |= bring_along(options.tfvars, content)
    answer = call(target, event, screen)
    screen.show_plan(answer["plan_text"])
    if options.show_sql:
        show_statements(read_plan(answer), screen)
    screen.say(f"status: {answer['status']}, digest: {answer['plan_digest']}")
    if options.markdown:
        _write(options.markdown, markdown_of(answer, screen), screen)
    return answer


def _show_outcome(answer: dict[str, Any], screen: Screen) -> None:
    for change in answer["changes"]:
        if change["status"] not in ("success", "no_change"):
            words = f"{change['status']}: {change['action']} {change['username']} {change['detail']}"
            screen.say(f"  {words}", "red")
    numbers = ", ".join(f"{number} {name}" for name, number in answer["summary"].items() if number)
    screen.say(f"{answer['status']}: {numbers or 'nothing to do'}", "bold green")


def _finish(options: Options, answer: dict[str, Any], screen: Screen) -> None:
    for name, address in answer["audit"].items():
        if address:
            screen.say(f"  {name}: {address}")
    if options.as_json:
        screen.document(json.dumps(answer, indent=2))


def _forget_last_markdown(options: Options) -> None:
    """What a pull request shows is of this run, or of its failure."""
    if options.markdown:
        options.markdown.unlink(missing_ok=True)


def _tell_failure(options: Options, stopped: Stopped, screen: Screen) -> None:
    """What programs and pull requests get of a run that failed."""
    if options.as_json:
        screen.document(json.dumps({"errorType": stopped.kind, "errorMessage": str(stopped)}, indent=2))
    if options.markdown and not options.markdown.exists():
        _write(options.markdown, markdown_of_failure(options.environment, str(stopped)), screen)


def _write(path: Any, text: str, screen: Screen) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Stopped(f"{path} cannot be written: {error.strerror}", Exit.USAGE) from None
    screen.note(f"wrote {path}")


def _status(options: Options, answer: dict[str, Any]) -> Exit:
    is_different = answer["status"] in DIFFERENT and bool(answer["changes"] or answer["blockers"])
    return Exit.CHANGES if options.detailed_exitcode and is_different else Exit.DONE
