"""The commands of an operator: `rds-provisioner`, the targets of make that call it, and `sam remote invoke`."""

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import AUDIT, BACKSTAGE, COMMAND, KEYCLOAK, READER, SNAPSHOTS, Deployment
from stack.aws import ALWAYS
from stack.binaries import ROOT

BUCKET = {"SNAPSHOT_BUCKET": SNAPSHOTS}
APPROVED = {"ALLOW_DB_PROVISION": "true", "APPROVED_BY": "alice", **BUCKET}
OTHER_ACCOUNT = "210987654321"
ESCAPE = "\x1b"


def make(
    deployment: Deployment, target: str, *variables: str | Path, **surroundings: str
) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile with the environment and function of a deployment."""
    words = (f"ENV={deployment.environment}", *variables)
    return deployment.run("make", "--no-print-directory", target, *words, SNAPSHOT_BUCKET=SNAPSHOTS, **surroundings)


def digest_of(answer: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"digest: (sha256:\w+)", answer.stdout)
    assert found, answer.stdout + answer.stderr
    return found[1]


def forget_secret(deployment: Deployment, application: str) -> None:
    deployment.aws.client("secretsmanager").delete_secret(
        SecretId=f"goldenpath/{deployment.environment}/{application}/postgres", ForceDeleteWithoutRecovery=True
    )


# --- through make ---------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_plan_and_changes_nothing(dev: Deployment) -> None:
    answer = make(dev, "rds-provision-dry-run", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
    assert answer.returncode == 0, answer.stderr
    assert "+ create_database" in answer.stdout
    assert "status: planned, digest: sha256:" in answer.stdout
    assert dev.databases() == set()
    assert dev.aws.list_keys(SNAPSHOTS) == []


def test_a_dry_run_leaves_the_snapshot_alone_and_calls_nobody_else(dev: Deployment) -> None:
    with dev.rule() as bridge:
        make(dev, "rds-provision-dry-run", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
        dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
        assert len(bridge.wait_for(1)) == 1


def test_an_apply_shows_the_plan_and_where_it_is_written_down(dev: Deployment) -> None:
    answer = make(dev, "rds-provision", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.index("+ create_database") < answer.stdout.index("applied: ")
    assert "trail: s3://acme-governance/governance/dev/rds_provision_audit.csv" in answer.stdout
    assert re.search(r"plan_markdown: s3://acme-governance/governance/dev/plans/\S+\.md", answer.stdout)
    assert dev.databases() == {"keycloak"}


def test_who_can_do_what_is_shown_and_saved_by_what_is_deployed(dev: Deployment, tmp_path: Path) -> None:
    make(dev, "rds-provision", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
    answer = make(dev, "rds-access", f"SAVE={tmp_path / 'reports'}")
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"keycloak_user\W+owner", answer.stdout), answer.stdout
    assert sorted(path.suffix for path in (tmp_path / "reports").iterdir()) == [".csv", ".html", ".json"]


def test_an_apply_and_the_event_that_its_snapshot_causes_both_end_well(dev: Deployment) -> None:
    with dev.rule() as bridge:
        answer = make(dev, "rds-provision", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
        assert answer.returncode == 0, answer.stderr
        bridge.wait_for(1)
        [event] = dev.runtime.wait_until_idle()
    assert {event.payload["status"], re.findall(r"^(\w+): ", answer.stdout, re.MULTILINE)[-1]} == {
        "applied",
        "no_change",
    }
    assert dev.databases() == {"keycloak"}


def test_the_second_apply_says_no_change(dev: Deployment) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    make(dev, "rds-provision", f"TFVARS={tfvars}")
    answer = make(dev, "rds-provision", f"TFVARS={tfvars}")
    assert answer.returncode == 0, answer.stderr
    assert "no_change: " in answer.stdout


def test_without_a_file_the_snapshot_that_lies_in_the_bucket_is_taken(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    assert make(dev, "rds-provision").returncode == 0
    assert dev.databases() == {"keycloak"}


def test_make_names_what_is_adopted(dev: Deployment) -> None:
    dev.server.run_as_superuser("CREATE ROLE keycloak_user LOGIN")
    answer = make(dev, "rds-provision-dry-run", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}", "ADOPT=keycloak")
    assert "~ adopt_role" in answer.stdout


def test_a_file_may_have_any_name(dev: Deployment, tmp_path: Path) -> None:
    odd = dev.declare(keycloak=KEYCLOAK).rename(tmp_path / """q"x's $HOME.tfvars""")
    answer = dev.run("make", "rds-provision-dry-run", "ENV=dev", TFVARS=str(odd), **BUCKET)
    assert "status: planned" in answer.stdout, answer.stderr


