"""`terraform apply` with the real Terraform calls the function, and fails when it fails.

The tests of the module need the AWS provider from a mirror on this machine, as `terraform providers mirror` makes it:
found in the usual places, or named by TF_PLUGIN_DIR.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import BACKSTAGE, KEYCLOAK, READER, SNAPSHOTS, Deployment
from stack.aws import REGION, Aws
from stack.binaries import ROOT

TERRAFORM = shutil.which("terraform")
PROVIDER = "*/hashicorp/aws"
JSON_KEY = "{environment}/terraform.tfvars.json"


def find_mirror() -> Path | None:
    named = os.environ.get("TF_PLUGIN_DIR")
    places = (
        [Path(named)]
        if named
        else [
            Path.home() / ".terraform.d/plugins",
            Path("/usr/local/share/terraform/plugins"),
            Path("/usr/share/terraform/plugins"),
            *sorted(Path("/opt").glob("*")),
        ]
    )
    return next((place for place in places if list(place.glob(PROVIDER))), None)


MIRROR = find_mirror()
needs_terraform = pytest.mark.skipif(TERRAFORM is None, reason="terraform is not on PATH")
needs_provider = pytest.mark.skipif(
    TERRAFORM is None or MIRROR is None, reason="no terraform, or no mirror of the AWS provider (TF_PLUGIN_DIR)"
)

ROOT_MODULE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
}

variable "hook" { type = any }

module "provisioning" {
  source = "./hook"

  environment           = var.hook.environment
  application_databases = var.hook.application_databases
  snapshot_bucket       = var.hook.snapshot_bucket
  approval              = var.hook.approval
}

output "hook" { value = module.provisioning }
"""


