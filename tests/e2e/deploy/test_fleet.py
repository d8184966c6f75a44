"""The fleet's state machine on the local Step Functions: one run for each snapshot, whatever single functions do.

Most functions here are scripts, since it is the machine that is tried; one test joins it to the real ones.

The interpreter finds every service at one address. Here that is a front that answers for the functions, as a script
says, and passes everything else on to moto. Two things differ from the real service and cannot be tried here: a map
with more failures than are tolerated succeeds all the same, and the manifest names no files.
"""

import http.client
import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from bench.fleet import entries
from integration.infra.deployed_template import deploy
from provisioner.core.errors import ProvisioningError
from stack.aws import ACCOUNT, REGION, Aws
from stack.binaries import ROOT
from stack.clock import Clock, when_made
from stack.postgres import Server
from stack.world import AUDIT as WORLD_AUDIT
from stack.world import SNAPSHOTS as WORLD_SNAPSHOTS
from stack.world import World

Function = Callable[[dict[str, Any]], dict[str, Any]]
# Of the calls that count the runs; Step Functions capitalizes the names of the SDK, moto passes on what it is given.
SDK_NAMES = re.compile(r"\b(ExecutionArn|MapRunArn|MapRuns|ItemCounts|Total|Succeeded|Failed|Aborted|TimedOut)\b")
SNAPSHOTS, AUDIT = "acme-tfvars", "acme-governance"
ANSWER = {"status": "in_sync", "summary": {"unchanged": 1}, "plan_digest": "sha256:0"}


class Throttled(Exception):
    """Lambda has no room for a call."""


class Failed(Exception):
    """A function raised: the name of the error and its message."""


class Front(ThreadingHTTPServer):
    """One address for everything: functions by name, and moto."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.functions: dict[str, Function] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.moto = ""
        self.running = self.most_running = 0
        self.lock = threading.Lock()

    def invoke(self, name: str, event: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        # Everybody calls the alias.
        name = name.removesuffix(":live")
        with self.lock:
            self.calls.append((name, event))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            return 200, {}, self.functions[name](event)
        except KeyError:
            return 404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, {"Message": f"Function not found: {name}"}
        except Throttled:
            return 429, {"x-amzn-ErrorType": "TooManyRequestsException"}, {"Message": "Rate Exceeded."}
        except Failed as error:
            kind, message = error.args
            return 200, {"X-Amz-Function-Error": "Unhandled"}, {"errorType": kind, "errorMessage": message}
        finally:
            with self.lock:
                self.running -= 1


class Handler(BaseHTTPRequestHandler):
    """Tells a call of a function from everything else."""

    protocol_version = "HTTP/1.1"
    server: Front

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        parts = self.path.split("/")
        if len(parts) == 5 and parts[2] == "functions" and parts[4] == "invocations":
            status, headers, answer = self.server.invoke(unquote(parts[3]), json.loads(self._body()))
            self._answer(status, headers, json.dumps(answer).encode())
        else:
            self._forward()

    def _forward(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.server.moto).netloc, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, self._body(), kept)
        answer = connection.getresponse()
        headers = {name: value for name, value in answer.getheaders() if name.lower() != "content-length"}
        self._answer(answer.status, headers, answer.read())
        connection.close()

    do_GET = do_PUT = do_DELETE = do_HEAD = _forward  # noqa: N815 - the base class's names

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        # The interpreter reads the id out of an error.
        for name, value in {"x-amzn-RequestId": "0", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Fleet:
    """The state machine of the template, a bucket with snapshots, and functions that do as they are told."""

    def __init__(self, aws: Aws, front: Front, **parameters: str) -> None:
        self.aws = aws
        self.front = front
        self.stack = deploy(CreateFleet="true", **parameters)
        self._client = aws.client("stepfunctions")
        aws.create_bucket(SNAPSHOTS)
        aws.create_bucket(AUDIT)
        topic = aws.client("sns").create_topic(Name="rds-provisioner-dev")["TopicArn"]
        self._inbox = aws.client("sqs").create_queue(QueueName="inbox")["QueueUrl"]
        aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:inbox")

    def put(self, *keys: str) -> None:
        for key in keys:
            self.aws.put_snapshot(SNAPSHOTS, key, "application_databases = {}")

    def script(self, environment: str, *answers: dict[str, Any] | Exception | Function) -> None:
        """Let the function of an environment give these answers in turn, and the last one from then on."""
        left = list(answers)

        def answer(event: dict[str, Any]) -> dict[str, Any]:
            given = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(given, Exception):
                raise given
            return given if isinstance(given, dict) else given(event)

        self.front.functions[f"rds-provisioner-{environment}"] = answer

    def definition(self) -> dict[str, Any]:
        """The definition with the template's values in it."""
        [machine] = self.stack.of_type("AWS::StepFunctions::StateMachine").values()
        text = (ROOT / "infra/fleet.asl.json").read_text()
        for name, value in machine["DefinitionSubstitutions"].items():
            text = text.replace(f"${{{name}}}", str(value))
        return dict(json.loads(text))

    def run(self, request: dict[str, Any] | None = None, *, most_attempts: int = 20) -> dict[str, Any]:
        """Run the machine to its end; the waits between attempts are cut short."""
        definition = json.dumps(as_understood_here(self.definition(), most_attempts))
        machine = self._client.create_state_machine(
            name="rds-provisioner-dev-fleet", definition=definition, roleArn=f"arn:aws:iam::{ACCOUNT}:role/fleet"
        )["stateMachineArn"]
        started = self._client.start_execution(stateMachineArn=machine, name="sweep", input=json.dumps(request or {}))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            execution = self._client.describe_execution(executionArn=started["executionArn"])
            if execution["status"] != "RUNNING":
                return dict(execution)
            time.sleep(0.1)
        raise TimeoutError("the execution did not end")

    def notifications(self) -> list[dict[str, str]]:
        received = self.aws.client("sqs").receive_message(QueueUrl=self._inbox, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in received.get("Messages", [])]

    def called(self) -> Counter[str]:
        return Counter(name for name, _ in self.front.calls)


