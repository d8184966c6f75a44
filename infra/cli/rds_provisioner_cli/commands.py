"""The command line: words and variables in, an exit status out. `rds-provisioner --help` says the rest."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from rds_provisioner_cli import access as access_report
from rds_provisioner_cli import history as audit_history
from rds_provisioner_cli import options as take
from rds_provisioner_cli import provision
from rds_provisioner_cli.doctor import examine, show_policy
from rds_provisioner_cli.put_approval import Review, approve_plan
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.snapshot import check_file, read_file
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Given

NAME = "rds-provisioner"
SALT_BYTES = 16
_COMPLETE = "_RDS_PROVISIONER_COMPLETE"

_STATUSES = """\b
Exit statuses:
  0    done, or nothing to do
  1    the function failed, AWS refused, or a file does not declare what can be provisioned
  2    with --detailed-exitcode: something differs; of doctor: something is unknown
  3    not approved, or approved for another plan: nothing was changed
  64   wrong usage
  130  interrupted
"""
_PLACES = """\b
The function, the bucket and the audit are found in the outputs of the stack rds-provisioner-ENV.
AWS_REGION, AWS_PROFILE and AWS_ENDPOINT_URL are those of AWS. NO_COLOR and TERM=dumb are respected.
"""
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.group(context_settings=_SETTINGS, epilog=f"{_PLACES}\n\n{_STATUSES}")
@click.version_option(package_name=NAME)
def cli() -> None:
    """Provision the databases that tfvars declare: look at the plan, apply it, ask what happened.

    \b
      rds-provisioner validate terraform.tfvars
      rds-provisioner plan dev --tfvars terraform.tfvars
      rds-provisioner apply dev --tfvars terraform.tfvars
      rds-provisioner approve prod sha256:...
      rds-provisioner access dev --save reports
      rds-provisioner history dev --role keycloak_user
    """


@cli.command(epilog=_STATUSES, short_help="Show what an apply would do.")
@take.with_options(take.SQL, take.STORED, take.DETAILED)
def plan(options: take.Options) -> None:
    """Show what an apply would do, and change nothing.

    \b
      rds-provisioner plan dev
      rds-provisioner plan dev --tfvars terraform.tfvars --show-sql
      rds-provisioner plan prod --tfvars prod.tfvars --markdown plan.md --detailed-exitcode
      rds-provisioner plan prod --sql emergency.sql
      rds-provisioner plan prod --sql emergency.sql --stored s3://acme-governance/governance/prod/plans/....json
    """
    screen = Screen(is_json=options.as_json)
    _end(provision.show_stored(options, screen) if options.stored else provision.look(options, screen, "dry_run"))


@cli.command(epilog=_STATUSES, short_help="Show the plan, apply it, prove it.")
@take.with_options(*take.APPLY)
def apply(options: take.Options) -> None:
    """Show the plan, ask where the environment is gated, apply it, and prove it.

    \b
      rds-provisioner apply dev --tfvars terraform.tfvars
      ALLOW_DB_PROVISION=true APPROVED_BY=alice rds-provisioner apply staging --tfvars terraform.tfvars
      rds-provisioner apply prod --tfvars terraform.tfvars

    Where the environment asks for the digest of a plan (REQUIRE_PLAN_DIGEST of the stack), this command puts the
    snapshot, shows the plan, and ends with 3 and the line for an approver, unless somebody has approved that plan:
    it never approves by itself. The approval has the plan applied without another call.
    """
    _end(provision.apply(options, Screen(is_json=options.as_json)))


@cli.command(name="approve", epilog=_STATUSES, short_help="Read a stored plan and approve it.")
@take.environment_argument
@click.argument("digest", callback=take.check_digest)
@click.option("--approved-by", envvar="APPROVED_BY", show_envvar=True, default=take.who_asks, help="Default: you.")
@click.option("--reason", envvar="REASON", show_envvar=True, default="", help="For the audit.")
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask: the plan was read elsewhere.")
@click.option("--renew", is_flag=True, help="Put it anew, where an approval of the plan has expired.")
@take.stack_option
def approve_command(environment: str, digest: str, stack_name: str, **said: Any) -> None:
    """Show a stored plan, what it takes away first, and approve it for the environments that ask for its digest.

    An approval is an object in the audit bucket; who may put it is decided by IAM. The function applies the plan
    then without another call.

    \b
      rds-provisioner approve prod sha256:...
      rds-provisioner approve prod sha256:... --yes --reason CHG0042
    """
    review = Review(digest, said["approved_by"], said["reason"], is_agreed=said["is_agreed"], renew=said["renew"])
    _end(approve_plan(Given(environment, stack_name=stack_name), review, Screen()))


@cli.command(epilog=_STATUSES, short_help="Is the server what is declared?")
@take.with_options(take.DETAILED)
def drift(options: take.Options) -> None:
    """Say whether the server is what the snapshot declares, and change nothing.

    \b
      rds-provisioner drift prod --detailed-exitcode
    """
    _end(provision.look(options, Screen(is_json=options.as_json), "drift"))


@cli.command(epilog=_STATUSES, short_help="Read files with no server and no account.")
@click.argument("files", nargs=-1, required=True, type=take.existing_file)
@click.option("--environment", default="", help="The environment that the files have to be for; default: any.")
@take.json_option
def validate(files: tuple[Path, ...], environment: str, as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """Read files as the function would, with no server and no account; every problem with its line.

    \b
      rds-provisioner validate terraform.tfvars
      rds-provisioner validate --environment prod envs/prod/*.tfvars
    """
    screen = Screen(is_json=as_json)
    documents = []
    for path in files:
        declaration, findings = check_file(path, read_file(path), environment)
        for finding in findings:
            screen.say(str(finding), "magenta" if declaration else "red")
        if declaration:
            databases = len({entry.database for entry in declaration.entries})
            roles = len({entry.username for entry in declaration.entries})
            screen.say(f"{path}: {_count(databases, 'database')}, {_count(roles, 'role')}")
        found = [asdict(finding) for finding in findings]
        documents.append({"file": str(path), "valid": declaration is not None, "findings": found})
    if as_json:
        screen.document(json.dumps(documents, indent=2))
    _end(Exit.DONE if all(document["valid"] for document in documents) else Exit.FAILED)


@cli.command(epilog=_STATUSES, short_help="Who changed what, and who approved it.")
@take.environment_argument
@click.option("--role", default="", help="Only what happened to this role.")
@click.option("--database", default="", help="Only what happened in this database.")
@take.stack_option
@take.json_option
def history(environment: str, role: str, database: str, stack_name: str, as_json: bool) -> None:  # noqa: FBT001
    """Tell what the audit trail says, as a timeline: who changed what, and who approved it.

    The trail is the stack's, or that of AUDIT_BUCKET and AUDIT_PREFIX.

    \b
      rds-provisioner history prod
      rds-provisioner history prod --role analytics_reader --json
    """
    given = Given(environment, stack_name=stack_name)
    audit_history.tell(given, Screen(is_json=as_json), role=role, database=database, as_json=as_json)


@cli.command(epilog=_STATUSES, short_help="Who can do what, by which path.")
@take.environment_argument
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SAVE",
    show_envvar=True,
    help="Save the HTML, the CSV and the JSON in this folder.",
)
@take.json_option
@take.with_places
def access(environment: str, save: Path | None, as_json: bool, who: dict[str, str], given: Given) -> None:  # noqa: FBT001
    """Report who can do what, by which path, and what is beyond a level; changes nothing.

    \b
      rds-provisioner access prod
      rds-provisioner access prod --save reports
    """
    event = {"environment": environment, **who}
    _end(access_report.tell(given, event, Screen(is_json=as_json), save=save, as_json=as_json))


@cli.command(epilog=_STATUSES, short_help="Would it work here?")
@take.environment_argument
@click.option("--policy", is_flag=True, help="Print what the policy of an audit bucket of your own has to say.")
@take.stack_option
@take.json_option
def doctor(environment: str, policy: bool, stack_name: str, as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """Say whether it would work here: the function's preflight, and what only its caller can see.

    \b
      rds-provisioner doctor dev
      rds-provisioner doctor prod --json
      rds-provisioner doctor prod --policy

    The exit status follows the worst line: 1 where a check failed, 2 where one could not be made.
    """
    given, screen = Given(environment, stack_name=stack_name), Screen(is_json=as_json)
    _end(show_policy(given, screen) if policy else examine(given, screen, as_json=as_json))


@cli.command(short_help="Make what takes a password's place in SQL.")
def verifier() -> None:
    """Read a password from stdin and write its SCRAM-SHA-256 verifier, which the script of `plan --sql` takes.

    \b
      printf %s "$PASSWORD" | rds-provisioner verifier
    """
    from provisioner.core.credentials import scram_verifier  # noqa: PLC0415 - the others do without

    password = sys.stdin.read().removesuffix("\n")
    if not password:
        raise Stopped("the password comes through stdin", Exit.USAGE)
    Screen().document(scram_verifier(password, os.urandom(SALT_BYTES)))


@cli.command(short_help="Make a shell complete this command.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete this command.

    \b
      source <(rds-provisioner completion bash)
      rds-provisioner completion fish > ~/.config/fish/completions/rds-provisioner.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise Stopped(f"{shell} is not supported", Exit.USAGE)
    Screen().document(found(cli, {}, NAME, _COMPLETE).source())


def main() -> None:
    """Run the command and end the process with its exit status."""
    try:
        sys.exit(cli.main(prog_name=NAME, complete_var=_COMPLETE, standalone_mode=False))
    except Stopped as stopped:
        Screen().note(str(stopped), "red")
        sys.exit(stopped.status)
    except click.exceptions.NoArgsIsHelpError as error:
        Screen().note(error.format_message())
        sys.exit(Exit.USAGE)
    except click.UsageError as error:
        # Not click's own 2, which says that a plan has changes.
        hint = f"\nTry '{error.ctx.command_path} --help'." if error.ctx else ""
        Screen().note(f"{error.format_message()}{hint}", "red")
        sys.exit(Exit.USAGE)
    except click.Abort:
        Screen().note("Interrupted.", "red")
        sys.exit(Exit.INTERRUPTED)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _end(status: Exit) -> None:
    click.get_current_context().exit(status)
