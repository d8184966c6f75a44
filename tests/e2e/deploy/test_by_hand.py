"""The commands of an operator: `make rds-provision`, its dry run, and `sam remote invoke`."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from e2e.deploy.deployment import BACKSTAGE, KEYCLOAK, SNAPSHOTS, Deployment
from stack.binaries import ROOT


def make(
    deployment: Deployment, target: str, *variables: str | Path, **surroundings: str
) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile with the environment and function of a deployment."""
    words = (f"ENV={deployment.environment}", *variables)
    return deployment.run("make", "--no-print-directory", target, *words, SNAPSHOT_BUCKET=SNAPSHOTS, **surroundings)


def test_a_dry_run_shows_the_plan_and_changes_nothing(dev: Deployment) -> None:
    answer = make(dev, "rds-provision-dry-run", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
    assert answer.returncode == 0, answer.stderr
    assert "+ create_database" in answer.stdout
    assert "status: planned, digest: sha256:" in answer.stdout
    assert dev.databases() == set()


def test_a_dry_run_leaves_the_snapshot_alone_and_calls_nobody_else(dev: Deployment) -> None:
    with dev.rule() as bridge:
        make(dev, "rds-provision-dry-run", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
        assert dev.aws.list_keys(SNAPSHOTS, "dev/terraform") == []
        dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
        assert len(bridge.wait_for(1)) == 1


def test_an_apply_shows_the_plan_and_where_it_is_written_down(dev: Deployment) -> None:
    answer = make(dev, "rds-provision", f"TFVARS={dev.declare(keycloak=KEYCLOAK)}")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.index("+ create_database") < answer.stdout.index("applied: ")
    assert "trail: s3://acme-governance/governance/dev/rds_provision_audit.csv" in answer.stdout
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


def test_the_command_fails_when_the_function_failed(dev: Deployment) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    dev.aws.client("secretsmanager").delete_secret(SecretId="goldenpath/dev/keycloak/postgres")
    answer = make(dev, "rds-provision", f"TFVARS={tfvars}")
    assert answer.returncode != 0
    assert "the function failed: SecretUnavailable: " in answer.stderr
    assert dev.databases() == set()


def test_the_command_fails_when_there_is_no_such_function(dev: Deployment) -> None:
    answer = dev.provision("--function-name", "another", "--dry-run")
    assert answer.returncode == 1
    assert "AWS refused: " in answer.stderr


def test_a_target_without_an_environment_says_how_to_give_one(dev: Deployment) -> None:
    answer = dev.run("make", "rds-provision")
    assert answer.returncode != 0
    assert "make rds-provision ENV=dev" in answer.stderr


def test_what_is_not_given_is_found_in_the_outputs_of_the_stack(dev: Deployment) -> None:
    outputs = {name: {"Value": output["Value"]} for name, output in dev.template.outputs.items()}
    resources = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "only-outputs-matter"}}}
    template = json.dumps({"Resources": resources, "Outputs": outputs})
    dev.aws.client("cloudformation").create_stack(StackName="rds-provisioner-dev", TemplateBody=template)
    answer = dev.provision("--tfvars", dev.declare(keycloak=KEYCLOAK))
    assert answer.returncode == 0, answer.stderr
    assert dev.aws.list_keys(SNAPSHOTS, "dev/terraform") == ["dev/terraform.tfvars"]
    assert dev.databases() == {"keycloak"}


def test_a_gated_environment_is_not_changed_without_an_approval(staging: Deployment) -> None:
    answer = staging.provision("--tfvars", staging.declare(keycloak=KEYCLOAK), SNAPSHOT_BUCKET=SNAPSHOTS)
    assert answer.returncode == 3
    assert "staging is gated: approve sha256:" in answer.stderr
    assert staging.aws.list_keys(SNAPSHOTS, "staging/terraform") == []


def test_an_approval_given_beforehand_applies_the_plan_it_names_and_no_other(staging: Deployment) -> None:
    approve = {"ALLOW_DB_PROVISION": "true", "APPROVED_BY": "alice", "SNAPSHOT_BUCKET": SNAPSHOTS}
    digest = staging.provision("--tfvars", staging.declare(keycloak=KEYCLOAK), "--dry-run", **approve)
    approve["PLAN_DIGEST"] = digest.stdout.rpartition("digest: ")[2].strip()

    changed = staging.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    assert staging.provision("--tfvars", changed, **approve).returncode == 3
    assert staging.databases() == set()

    answer = staging.provision("--tfvars", staging.declare(keycloak=KEYCLOAK), **approve)
    assert answer.returncode == 0, answer.stderr
    assert staging.databases() == {"keycloak"}
    trail = staging.aws.read_object("acme-governance", "governance/staging/rds_provision_audit.csv").decode()
    assert "alice" in trail


def test_on_a_terminal_the_plan_is_in_colour_and_a_yes_approves_it(staging: Deployment) -> None:
    tfvars = staging.declare(keycloak=KEYCLOAK)
    command = [
        sys.executable,
        str(ROOT / "infra/rds_provision.py"),
        "--environment",
        "staging",
        "--tfvars",
        str(tfvars),
    ]
    environment = {**staging.command_environment(), "SNAPSHOT_BUCKET": SNAPSHOTS}
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT)
    os.close(theirs)
    shown = read_until(ours, b"Only 'yes' will do: ")
    os.write(ours, b"yes\n")
    shown += read_until(ours, b"run: s3://")
    assert child.wait(60) == 0
    os.close(ours)
    assert b"\033[32m  + create_database" in shown
    assert staging.databases() == {"keycloak"}


def read_until(terminal: int, ending: bytes) -> bytes:
    shown = b""
    while ending not in shown:
        shown += os.read(terminal, 4096)
    return shown


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
