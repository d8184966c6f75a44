"""`plan --sql`: psql does what the function would, and the function has nothing left to do."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.credentials import scram_verifier
from rds_provisioner_cli.psql_script import write_script
from stack.aws import Aws
from stack.binaries import ROOT
from stack.postgres import Login, Server
from stack.world import AUDIT, World

ENTRIES = {
    "keycloak": {"database_name": "keycloak", "username": "keycloak_user", "extensions": ["citext"]},
    "odd": {"database_name": "odd-name_2", "username": "odd-name_2", "createdb": True, "connection_limit": 5},
    "editor": {"database_name": "keycloak", "username": "editor", "access_level": "editor"},
    "reader": {"database_name": "keycloak", "username": "odd_reader", "access_level": "reader"},
}
VARIABLES = {
    "keycloak_user": "VERIFIER_keycloak_user",
    "odd-name_2": "VERIFIER_odd_2d_name_2",
    "editor": "VERIFIER_editor",
    "odd_reader": "VERIFIER_odd_reader",
}


@pytest.fixture
def world(pg_server: Server, aws: Aws, admin: Login) -> World:
    return World(pg_server, aws, admin).__enter__()


def make_script(world: World, folder: Path) -> Path:
    """The script of what is to be done now."""
    address = world.dry_run()["audit"]["plan"]
    plan = json.loads(world.aws.read_object(AUDIT, address.removeprefix(f"s3://{AUDIT}/"))) if address else {}
    (path := folder / "plan.sql").write_text(write_script(plan))
    return path


def psql_environment(world: World) -> dict[str, str]:
    where = {"PGHOST": world.server.host, "PGPORT": str(world.server.port), "PGDATABASE": "postgres"}
    tls = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(world.server.ca_file)}
    who = {"PGUSER": world.admin.username, "PGPASSWORD": world.admin.password}
    return {**os.environ, **where, **tls, **who}


def run_psql(world: World, script: Path, **variables: str) -> None:
    """Run it as the administrator; every warning is a failure."""
    command = ["psql", "--no-psqlrc", "--file", str(script)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    answer = subprocess.run(command, env=psql_environment(world) | variables, check=False, **streams)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.endswith("done\n")


def verifiers(world: World) -> dict[str, str]:
    return {VARIABLES[role]: scram_verifier(password, os.urandom(16)) for role, password in world.passwords.items()}


def test_what_psql_did_leaves_the_function_nothing_to_do(world: World, tmp_path: Path) -> None:
    world.declare_entries(ENTRIES)
    run_psql(world, make_script(world, tmp_path), **verifiers(world))
    assert world.dry_run()["status"] == "no_change"


def test_psql_heals_what_was_changed_by_hand(world: World, tmp_path: Path) -> None:
    world.declare_entries(ENTRIES)
    world.apply()
    for sql in (
        "GRANT CONNECT ON DATABASE keycloak TO PUBLIC",
        "GRANT INSERT ON greetings TO odd_reader",
        "ALTER ROLE odd_reader PASSWORD 'changed by hand'",
    ):
        world.login("keycloak_user", "keycloak").run("CREATE TABLE IF NOT EXISTS greetings (words text)")
        world.server.run_as_superuser(sql, "keycloak")
    run_psql(world, make_script(world, tmp_path), **verifiers(world))
    assert world.dry_run()["status"] == "no_change"


def test_psql_names_no_more_objects_in_a_transaction_than_the_function(world: World, tmp_path: Path) -> None:
    world.declare_entries(ENTRIES)
    world.apply()
    owner = world.login("keycloak_user", "keycloak")
    owner.run("".join(f"CREATE TABLE t{n} (); REVOKE ALL ON t{n} FROM odd_reader;" for n in range(150)))
    owner.run("CREATE TABLE plain ()")
    script = make_script(world, tmp_path)
    in_its_database = script.read_text().split("-- database keycloak")[1]
    assert in_its_database.count("BEGIN;") == (3 if world.server.version >= 18 else 1)
    run_psql(world, script, **verifiers(world))
    assert world.dry_run()["status"] == "no_change"


def test_where_there_is_nothing_to_do_the_script_does_nothing(world: World, tmp_path: Path) -> None:
    world.declare_entries({})
    run_psql(world, make_script(world, tmp_path))


def test_a_stored_plan_is_written_as_a_script_with_no_function_at_hand(tmp_path: Path) -> None:
    statements = {"roles": [], "databases": [{"database": "a", "create": None, "open": [], "statements": ["SELECT 1"]}]}
    words = dict.fromkeys(("plan_digest", "snapshot_version", "requested_by", "plan_text"), "x")
    (stored := tmp_path / "plan.json").write_text(json.dumps({"environment": "dev", **words, "statements": statements}))
    folders = os.pathsep.join(str(ROOT / name) for name in ("lambda", "infra/cli"))
    command = [sys.executable, "-m", "rds_provisioner_cli", "plan", "dev", "--stored", str(stored)]
    command += ["--sql", str(script := tmp_path / "plan.sql")]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": folders}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert "\nBEGIN;\nSELECT 1;\nCOMMIT;\n" in script.read_text()
    leaving = {**statements, "leaving": [{"role": "shop_user", "database": "", "statements": ["SELECT 2"]}]}
    stored.write_text(json.dumps({"environment": "dev", **words, "statements": leaving}))
    refused = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "no script is written of a plan in which roles leave (shop_user)" in " ".join(refused.stderr.split())
    command[command.index("dev")] = "prod"
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 64


@pytest.mark.parametrize("admin", ["delegated"], indirect=True)
def test_psql_asks_for_the_passwords_that_it_was_not_given_and_sends_verifiers(world: World, tmp_path: Path) -> None:
    world.declare_entries({"keycloak": ENTRIES["keycloak"]})
    script = make_script(world, tmp_path)
    started = world.server.mark()
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", "--wait", "psql", "--no-psqlrc", "--file", str(script)]
    child = subprocess.Popen(command, env=psql_environment(world), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    for query in (b"new password", b"again"):
        while query not in shown.split(b"\n")[-1]:
            shown += os.read(ours, 4096)
        os.write(ours, world.passwords["keycloak_user"].encode() + b"\n")
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # how Linux says that nobody holds the other side
    assert child.wait(60) == 0, shown
    assert world.passwords["keycloak_user"] not in world.server.log_text(started)
    assert world.dry_run()["status"] == "no_change"
