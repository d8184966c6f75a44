"""The artifact, built once, and environments deployed from it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.deploy.deployment import Deployment
from e2e.deploy.runbook import Shell
from e2e.deploy.sending import serve_cloudformation
from stack.aws import Aws
from stack.binaries import ROOT
from stack.certificates import session_authority
from stack.postgres import Server
from stack.runtime import bare_python

# The programs of the build and the command line stand outside the packages.
sys.path.insert(0, str(ROOT / "infra"))

Deploy = Callable[..., Deployment]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sam build` makes of the template, certificates of the test's authority included."""
    folder = tmp_path_factory.mktemp("build")
    variables = {"RDS_CA_BUNDLE": str(session_authority().ca_file), "BUILD_PYTHON": sys.executable}
    answer = subprocess.run(
        [str(ROOT / ".venv-sam/bin/sam"), "build", "--build-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **variables, "SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (folder / "log").write_text(answer.stdout + answer.stderr)
    return folder


@pytest.fixture(scope="session")
def artifact(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the function's folder that starts here as fast as in Lambda.

    What was compiled ahead is bound to Lambda's own Python and to /var/task, so it is made anew for this place.
    """
    folder = shutil.copytree(built / "ProvisionerFunction", tmp_path_factory.mktemp("task") / "artifact")
    program = "import sys; sys.path.insert(0, '.'); import hcl2, provisioner.handler; hcl2.loads('ready = true\\n')"
    subprocess.run([str(bare_python()), "-P", "-c", program], cwd=folder, env={"PATH": os.environ["PATH"]}, check=True)
    return folder


@pytest.fixture
def deploy_environment(latest_server: Server, aws: Aws, artifact: Path) -> Iterator[Deploy]:
    """Deploys an environment with the given parameters of the template; it is taken down after the test."""
    with ExitStack() as stack:

        def deploy(environment: str = "dev", **parameters: str) -> Deployment:
            return stack.enter_context(Deployment(latest_server, aws, artifact, Environment=environment, **parameters))

        yield deploy


@pytest.fixture
def dev(deploy_environment: Deploy) -> Deployment:
    """The environment without a gate."""
    return deploy_environment("dev")


@pytest.fixture
def staging(deploy_environment: Deploy) -> Deployment:
    """An environment whose gate asks for an approver and for the digest of the plan."""
    return deploy_environment("staging", Gate="digest")


@pytest.fixture
def shell(aws: Aws, tmp_path: Path) -> Shell:
    """A shell for the commands of the runbook."""
    (folder := tmp_path / "shell").mkdir()
    return Shell(aws, folder)


@pytest.fixture
def cloudformation() -> Iterator[str]:
    """The address of a CloudFormation that writes down what it is sent."""
    with serve_cloudformation() as address:
        yield address
