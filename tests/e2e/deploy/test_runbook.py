"""The SQL of docs/operations.md, run as it stands there, by the delegated administrator, on every version; its `aws`
commands, held against the descriptions of the services.
"""

import contextlib
import json
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from pg8000.native import DatabaseError, InterfaceError

from e2e.deploy.deployment import Deployment
from e2e.deploy.runbook import RUNBOOK, Shell, read_bash, read_sql
from provisioner.core.errors import PlanBlocked, RunInProgress
from provisioner.edges.lock import TAKE_NAME
from stack.aws import Aws
from stack.binaries import ROOT
from stack.postgres import Login, Server
from stack.world import World

ENTRIES = {
    "keycloak": {"database_name": "keycloak", "username": "keycloak_user"},
    "analytics": {"database_name": "keycloak", "username": "analytics_reader", "access_level": "reader"},
}
# Of the command line itself, whatever the operation.
GLOBAL_OPTIONS = {"query", "output", "cli-read-timeout", "cli-binary-format"}
# What else a block may begin a command with: the shell's own, and what the page asks for.
PROGRAMS = {
    "aws",
    "curl",
    "date",
    "export",
    "git",
    "make",
    "output",
    "psql",
    "python3",
    "read",
    "rm",
    "terraform",
    "umask",
    "unset",
}
SERVICES = {"s3api": "s3"}