def test_make_tells_the_exit_status_of_the_command_in_a_file(staging: Deployment, tmp_path: Path) -> None:
    status = tmp_path / "status"
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK))
    answer = make(staging, "rds-provision", EXIT_STATUS_FILE=str(status))
    assert (answer.returncode, status.read_text()) == (2, "3\n")
    assert make(staging, "rds-provision-dry-run", EXIT_STATUS_FILE=str(status)).returncode == 0
    assert status.read_text() == "0\n"
    dev_only = staging.run("make", "rds-provision", EXIT_STATUS_FILE=str(status))
    assert (dev_only.returncode, status.read_text()) == (2, "64\n")
    assert "make rds-provision ENV=dev" in dev_only.stderr


def test_make_validates_a_file(dev: Deployment, tmp_path: Path) -> None:
    good = dev.declare(keycloak=KEYCLOAK)
    assert "1 database, 1 role" in dev.run("make", "validate", f"TFVARS={good}").stdout
    (bad := tmp_path / "mine.tfvars").write_text("application_databases = 1\n")
    assert "mine.tfvars:1 " in dev.run("make", "validate", f"TFVARS={bad}").stdout


# --- what is shown --------------------------------------------------------------------------------------------------


def test_in_one_log_the_plan_stands_before_the_apply(dev: Deployment, tmp_path: Path) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    with (tmp_path / "log").open("w") as log:
        command = [str(COMMAND), "apply", "dev", "--tfvars", str(tfvars)]
        environment = {**dev.command_environment(), **BUCKET}
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, check=True)
    text = (tmp_path / "log").read_text()
    places = [text.index(word) for word in ("dry_run by", "+ create_database", "apply by", "applied: ")]
    assert places == sorted(places)
    assert ESCAPE not in text


def test_json_is_the_answer_alone_and_people_read_stderr(dev: Deployment) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    answer = dev.command("plan", "--json", "--tfvars", tfvars, **BUCKET)
    assert json.loads(answer.stdout)["status"] == "planned"
    assert "+ create_database" in answer.stderr
    forget_secret(dev, "keycloak")
    failed = dev.command("apply", "--json", "--tfvars", tfvars, **BUCKET)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["errorType"] == "SecretUnavailable"


def test_a_detailed_exit_code_is_2_where_something_differs(dev: Deployment) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    words = ("--detailed-exitcode", "--tfvars", tfvars)
    assert dev.command("plan", *words, **BUCKET).returncode == 2
    assert dev.command("apply", "--tfvars", tfvars, **BUCKET).returncode == 0
    assert dev.command("plan", *words, **BUCKET).returncode == 0
    assert dev.command("drift", "--detailed-exitcode").returncode == 0
    dev.server.run_as_superuser("GRANT CONNECT ON DATABASE keycloak TO PUBLIC")
    drifted = dev.command("drift", "--detailed-exitcode")
    assert drifted.returncode == 2
    assert "status: drifted" in drifted.stdout


def test_the_sql_of_a_plan_is_shown_without_passwords(dev: Deployment) -> None:
    answer = dev.command("plan", "--show-sql", "--tfvars", dev.declare(keycloak=KEYCLOAK), **BUCKET)
    assert 'CREATE DATABASE "keycloak" OWNER "keycloak_user"' in answer.stdout
    assert "PASSWORD '********';" in answer.stdout


def test_a_pull_request_gets_the_plan_as_it_is_stored(dev: Deployment, tmp_path: Path) -> None:
    comment = tmp_path / "plan.md"
    words = ("--markdown", comment, "--tfvars", dev.declare(keycloak=KEYCLOAK))
    answer = dev.command("plan", *words, **BUCKET)
    [stored] = [key for key in dev.aws.list_keys(AUDIT) if key.endswith(".md")]
    assert comment.read_bytes() == dev.aws.read_object(AUDIT, stored)
    assert digest_of(answer) in comment.read_text()