def as_understood_here(value: Any, most_attempts: int) -> Any:
    """The same definition without long waits, and with the calls of the SDK in the case that moto passes on."""
    if isinstance(value, list):
        return [as_understood_here(each, most_attempts) for each in value]
    if not isinstance(value, dict):
        return value
    if "aws-sdk:sfn" in value.get("Resource", ""):
        return json.loads(SDK_NAMES.sub(lambda match: match[0][0].lower() + match[0][1:], json.dumps(value)))
    changed = {name: as_understood_here(each, most_attempts) for name, each in value.items()}
    if "MaxAttempts" not in value:
        return changed
    attempts = min(value["MaxAttempts"], most_attempts)
    return {"ErrorEquals": value["ErrorEquals"], "IntervalSeconds": 1, "BackoffRate": 1.0, "MaxAttempts": attempts}


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    front = Front()
    threading.Thread(target=front.serve_forever, daemon=True).start()
    yield front
    front.shutdown()
    front.server_close()


@pytest.fixture(scope="module")
def steps(front: Front) -> Iterator[Aws]:
    """An AWS whose Step Functions run."""
    with pytest.MonkeyPatch.context() as patch:
        # The interpreter asks moto's settings for the one address of all services.
        patch.setenv("MOTO_PORT", str(front.server_port))
        with Aws() as aws:
            front.moto = aws.endpoint_url
            yield aws


@pytest.fixture
def fleet(front: Front, steps: Aws) -> Fleet:
    steps.reset()
    front.functions.clear()
    front.calls.clear()
    front.most_running = 0
    connection = http.client.HTTPConnection(urlsplit(steps.endpoint_url).netloc)
    connection.request("POST", "/moto-api/config", json.dumps({"stepfunctions": {"execute_state_machine": True}}))
    assert connection.getresponse().status == 201
    connection.close()
    return Fleet(steps, front)


def test_the_definition_is_accepted_as_it_stands(fleet: Fleet) -> None:
    definition = json.dumps(fleet.definition())
    created = fleet.aws.client("stepfunctions").create_state_machine(
        name="as-it-stands", definition=definition, roleArn=f"arn:aws:iam::{ACCOUNT}:role/fleet"
    )
    assert created["stateMachineArn"].endswith(":as-it-stands")


