"""What `make release` makes: the same bytes twice, with sums, of what the artifact holds; nobody builds it again."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from e2e.deploy.sending import send_by
from stack.aws import Aws
from stack.binaries import ROOT


def make(built: Path, folder: Path) -> Path:
    cyclonedx = ROOT / ".venv-release/bin/cyclonedx-py"
    options = ["--built", built, "--release", folder, "--cyclonedx", cyclonedx]
    answer = subprocess.run(
        [sys.executable, ROOT / "infra/make_release.py", *options], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture(scope="module")
def made(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(built, tmp_path_factory.mktemp("release") / "first")


def test_the_same_build_makes_the_same_bytes(built: Path, made: Path, tmp_path: Path) -> None:
    again = make(built, tmp_path / "again")
    assert {each.name: each.read_bytes() for each in again.iterdir()} == {
        each.name: each.read_bytes() for each in made.iterdir()
    }


def test_the_checksums_are_of_everything_else_in_the_folder(made: Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (made / "SHA256SUMS").read_text().splitlines())
    files = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in made.iterdir()}
    files.pop("SHA256SUMS")
    assert sums == files


def test_the_bill_of_materials_and_the_requirements_name_what_the_zip_holds(made: Path) -> None:
    [code] = made.glob("rds-provisioner-*.zip")
    with zipfile.ZipFile(code) as archive:
        folders = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    held = {tuple(folder.removesuffix(".dist-info").replace("_", "-").lower().rsplit("-", 1)) for folder in folders}
    sbom = json.loads((made / "sbom.cdx.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "rds-provisioner"
    assert {(each["name"], each["version"]) for each in sbom["components"]} == held
    pins = [line for line in (made / "requirements.txt").read_text().splitlines() if "==" in line]
    assert {tuple(pin.removesuffix(" \\").split("==")) for pin in pins} == held
    assert (made / "requirements.txt").read_text().count("--hash=sha256:") >= len(pins)


@pytest.fixture
def clone(built: Path, made: Path, tmp_path: Path) -> Path:
    """What stands where the runbook's commands are called: a clone after `make build` and `make release`."""
    for name in (".venv-sam", "infra", "lambda", "samconfig.toml", "template.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (build := tmp_path / ".aws-sam/build").mkdir(parents=True)
    (build / "ProvisionerFunction").symlink_to(built / "ProvisionerFunction")
    # It was built elsewhere, and what is not built is named from there.
    template = re.sub(
        r"DefinitionUri: \S+/infra/", f"DefinitionUri: {ROOT}/infra/", (built / "template.yaml").read_text()
    )
    (build / "template.yaml").write_text(template)
    (tmp_path / ".aws-sam/release").symlink_to(made)
    return tmp_path


def deployments() -> list[str]:
    """The deployments of the runbook, each as it is written."""
    text = (ROOT / "docs/operations.md").read_text()
    found = re.findall(r"\.venv-sam/bin/sam deploy(?:[^\n`#]*\\\n)*[^\n`#]*", text)
    return sorted({each.strip() for each in found})


@pytest.mark.parametrize("command", deployments())
def test_each_deployment_of_the_runbook_reaches_cloudformation(
    command: str, clone: Path, aws: Aws, cloudformation: str
) -> None:
    parameters, template = send_by(["bash", "-uc", command], clone, aws, cloudformation)
    assert set(parameters) <= set(template["Parameters"])
    assert {name for name, each in template["Parameters"].items() if "Default" not in each} <= set(parameters)


def test_it_is_deployed_without_building(made: Path, clone: Path, aws: Aws, cloudformation: str) -> None:
    [command] = [each for each in deployments() if ".aws-sam/release" in each]
    _, template = send_by(["bash", "-uc", command], clone, aws, cloudformation)
    bucket, _, key = (
        template["Resources"]["ProvisionerFunction"]["Properties"]["CodeUri"].removeprefix("s3://").partition("/")
    )
    [code] = made.glob("rds-provisioner-*.zip")
    assert aws.read_object(bucket, key) == code.read_bytes()
