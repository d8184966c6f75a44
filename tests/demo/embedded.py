"""Keeps the embedded stack up until Ctrl-C: PostgreSQL with TLS, AWS on loopback, the function in the Lambda runtime.

Everything is written into `.stack`, which goes with it; `.stack/env` is what a shell sources to meet it.
"""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from demo.put_secrets import put_secrets
from demo.screen import Screen
from e2e.deploy.deployment import Deployment
from stack import binaries
from stack.aws import Aws
from stack.binaries import ROOT
from stack.postgres import Server
from stack.runtime import SOURCE

FOLDER = ROOT / ".stack"
EXAMPLE = Path(__file__).with_name("dev.tfvars")

THINGS_TO_TRY = """\
In another terminal, in this folder:

    source {folder}/env

    rds-provisioner plan {environment} --tfvars {folder}/example.tfvars
    rds-provisioner apply {environment} --tfvars {folder}/example.tfvars
    stack_sql keycloak_user keycloak "CREATE TABLE greetings (words text)"

docs/tutorial.md goes on from there. Ctrl-C ends everything."""


def main() -> int:
    """Start, say what to try, wait for Ctrl-C; 1 where it stands already."""
    screen = Screen()
    if FOLDER.exists():
        screen.say(f"There is a {FOLDER.name} already: another `make stack` is up, or was killed (then remove it).")
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        with _folder(), contextlib.ExitStack() as stack:
            deployment = _start(stack, screen)
            _write_environment(deployment)
            _write_example(deployment)
            screen.chapter(f"PostgreSQL, AWS and the function {deployment.name} are up; everything on loopback")
            screen.say(THINGS_TO_TRY.format(folder=FOLDER.name, environment=deployment.environment))
            signal.pause()
    except KeyboardInterrupt:
        screen.say("\nEnded, with everything that was started.")
        return 130
    return 0


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    # Where root starts it, PostgreSQL runs as somebody else, who has to get through.
    FOLDER.mkdir(mode=0o755)
    temporary = Path(tempfile.mkdtemp(prefix="stack-"))
    temporary.chmod(0o755)
    tempfile.tempdir = str(temporary)
    try:
        yield
    finally:
        # A second Ctrl-C would interrupt the cleaning.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(FOLDER, ignore_errors=True)


def _start(stack: contextlib.ExitStack, screen: Screen) -> Deployment:
    version = int(os.environ.get("POSTGRES", "") or max(binaries.available()))
    screen.chapter(f"Starting PostgreSQL {binaries.describe(version)}, AWS, and the Lambda runtime")
    server, aws = stack.enter_context(Server(version)), stack.enter_context(Aws())
    environment = os.environ.get("ENVIRONMENT", "") or "dev"
    parameters = {"Environment": environment, "Gate": "none" if environment == "dev" else "digest"}
    deployment = stack.enter_context(Deployment(server, aws, SOURCE, ca_bundle=server.ca_file, **parameters))
    deployment.publish_outputs()
    return deployment


def _write_example(deployment: Deployment) -> None:
    """The demo's file, of this environment, with a secret for each entry."""
    (file := FOLDER / "example.tfvars").write_text(EXAMPLE.read_text().replace('"dev"', f'"{deployment.environment}"'))
    put_secrets(deployment.aws.client("secretsmanager"), file, deployment.environment)


def _write_environment(deployment: Deployment) -> None:
    """What a shell needs to meet the stack; the passwords in it are made up and live as long as it does."""
    server = deployment.server
    name, password = deployment.administrator
    postgres = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": name, "PGPASSWORD": password}
    tls = {"PGDATABASE": "postgres", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(server.ca_file)}
    variables = {**deployment.aws.environment(deployment.runtime.endpoint_url), **postgres, **tls}
    python = f"PYTHONPATH={shlex.quote(f'{ROOT}/lambda:{ROOT}/tests')} {shlex.quote(sys.executable)}"
    lines = [f"export {variable}={shlex.quote(value)}" for variable, value in variables.items()]
    lines += [f'export PATH={shlex.quote(str(ROOT / ".venv-cli/bin"))}:"$PATH"']
    lines += [f'stack_sql() {{ {python} -m demo.run_sql "$@"; }}']
    lines += [f'stack_secrets() {{ {python} -m demo.put_secrets "$@" {deployment.environment}; }}']
    (file := FOLDER / "env").touch(mode=0o600)
    file.write_text("\n".join([*lines, ""]))


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