def test_a_pull_request_is_told_why_there_is_no_plan(dev: Deployment, tmp_path: Path) -> None:
    (broken := tmp_path / "mine.tfvars").write_text("application_databases = {\n  a = {}\n}\n")
    comment = tmp_path / "plan.md"
    answer = dev.command("plan", "--tfvars", broken, "--markdown", comment, **BUCKET)
    assert answer.returncode == 1
    assert f"{broken}:2" in answer.stderr
    assert f"{broken}:2" in comment.read_text()
    assert dev.aws.list_keys(SNAPSHOTS) == []


# --- where things are -----------------------------------------------------------------------------------------------


def test_the_command_fails_when_the_function_failed(dev: Deployment) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    forget_secret(dev, "keycloak")
    answer = make(dev, "rds-provision", f"TFVARS={tfvars}")
    assert answer.returncode != 0
    assert "the function failed: SecretUnavailable: " in answer.stderr
    assert dev.databases() == set()


def test_where_there_is_no_such_function_nothing_is_put_anywhere(dev: Deployment) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    answer = dev.run(COMMAND, "plan", "prdo", "--tfvars", tfvars.rename(tfvars.with_name("a.tfvars")), **BUCKET)
    assert answer.returncode == 1
    assert "environment" in answer.stderr  # the file says dev
    answer = dev.command("plan", "--function-name", "another", "--tfvars", tfvars.with_name("a.tfvars"), **BUCKET)
    assert answer.returncode == 1
    assert "there is no function another here: is the environment spelled right" in answer.stderr
    assert dev.aws.list_keys(SNAPSHOTS) == []


def test_what_is_not_given_is_found_in_the_outputs_of_the_stack(dev: Deployment) -> None:
    dev.publish_outputs()
    answer = dev.command("apply", "--tfvars", dev.declare(keycloak=KEYCLOAK))
    assert answer.returncode == 0, answer.stderr
    assert dev.aws.list_keys(SNAPSHOTS, "dev/terraform") == ["dev/terraform.tfvars"]
    assert dev.databases() == {"keycloak"}


def test_every_call_of_the_command_to_a_bucket_names_the_account_that_it_must_belong_to(
    deploy_environment: Deploy,
) -> None:
    staging = deploy_environment(
        "staging", Gate="digest", SnapshotBucketOwner=OTHER_ACCOUNT, AuditBucketOwner=OTHER_ACCOUNT
    )
    staging.publish_outputs()
    tfvars = staging.declare(keycloak=KEYCLOAK)
    plan = staging.command("apply", "--tfvars", tfvars)
    assert staging.command("approve", digest_of(plan), "--yes", "--approved-by", "carol").returncode == 0
    assert staging.command("approve", digest_of(plan), "--yes", "--approved-by", "carol", "--renew").returncode == 0
    assert staging.command("apply").returncode == 0
    assert staging.command("history").returncode == 0
    calls = [call for call in staging.aws.calls() if call.service == "s3" and "Bucket" in call.parameters]
    assert {"PutObject", "DeleteObject", "ListObjectsV2"} <= {call.operation for call in calls}
    assert {call.parameters.get("ExpectedBucketOwner") for call in calls} == {OTHER_ACCOUNT}


def test_a_json_file_is_planned_and_takes_the_place_of_no_hcl_snapshot(dev: Deployment, tmp_path: Path) -> None:
    dev.declare(keycloak=KEYCLOAK)
    (tfvars := tmp_path / "mine.tfvars.json").write_text(json.dumps({"application_databases": {"keycloak": KEYCLOAK}}))
    assert dev.command("plan", "--tfvars", tfvars, **BUCKET).returncode == 0
    answer = dev.command("apply", "--tfvars", tfvars, **BUCKET)
    assert answer.returncode == 64
    assert "HCL or JSON" in answer.stderr
    assert dev.aws.list_keys(SNAPSHOTS, "dev/terraform") == []