class Terraform:
    """A root module in a folder of its own, with what it finds in its surroundings."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        # What the machine's own configuration says of mirrors and caches is not what is tested.
        environment = {**self._environment, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
        return subprocess.run(
            [str(TERRAFORM), *words],
            cwd=self.folder,
            env={**environment, "TF_IN_AUTOMATION": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def initialize(self) -> None:
        answer = self.run("init", "-input=false", "-no-color", *([f"-plugin-dir={MIRROR}"] if MIRROR else []))
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def apply(self) -> subprocess.CompletedProcess[str]:
        return self.run("apply", "-auto-approve", "-input=false", "-no-color")


class Hook(Terraform):
    """A root that uses the module as a stack of an application team would."""

    def __init__(self, folder: Path, deployment: Deployment) -> None:
        super().__init__(folder, deployment.command_environment())
        self.deployment = deployment
        shutil.copytree(ROOT / "infra/terraform/rds-provisioner-hook", folder / "hook")
        (folder / "main.tf").write_text(ROOT_MODULE)
        self.initialize()

    def declare(self, approval: dict[str, object] | None = None, **entries: dict[str, object]) -> None:
        values = {"environment": self.deployment.environment, "snapshot_bucket": SNAPSHOTS}
        hook = {**values, "application_databases": entries, "approval": approval}
        (self.folder / "terraform.tfvars.json").write_text(json.dumps({"hook": hook}))

    def outputs(self) -> dict[str, object]:
        return dict(json.loads(self.run("output", "-json", "hook").stdout))


MakeHook = Callable[[Deployment], Hook]


@pytest.fixture
def make_hook(tmp_path: Path) -> MakeHook:
    return lambda deployment: Hook(tmp_path, deployment)


@needs_provider
def test_an_apply_provisions_and_the_second_one_calls_nobody(deploy_environment: Deploy, make_hook: MakeHook) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    dev.declare(keycloak=KEYCLOAK, reader=READER)
    hook.declare(keycloak=KEYCLOAK, reader=READER)
    first = hook.apply()
    assert first.returncode == 0, first.stdout + first.stderr
    assert dev.databases() == {"keycloak"}
    outputs = hook.outputs()
    assert outputs["status"] == "applied"
    assert str(outputs["plan_digest"]).startswith("sha256:")
    assert "/runs/" in str(outputs["audit"])

    assert "No changes." in hook.apply().stdout


@needs_provider
def test_a_change_of_the_declaration_calls_the_function_again(deploy_environment: Deploy, make_hook: MakeHook) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    dev.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    hook.declare(keycloak=KEYCLOAK)
    hook.apply()
    hook.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    assert hook.apply().returncode == 0
    assert dev.databases() == {"keycloak", "backstage"}


@needs_provider
def test_a_failed_provisioning_fails_the_apply_and_the_next_one_tries_again(
    deploy_environment: Deploy, make_hook: MakeHook
) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    hook.declare(keycloak=KEYCLOAK)
    failed = hook.apply()
    assert failed.returncode == 1
    assert "SecretUnavailable" in failed.stderr
    assert dev.databases() == set()

    dev.declare(keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    assert dev.databases() == {"keycloak"}


@needs_provider
def test_a_gated_environment_fails_the_apply_until_the_digest_is_approved(
    deploy_environment: Deploy, make_hook: MakeHook
) -> None:
    staging = deploy_environment("staging", SnapshotKey=JSON_KEY, Gate="digest")
    hook = make_hook(staging)
    staging.declare(keycloak=KEYCLOAK)
    hook.declare(keycloak=KEYCLOAK)
    refused = hook.apply()
    assert refused.returncode == 1
    assert "ApprovalRequired" in refused.stderr
    assert staging.databases() == set()

    digest = staging.invoke("dry_run")["plan_digest"]
    hook.declare({"allow_db_provision": True, "approved_by": "alice", "plan_digest": digest}, keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    assert staging.databases() == {"keycloak"}


@needs_terraform
def test_without_the_provider_terraform_calls_the_command_and_fails_with_it(dev: Deployment, tmp_path: Path) -> None:
    tfvars = dev.declare(keycloak=KEYCLOAK)
    command = f"{ROOT}/.venv-cli/bin/rds-provisioner apply dev --tfvars {tfvars}"
    (tmp_path / "main.tf").write_text(
        f"""
        resource "terraform_data" "provision" {{
          triggers_replace = [filesha256("{tfvars}")]
          provisioner "local-exec" {{
            command = "{command}"
          }}
        }}
        """
    )
    terraform = Terraform(tmp_path, {**dev.command_environment(), "SNAPSHOT_BUCKET": SNAPSHOTS})
    terraform.initialize()
    dev.aws.client("secretsmanager").delete_secret(
        SecretId="goldenpath/dev/keycloak/postgres", ForceDeleteWithoutRecovery=True
    )
    failed = terraform.apply()
    assert failed.returncode == 1
    assert "SecretUnavailable" in failed.stdout + failed.stderr

    dev.declare(keycloak=KEYCLOAK)
    assert terraform.apply().returncode == 0
    assert dev.databases() == {"keycloak"}


@needs_provider
@pytest.mark.parametrize("folder", ["rds-provisioner-hook", "example"])
def test_the_modules_own_tests_pass(aws: Aws, tmp_path: Path, folder: str) -> None:
    shutil.copytree(ROOT / "infra/terraform", tmp_path / "terraform")
    terraform = Terraform(tmp_path / "terraform" / folder, {**os.environ, **aws.environment()})
    terraform.initialize()
    validated = terraform.run("validate", "-no-color")
    assert validated.returncode == 0, validated.stderr
    tested = terraform.run("test", "-no-color")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "0 failed" in tested.stdout


@needs_terraform
def test_the_terraform_files_are_formatted() -> None:
    answer = subprocess.run(
        [str(TERRAFORM), "fmt", "-check", "-recursive", str(ROOT / "infra/terraform")],
        env={"PATH": os.environ["PATH"], "TF_CLI_CONFIG_FILE": os.devnull, "AWS_REGION": REGION},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
