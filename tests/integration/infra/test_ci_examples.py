"""The pipelines in examples/ci, as their linters see them, and what their role may do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stack.binaries import ROOT

EXAMPLES = ROOT / "examples/ci"


@pytest.mark.parametrize(
    ("schema", "name"),
    [("vendor.github-workflows", "github-actions.yml"), ("vendor.gitlab-ci", "gitlab-ci.yml")],
)
def test_a_pipeline_is_what_its_service_reads(schema: str, name: str) -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", schema, EXAMPLES / name]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_linter_of_workflows_finds_nothing_to_say() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    options = ["--offline", "--no-progress", "--persona", "pedantic", "--no-config"]
    answer = subprocess.run(
        [zizmor, *options, EXAMPLES / "github-actions.yml"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


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