def test_every_snapshot_has_one_run_by_the_function_of_its_environment(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars", "test/terraform.tfvars", "prod/terraform.tfvars")
    for environment in ("dev", "test", "prod"):
        fleet.script(environment, ANSWER)
    assert fleet.run()["status"] == "SUCCEEDED"
    assert fleet.called() == {"rds-provisioner-dev": 1, "rds-provisioner-test": 1, "rds-provisioner-prod": 1}
    event = next(event for name, event in fleet.front.calls if name == "rds-provisioner-prod")
    run_id = event.pop("run_id")
    assert run_id
    assert event == {
        "environment": "prod",
        "mode": "drift",
        "requested_by": "fleet",
        "tfvars": {"key": "prod/terraform.tfvars"},
    }


def test_what_is_no_snapshot_calls_nobody(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars", "dev/previews/1.tfvars", "readme.md")
    fleet.script("dev", ANSWER)
    assert fleet.run()["status"] == "SUCCEEDED"
    assert fleet.called() == {"rds-provisioner-dev": 1}


def test_a_prefix_and_a_mode_are_passed_on_and_no_approval_ever(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars", "test/terraform.tfvars")
    fleet.script("test", ANSWER)
    approval = {"allow_db_provision": True, "approved_by": "alice"}
    fleet.run({"mode": "apply", "prefix": "test/", "approval": approval})
    [(name, event)] = fleet.front.calls
    assert (name, event["mode"], "approval" in event) == ("rds-provisioner-test", "apply", False)


def test_a_run_that_is_out_of_time_is_called_again_until_it_is_done(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars")
    fleet.script("dev", Failed("OutOfTime", "12 of 40 databases"), Failed("OutOfTime", "30 of 40 databases"), ANSWER)
    assert fleet.run({"mode": "apply"})["status"] == "SUCCEEDED"
    assert fleet.called() == {"rds-provisioner-dev": 3}


def test_a_run_that_is_never_done_is_called_a_bounded_number_of_times(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars")
    fleet.script("dev", Failed("OutOfTime", "0 of 40 databases"))
    fleet.run({"mode": "apply"}, most_attempts=2)
    assert fleet.called() == {"rds-provisioner-dev": 3}
    [out_of_time, *_] = fleet.definition()["States"]["Fleet"]["ItemProcessor"]["States"]["Provision"]["Retry"]
    assert (out_of_time["ErrorEquals"], out_of_time["MaxAttempts"]) == (["OutOfTime"], 20)


def test_throttling_is_waited_out(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars")
    fleet.script("dev", Throttled(), Throttled(), ANSWER)
    assert fleet.run()["status"] == "SUCCEEDED"
    assert fleet.called() == {"rds-provisioner-dev": 3}


def test_a_refusal_is_not_tried_again_and_stops_nobody_else(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars", "test/terraform.tfvars", "prod/terraform.tfvars")
    fleet.script("dev", ANSWER)
    fleet.script("test", ANSWER)
    fleet.script("prod", Failed("ApprovalRequired", "prod is gated"))
    fleet.run({"mode": "apply"})
    assert fleet.called() == {"rds-provisioner-dev": 1, "rds-provisioner-test": 1, "rds-provisioner-prod": 1}


def test_the_summary_counts_and_says_where_the_rest_stands(fleet: Fleet) -> None:
    fleet.put("dev/terraform.tfvars", "test/terraform.tfvars", "prod/terraform.tfvars")
    fleet.script("dev", ANSWER)
    fleet.script("test", ANSWER)
    fleet.script("prod", Failed("DatabaseUnavailable", "no route"))
    fleet.run()
    [notification] = fleet.notifications()
    assert notification["Subject"] == "rds-provisioner fleet, drift: 1 failed of 3"
    [manifest] = fleet.aws.list_keys(AUDIT, "governance/_fleet/")
    assert manifest.endswith("/manifest.json")
    assert f"s3://{AUDIT}/{manifest}" in notification["Message"]


def test_a_bucket_that_cannot_be_listed_is_a_failure_that_is_notified(fleet: Fleet) -> None:
    fleet.aws.client("s3").delete_bucket(Bucket=SNAPSHOTS)
    assert fleet.run()["status"] == "FAILED"
    assert len(fleet.notifications()) == 1


def test_no_more_functions_run_at_once_than_the_parameter_says(fleet: Fleet) -> None:
    def slow(_event: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.5)
        return ANSWER

    for number in range(12):
        fleet.put(f"e{number}/terraform.tfvars")
        fleet.script(f"e{number}", slow)
    fleet.run()
    assert sum(fleet.called().values()) == 12
    assert fleet.front.most_running <= int(fleet.stack.parameters["FleetMaxConcurrency"])


def real(world: World, databases_in_one_call: int) -> Function:
    """The function itself, which has the time to make so many databases in each call."""
    numbers = itertools.count(1)

    def function(event: dict[str, Any]) -> dict[str, Any]:
        try:
            return world.call(event, context=Clock(when_made(world.server, databases_in_one_call), next(numbers)))
        except ProvisioningError as error:
            raise Failed(type(error).__name__, str(error)) from None

    return function


def test_real_functions_hand_on_and_fail_as_the_machine_expects(fleet: Fleet, latest_server: Server) -> None:
    # One at a time: here they share a process, and a server that takes one run at a time.
    buckets = {"SnapshotBucketName": WORLD_SNAPSHOTS, "AuditBucketName": WORLD_AUDIT}
    fleet.stack = deploy(CreateFleet="true", FleetMaxConcurrency="1", **buckets)
    admin = latest_server.create_delegated_admin()
    with (
        World(latest_server, fleet.aws, admin, settings={"MAX_WORKERS": "1"}) as dev,
        World(latest_server, fleet.aws, admin, environment="test", settings={"UNGATED_ENVIRONMENTS": "test"}) as test,
    ):
        dev.declare_entries(entries(6))
        test.declare_entries({"shop": {"database_name": "shop", "username": "shop"}}, with_secrets=False)
        fleet.script("dev", Throttled(), real(dev, databases_in_one_call=2))
        fleet.script("test", real(test, databases_in_one_call=2))
        mark = latest_server.mark()

        assert fleet.run({"mode": "apply"})["status"] == "SUCCEEDED"

        # Throttled, then twice as many databases as fit, then the rest; and one that is not tried again.
        assert fleet.called() == {"rds-provisioner-dev": 1 + 3, "rds-provisioner-test": 1}
        created = [line for line in latest_server.log_lines(mark) if line.startswith("CREATE DATABASE")]
        assert len(created) == len(set(created)) == 6
        assert dev.drift()["status"] == "in_sync"
        [notification] = fleet.notifications()
        assert notification["Subject"] == "rds-provisioner fleet, apply: 1 failed of 2"
        assert b",refuse,error," in fleet.aws.read_object(WORLD_AUDIT, "governance/test/rds_provision_audit.csv")
