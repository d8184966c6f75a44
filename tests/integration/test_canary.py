"""Distinctive passwords go through every scenario and failure; then every byte that left is searched for them.

What left: the function's standard output and error (logs, metrics, answers, tracebacks), its answers and errors, all
objects of the audit bucket, notifications, the server's log with every statement, and the wire as a proxy sees it.
"""

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from stack import binaries
from stack.aws import Aws
from stack.fuse import Fuse, FusedProxy
from stack.mortal import Call, Mortal
from stack.postgres import Server
from stack.world import AUDIT, SNAPSHOTS, World

# With characters that quoting, formatting and escaping trip over.
CANARY = "Canary'\"$1\\%s{0}"
SHOP = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "report": {"database_name": "shop", "username": "reporter", "access_level": "editor"},
}
READER = {"report": SHOP["report"] | {"access_level": "reader"}}
BLOG = {"blog": {"database_name": "blog", "username": "blog_user"}}
LOUD = {"log_statement": "all", "log_min_error_statement": "debug5", "log_min_duration_statement": "0"}


@dataclass
class Evidence:
    """What left, by where it was found."""

    output: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    notifications: list[str] = field(default_factory=list)
    server_log: str = ""
    wire: list[bytes] = field(default_factory=list)
    passwords: set[str] = field(default_factory=set)
    verifiers: set[str] = field(default_factory=set)
    errors: set[str] = field(default_factory=set)

    def of_ours(self) -> dict[str, bytes]:
        return {
            "output": "\n".join(self.output).encode(),
            "answers": "\n".join(self.answers).encode(),
            "notifications": "\n".join(self.notifications).encode(),
            **self.objects,
        }

    def add(self, call: Call) -> Call:
        self.output.append(call.output)
        self.answers.append(json.dumps(call.answer, ensure_ascii=False) + call.message)
        self.errors.add(call.error)
        return call


