"""The examples of Terraform are applied from nothing, by the commands of their page and in its order.

Where the page deploys the function it stands here; the instance is one that answers nobody. Terraform waits more than a
minute for each change of it, so this is no file of `deploy/`, whose tests stand in one line.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Self

from e2e.deploy.deployment import Deployment
from e2e.deploy.provider import Provider
from e2e.deploy.test_terraform import JSON_KEY, MIRROR, TERRAFORM, needs_provider
from stack.aws import REGION, Aws
from stack.binaries import ROOT
from stack.certificates import session_authority
from stack.postgres import Server
from stack.runtime import SOURCE

PAGE = (ROOT / "infra/terraform/README.md").read_text()
EXAMPLES = "infra/terraform/rds-provisioner-hook/examples"
MASTER = "goldenpath/dev/rds/master"
# What a stand-in for AWS needs said, in every root of the examples.
OF_THE_STAND_IN = """
provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
}
"""
# `terraform` as the page calls it: nobody is there to say yes, and the provider comes from the mirror.
AS_DOCUMENTED = """#!/bin/sh
case "$*" in
*" init"*) exec "{terraform}" "$@" -input=false -plugin-dir="{mirror}" ;;
*" apply"*) TF_REATTACH_PROVIDERS="$ATTACHED" exec "{terraform}" "$@" -input=false -auto-approve ;;
*) exec "{terraform}" "$@" ;;
esac
"""


class Person:
    """Somebody in a clone of the repository who types what the page says."""

    def __init__(self, folder: Path, dev: Deployment) -> None:
        shutil.copytree(ROOT / "infra/terraform", folder / "infra/terraform")
        for root in ("network", "complete"):
            (folder / EXAMPLES / root / "stand_in_override.tf").write_text(OF_THE_STAND_IN)
        (program := folder / "terraform").write_text(AS_DOCUMENTED.format(terraform=TERRAFORM, mirror=MIRROR))
        program.chmod(0o755)
        surroundings = {**dev.command_environment(), "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
        path = f"{folder}:{surroundings['PATH']}"
        self._environment = {**surroundings, "TF_VAR_aws_region": REGION, "PATH": path}
        self.provider = Provider(MIRROR, self._environment)
        self.folder = folder

    def __enter__(self) -> Self:
        """Nothing: the provider starts when it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the provider."""
        self.provider.end()

    def type(self, commands: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-euc", commands]
        environment = self._environment | {"ATTACHED": self.provider.variables()["TF_REATTACH_PROVIDERS"]}
        return subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def fill_in(self, group: str, subnets: list[str]) -> None:
        """Put what stands in the place of the placeholders of the complete example."""
        variables = self.folder / EXAMPLES / "complete/dev.tfvars"
        text = variables.read_text().replace("sg-00000000000000000", group)
        for placeholder, subnet in zip(re.findall(r"subnet-[01]{17}", text), subnets, strict=True):
            text = text.replace(placeholder, subnet)
        variables.write_text(text)


@needs_provider
def test_the_examples_apply_from_nothing_in_the_documented_order(
    latest_server: Server, aws: Aws, tmp_path: Path
) -> None:
    [block] = re.findall(r"## From nothing.*?```bash\n(.*?)```", PAGE, re.DOTALL)
    network, deployed, complete = re.split(r"^(\.venv-sam.*)$", block, flags=re.MULTILINE)
    assert deployed.startswith(".venv-sam/bin/sam deploy --config-env dev")
    ca_bundle = session_authority().ca_file
    ec2 = aws.client("ec2")
    with (
        Deployment(latest_server, aws, SOURCE, ca_bundle=ca_bundle, Environment="dev", SnapshotKey=JSON_KEY) as dev,
        Person(tmp_path, dev) as person,
    ):
        aws.client("secretsmanager").delete_secret(SecretId=MASTER, ForceDeleteWithoutRecovery=True)
        answer = person.type(network.replace("vpc-00000000000000000", ec2.describe_vpcs()["Vpcs"][0]["VpcId"]))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        outputs = json.loads(person.type(f"terraform -chdir={EXAMPLES}/network output -json").stdout)
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
        person.fill_in(outputs["database_security_group_id"]["value"], subnets)

        answer = person.type(complete)
        assert answer.returncode == 1, answer.stdout
        assert "DatabaseUnavailable" in answer.stderr
        [instance] = aws.client("rds").describe_db_instances()["DBInstances"]
        assert instance["Endpoint"]["Address"] in answer.stderr.replace("\n", "")
        # The instance, as it were, answers from now on.
        aws.put_secret(MASTER, latest_server.admin_secret(dev.administrator))
        answer = person.type(complete)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert 'status = "applied"' in answer.stdout
        assert dev.databases() == {"keycloak"}
