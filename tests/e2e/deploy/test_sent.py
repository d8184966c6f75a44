"""What `sam deploy` sends to CloudFormation for each environment of samconfig.toml, taken off the wire: the parameters
as SAM reads them out of the file, and the template as it packs it. CloudFormation here takes the request, and refuses.
"""

import json
import os
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from provisioner.settings import read_settings
from stack.aws import Aws
from stack.binaries import ROOT
from unit.infra.deployed_template import broken_rules, deploy

CONFIGURED = tomllib.loads((ROOT / "samconfig.toml").read_text())
ENVIRONMENTS = [name for name, each in CONFIGURED.items() if isinstance(each, dict) and "deploy" in each]
ARTIFACTS = "artifacts"
# The stack of SAM's own bucket, as it stands once anybody has deployed anything.
MANAGED = f"""<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><DescribeStacksResult>
<Stacks><member><StackName>aws-sam-cli-managed-default</StackName><StackStatus>CREATE_COMPLETE</StackStatus>
<CreationTime>2026-01-01T00:00:00Z</CreationTime>
<Tags><member><Key>ManagedStackSource</Key><Value>AwsSamCli</Value></member></Tags>
<Outputs><member><OutputKey>SourceBucket</OutputKey><OutputValue>{ARTIFACTS}</OutputValue></member></Outputs>
</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""
REFUSAL = "<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"
# What EventBridge Scheduler takes: a rate in whole units, or six fields.
SCHEDULE = re.compile(r"rate\((1 (minute|hour|day)|([2-9]|\d{2,}) (minutes|hours|days))\)|cron\((\S+ ){5}\S+\)")


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


@pytest.fixture
def cloudformation() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), CloudFormation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def send(environment: str, built: Path, aws: Aws, cloudformation: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters and the template that reach CloudFormation."""
    aws.create_bucket(ARTIFACTS)
    variables = {**aws.environment(), "AWS_ENDPOINT_URL_CLOUDFORMATION": cloudformation, "SAM_CLI_TELEMETRY": "0"}
    template = str(built / "template.yaml")
    options = ["--config-env", environment, "--template-file", template, "--no-confirm-changeset"]
    answer = subprocess.run(
        [str(ROOT / ".venv-sam/bin/sam"), "deploy", *options, "--config-file", str(ROOT / "samconfig.toml")],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    sent = CloudFormation.sent
    assert sent["Action"] == "CreateChangeSet", answer.stdout + answer.stderr
    count = sum(name.endswith(".ParameterKey") for name in sent)
    parameters = {
        sent[f"Parameters.member.{number}.ParameterKey"]: sent[f"Parameters.member.{number}.ParameterValue"]
        for number in range(1, count + 1)
    }
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


def problem(parameter: dict[str, Any], value: str) -> str:
    """Why CloudFormation would refuse a value; nothing where it would not."""
    kind = parameter["Type"]
    values = value.split(",") if kind == "CommaDelimitedList" else [value]
    if "AllowedValues" in parameter and value not in map(str, parameter["AllowedValues"]):
        return "is none of the allowed values"
    if not all(re.fullmatch(parameter.get("AllowedPattern", "(?s).*"), each) for each in values):
        return f"does not match {parameter['AllowedPattern']}"
    if kind == "Number" and not value.isdigit():
        return "is no number"
    identifiers = {"Subnet": r"subnet-[0-9a-f]{17}", "SecurityGroup": r"sg-[0-9a-f]{17}", "VPC": r"vpc-[0-9a-f]{17}"}
    wanted = next((shape for name, shape in identifiers.items() if f"::{name}::Id" in kind), None)
    if wanted and not all(re.fullmatch(wanted, each) for each in value.split(",")):
        return f"is no {kind}"
    return ""


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_is_sent_for_an_environment_is_what_cloudformation_and_the_function_take(
    environment: str, built: Path, aws: Aws, cloudformation: str
) -> None:
    parameters, template = send(environment, built, aws, cloudformation)
    declared = template["Parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, each in declared.items() if "Default" not in each} <= set(parameters)
    whole = {name: parameters.get(name, str(each.get("Default", ""))) for name, each in declared.items()}
    problems = {name: problem(each, whole[name]) for name, each in declared.items()}
    assert {name: text for name, text in problems.items() if text} == {}
    assert not [name for name in whole if name.endswith("Schedule") and not SCHEDULE.fullmatch(whole[name])]
    assert broken_rules(**parameters) == []
    settings = read_settings(deploy(**parameters).function_environment())
    assert settings.environment == parameters["Environment"] == environment

    resources = template["Resources"]
    assert str(resources["ProvisionerFunction"]["Properties"]["CodeUri"]).startswith(f"s3://{ARTIFACTS}/")
    assert resources["FleetStateMachine"]["Properties"]["DefinitionUri"]["Bucket"] == ARTIFACTS


def test_a_value_that_the_shell_or_sam_would_cut_is_noticed() -> None:
    pattern = {"Type": "String", "AllowedPattern": r"^(rate|cron)\(.+\)$"}
    assert problem(pattern, "rate(12")
    assert not SCHEDULE.fullmatch("rate(12 hour)")
    assert SCHEDULE.fullmatch("cron(0 2 * * ? *)")
