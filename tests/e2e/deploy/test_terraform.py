"""`terraform apply` with the real Terraform calls the function, and fails when it fails.

The tests of the module need the AWS provider from a mirror on this machine, as `terraform providers mirror` makes it:
found in the usual places, or named by TF_PLUGIN_DIR.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from e2e.deploy.conftest import Deploy
from e2e.deploy.deployment import BACKSTAGE, KEYCLOAK, READER, SNAPSHOTS, Deployment
from e2e.deploy.provider import Provider
from e2e.deploy.test_permissions import permissions
from integration.infra.deployed_template import is_allowed
from stack.aws import ACCOUNT, REGION, Aws, Call
from stack.binaries import ROOT

TERRAFORM = shutil.which("terraform")
PROVIDER = "*/hashicorp/aws"
TERRAFORM_USER = "terraform"
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
  secrets               = var.hook.secrets

  dry_run_while_planning = var.hook.dry_run
}

output "hook" { value = module.provisioning }
"""


class Terraform:
    """A root module in a folder of its own, with what it finds in its surroundings."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.provider = Provider(MIRROR, environment)

    def __enter__(self) -> Self:
        """Nothing: the provider starts when it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the provider."""
        self.provider.end()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        # What the machine's own configuration says of mirrors and caches is not what is tested.
        environment = {**self.environment, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
        if words[0] != "init" and (self.folder / ".terraform/providers").exists():
            environment |= self.provider.variables()
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
        super().__init__(folder, {**deployment.command_environment(), "AWS_ACCESS_KEY_ID": TERRAFORM_USER})
        self.deployment = deployment
        self.secrets: tuple[str, ...] = ()
        self.dry_run = False
        shutil.copytree(ROOT / "infra/terraform/rds-provisioner-hook", folder / "hook")
        (folder / "main.tf").write_text(ROOT_MODULE)
        self.initialize()

    def declare(self, approval: dict[str, object] | None = None, **entries: dict[str, object]) -> None:
        environment = self.deployment.environment
        values = {"environment": environment, "snapshot_bucket": SNAPSHOTS}
        secrets = {name: f"goldenpath/{environment}/{name}/postgres" for name in self.secrets}
        hook = {
            **values,
            "application_databases": entries,
            "approval": approval,
            "secrets": secrets,
            "dry_run": self.dry_run,
        }
        (self.folder / "terraform.tfvars.json").write_text(json.dumps({"hook": hook}))

    def plan(self) -> subprocess.CompletedProcess[str]:
        return self.run("plan", "-input=false", "-no-color")

    def versions(self) -> list[str]:
        """What S3 has of the snapshot, newest first."""
        listed = self.deployment.aws.client("s3").list_object_versions(Bucket=SNAPSHOTS)
        assert "DeleteMarkers" not in listed
        return [version["VersionId"] for version in listed.get("Versions", [])]

    def outputs(self) -> dict[str, object]:
        return dict(json.loads(self.run("output", "-json", "hook").stdout))


MakeHook = Callable[[Deployment], Hook]


@pytest.fixture
def make_hook(tmp_path: Path) -> Iterator[MakeHook]:
    with ExitStack() as stack:
        yield lambda deployment: stack.enter_context(Hook(tmp_path, deployment))


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
    staging.approve(digest)
    hook.declare({"plan_digest": digest}, keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    assert staging.databases() == {"keycloak"}


@needs_provider
def test_a_plan_of_terraform_shows_what_an_application_that_is_new_will_bring(
    deploy_environment: Deploy, make_hook: MakeHook
) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    hook.dry_run = True
    dev.declare(keycloak=KEYCLOAK)
    # Nothing is in the bucket, and backstage has no secret yet.
    hook.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    planned = hook.plan()
    assert planned.returncode == 0, planned.stderr
    assert "+ create_role" in planned.stdout
    assert "backstage_user" in planned.stdout
    assert "goldenpath/dev/backstage/postgres" in planned.stdout
    assert dev.databases() == set()
    assert dev.aws.list_keys(SNAPSHOTS) == []

    dev.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    assert hook.apply().returncode == 0
    assert dev.databases() == {"keycloak", "backstage"}


@needs_provider
def test_a_foreign_snapshot_is_put_right_and_never_applied(deploy_environment: Deploy, make_hook: MakeHook) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    dev.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    hook.declare(keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    foreign = json.dumps({"environment": "dev", "application_databases": {"backstage": BACKSTAGE}})
    # As `aws s3 cp` puts a file of this name.
    dev.aws.client("s3").put_object(
        Bucket=SNAPSHOTS, Key=dev.snapshot_key, Body=foreign.encode(), ContentType="application/json"
    )
    planned = hook.plan()
    assert planned.returncode == 0, planned.stderr
    assert "aws_s3_object.snapshot[0] will be updated in-place" in planned.stdout
    applied = hook.apply()
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert dev.databases() == {"keycloak"}
    assert json.loads(dev.aws.read_object(SNAPSHOTS, dev.snapshot_key)) == json.loads(str(hook.outputs()["snapshot"]))
    assert "No changes." in hook.apply().stdout


@needs_provider
def test_a_foreign_snapshot_that_looks_like_ours_is_refused(deploy_environment: Deploy, make_hook: MakeHook) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    dev.declare(keycloak=KEYCLOAK)
    hook.declare(keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    s3 = dev.aws.client("s3")
    ours = s3.head_object(Bucket=SNAPSHOTS, Key=dev.snapshot_key)
    foreign = s3.put_object(
        Bucket=SNAPSHOTS,
        Key=dev.snapshot_key,
        Body=b'{"application_databases": {}}',
        ContentType="application/json",
        Metadata=ours["Metadata"],
        ChecksumAlgorithm="SHA256",
    )["VersionId"]
    refused = hook.plan()
    assert refused.returncode == 1
    assert "is not the snapshot of" in refused.stderr
    assert foreign in refused.stderr
    s3.delete_object(Bucket=SNAPSHOTS, Key=dev.snapshot_key, VersionId=foreign)
    assert "No changes." in hook.apply().stdout


LEFT = """
removed {
  from = module.provisioning

  lifecycle {
    destroy = false
  }
}
"""


@needs_provider
def test_a_destroy_keeps_the_versions_and_what_leaves_is_handed_over(
    deploy_environment: Deploy, make_hook: MakeHook
) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    dev.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    hook.declare(keycloak=KEYCLOAK)
    hook.apply()
    hook.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    hook.apply()
    versions = hook.versions()
    assert len(versions) == 2
    destroyed = hook.run("destroy", "-auto-approve", "-input=false", "-no-color")
    assert destroyed.returncode == 1
    assert "prevent_destroy" in destroyed.stderr
    assert hook.versions() == versions

    root = (hook.folder / "main.tf").read_text()
    start = root.index('module "provisioning"')
    (hook.folder / "main.tf").write_text(root[:start] + LEFT)
    left = hook.apply()
    assert left.returncode == 0, left.stdout + left.stderr
    assert hook.run("state", "list").stdout == ""
    assert hook.versions() == versions


@needs_provider
def test_a_secret_that_is_rotated_elsewhere_calls_the_function_again(
    deploy_environment: Deploy, make_hook: MakeHook
) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    hook.secrets = ("keycloak",)
    dev.declare(keycloak=KEYCLOAK)
    hook.declare(keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    assert "No changes." in hook.plan().stdout
    dev.passwords.clear()
    dev.put_secret("keycloak", "keycloak_user", "keycloak")
    applied = hook.apply()
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "aws_lambda_invocation.provision must be replaced" in applied.stdout
    assert dict(hook.outputs()["summary"])["change"] == 1  # type: ignore[call-overload]


@needs_provider
def test_the_callers_policy_permits_every_call_of_terraform(deploy_environment: Deploy, make_hook: MakeHook) -> None:
    dev = deploy_environment("dev", SnapshotKey=JSON_KEY)
    hook = make_hook(dev)
    hook.secrets = ("keycloak",)
    dev.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    hook.declare(keycloak=KEYCLOAK)
    assert hook.apply().returncode == 0
    hook.declare(keycloak=KEYCLOAK, backstage=BACKSTAGE)
    assert hook.apply().returncode == 0
    statements = json.loads(str(hook.outputs()["caller_policy"]))["Statement"]
    # Who one is may be asked by everybody.
    calls = [call for call in dev.aws.calls(TERRAFORM_USER) if call.service != "sts"]
    needed = {permission for call in calls for permission in rights(call)}
    assert {action for action, _ in needed} >= {"s3:PutObject", "s3:GetObject", "secretsmanager:ListSecretVersionIds"}
    assert {permission for permission in needed if not is_allowed(statements, *permission)} == set()
    # The provider puts an object by the bucket's name alone, so the policy says whose it must be.
    of_buckets = [
        each["Condition"] for each in statements if each["Sid"] in {"PutTheSnapshot", "TellMissingFromForbidden"}
    ]
    assert of_buckets == [{"StringEquals": {"aws:ResourceAccount": ACCOUNT}}] * 2


def rights(call: Call) -> list[tuple[str, str]]:
    """What IAM asks for; the tags of a version have a name of their own."""
    return [(action.replace("TaggingVersion", "VersionTagging"), what) for action, what in permissions(call)]


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
@pytest.mark.parametrize(
    "folder",
    ["rds-provisioner-hook", "rds-provisioner-hook/examples/complete"],
)
def test_the_modules_own_tests_pass(aws: Aws, tmp_path: Path, folder: str) -> None:
    shutil.copytree(ROOT / "infra/terraform", tmp_path / "terraform")
    with Terraform(tmp_path / "terraform" / folder, {**os.environ, **aws.environment()}) as terraform:
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
