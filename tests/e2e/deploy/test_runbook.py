"""The SQL of docs/operations.md, run as it stands there, by the delegated administrator, on every version; its `aws`
commands, held against the descriptions of the services.
"""

import contextlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from pg8000.native import DatabaseError, InterfaceError

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
RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
# Of the command line itself, whatever the operation.
GLOBAL_OPTIONS = {"query", "output"}
SERVICES = {"s3api": "s3"}


def read_sql(mark: str) -> list[str]:
    """The statements of the block that a comment marks."""
    [block] = re.findall(rf"<!-- {mark} -->\s*```sql\n(.*?)```", RUNBOOK, re.DOTALL)
    return [statement.strip() for statement in block.split(";") if statement.strip()]


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
    model = botocore.session.get_session().get_service_model(SERVICES.get(service, service))
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations, f"{service} has no {operation}"
    parameters = model.operation_model(operations[operation]).input_shape
    assert parameters
    options = {word.removeprefix("--") for word in words if word.startswith("--")} - GLOBAL_OPTIONS
    assert options <= {xform_name(name, "-") for name in parameters.members}
    assert {xform_name(name, "-") for name in parameters.required_members} <= options


def test_every_aws_command_of_the_runbook_is_looked_at() -> None:
    assert len(read_aws_commands()) == len(re.findall(r"\baws [a-z0-9]+ [a-z-]+", RUNBOOK))


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
