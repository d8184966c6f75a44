"""`sam deploy` as it is, and a CloudFormation that takes its change set off the wire, writes it down and refuses."""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stack.aws import Aws
from stack.binaries import ROOT

ARTIFACTS = "artifacts"
# The stack of SAM's own bucket, as it stands once anybody has deployed anything.
MANAGED = f"""<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><DescribeStacksResult>
<Stacks><member><StackName>aws-sam-cli-managed-default</StackName><StackStatus>CREATE_COMPLETE</StackStatus>
<CreationTime>2026-01-01T00:00:00Z</CreationTime>
<Tags><member><Key>ManagedStackSource</Key><Value>AwsSamCli</Value></member></Tags>
<Outputs><member><OutputKey>SourceBucket</OutputKey><OutputValue>{ARTIFACTS}</OutputValue></member></Outputs>
</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""
REFUSAL = "<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"


class CloudFormation(BaseHTTPRequestHandler):
    """Knows SAM's own stack and no other, and refuses every change set after writing it down."""

    sent: dict[str, str]

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True))
        if form["Action"] == "DescribeStacks" and form["StackName"].startswith("aws-sam-cli-managed"):
            self._answer(200, MANAGED)
        elif form["Action"] == "DescribeStacks":
            self._answer(400, REFUSAL.format("ValidationError", f"Stack with id {form['StackName']} does not exist"))
        else:
            type(self).sent = form
            self._answer(400, REFUSAL.format("AccessDenied", "written down, and refused"))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@contextlib.contextmanager
def serve_cloudformation() -> Iterator[str]:
    """Serve it on loopback; gives back the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), CloudFormation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def send(environment: str, built: Path, aws: Aws, cloudformation: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters and the template that reach CloudFormation for an environment of samconfig.toml."""
    template = str(built / "template.yaml")
    options = ["--config-env", environment, "--template-file", template, "--no-confirm-changeset"]
    command = [str(ROOT / ".venv-sam/bin/sam"), "deploy", *options, "--config-file", str(ROOT / "samconfig.toml")]
    return send_by(command, ROOT, aws, cloudformation)


def send_by(command: list[str], folder: Path, aws: Aws, cloudformation: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters and the template that reach CloudFormation by a command in a folder."""
    aws.create_bucket(ARTIFACTS)
    variables = {**aws.environment(), "AWS_ENDPOINT_URL_CLOUDFORMATION": cloudformation, "SAM_CLI_TELEMETRY": "0"}
    CloudFormation.sent = {}
    answer = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables, "ENV": "dev"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    sent = CloudFormation.sent
    assert sent.get("Action") == "CreateChangeSet", answer.stdout + answer.stderr
    count = sum(name.endswith(".ParameterKey") for name in sent)
    parameters = {
        sent[f"Parameters.member.{number}.ParameterKey"]: sent[f"Parameters.member.{number}.ParameterValue"]
        for number in range(1, count + 1)
    }
    if "TemplateBody" in sent:
        return parameters, read_yaml(sent["TemplateBody"].encode())
    key = urlsplit(sent["TemplateURL"]).path.removeprefix(f"/{ARTIFACTS}").lstrip("/")
    body = aws.client("s3").get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()
    return parameters, read_yaml(body)


def read_yaml(body: bytes) -> dict[str, Any]:
    program = (
        "import json, sys; from samcli.yamlhelper import yaml_parse; print(json.dumps(yaml_parse(sys.stdin.read())))"
    )
    answer = subprocess.run(
        [str(ROOT / ".venv-sam/bin/python"), "-c", program], input=body, capture_output=True, check=True
    )
    return dict(json.loads(answer.stdout))
