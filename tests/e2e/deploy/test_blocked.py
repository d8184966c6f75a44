"""The chapter of docs/operations.md on plans that are blocked: what it says of each code moves what is in the way."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator

import pytest
from pg8000.exceptions import DatabaseError

from e2e.deploy.runbook import RUNBOOK, read_sql
from provisioner.core.errors import PlanBlocked
from stack.aws import Aws
from stack.binaries import ROOT
from stack.held import wait_until
from stack.postgres import Login, Server
from stack.world import World

KEYCLOAK = {"database_name": "keycloak", "username": "keycloak_user"}
OLD = {"database_name": "keycloak", "username": "old_user"}
# What a person declares again, or corrects.
BY_DECLARATION = {"foreign_owner", "database_missing", "extension_unavailable", "secret_missing"}
WITH_ADMIN = "GRANT keycloak_user TO rds_provisioner WITH ADMIN OPTION"
FOREIGN_ROLE = f"CREATE ROLE keycloak_user LOGIN; {WITH_ADMIN}"
FOREIGN_DATABASE = f"{FOREIGN_ROLE}; GRANT keycloak_user TO CURRENT_USER; CREATE DATABASE keycloak OWNER keycloak_user"
# What was done to the server after the first apply, as a superuser, by code.
DONE = {
    "privileged_role": "ALTER ROLE keycloak_user BYPASSRLS",
    "iam_login": "GRANT rds_iam TO keycloak_user",
    "database_closed": "ALTER DATABASE keycloak WITH ALLOW_CONNECTIONS false",
    "database_unreadable": "REVOKE CONNECT ON DATABASE keycloak FROM rds_provisioner",
    "database_invalid": "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'keycloak'",
    "administrator_rights": "ALTER ROLE rds_provisioner NOCREATEROLE NOCREATEDB",
}
# And in the database.
DONE_INSIDE = {"extension_without_schema": "CREATE SCHEMA other AUTHORIZATION keycloak_user; DROP SCHEMA public"}


def read_rows() -> dict[str, tuple[str, list[str]]]:
    """For each code who it is done as, and the commands of its row."""
    [table] = re.findall(r"<!-- table: blockers -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", RUNBOOK)
    rows = {}
    for line in table.splitlines():
        codes, whom, commands = (cell.strip() for cell in line.strip("|").split("|"))
        for code in re.findall(r"`(\w+)`", codes):
            rows[code] = (whom, re.findall(r"`([^`]+)`", commands))
    return rows


@pytest.fixture
def world(pg_server: Server, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, pg_server.create_delegated_admin()) as world:
        yield world


def blocking(world: World) -> set[str]:
    """The codes of the blockers of a dry run."""
    blockers = world.dry_run()["blockers"]
    assert all(each["next_step"] for each in blockers)
    return {each["code"] for each in blockers}


def run_as(world: World, login: Login, statements: str | list[str], database: str = "postgres") -> None:
    """Run statements one by one in one session."""
    with contextlib.closing(world.server.connect(*login, database)) as connection:
        for statement in statements.split(";") if isinstance(statements, str) else statements:
            connection.run(statement)


def follow(world: World, code: str) -> None:
    """Do what the row of a code says, as who it says."""
    whom, [command, *_] = read_rows()[code]
    database = "keycloak" if "in that database" in whom else "postgres"
    if whom.startswith("the RDS master") and code != "extension_not_trusted":
        run_as(world, world.server.master, command, database)
    elif whom.startswith("rds_provisioner"):
        run_as(world, world.admin, command, database)
    elif whom.startswith("its owner"):
        # DROP DATABASE cannot be run from within, a schema only there.
        statements = read_sql("as-its-owner")
        run_as(world, world.admin, [command if "ALTER" in each else each for each in statements], database)
    else:
        # Nobody on this machine is AWS, which gives the master of RDS what only a superuser has elsewhere.
        world.server.run_as_superuser(command, database)


def test_every_blocker_of_the_code_has_a_row_and_only_those() -> None:
    sources = [ROOT / "lambda/provisioner/core" / name for name in ("checks.py", "roles.py", "kept.py", "retiring.py")]
    said = {code for path in sources for code in re.findall(r'Finding\(\s*"(\w+)"', path.read_text())}
    said |= {"owner_change", "secret_missing"}
    warnings = {"kept_database", "kept_database_open"}
    assert set(read_rows()) == said - warnings


@pytest.mark.parametrize("code", [*DONE, *DONE_INSIDE])
def test_what_was_done_by_hand_is_moved_out_of_the_way(world: World, code: str) -> None:
    entry = {**KEYCLOAK, "extensions": ["pgcrypto"]} if code in DONE_INSIDE else KEYCLOAK
    world.declare_entries({"keycloak": KEYCLOAK})
    world.apply()
    if code in DONE_INSIDE:
        world.server.run_as_superuser(DONE_INSIDE[code], "keycloak")
    else:
        world.server.run_as_superuser(DONE[code])
    if code == "database_unreadable":
        world.server.run_as_superuser("ALTER ROLE rds_provisioner NOINHERIT")
    more = {"grafana": {"database_name": "grafana", "username": "grafana_user"}} if "administrator" in code else {}
    world.declare_entries({"keycloak": entry, **more})
    assert code in blocking(world)
    follow(world, code)
    assert blocking(world) == set()
    assert world.apply()["status"] in {"applied", "no_change"}


@pytest.mark.parametrize(
    ("code", "made"), [("foreign_role", FOREIGN_ROLE), ("foreign_database", FOREIGN_DATABASE)], ids=["role", "database"]
)
def test_what_stands_already_is_adopted(world: World, code: str, made: str) -> None:
    run_as(world, world.server.master, made)
    world.declare_entries({"keycloak": KEYCLOAK})
    assert code in blocking(world)
    _, [command, *_] = read_rows()[code]
    assert world.apply(adopt=[command.partition("ADOPT=")[2]])["status"] == "applied"


def test_the_administrator_is_given_what_it_needs_to_adopt(world: World) -> None:
    run_as(world, world.server.master, "CREATE ROLE keycloak_user LOGIN")
    world.declare_entries({"keycloak": KEYCLOAK})
    if world.server.version >= 16:
        assert "administrator_lacks_admin" in {each["code"] for each in world.dry_run(adopt=["keycloak"])["blockers"]}
    follow(world, "administrator_lacks_admin")
    assert world.apply(adopt=["keycloak"])["status"] == "applied"


def test_an_extension_is_made_by_the_master(world: World) -> None:
    world.declare_entries({"keycloak": KEYCLOAK})
    world.apply()
    [extension] = re.findall(r'CREATE EXTENSION "(\w+)"', read_rows()["extension_not_trusted"][1][0])
    world.declare_entries({"keycloak": {**KEYCLOAK, "extensions": [extension]}})
    assert blocking(world) == {"extension_not_trusted"}
    follow(world, "extension_not_trusted")
    assert blocking(world) == set()


def test_a_database_passes_to_another_owner_by_hand(world: World) -> None:
    world.declare_entries({"keycloak": OLD, "next": {**KEYCLOAK, "access_level": "editor"}})
    world.apply()
    run_as(world, Login("old_user", world.passwords["old_user"]), "CREATE TABLE words (word text)", "keycloak")
    world.declare_entries({"keycloak": KEYCLOAK}, with_secrets=False)
    world.put_secret("keycloak", "keycloak_user", "keycloak", password=world.passwords["keycloak_user"])
    with pytest.raises(PlanBlocked, match='belongs to "old_user"'):
        world.apply()
    assert blocking(world) == {"owner_change"}
    follow(world, "owner_change")
    assert blocking(world) == set()
    world.apply()
    assert world.apply()["status"] == "no_change"


def test_a_kept_database_is_adopted(world: World) -> None:
    world.declare_entries({"keycloak": OLD})
    world.apply()
    world.declare_entries({})
    world.apply(quarantine=["old_user"])
    [[text]] = world.server.run_as_superuser(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'old_user'"
    )
    mark = json.dumps(json.loads(text) | {"quarantined": "2020-02-29T23:59:59Z"})
    world.server.run_as_superuser(f"COMMENT ON ROLE old_user IS '{mark}'")
    world.apply(retire=["old_user"])
    world.put_secret("keycloak", "keycloak_user", "keycloak")
    world.declare_entries({"keycloak": KEYCLOAK}, with_secrets=False)
    assert blocking(world) == {"database_kept"}
    assert world.apply(adopt=["keycloak"])["status"] == "applied"


def test_who_locks_what_databases_are_copied_from_is_ended(world: World) -> None:
    world.declare_entries({"keycloak": KEYCLOAK})
    world.apply()
    world.declare_entries({"keycloak": KEYCLOAK, "grafana": {"database_name": "grafana", "username": "grafana_user"}})
    with contextlib.closing(world.login("keycloak_user", "keycloak")) as holder:
        holder.run("BEGIN")
        holder.run("ALTER ROLE CURRENT_USER IN DATABASE template0 SET work_mem = '4MB'")
        waits = threading.Thread(target=rename_template0, args=(world,))
        waits.start()
        wait_until(lambda: blocking(world) == {"template_locked"})
        whom, [command, *_] = read_rows()["template_locked"]
        assert whom == "the RDS master"
        [blocker] = world.dry_run()["blockers"]
        [session] = re.findall("session ([0-9]+) of", blocker["message"])
        run_as(world, world.server.master, command.replace("12345", session))
        waits.join()
    assert world.apply()["status"] == "applied"


def rename_template0(world: World) -> None:
    """Wait for the lock, and be refused."""
    with contextlib.closing(world.login("keycloak_user", "keycloak")) as other, pytest.raises(DatabaseError):
        other.run("ALTER DATABASE template0 RENAME TO x")


@pytest.mark.parametrize("code", sorted(BY_DECLARATION))
def test_what_the_snapshot_says_wrongly_is_corrected_there(world: World, code: str) -> None:
    reader = {**KEYCLOAK, "access_level": "reader"}
    entries = {"keycloak": {**KEYCLOAK, "extensions": ["no_such_thing"]} if code == "extension_unavailable" else reader}
    if code == "foreign_owner":
        run_as(world, world.server.master, "CREATE ROLE foreigner; GRANT foreigner TO CURRENT_USER;"
               "CREATE DATABASE keycloak OWNER foreigner")  # fmt: skip
        entries = {"keycloak": KEYCLOAK}
    world.declare_entries(entries, with_secrets=code != "secret_missing")
    assert code in blocking(world)
