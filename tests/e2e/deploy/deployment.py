"""One environment as the template deploys it, on the local stack: the artifact in the Lambda runtime, its settings from
the template, its topic, queue and rule; PostgreSQL with the delegated administrator.
"""

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from integration.infra.deployed_template import Stack, deploy
from stack.aws import Aws
from stack.binaries import ROOT
from stack.eventbridge import EventBridge
from stack.postgres import Server
from stack.runtime import LambdaRuntime

COMMAND = ROOT / ".venv-cli/bin/rds-provisioner"
SNAPSHOTS, AUDIT = "acme-tfvars", "acme-governance"
KEYCLOAK = {"database_name": "keycloak", "username": "keycloak_user"}
BACKSTAGE = {"database_name": "backstage", "username": "backstage_user"}
READER = {"database_name": "keycloak", "username": "analytics_reader", "access_level": "reader"}


class Deployment:
    """The function of one environment, ready to be called.

    Args:
        server, aws: what it stands on; both as new.
        artifact: what `sam build` made, or the source.
        ca_bundle: the certificates to trust, where the artifact has none.
        parameters: of the template.
    """

    def __init__(
        self, server: Server, aws: Aws, artifact: Path, *, ca_bundle: Path | None = None, **parameters: str
    ) -> None:
        self.server = server
        self.aws = aws
        self.template: Stack = deploy(**parameters)
        self.environment: str = self.template.parameters["Environment"]
        self.name: str = self.template.properties("ProvisionerFunction")["FunctionName"]
        self.snapshot_key = self.template.parameters["SnapshotKey"].replace("{environment}", self.environment)
        self.passwords: dict[str, str] = {}
        self._artifact = artifact
        self._ca_bundle = ca_bundle or artifact / "rds-ca-bundle.pem"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make the resources that the template names and start the function."""
        self.aws.create_bucket(SNAPSHOTS, eventbridge=True)
        self.aws.create_bucket(AUDIT, eventbridge=True)
        self._subscribe()
        self.administrator = self.server.create_delegated_admin()
        secret = self.server.admin_secret(self.administrator)
        self.aws.put_secret(f"goldenpath/{self.environment}/rds/master", secret)
        settings = {**self.template.function_environment(), "DB_CA_BUNDLE": str(self._ca_bundle)}
        self.runtime = self._stack.enter_context(
            LambdaRuntime(
                self._artifact,
                {**settings, **self.aws.environment()},
                name=self.name,
                forward_to=self.aws.endpoint_url,
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the function; the server and AWS belong to whoever started them."""
        self._stack.close()

    def declare(self, **entries: dict[str, Any]) -> Path:
        """Write a tfvars file with these entries and give each role a secret; it is not put anywhere."""
        for application, entry in entries.items():
            self.put_secret(application, entry["username"], entry["database_name"])
        return write_tfvars(self._artifact.parent / f"{self.environment}.tfvars", self.environment, entries)

    def put_secret(self, application: str, username: str, database: str) -> None:
        """An application's secret; the password of a role that has one already stays."""
        password = self.passwords.setdefault(username, secrets.token_urlsafe(18))
        secret = {"username": username, "password": password, "dbname": database}
        self.aws.put_secret(f"goldenpath/{self.environment}/{application}/postgres", secret)

    def put_snapshot(self, tfvars: Path) -> str:
        """Put the file where the function looks for it, and give back its version."""
        return self.aws.put_snapshot(SNAPSHOTS, self.snapshot_key, tfvars.read_bytes())

    def approve(self, digest: str, approved_by: str = "alice") -> str:
        """Put the approval of a plan, as an approver does; give back its key."""
        key = f"governance/{self.environment}/approvals/{digest.removeprefix('sha256:')}.json"
        body = json.dumps({"plan_digest": digest, "approved_by": approved_by, "reason": "read"})
        self.aws.client("s3").put_object(Bucket=AUDIT, Key=key, Body=body, IfNoneMatch="*")
        return key

    def invoke(self, mode: str, **fields: Any) -> dict[str, Any]:
        """Call the function directly; its failure is the test's."""
        invocation = self.runtime.invoke({"environment": self.environment, "mode": mode, **fields})
        assert invocation.function_error is None, invocation.payload
        return dict(invocation.payload)

    @contextlib.contextmanager
    def rule(self) -> Iterator[EventBridge]:
        """S3's events reach the function through the very patterns of the template."""
        patterns = [rule["EventPattern"] for rule in self.template.of_type("AWS::Events::Rule").values()]
        with EventBridge(self.aws, self.runtime, patterns=patterns) as bridge:
            yield bridge

    def notifications(self) -> list[dict[str, str]]:
        """What the topic sent since the last time, as subject and message."""
        received = self.aws.client("sqs").receive_message(QueueUrl=self._inbox, MaxNumberOfMessages=10)
        messages = received.get("Messages", [])
        for message in messages:
            self.aws.client("sqs").delete_message(QueueUrl=self._inbox, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def publish_outputs(self) -> None:
        """Make a stack that has the outputs of the template and nothing else."""
        outputs = {name: {"Value": output["Value"]} for name, output in self.template.outputs.items()}
        resources = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "only-outputs-matter"}}}
        template = json.dumps({"Resources": resources, "Outputs": outputs})
        name = f"rds-provisioner-{self.environment}"
        self.aws.client("cloudformation").create_stack(StackName=name, TemplateBody=template)

    def databases(self) -> set[str]:
        """The databases on the server that are neither PostgreSQL's nor the administrator's."""
        rows = self.server.run_as_superuser("SELECT datname FROM pg_database WHERE NOT datistemplate")
        return {name for (name,) in rows} - {"postgres"}

    def command_environment(self) -> dict[str, str]:
        """What a command of an operator finds in its surroundings: this AWS and the function in it."""
        return {**os.environ, **self.aws.environment(self.runtime.endpoint_url), "SAM_CLI_TELEMETRY": "0"}

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run an operator's command in the repository, with these variables besides."""
        return subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            env={**self.command_environment(), **variables},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def command(self, name: str, *options: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `rds-provisioner` for this environment."""
        return self.run(COMMAND, name, self.environment, *options, **variables)

    def _subscribe(self) -> None:
        sns, sqs = self.aws.client("sns"), self.aws.client("sqs")
        topic = sns.create_topic(Name=self.template.properties("NotificationTopic")["TopicName"])["TopicArn"]
        self._inbox = sqs.create_queue(QueueName="inbox")["QueueUrl"]
        queue = sqs.get_queue_attributes(QueueUrl=self._inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)


def write_tfvars(path: Path, environment: str, entries: dict[str, dict[str, Any]]) -> Path:
    """Write entries as a person would."""
    lines = [f'environment = "{environment}"', "", "application_databases = {"]
    for application, entry in entries.items():
        attributes = [f"    {name} = {json.dumps(value)}" for name, value in entry.items()]
        lines += [f"  {application} = {{", *attributes, "  }"]
    path.write_text("\n".join([*lines, "}", ""]))
    return path
