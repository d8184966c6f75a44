"""What the first generation of this product got wrong: one test named after each of its mistakes.

Those of its parser stand in `tests/unit/core/test_snapshot.py`, class `TestMistakesOfTheFirstGeneration`.
"""

import contextlib
import csv
import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pg8000.native import DatabaseError

from provisioner import run_input
from provisioner.core.errors import (
    ApplyFailed,
    ApprovalRequired,
    DatabaseUnavailable,
    InvalidRequest,
    PlanBlocked,
    RunInProgress,
    SecretUnavailable,
)
from provisioner.edges import postgres
from provisioner.edges.lock import TAKE_NAME
from stack.aws import Aws
from stack.certificates import Authority
from stack.postgres import Server
from stack.world import AUDIT, World

OWNER = {"database_name": "wiki", "username": "wiki_app"}
READER = {"database_name": "wiki", "username": "wiki_reader", "access_level": "reader"}
BOTH = {"wiki": OWNER, "wiki-reader": READER}


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    """An environment with a delegated administrator; two entries are declared."""
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare_entries(BOTH)
        yield world


def run_as(world: World, username: str, sql: str, database: str = "wiki") -> Any:
    with contextlib.closing(world.login(username, database)) as connection:
        return connection.run(sql)


def refusal(world: World, username: str, sql: str, database: str = "wiki") -> str:
    """The SQLSTATE with which the server refuses a role."""
    with pytest.raises(DatabaseError) as caught:
        run_as(world, username, sql, database)
    return str(caught.value.args[0]["C"])


def ask(world: World, sql: str, database: str = "postgres") -> Any:
    """The one value that the superuser finds."""
    return world.server.run_as_superuser(sql, database)[0][0]


def audit(world: World) -> list[dict[str, str]]:
    key = f"governance/{world.environment}/rds_provision_audit.csv"
    return list(csv.DictReader(io.StringIO(world.aws.read_object(AUDIT, key).decode())))