class Stage:
    """The stack with its canaries, and the scenarios."""

    def __init__(self, world: World, mortal: Mortal, fuse: Fuse, proxy: FusedProxy, evidence: Evidence) -> None:
        self.world, self.mortal, self.fuse, self.proxy, self.evidence = world, mortal, fuse, proxy, evidence

    def call(self, event: Any = None, **environment: str) -> Call:
        call = self.evidence.add(self.mortal.call(event or {"environment": "dev"}, **environment))
        rows = self.world.server.run_as_superuser("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
        self.evidence.verifiers |= {verifier for (verifier,) in rows}
        return call

    def put_password(self, application: str, username: str, database: str, number: int) -> None:
        password = f"{CANARY}-{username}-{number}"
        self.evidence.passwords.add(password)
        self.world.put_secret(application, username, database, password=password)

    def put_secret_text(self, text: str | bytes) -> None:
        self.world.aws.put_secret("goldenpath/dev/blog/postgres", text)

    def what_works(self) -> None:
        """Create, nothing to do, dry run, drift, notify, rotate, revoke, adopt."""
        for application, entry in (SHOP | BLOG).items():
            self.put_password(application, entry["username"], entry["database_name"], 1)
        self.world.declare_entries(SHOP)
        assert (self.call().answer or {})["status"] == "applied"
        assert (self.call().answer or {})["status"] == "no_change"
        self.put_password("shop", "shop_user", "shop", 2)
        for mode in ("dry_run", "drift", "apply"):
            assert self.call({"environment": "dev", "mode": mode}).answer
        self.world.declare_entries(SHOP | READER)
        gated = {"UNGATED_ENVIRONMENTS": "", "REQUIRE_PLAN_DIGEST": "dev"}
        assert self.call({"environment": "dev", "mode": "drift"}, **gated).answer
        assert self.call({"environment": "dev"}, **gated).error == "ApprovalRequired"
        self.put_password("report", "reporter", "shop", 2)
        assert (self.call().answer or {})["status"] == "applied"

    def secrets_that_cannot_be_used(self) -> None:
        self.world.declare_entries(SHOP | BLOG, with_secrets=False)
        password = f"{CANARY}-broken"
        self.evidence.passwords.add(password)
        fields = {"username": "blog_user", "password": password}
        for text in (
            password,
            json.dumps(password),
            json.dumps([password]),
            json.dumps(fields)[:-1],
            json.dumps(fields | {"password": password + "\n"}),
            json.dumps(fields | {"password": {"nested": password}}),
            json.dumps(fields | {"password": password + "\u0378"}),
            json.dumps({"username": password, "password": password}),
            json.dumps(fields | {"dbname": password}),
            password.encode(),
        ):
            self.put_secret_text(text)
            assert self.call().error == "SecretUnavailable"
        self.put_secret_text(json.dumps(fields | {"password": f"{CANARY}-blog_user-1"}))

    def the_administrators_secret(self) -> None:
        admin = self.world.server.admin_secret(self.world.admin) | {"port": self.proxy.port}
        wrong = f"{CANARY}-administrator"
        self.evidence.passwords.add(wrong)
        for fields in ({"password": wrong}, {"password": wrong, "host": "nowhere.invalid"}, {"dbname": "nowhere"}):
            self.world.aws.put_secret("goldenpath/dev/rds/master", admin | fields)
            assert self.call().error == "DatabaseUnavailable"
        self.world.aws.put_secret("goldenpath/dev/rds/master", admin)

    def aws_fails(self) -> None:
        for operation in ("secretsmanager:*", "s3:GetObject", "s3:PutObject"):
            for kind in ("access_denied", "lost_answer"):
                self.world.aws.fail(operation, times=2, kind=kind)  # type: ignore[arg-type]
                self.call()
                self.world.aws.heal()

    def the_server_fails(self) -> None:
        """At each message of a run that sets a password; and a statement with a verifier that is refused."""
        for point in range(1, 40):
            self.put_password("shop", "shop_user", "shop", 2 + point)
            self.fuse.light(point, "answered", self.proxy.drop)
            self.call()
            ended = self.fuse.is_burnt
            self.fuse.put_out()
            if not ended:
                break
        world = self.world
        self.put_password("shop", "shop_user", "shop", 100)
        with contextlib.closing(world.server.superuser()) as other:
            other.run("BEGIN")
            other.run("ALTER ROLE shop_user CONNECTION LIMIT 7")
            assert self.call().error == "ApplyFailed"
            other.run("ROLLBACK")

    def mistakes_of_ours(self) -> None:
        """The clock of Lambda breaks, at any of the times it is asked, with a password in its mouth."""
        for times in range(6):
            self.put_password("shop", "shop_user", "shop", 200 + times)
            self.call({"environment": "dev"}, BROKEN_CLOCK_AFTER=str(times), BROKEN_CLOCK_SAYS=f"{CANARY}-clock")
        self.evidence.passwords.add(f"{CANARY}-clock")

    def snapshots_with_secrets(self) -> None:
        """The rest of a tfvars file is none of our business, and may be full of secrets."""
        self.evidence.passwords.add("Canary!in$tfvars")
        for text in (
            'master_password = "Canary!in$tfvars"\napplication_databases = {}\n',
            'master_password = "Canary!in$tfvars\napplication_databases = {}\n',
            'application_databases = { a = { database_name = "a", username = "Canary!in$tfvars" } }\n',
            'application_databases = { a = { password = "Canary!in$tfvars" } }\n',
            'application_databases = "Canary!in$tfvars"\n',
        ):
            self.world.declare(text)
            self.call()


@pytest.fixture(scope="module")
def evidence() -> Iterator[Evidence]:
    """Everything that left, after every scenario."""
    found = Evidence()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(max(binaries.available()), parameters=LOUD))
        aws = stack.enter_context(Aws())
        world = stack.enter_context(World(server, aws, server.create_delegated_admin()))
        found.passwords.add(world.admin.password)
        fuse = Fuse()
        proxy = stack.enter_context(_RecordingProxy(server.port, fuse, greeting=4))
        queue, topic = _topic_with_queue(aws)
        aws.put_secret("goldenpath/dev/rds/master", server.admin_secret(world.admin) | {"port": proxy.port})
        environment = aws.environment() | world.settings | {"NOTIFY_TOPIC_ARN": topic}
        environment |= {"POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner", "POWERTOOLS_LOG_LEVEL": "DEBUG"}
        mortal = stack.enter_context(Mortal(environment))
        stage = Stage(world, mortal, fuse, proxy, found)
        stage.what_works()
        stage.secrets_that_cannot_be_used()
        stage.the_administrators_secret()
        stage.aws_fails()
        stage.the_server_fails()
        stage.mistakes_of_ours()
        stage.snapshots_with_secrets()
        found.server_log = server.log_text()
        found.objects = {key: aws.read_object(AUDIT, key) for key in aws.list_keys(AUDIT)}
        found.notifications = _drain(aws, queue)
        found.wire = [bytes(each.sent) + bytes(each.received) for each in proxy.recordings]
        assert aws.list_keys(SNAPSHOTS)
        yield found