def read_aws_commands() -> list[str]:
    """The `aws` commands of the blocks and of the text, each on one line, as far as the shell would read it."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", RUNBOOK, re.DOTALL))
    spans = re.findall(r"`(aws\s[^`]+)`", re.sub(r"```.*?```", "", RUNBOOK, flags=re.DOTALL))
    lines = [*blocks.replace("\\\n", " ").splitlines(), *(" ".join(span.split()) for span in spans)]
    commands: list[list[str]] = []
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        commands.append([])
        for word in words:
            if set(word) <= set("();<>|&"):
                commands.append([])
            else:
                commands[-1].append(word)
    return [shlex.join(command) for command in commands if command[:1] == ["aws"]]


@pytest.fixture
def administrator(pg_server: Server) -> Login:
    return pg_server.create_delegated_admin()


@pytest.fixture
def world(pg_server: Server, aws: Aws, administrator: Login) -> Iterator[World]:
    with World(pg_server, aws, administrator) as world:
        yield world


def run(world: World, mark: str, database: str = "postgres") -> list[Any]:
    """Run a block of the runbook as the administrator, and give back the rows of its last statement."""
    rows: list[Any] = []
    with contextlib.closing(world.server.connect(*world.admin, database)) as connection:
        for statement in read_sql(mark):
            rows = connection.run(statement) or []
    return rows


def roles(world: World) -> set[str]:
    rows = world.server.run_as_superuser("SELECT rolname FROM pg_roles WHERE rolname ~ 'keycloak|analytics'")
    return {name for (name,) in rows}


@pytest.mark.parametrize("command", read_aws_commands())
def test_an_aws_command_has_an_operation_and_its_options(command: str) -> None:
    _, service, operation, *words = shlex.split(command)
    session = botocore.session.get_session()
    model = session.get_service_model(SERVICES.get(service, service))
    if operation == "wait":
        waiter, *words = words
        waiters = session.get_waiter_model(service)
        [name] = [each for each in waiters.waiter_names if xform_name(each, "-") == waiter]
        operation = xform_name(waiters.get_waiter(name).operation, "-")
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations, f"{service} has no {operation}"
    parameters = model.operation_model(operations[operation]).input_shape
    assert parameters
    options = {word.removeprefix("--").removeprefix("no-") for word in words if word.startswith("--")} - GLOBAL_OPTIONS
    assert options <= {xform_name(name, "-") for name in parameters.members}
    assert {xform_name(name, "-") for name in parameters.required_members} <= options


def test_every_aws_command_of_the_runbook_is_looked_at() -> None:
    assert len(read_aws_commands()) == len(re.findall(r"\baws [a-z0-9]+ [a-z-]+", RUNBOOK))


def test_every_command_of_the_runbook_is_one_that_the_page_asks_for_or_brings() -> None:
    blocks = "\n".join(map(textwrap.dedent, re.findall(r"```bash\n(.*?)```", RUNBOOK, re.DOTALL)))
    lines = blocks.replace("\\\n", " ").splitlines()
    spans = re.findall(r"`((?:make|sam|aws|\.venv-sam\S+|psql|curl)\s[^`]+)`", RUNBOOK)
    unknown = []
    for line in [*lines, *spans]:
        word = re.sub(r"^(\(|\w+=\$\(|(\w+=[^\s$(]+ )+|\w+=)", "", line.strip()).split(" ")[0]
        path = ROOT / word
        is_installed = word.startswith(".venv-") and path.exists()
        if word and not word.startswith(("#", "'", "}", "$", "(", "...")) and word not in PROGRAMS and not is_installed:
            unknown.append(line)
    assert [line for line in unknown if not line.startswith(("output()", "secret()", "    aws"))] == []


def test_every_chapter_that_the_page_points_to_is_there() -> None:
    headings = re.findall(r"^#+ (.*)$", RUNBOOK, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make (rds[\w-]+|build|cli|doctor|release)\b", RUNBOOK))))
def test_every_target_of_make_is_there(target: str) -> None:
    makefiles = (ROOT / "Makefile").read_text() + (ROOT / "infra/infra.mk").read_text()
    assert re.search(rf"^{target}:", makefiles, re.MULTILINE)


def test_every_option_of_sam_is_one_that_it_has() -> None:
    options: dict[str, set[str]] = {}
    for name, words in re.findall(r"\.venv-sam/bin/sam ([a-z]+)((?:[^`\n]|\\\n)*)", RUNBOOK):
        options.setdefault(name, set()).update(re.findall(r"--[a-z-]+", words))
    assert options
    for name, wanted in options.items():
        # Each start of SAM takes seconds.
        help_of = subprocess.run(
            [ROOT / ".venv-sam/bin/sam", name, "--help"], capture_output=True, text=True, check=True
        )
        assert [option for option in wanted if option not in help_of.stdout] == []


@pytest.mark.parametrize("password", ["plain", 'pa"ss\\word%s', "sp ace $HOME `id` 'quoted'"])
def test_the_secret_of_the_administrator_holds_any_password_and_leaves_no_file(
    shell: Shell, aws: Aws, password: str
) -> None:
    commands = read_bash("admin-secret").replace("umask 077", "umask 077 && umask > umask.txt")
    answer = shell(commands, typed=f"{password}\n")
    assert answer.returncode == 0, answer.stderr
    value = aws.client("secretsmanager").get_secret_value(SecretId="goldenpath/dev/rds/master")["SecretString"]
    secret = json.loads(value)
    # read takes a backslash as it stands, and blanks at the ends away.
    assert (secret["password"], secret["host"], secret["port"]) == (password, "db.example.internal", 5432)
    assert not (shell.folder / "admin.json").exists()
    assert (shell.folder / "umask.txt").read_text().strip() == "0077"
    # Again: the secret exists, the call fails, and the file goes all the same.
    shell(commands, typed=f"{password}\n")
    assert not (shell.folder / "admin.json").exists()


def test_the_secret_of_an_application_is_one_that_the_function_takes(shell: Shell, world: World) -> None:
    answer = shell(read_bash("application-secret").replace("db.example.internal", world.server.host))
    assert answer.returncode == 0, answer.stderr
    world.declare_entries({"keycloak": ENTRIES["keycloak"]}, with_secrets=False)
    assert world.apply()["status"] == "applied"


def test_a_bucket_that_notifies_others_keeps_them_when_eventbridge_is_switched_on(shell: Shell, aws: Aws) -> None:
    s3 = aws.client("s3")
    aws.create_bucket("acme-tfvars", versioned=False)
    queue = aws.client("sqs").create_queue(QueueName="others")["QueueUrl"]
    arn = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    others = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket="acme-tfvars", NotificationConfiguration=others)
    answer = shell(read_bash("existing-bucket"))
    assert answer.returncode == 0, answer.stderr
    put = json.loads((shell.folder / "with-eventbridge.json").read_text())
    assert put["EventBridgeConfiguration"] == {}
    now = s3.get_bucket_notification_configuration(Bucket="acme-tfvars")
    assert [each["QueueArn"] for each in now["QueueConfigurations"]] == [arn]
    assert s3.get_bucket_versioning(Bucket="acme-tfvars")["Status"] == "Enabled"


def test_break_glass_calls_the_function_once(shell: Shell, dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak={"database_name": "keycloak", "username": "keycloak_user"}))
    (shell.folder / "events").mkdir()
    event = json.loads((ROOT / "events/break-glass.json").read_text())
    # With the file edited: another environment, which needs no digest.
    event = {**event, "environment": "dev", "approval": {"allow_db_provision": True, "approved_by": "bob"}}
    (shell.folder / "events/break-glass.json").write_text(json.dumps(event))
    answer = shell(read_bash("break-glass"), endpoint=dev.runtime.endpoint_url)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["StatusCode"] == 200
    assert json.loads((shell.folder / "answer.json").read_text())["status"] == "applied"
    assert dev.aws.read_object("acme-governance", "governance/dev/rds_provision_audit.csv").count(b"create_role") == 1


def test_what_depends_on_a_role_is_named_with_its_databases(world: World) -> None:
    world.declare_entries(ENTRIES)
    world.apply()
    with contextlib.closing(world.login("keycloak_user", "keycloak")) as application:
        application.run("CREATE TABLE greetings (words text)")
    places = {(place, relation, kind): count for place, relation, kind, count in run(world, "what-depends")}
    assert ("the database keycloak", "owns", "pg_database") in places
    assert any(place == "keycloak" and kind == "pg_class" for place, _, kind in places)


def test_a_reader_is_removed_and_the_database_stays(world: World) -> None:
    world.declare_entries(ENTRIES)
    world.apply()
    with contextlib.closing(world.login("keycloak_user", "keycloak")) as application:
        application.run("CREATE TABLE greetings (words text)")
    world.declare_entries({"keycloak": ENTRIES["keycloak"]})
    run(world, "drop-a-reader", "keycloak")
    assert roles(world) == {"keycloak_user"}
    assert world.drift()["status"] == "in_sync"


def test_an_owner_is_removed_with_its_database_although_somebody_is_in_it(world: World) -> None:
    world.declare_entries({"keycloak": ENTRIES["keycloak"]})
    world.apply()
    application = world.login("keycloak_user", "keycloak")
    application.run("CREATE TABLE greetings (words text)")
    world.declare_entries({})
    run(world, "close-the-door")
    run(world, "drop-an-owner")
    with pytest.raises((DatabaseError, InterfaceError)):
        application.run("SELECT 1")
    assert roles(world) == set()
    assert world.drift()["status"] == "in_sync"


def test_what_the_first_generation_made_is_handed_over_and_adopted(world: World) -> None:
    first_generation = """
        CREATE ROLE keycloak_user LOGIN PASSWORD 'of the first generation';
        GRANT keycloak_user TO CURRENT_USER;
        CREATE DATABASE keycloak OWNER keycloak_user"""
    with contextlib.closing(world.server.connect(*world.server.master)) as master:
        for statement in first_generation.split(";"):
            master.run(statement)
        world.declare_entries({"keycloak": ENTRIES["keycloak"]})
        with pytest.raises(PlanBlocked, match="not managed here"):
            world.apply()
        for statement in read_sql("hand-over"):
            master.run(statement)
    assert world.apply(adopt=["keycloak"])["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_what_was_made_by_hand_is_adopted_and_then_nothing_changes(world: World) -> None:
    run(world, "by-hand")
    world.declare_entries({"keycloak": ENTRIES["keycloak"]})
    with pytest.raises(PlanBlocked):
        world.apply()
    assert world.apply(adopt=["keycloak"])["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_the_holder_of_the_lock_is_found_and_ended(latest_server: Server, aws: Aws) -> None:
    world = World(latest_server, aws, latest_server.create_delegated_admin()).__enter__()
    world.declare_entries({"keycloak": ENTRIES["keycloak"]})
    with contextlib.closing(world.server.connect(*world.admin)) as stuck:
        stuck.run(TAKE_NAME)
        [[pid]] = stuck.run("SELECT pg_backend_pid()")
        with pytest.raises(RunInProgress):
            world.apply()
        assert [row[0] for row in run(world, "who-holds-the-lock")] == [pid]
        assert run(world, "end-the-holder") == [[True]]
        assert world.apply()["status"] == "applied"


def test_nobody_holds_the_lock_when_no_run_is_at_work(world: World) -> None:
    world.declare_entries({"keycloak": ENTRIES["keycloak"]})
    world.apply()
    assert run(world, "who-holds-the-lock") == []


def test_who_is_in_rds_iam_is_found_with_the_remedy(world: World) -> None:
    world.server.run_as_superuser('CREATE ROLE "Token"; GRANT rds_iam TO "Token"')
    assert ['REVOKE rds_iam FROM "Token"', "rdsadmin"] in run(world, "who-is-in-rds-iam")