# --- the gate -------------------------------------------------------------------------------------------------------


def test_a_gated_environment_is_not_changed_without_an_approval(deploy_environment: Deploy) -> None:
    staging = deploy_environment("staging")
    answer = staging.command("apply", "--tfvars", staging.declare(keycloak=KEYCLOAK), **BUCKET)
    assert answer.returncode == 3
    assert f"PLAN_DIGEST={digest_of(answer)} rds-provisioner apply staging --tfvars" in answer.stderr
    assert staging.aws.list_keys(SNAPSHOTS, "staging/terraform") == []


@pytest.mark.parametrize("knows_the_stack", [True, False])
def test_the_command_never_approves_where_an_object_does(staging: Deployment, *, knows_the_stack: bool) -> None:
    if knows_the_stack:
        staging.publish_outputs()
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK))
    answer = staging.command("apply", **APPROVED)
    assert answer.returncode == 3
    assert f"make rds-approve ENV=staging DIGEST={digest_of(answer)}" in answer.stderr
    assert staging.databases() == set()


def test_make_tells_an_approver_the_line_that_approves_and_the_plan_is_applied_by_it(
    staging: Deployment, tmp_path: Path
) -> None:
    staging.publish_outputs()
    with staging.rule() as bridge:
        status = tmp_path / "status"
        tfvars = f"TFVARS={staging.declare(keycloak=KEYCLOAK)}"
        answer = make(staging, "rds-provision", tfvars, EXIT_STATUS_FILE=str(status), REQUESTED_BY="bob")
        assert status.read_text().strip() == "3"
        digest = digest_of(answer)
        assert f"\n  make rds-approve ENV=staging DIGEST={digest}\n" in answer.stderr
        bridge.wait_for(1)
        assert staging.databases() == set()

        asked = make(staging, "rds-approve", f"DIGEST={digest}", EXIT_STATUS_FILE=str(status), APPROVED_BY="alice")
        assert (status.read_text().strip(), "+ create_database" in asked.stdout) == ("3", True)
        assert "nobody can be asked here" in asked.stderr

        answer = staging.command("approve", digest, "--yes", APPROVED_BY="alice")
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.index("Destructive:") < answer.stdout.index("Other changes:")
        bridge.wait_for(2)
    assert staging.databases() == {"keycloak"}


def test_an_approval_given_beforehand_applies_the_plan_it_names_and_no_other(deploy_environment: Deploy) -> None:
    staging = deploy_environment("staging")
    plan = staging.command("plan", "--tfvars", staging.declare(keycloak=KEYCLOAK), **BUCKET)
    approved = {**APPROVED, "PLAN_DIGEST": digest_of(plan)}

    changed = staging.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    assert staging.command("apply", "--tfvars", changed, **approved).returncode == 3
    assert staging.databases() == set()

    answer = staging.command("apply", "--tfvars", staging.declare(keycloak=KEYCLOAK), **approved)
    assert answer.returncode == 0, answer.stderr
    assert staging.databases() == {"keycloak"}
    trail = staging.aws.read_object(AUDIT, "governance/staging/rds_provision_audit.csv").decode()
    assert "alice" in trail


# --- a terminal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def test_environment(deploy_environment: Deploy) -> Deployment:
    """An environment whose gate asks for an approver and not for a digest."""
    return deploy_environment("test")


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, deployment: Deployment, *words: str | Path, **variables: str) -> None:
        environment = {**deployment.command_environment(), **BUCKET, "TERM": "xterm", **variables}
        environment.pop("NO_COLOR", None)
        environment.update({name: value for name, value in variables.items() if name == "NO_COLOR"})
        self.ours, theirs = pty.openpty()
        self.child = subprocess.Popen(
            # With a session of its own, whose Ctrl-C is the terminal's.
            ["setsid", "--ctty", "--wait", *(str(word) for word in (COMMAND, *words))],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=ROOT,
        )
        os.close(theirs)
        self.shown = b""

    def read_until(self, ending: bytes) -> bytes:
        while ending not in self.shown:
            self.shown += os.read(self.ours, 4096)
        return self.shown

    def read_all(self) -> bytes:
        try:
            while chunk := os.read(self.ours, 4096):
                self.shown += chunk
        except OSError:
            pass  # how Linux says that nobody holds the other side
        os.close(self.ours)
        return self.shown

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)