def test_it_could_not_create_a_database_unless_it_was_a_superuser(world: World) -> None:
    assert world.apply()["status"] == "applied"
    assert ask(world, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'wiki'") == "wiki_app"
    assert ask(world, "SELECT rolsuper FROM pg_roles WHERE rolname = 'rds_provisioner'") is False
    # The membership that creating it takes was given back.
    assert ask(world, "SELECT pg_has_role('rds_provisioner', 'wiki_app', 'USAGE')") is False


def test_it_ran_every_grant_in_the_administrators_own_database(world: World) -> None:
    everything = (
        "SELECT string_agg(x, ' ' ORDER BY x) FROM (SELECT nspname || coalesce(nspacl::text, '') AS x FROM pg_namespace"
    )
    everything += " UNION ALL SELECT defaclacl::text FROM pg_default_acl) AS y"
    before = ask(world, everything)
    world.apply()
    assert ask(world, everything) == before
    assert ask(world, "SELECT has_schema_privilege('wiki_reader', 'public', 'USAGE')", "wiki") is True
    assert ask(world, "SELECT count(*) FROM pg_default_acl", "wiki") == 3


def test_a_declared_reader_became_an_owner(world: World) -> None:
    world.apply()
    run_as(world, "wiki_app", "CREATE TABLE pages (id int)")
    assert run_as(world, "wiki_reader", "SELECT * FROM pages") == []
    assert refusal(world, "wiki_reader", "INSERT INTO pages VALUES (1)") == "42501"
    assert refusal(world, "wiki_reader", "CREATE TABLE mine (id int)") == "42501"


def test_it_pasted_the_user_name_unquoted(world: World) -> None:
    world.declare_entries({"table": {"database_name": "my-data", "username": "select"}})
    world.apply()
    assert run_as(world, "select", "SELECT current_user", "my-data") == [["select"]]


@pytest.mark.parametrize("username", ["somebody", "platform_admin", "rdsadmin"])
def test_it_took_over_any_existing_role_even_the_master(world: World, username: str) -> None:
    world.server.run_as_superuser("CREATE ROLE somebody LOGIN PASSWORD 'kept'")
    world.server.run_as_superuser("GRANT somebody TO rds_provisioner WITH ADMIN OPTION")
    password = f"SELECT rolpassword FROM pg_authid WHERE rolname = '{username}'"
    before = ask(world, password)
    world.declare_entries({"wiki": {"database_name": "wiki", "username": username}})
    with pytest.raises(Exception, match=f'"{username}" (exists but is not managed here|has SUPERUSER|is reserved)'):
        world.apply()
    assert ask(world, password) == before


def test_clear_text_passwords_stood_in_the_servers_log_and_in_errors_and_in_the_csv(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.telemetry import logger

    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    world.apply()
    world.put_secret("wiki", "wiki_app", "wiki", password="rotated-pass-word")
    world.apply()
    world.put_secret("wiki", "wiki_app", "wiki", password="refused-pass-word")
    world.server.run_as_superuser("ALTER ROLE rds_provisioner NOCREATEROLE")
    with pytest.raises(PlanBlocked) as caught:
        world.apply()
    places = {
        "the server's log": world.server.log_text(),
        "the function's log": log.getvalue() + capsys.readouterr().out,
        "the error": str(caught.value),
        **{key: world.aws.read_object(AUDIT, key).decode() for key in world.aws.list_keys(AUDIT)},
    }
    secret = [*world.passwords.values(), "rotated-pass-word", world.admin.password]
    assert [(name, each) for name, text in places.items() for each in secret if each in text] == []
    # Both logs have what they should, so a password would be there.
    assert 'ALTER ROLE "wiki_app" PASSWORD' in places["the server's log"]
    assert '"set_password"' in places["the function's log"]


def test_default_privileges_without_for_role_covered_nothing_that_the_application_created(world: World) -> None:
    world.apply()
    run_as(world, "wiki_app", "CREATE SCHEMA later; CREATE TABLE later.pages (id int); CREATE SEQUENCE later.numbers")
    assert run_as(world, "wiki_reader", "SELECT * FROM later.pages") == []
    assert run_as(world, "wiki_reader", "SELECT last_value FROM later.numbers") == [[1]]


def test_it_said_no_change_while_it_set_the_password_again(world: World) -> None:
    world.apply()
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'wiki_app'"
    before, mark = ask(world, stored), world.server.mark()
    assert world.apply()["status"] == "no_change"
    assert ask(world, stored) == before
    assert not [each for each in world.server.log_statements(mark) if "ALTER" in each.statement]


def test_it_enabled_a_role_that_an_operator_had_disabled(world: World) -> None:
    world.apply()
    world.server.run_as_superuser("ALTER ROLE wiki_app NOLOGIN")
    answer = world.apply()
    assert answer["status"] == "no_change"
    assert [warning["code"] for warning in answer["warnings"]] == ["nologin"]
    assert ask(world, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'wiki_app'") is False


def test_a_grant_that_did_nothing_was_logged_as_success(world: World) -> None:
    world.declare_entries({"wiki": OWNER})
    world.apply()
    # The server is made to say what it says when nothing was granted.
    body = "BEGIN RAISE WARNING 'nothing was granted' USING ERRCODE = '01007'; END"
    world.server.run_as_superuser(
        f"CREATE FUNCTION public.warn() RETURNS event_trigger LANGUAGE plpgsql AS $body$ {body} $body$;"
        "CREATE EVENT TRIGGER warn ON ddl_command_end WHEN TAG IN ('GRANT') EXECUTE FUNCTION public.warn()",
        "wiki",
    )
    world.declare_entries(BOTH)
    with pytest.raises(ApplyFailed, match="01007"):
        world.apply()
    rows = [row for row in audit(world) if row["username"] == "wiki_reader" and row["database"] == "wiki"]
    assert {row["status"] for row in rows if row["action"] in {"grant", "grant_default"}} == {"error"}


def test_a_wrong_owner_was_a_warning_and_exit_0(world: World) -> None:
    world.server.run_as_superuser("CREATE DATABASE wiki")
    with pytest.raises(PlanBlocked, match='database "wiki" belongs to "rdsadmin", and "wiki_app" is declared'):
        world.apply()


def test_a_dry_run_connected_to_nothing(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE wiki_app LOGIN")
    answer = world.dry_run()
    assert "foreign_role" in [blocker["code"] for blocker in answer["blockers"]]
    assert world.server.log_statements(user=world.admin.username)


def test_the_gate_was_opt_in(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin(), "staging") as world:
        world.declare_entries(BOTH)
        with pytest.raises(ApprovalRequired):
            world.apply()
        assert ask(world, "SELECT count(*) FROM pg_database WHERE datname = 'wiki'") == 0


def test_the_gate_believed_the_callers_word_for_the_environment(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.create_delegated_admin(), "staging") as world:
        world.declare_entries(BOTH)
        with pytest.raises(InvalidRequest, match='not for "staging", which is all this function serves'):
            world.call({"environment": "dev", "mode": "apply"})


def test_public_kept_connect(world: World) -> None:
    world.declare_entries({**BOTH, "blog": {"database_name": "blog", "username": "blog_app"}})
    world.apply()
    assert refusal(world, "blog_app", "SELECT 1", "wiki") == "42501"
    assert (
        ask(
            world, "SELECT datacl::text LIKE '%{=%' OR datacl::text LIKE '%,=%' FROM pg_database WHERE datname = 'wiki'"
        )
        is False
    )


def test_every_role_got_createdb(world: World) -> None:
    world.declare_entries({**BOTH, "ci": {"database_name": "ci", "username": "ci_app", "createdb": True}})
    world.apply()
    rows = world.server.run_as_superuser(
        "SELECT rolname FROM pg_roles WHERE rolcreatedb AND rolname ~ '_(app|reader)$'"
    )
    assert rows == [["ci_app"]]


def test_a_missing_secret_left_half_a_fleet(world: World) -> None:
    world.declare_entries({**BOTH, "zoo": {"database_name": "zoo", "username": "zoo_app"}}, with_secrets=False)
    with pytest.raises(SecretUnavailable, match="goldenpath/dev/zoo/postgres"):
        world.apply()
    assert ask(world, "SELECT count(*) FROM pg_roles WHERE rolname IN ('wiki_app', 'wiki_reader', 'zoo_app')") == 0


def test_tls_did_not_verify_the_server(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.master) as world:
        world.declare_entries(BOTH)
        world.settings["DB_CA_BUNDLE"] = str(Authority().ca_file)
        with pytest.raises(DatabaseUnavailable, match="is not trusted"):
            world.apply()


def test_there_were_no_timeouts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOGIN_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secret = {**world.server.admin_secret(world.admin), "port": silent.getsockname()[1]}
        world.aws.put_secret("goldenpath/dev/rds/master", secret)
        with pytest.raises(DatabaseUnavailable, match="cannot be reached: no answer in time"):
            world.apply()


def test_there_was_no_lock_between_two_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_input, "LOCK_SECONDS", 0.1)
    with contextlib.closing(world.server.connect(*world.admin)) as other:
        other.run(TAKE_NAME)
        with pytest.raises(RunInProgress):
            world.apply()
    assert world.apply()["status"] == "applied"


def test_the_csv_was_made_by_joining_strings(world: World) -> None:
    world.apply(requested_by='Bob, "the builder"', build_id="=1+1")
    assert {row["requested_by"] for row in audit(world)} == {'Bob, "the builder"'}
    assert {row["build_id"] for row in audit(world)} == {"'=1+1"}


def test_all_rows_had_one_timestamp(world: World) -> None:
    world.apply()
    done = {row["timestamp_utc"] for row in audit(world) if row["status"] == "success"}
    assert len(done) > 1


def test_there_was_no_audit_when_the_connection_failed(world: World) -> None:
    secret = {**world.server.admin_secret(world.admin), "host": "db.invalid"}
    world.aws.put_secret("goldenpath/dev/rds/master", secret)
    with pytest.raises(DatabaseUnavailable):
        world.apply(run_id="4711")
    [row] = audit(world)
    assert (row["run_id"], row["action"], row["status"]) == ("4711", "refuse", "error")
    assert "db.invalid:" in row["message"]
