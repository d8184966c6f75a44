"""The pipelines in examples/ci, as their linters see them, and what their role may do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stack.binaries import ROOT

EXAMPLES = ROOT / "examples/ci"


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("vendor.github-workflows", "github-actions.yml"),
        ("vendor.github-workflows", "github-terraform.yml"),
        ("vendor.github-workflows", "github-approve.yml"),
        ("vendor.gitlab-ci", "gitlab-ci.yml"),
        ("vendor.gitlab-ci", "gitlab-terraform.yml"),
    ],
)
def test_a_pipeline_is_what_its_service_reads(schema: str, name: str) -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", schema, EXAMPLES / name]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_linter_of_workflows_finds_nothing_to_say() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    options = ["--offline", "--no-progress", "--persona", "pedantic", "--no-config"]
    answer = subprocess.run(
        [zizmor, *options, *sorted(EXAMPLES.glob("github-*.yml"))], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_job_of_github_has_its_own_permissions_and_no_more() -> None:
    given = {}
    for path in sorted(EXAMPLES.glob("github-*.yml")):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {}, path
        given |= {(path.stem, name): job["permissions"] for name, job in workflow["jobs"].items()}
    applies = {"contents": "read", "id-token": "write"}
    assert given == {
        ("github-actions", "plan"): {"contents": "read", "id-token": "write", "pull-requests": "write"},
        ("github-terraform", "apply"): applies,
        # It reads no repository, and who approves is told by who reviewed.
        ("github-approve", "approve"): {"actions": "read", "id-token": "write"},
        ("github-approve", "apply"): applies,
    }


def test_who_asks_and_who_approves_have_roles_of_their_own() -> None:
    roles = {}
    for name in ("github-terraform.yml", "github-approve.yml"):
        for job in yaml.safe_load((EXAMPLES / name).read_text())["jobs"].values():
            for step in job.get("steps", ()):
                if "role-to-assume" in step.get("with", {}):
                    roles[name] = (job.get("environment"), step["with"]["role-to-assume"])
    assert roles == {
        "github-terraform.yml": (None, "${{ vars.DATABASE_APPLY_ROLE }}"),
        "github-approve.yml": ("prod-approval", "${{ vars.DATABASE_APPROVER_ROLE }}"),
    }
    jobs = yaml.safe_load((EXAMPLES / "gitlab-terraform.yml").read_text())
    told = {name: job["variables"]["AWS_ROLE_ARN"] for name, job in jobs.items() if name != "stages"}
    assert told == {
        "database-apply": "$DATABASE_APPLY_ROLE",
        "database-approve": "$DATABASE_APPROVER_ROLE",
        "database-finish": "$DATABASE_APPLY_ROLE",
    }
    assert jobs["database-approve"]["environment"] == {"name": "prod-approval"}


def test_the_role_may_do_three_things_each_for_one_environment() -> None:
    statements = json.loads((EXAMPLES / "plan-policy.json").read_text())["Statement"]
    assert {statement["Action"] for statement in statements} == {
        "lambda:InvokeFunction",
        "cloudformation:DescribeStacks",
        "s3:GetObject",
    }
    for statement in statements:
        resource = statement["Resource"].removesuffix("*")
        assert "*" not in resource
        assert "dev" in resource