def test_on_a_terminal_the_plan_is_in_colour_and_a_yes_approves_it(test_environment: Deployment) -> None:
    terminal = Terminal(
        test_environment, "apply", "test", "--tfvars", test_environment.declare(keycloak=KEYCLOAK, readers=READER)
    )
    terminal.read_until(b"Only 'yes' will do: ")
    terminal.type(b"yes\n")
    shown = terminal.read_all()
    assert terminal.child.wait(60) == 0
    assert b"\x1b[32m  + create_database" in shown
    assert test_environment.databases() == {"keycloak"}


@pytest.mark.parametrize(("keys", "status"), [(b"y\n", 3), (b"\x04", 3), (b"\x03", 130)])
def test_anything_but_yes_changes_nothing_and_says_so(test_environment: Deployment, keys: bytes, status: int) -> None:
    test_environment.put_snapshot(test_environment.declare(keycloak=KEYCLOAK))
    terminal = Terminal(test_environment, "apply", "test")
    terminal.read_until(b"Only 'yes' will do: ")
    terminal.type(keys)
    assert b"nothing was changed" in terminal.read_all()
    assert terminal.child.wait(60) == status
    assert test_environment.databases() == set()


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_that_wants_no_colours_gets_none(dev: Deployment, variables: dict[str, str]) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    shown = Terminal(dev, "plan", "dev", **variables).read_all().decode()
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", shown)
    assert "+ create_database" in shown


def test_ctrl_c_says_that_the_apply_goes_on_in_aws_and_how_to_look(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    environment = {**dev.command_environment(), **BUCKET}
    command = [str(COMMAND), "apply", "dev"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as child:
        assert child.stderr
        for line in child.stderr:
            if line.startswith(b"apply by"):
                break
        dev.aws.fail("GetObject", times=ALWAYS, kind="timeout")
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        told = child.stderr.read().decode()
        assert child.wait(30) == 130
    dev.aws.heal()
    assert "goes on in AWS" in told
    assert f"aws logs tail /aws/lambda/{dev.name}" in told
    assert "rds-provisioner history dev" in told
    assert "Traceback" not in told
    dev.invoke("drift")  # answered when the other call is over


# --- what was changed -----------------------------------------------------------------------------------------------


def test_history_tells_who_changed_a_role_and_who_approved_it(staging: Deployment) -> None:
    staging.put_snapshot(staging.declare(keycloak=KEYCLOAK, readers=READER))
    staging.publish_outputs()
    plan = staging.command("plan", **BUCKET)
    staging.approve(digest_of(plan))
    staging.command("apply", REQUESTED_BY="bob", RUN_ID="42", **BUCKET)
    answer = staging.command("history", "--role", "analytics_reader", AUDIT_BUCKET=AUDIT)
    assert answer.returncode == 0, answer.stderr
    assert "asked by bob  approved by alice  run 42" in answer.stdout
    assert "+ success  create_role" in answer.stdout
    assert "keycloak.keycloak_user" not in answer.stdout
    rows = json.loads(staging.command("history", "--json", "--database", "keycloak", AUDIT_BUCKET=AUDIT).stdout)
    assert {row["database"] for row in rows} == {"keycloak"}


# --- sam ------------------------------------------------------------------------------------------------------------


def test_sam_remote_invoke_applies_an_event_from_a_file(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    sam = ROOT / ".venv-sam/bin/sam"
    answer = dev.run(sam, "remote", "invoke", dev.runtime.arn, "--event-file", ROOT / "events/apply-dev.json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["status"] == "applied"
    assert dev.databases() == {"keycloak"}


def test_sam_remote_invoke_exits_0_when_the_function_failed_and_the_payload_says_so(dev: Deployment) -> None:
    sam = ROOT / ".venv-sam/bin/sam"
    answer = dev.run(sam, "remote", "invoke", dev.runtime.arn, "--event-file", ROOT / "events/apply-dev.json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["errorType"] == "InvalidSnapshot"
