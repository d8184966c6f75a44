"""What the commands that call the function take: options, each with its variable, gathered in one value."""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rds_provisioner_cli.target import Given

if TYPE_CHECKING:
    from collections.abc import Callable

# Variables that pipelines set by themselves stand after our own.
RUN_IDS = ["RUN_ID", "GITHUB_RUN_ID", "CI_PIPELINE_ID"]
BUILD_IDS = ["BUILD_ID", "GITHUB_SHA", "CI_COMMIT_SHA"]
REQUESTERS = ["REQUESTED_BY", "GITHUB_ACTOR", "GITLAB_USER_LOGIN"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was said on the command line and by variables."""

    environment: str
    tfvars: Path | None
    adopt: tuple[str, ...]
    quarantine: tuple[str, ...]
    retire: tuple[str, ...]
    build_id: str
    run_id: str
    requested_by: str
    function_name: str
    bucket: str
    key: str
    stack_name: str
    as_json: bool
    markdown: Path | None
    show_sql: bool
    detailed_exitcode: bool = False
    sql: Path | None = None
    stored: str = ""
    fail_fast: bool = False
    approve: bool = False
    approved_by: str = ""
    plan_digest: str = ""
    allow_db_provision: str = ""
    wait: float = 0

    @property
    def is_approved(self) -> bool:
        """Whether the approval was given beforehand, by the option or as the first generation's variable."""
        return self.approve or self.allow_db_provision == "true"

    @property
    def given(self) -> Given:
        """What was said of the places."""
        return Given(self.environment, self.function_name, self.bucket, self.key, self.stack_name)

    def event(self) -> dict[str, Any]:
        """The fields of the event that say who asks for what."""
        said = {
            "environment": self.environment,
            "requested_by": self.requested_by,
            "build_id": self.build_id,
            "run_id": self.run_id,
            "adopt": list(self.adopt),
            "quarantine": list(self.quarantine),
            "retire": list(self.retire),
            "fail_fast": self.fail_fast,
        }
        return {name: value for name, value in said.items() if value}


def who_asks() -> str:
    """The name of the person; a container may have a user id without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def check_environment(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Take the name of an environment and nothing else: it becomes part of names in AWS."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", value):
        raise click.BadParameter("an environment is letters, digits, _ and -, such as dev")
    return value


def check_digest(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Take the digest of a plan and nothing else."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise click.BadParameter("a digest is sha256: and 64 hexadecimal digits, as a plan shows it")
    return value


def _split(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


environment_argument = click.argument("environment", metavar="ENV", callback=check_environment)
file_type = click.Path(dir_okay=False, path_type=Path)
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)

stack_option = click.option(
    "--stack-name", envvar="STACK_NAME", show_envvar=True, default="", help="Default: rds-provisioner-ENV."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, text on stderr.")

_PLACES = (
    click.option("--function-name", envvar="FUNCTION_NAME", show_envvar=True, default="", help="Default: the stack's."),
    click.option("--bucket", envvar="SNAPSHOT_BUCKET", show_envvar=True, default="", help="Where the snapshot lies."),
    click.option("--key", envvar="SNAPSHOT_KEY", show_envvar=True, default="", help="And under which key."),
    stack_option,
)
_WHO = (
    click.option("--build-id", envvar=BUILD_IDS, show_envvar=True, default="", help="For the audit."),
    click.option("--run-id", envvar=RUN_IDS, show_envvar=True, default="", help="For the audit."),
    click.option("--requested-by", envvar=REQUESTERS, show_envvar=True, default=who_asks, help="Default: you."),
)


def _names_option(name: str, meaning: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{name}",
        envvar=name.upper(),
        show_envvar=True,
        default="",
        callback=_split,
        metavar="NAMES",
        help=f"{meaning}, with commas between.",
    )


_WHAT = (
    environment_argument,
    click.option(
        "--tfvars",
        type=existing_file,
        envvar="TFVARS",
        show_envvar=True,
        help="The file to take; default: the snapshot in the bucket.",
    ),
    _names_option("adopt", "Applications whose role and database are taken over"),
    _names_option("quarantine", "Roles that are not declared any more and may not log in from now on"),
    _names_option("retire", "Roles that were quarantined long enough and go; what they own passes on"),
)
_OUTPUT = (
    click.option("--show-sql", is_flag=True, help="Show the stored plan's statements as well."),
    json_option,
    click.option("--markdown", type=file_type, help="Write the plan as a comment for a pull request."),
)
APPLY = (
    click.option("--approve", is_flag=True, help="Approve beforehand; ALLOW_DB_PROVISION=true does the same."),
    click.option("--allow-db-provision", envvar="ALLOW_DB_PROVISION", default="", hidden=True),
    click.option("--approved-by", envvar="APPROVED_BY", show_envvar=True, default="", help="Who approves."),
    click.option("--plan-digest", envvar="PLAN_DIGEST", show_envvar=True, default="", help="Apply only this plan."),
    click.option("--fail-fast", is_flag=True, help="Begin nothing more after the first failed change."),
    click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=900,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for another run.",
    ),
)
DETAILED = click.option(
    "--detailed-exitcode", is_flag=True, help="End with 2 where something differs, as Terraform does."
)
STORED = click.option(
    "--stored", default="", metavar="PLAN", help="Take this stored plan (s3://... or a file) and call no function."
)
SQL = click.option("--sql", type=file_type, help="Write the plan as a script for psql, to be run without the function.")


def with_places(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who asks and where the function is, as an event's fields and as `Given`."""

    @wraps(command)
    def run(environment: str, **values: Any) -> None:
        who = {name: text for name in ("requested_by", "build_id", "run_id") if (text := values.pop(name))}
        places = [values.pop(name) for name in ("function_name", "bucket", "key", "stack_name")]
        command(environment=environment, who=who, given=Given(environment, *places), **values)

    for option in reversed((*_WHO, *_PLACES)):
        run = option(run)
    return run


def with_options(*more: Callable[[Any], Any]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Give a command the options of every call of the function, and `more`; it is handed them as one value."""

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        names = {each.name for each in fields(Options)}

        @wraps(command)
        def run(**values: Any) -> None:
            command(Options(**{name: value for name, value in values.items() if name in names}))

        for option in reversed((*_WHAT, *more, *_OUTPUT, *_WHO, *_PLACES)):
            run = option(run)
        return run

    return decorate
