"""The two pipelines of an environment whose plans are approved by their digest, as examples/ci has them: the shell in
them is run as it stands there, with the real Terraform and the function on loopback.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import AUDIT, COMMAND, KEYCLOAK, Deployment
from e2e.deploy.test_approved import answers
from e2e.deploy.test_ci_examples import EXAMPLES, run_shell
from e2e.deploy.test_terraform import JSON_KEY, MIRROR, Hook, needs_provider

pytestmark = needs_provider

REVIEWS = [{"state": "rejected", "user": {"login": "bob"}}, {"state": "approved", "user": {"login": "alice"}}]


@pytest.fixture
def hook(deploy_environment: Deploy, tmp_path: Path) -> Iterator[Hook]:
    """A root of Terraform that takes the approval from the pipeline; its function finds itself by its stack."""
    staging = deploy_environment("staging", SnapshotKey=JSON_KEY, Gate="digest")
    staging.publish_outputs()
    with Hook(tmp_path, staging) as hook:
        _have_it_take_the_approval(hook)
        yield hook


def _have_it_take_the_approval(hook: Hook) -> None:
    root = (hook.folder / "main.tf").read_text()
    root = (
        root.replace("= var.hook.approval", "= var.approval")
        + 'variable "approval" {\n  type    = any\n  default = null\n}\n'
    )
    (hook.folder / "main.tf").write_text(root)
    hook.deployment.declare(keycloak=KEYCLOAK)
    hook.declare(keycloak=KEYCLOAK)


def run(hook: Hook, script: str, job: dict[str, Any], **variables: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in job.items() if not name.startswith("AWS_")}
    places = {"FOLDER": str(hook.folder), "ENVIRONMENT": "staging", "WAIT_SECONDS": "1"}
    # The provider is this machine's, and no configuration of its own.
    places |= {"TF_CLI_ARGS_init": f"-plugin-dir={MIRROR}", "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    environment = hook.environment | hook.provider.variables() | given | places | variables
    programs = f"{hook.folder / 'programs'}:{COMMAND.parent}:{environment['PATH']}"
    return run_shell(script, hook.folder, environment | {"PATH": programs})


def put_gh(hook: Hook, reviews: list[dict[str, Any]]) -> None:
    """Another program's own part: gh asks GitHub for the reviews of a run, and takes the last one's name."""
    (hook.folder / "programs").mkdir(exist_ok=True)
    login = next((each["user"]["login"] for each in reversed(reviews) if each["state"] == "approved"), "")
    program = hook.folder / "programs/gh"
    program.write_text(
        f'#!/bin/sh\ntest "$1 $2" = "api repos/acme/databases/actions/runs/7/approvals" && echo "{login}"\n'
    )
    program.chmod(0o755)


def approvals(staging: Deployment) -> list[dict[str, str]]:
    keys = staging.aws.list_keys(AUDIT, "governance/staging/approvals/")
    return [json.loads(staging.aws.read_object(AUDIT, key)) for key in keys]


def workflow(name: str, job: str, step: str) -> tuple[str, dict[str, Any]]:
    """A step's shell, and the variables that its job and it have by themselves."""
    found = yaml.safe_load((EXAMPLES / name).read_text())["jobs"][job]
    [shell] = [each for each in found["steps"] if each.get("name") == step]
    return shell["run"], found["env"]


def test_the_workflows_ask_approve_and_end_where_the_state_knows_it(hook: Hook) -> None:
    staging, summary = hook.deployment, hook.folder / "summary.md"
    apply, approve = (
        workflow("github-terraform.yml", "apply", "Apply"),
        workflow("github-approve.yml", "approve", "Approve"),
    )
    told = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_REPOSITORY": "acme/databases", "GITHUB_RUN_ID": "7"}
    with staging.rule() as bridge:
        asked = run(hook, *apply, **told, DIGEST="")
        assert asked.returncode == 1, asked.stdout
        assert staging.databases() == set()
        digest = summary.read_text().split("`")[1]

        put_gh(hook, REVIEWS[:1])
        refused = run(hook, *approve, **told, DIGEST=digest, REASON="CHG0042")
        assert (refused.returncode, approvals(staging)) == (1, [])
        assert "nobody reviewed this run" in refused.stderr
        put_gh(hook, REVIEWS)
        approved = run(hook, *approve, **told, DIGEST=digest, REASON="CHG0042")
        assert approved.returncode == 0, approved.stdout + approved.stderr
        assert approvals(staging) == [{"plan_digest": digest, "approved_by": "alice", "reason": "CHG0042"}]

        # Of the snapshot and of the approval.
        answers(staging, bridge, 2)
        known = run(hook, *apply, **told, DIGEST=digest)
        assert known.returncode == 0, known.stdout + known.stderr
    assert staging.databases() == {"keycloak"}
    assert hook.outputs()["status"] == "no_change"


@pytest.mark.parametrize("digest", ["sha256:abc", 'sha256:"}; x', "$(touch x)"])
def test_the_workflow_takes_no_other_text_for_a_digest(hook: Hook, digest: str) -> None:
    apply = workflow("github-terraform.yml", "apply", "Apply")
    refused = run(hook, *apply, GITHUB_STEP_SUMMARY=str(hook.folder / "summary.md"), DIGEST=digest)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_the_jobs_of_gitlab_ask_approve_and_finish(hook: Hook) -> None:
    staging = hook.deployment
    jobs = yaml.safe_load((EXAMPLES / "gitlab-terraform.yml").read_text())
    scripts = {name: ("\n".join(job["script"]), job["variables"]) for name, job in jobs.items() if name != "stages"}
    asked = run(hook, *scripts["database-apply"])
    assert asked.returncode == 3, asked.stdout
    wanted = dict([(hook.folder / "wanted.env").read_text().strip().split("=", 1)])
    approver = {**wanted, "APPROVED_BY": "alice", "CI_PIPELINE_URL": "https://gitlab.example/acme/-/pipelines/7"}
    approved = run(hook, *scripts["database-approve"], **approver)
    assert approved.returncode == 0, approved.stdout + approved.stderr
    assert [each["approved_by"] for each in approvals(staging)] == ["alice"]
    finished = run(hook, *scripts["database-finish"], **wanted)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert staging.databases() == {"keycloak"}
    # Something else goes wrong: there is nothing for an approver to do.
    staging.aws.client("secretsmanager").delete_secret(
        SecretId="goldenpath/staging/rds/master", ForceDeleteWithoutRecovery=True
    )
    hook.declare()
    assert run(hook, *scripts["database-apply"]).returncode == 1