class _RecordingProxy(FusedProxy):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._record = True


def _topic_with_queue(aws: Aws) -> tuple[str, str]:
    queue = aws.client("sqs").create_queue(QueueName="heard")["QueueUrl"]
    topic = aws.client("sns").create_topic(Name="notify")["TopicArn"]
    arn = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return queue, topic


def _drain(aws: Aws, queue: str) -> list[str]:
    texts: list[str] = []
    while found := aws.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        texts += [message["Body"] for message in found]
        for message in found:
            aws.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return texts


def spellings(password: str) -> set[bytes]:
    """A password as it is, and as the usual encodings would disguise it."""
    raw = password.encode()
    texts = {password, json.dumps(password)[1:-1], repr(password)[1:-1], password.replace("'", "''")}
    texts |= {password.replace("\\", "\\\\"), urllib.parse.quote(password), json.dumps(json.dumps(password))[3:-3]}
    # In base64 the last characters depend on what follows.
    return {text.encode() for text in texts} | {base64.b64encode(raw)[:-4], raw.hex().encode()}


def hits(evidence: Evidence, content: bytes) -> list[str]:
    return [password for password in evidence.passwords if any(each in content for each in spellings(password))]


def test_every_kind_of_failure_was_seen(evidence: Evidence) -> None:
    assert evidence.errors >= {
        "",
        "ApplyFailed",
        "ApprovalRequired",
        "AuditUnavailable",
        "DatabaseUnavailable",
        "InvalidSnapshot",
        "SecretUnavailable",
    }
    assert "ClockBroke" in "\n".join(evidence.output)


@pytest.mark.parametrize("source", ["output", "answers", "notifications"])
def test_nothing_that_the_function_says_holds_a_password(evidence: Evidence, source: str) -> None:
    content = evidence.of_ours()[source]
    # The search sees what is there.
    assert b"shop_user" in content
    assert hits(evidence, content) == []


def test_no_stored_object_holds_a_password(evidence: Evidence) -> None:
    assert any(b"set_password" in content for content in evidence.objects.values())
    assert {key: found for key, content in evidence.objects.items() if (found := hits(evidence, content))} == {}


def test_the_servers_log_of_every_statement_holds_no_password(evidence: Evidence) -> None:
    assert 'ALTER ROLE "shop_user" PASSWORD' in evidence.server_log
    assert hits(evidence, evidence.server_log.encode()) == []


def test_the_wire_holds_neither_passwords_nor_names(evidence: Evidence) -> None:
    assert len(evidence.wire) > 100
    assert all(hits(evidence, content) == [] for content in evidence.wire)
    assert all(b"shop_user" not in content and b"SCRAM" not in content for content in evidence.wire)


def test_a_verifier_is_in_the_servers_own_log_and_nowhere_else(evidence: Evidence) -> None:
    assert any(verifier in evidence.server_log for verifier in evidence.verifiers)
    for source, content in evidence.of_ours().items():
        assert b"SCRAM-SHA-256$" not in content, source
