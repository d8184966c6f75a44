"""Whatever is wrong with what comes in: one clear error with every problem, audit rows, not one write for it.

That nothing was written is read in the server's own log.
"""

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    InvalidSnapshot,
    PlanBlocked,
    ProvisioningError,
    SecretUnavailable,
    StaleSnapshot,
)
from provisioner.core.snapshot import MAX_BYTES
from stack.aws import Aws
from stack.certificates import Authority, session_authority
from stack.ports import free_port
from stack.postgres import Login, Server
from stack.world import AUDIT, SNAPSHOTS, World

# A look may set something for its own session first.
LOOK = re.compile(r"\s*(SELECT|WITH)\b")
WIKI = {"database_name": "wiki", "username": "wiki_app"}
READER = {"database_name": "wiki", "username": "wiki_reader", "access_level": "reader"}


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    """An environment in which everything is as it should be: each test spoils one thing."""
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare_entries({"wiki": WIKI, "wiki-reader": READER})
        yield world


def refused(world: World, kind: type[ProvisioningError], *said: str, event: object = None, **fields: Any) -> None:
    """Call the function and hold what it says to one problem for each of `said`, in the error and in the audit."""
    mark = world.server.mark()
    with pytest.raises(kind) as caught:
        world.call(event, **fields)
    findings = [str(finding) for finding in caught.value.findings]
    assert len(findings) == len(said), findings
    for text in said:
        assert any(text in finding for finding in findings), (text, findings)
        assert text in str(caught.value)
    errors = [row["message"] for row in audit(world) if row["status"] == "error"]
    # The audit keeps a row on one line and takes the sting out of formulas; what it says is the same.
    assert [re.sub(r"^'", "", message) for message in errors] == [finding[:1000] for finding in findings]
    assert written(world.server, mark) == []
    for password in world.passwords.values():
        assert password not in str(caught.value)


def audit(world: World) -> list[dict[str, str]]:
    key = f"governance/{world.environment}/rds_provision_audit.csv"
    return list(csv.DictReader(io.StringIO(world.aws.read_object(AUDIT, key).decode())))


def written(server: Server, mark: int) -> list[str]:
    """The statements since the marker that do more than look."""
    said = [each.statement for each in server.log_statements(mark)]
    return [statement for statement in said if not LOOK.match(statement)]


def entry(**attributes: object) -> str:
    """A tfvars file with one entry, some of whose attributes are given as HCL."""
    lines = {"database_name": '"wiki"', "username": '"wiki_app"', **attributes}
    return (
        "application_databases = { wiki = { " + ", ".join(f"{name} = {text}" for name, text in lines.items()) + " } }"
    )


def test_what_is_not_refused_writes_so_that_the_log_would_show_it(world: World) -> None:
    mark = world.server.mark()
    world.apply()
    assert any(statement.startswith("CREATE DATABASE") for statement in written(world.server, mark))


# --- the event --------------------------------------------------------------------------------------------------------


def test_every_mistake_in_an_event_is_named_at_once(world: World) -> None:
    event = {
        "environment": "prod",
        "mode": "aply",
        "fail_fast": "yes",
        "adopt": "wiki",
        "build_id": 7,
        "tfvars": {"bucket": "elsewhere", "key": "prod/terraform.tfvars", "version": "1"},
        "approval": {"plan_digest": "abc", "approved": True},
        "dry_run": True,
    }
    refused(
        world,
        InvalidRequest,
        "the event has fields that nothing reads: dry_run",
        "the event has fields that nothing reads: tfvars.version",
        "the event has fields that nothing reads: approval.approved",
        "mode must be one of apply, dry_run, drift, access, preflight",
        "fail_fast must be true or false, not a string",
        "adopt must be a list of strings, not a string",
        "build_id must be a string, not a number",
        "approval.plan_digest must be the digest of a plan",
        'the event is not for "dev"',
        "the snapshot lies in another bucket than snapshots",
        'the key "prod/terraform.tfvars" is not a snapshot of dev',
        event=event,
    )


@pytest.mark.parametrize("event", [[], "apply", 7, True], ids=["list", "text", "number", "bool"])
def test_an_event_that_is_no_object_is_refused(world: World, event: object) -> None:
    refused(world, InvalidRequest, "the event is not a JSON object", event=event)


def test_an_adoption_of_what_is_not_declared_is_refused(world: World) -> None:
    refused(world, InvalidRequest, "adopt names what the snapshot does not declare: blog, shop", adopt=["shop", "blog"])


# --- the snapshot -----------------------------------------------------------------------------------------------------


def test_a_snapshot_that_is_missing_is_refused(world: World) -> None:
    tfvars = {"key": "dev/other.tfvars"}
    refused(world, InvalidSnapshot, "s3://snapshots/dev/other.tfvars: the snapshot does not exist", tfvars=tfvars)


def test_a_snapshot_that_is_stale_is_refused(world: World) -> None:
    old = world.declare("application_databases = {}")
    new = world.declare_entries({"wiki": WIKI})
    tfvars = {"version_id": old}
    refused(
        world, StaleSnapshot, f"version {old} of the snapshot is not the newest: the newest is {new}", tfvars=tfvars
    )


def test_a_bucket_without_versioning_is_refused(world: World) -> None:
    world.aws.create_bucket("plain", versioned=False)
    world.settings["SNAPSHOT_BUCKET"] = "plain"
    world.aws.put_snapshot("plain", world.snapshot_key, entry())
    refused(world, InvalidSnapshot, "the snapshot has no version: its bucket was not versioned")


def test_a_wrong_setting_is_seen_in_the_log_and_the_metrics(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.telemetry import logger

    # The logger keeps the stream that it was made with; metrics are printed.
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    world.settings["AUDIT_BUCKET"] = "s3://audit"
    with pytest.raises(InvalidRequest, match="the setting AUDIT_BUCKET must be the name of a bucket"):
        world.drift()
    (metrics,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert (metrics["environment"], metrics["Runs"], metrics["Errors"]) == ("dev", [1.0], [1.0])
    failed = [line for line in map(json.loads, log.getvalue().splitlines()) if line["message"] == "failed"]
    assert [(line["error"], line["environment"]) for line in failed] == [("InvalidRequest", "dev")]


def test_a_bucket_that_is_not_there_is_refused(world: World) -> None:
    world.settings["SNAPSHOT_BUCKET"] = "nowhere"
    refused(world, InvalidSnapshot, "the snapshot does not exist (NoSuchBucket)")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "terraform.tfvars: the file is empty"),
        (b" \n\t\n", "terraform.tfvars: the file is empty"),
        (b'environment = "dev"\n', "neither application_databases nor rds_config.application_databases is in the file"),
        (b"\xef\xbb\xbfapplication_databases = {}\n", "the file starts with a byte-order mark"),
        (b'a = 1\nb = "\xe9"\napplication_databases = {}\n', "terraform.tfvars:2 column 6: the file is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), f"the snapshot has {MAX_BYTES + 1} bytes and at most {MAX_BYTES} are read"),
        (b'environment = "prod"\napplication_databases = {}\n', 'the file is for environment "prod", this function'),
        (
            b'a = 1\napplication_databases = { wiki = { username = "x" }\n',
            "terraform.tfvars:2 column 25: this is never closed",
        ),
        (
            b"application_databases = {}\napplication_databases = {}\n",
            "stands on lines 1 and 2; the last would silently win",
        ),
        (b"application_databases = [1, 2]\n", "must be an object, not a list"),
        (
            b"locals {\n a = 1\n}\napplication_databases = {}\n",
            "terraform.tfvars:1 locals: a tfvars file has no blocks",
        ),
    ],
    ids=[
        "empty",
        "blank",
        "nothing declared",
        "byte-order mark",
        "not UTF-8",
        "too large",
        "for another environment",
        "not closed",
        "declared twice",
        "of another type",
        "a block",
    ],
)
def test_a_file_that_cannot_be_used_is_refused(world: World, content: bytes, said: str) -> None:
    world.declare(content)
    refused(world, InvalidSnapshot, said)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"username": "var.user"}, "username: a reference stands here; write the value itself"),
        ({"username": '"${var.user}"'}, "username: a reference stands here; write the value itself"),
        ({"username": '"a${1}"'}, "username must be a string, not a template, a heredoc or another computed value"),
        ({"username": 'lower("U")'}, "username: a function call stands here; write the value itself"),
        (
            {"connection_limit": "1 + 1"},
            "connection_limit must be a number, not a template, a heredoc or another computed value",
        ),
        ({"access_levle": '"reader"'}, 'did you mean "access_level"?'),
        ({"access_level": '"admin"'}, "access_level must be one of owner, editor, reader"),
        ({"createdb": '"yes"'}, "createdb must be true or false, not a string"),
        ({"username": '"postgres"'}, 'username "postgres" is reserved by PostgreSQL or RDS'),
        ({"username": '"rds_iam"'}, 'username "rds_iam" is reserved by PostgreSQL or RDS'),
        ({"database_name": '"template1"'}, 'database_name "template1" is reserved by PostgreSQL or RDS'),
        ({"username": '"rds_provisioner"'}, 'username "rds_provisioner" is reserved'),
        ({"database_name": '""'}, "database_name must be a lower-case letter"),
        ({"database_name": '"' + "d" * 64 + '"'}, "digits, _ or -, at most 63 in all; choose another name, in quotes"),
        ({"database_name": '"Wiki"'}, "database_name must be a lower-case letter, then lower-case letters"),
        ({"username": '"wiki app"'}, "username must be a lower-case letter"),
        ({"username": "null"}, "username is missing or null, and it is required"),
    ],
    ids=str,
)
def test_an_attribute_that_cannot_be_used_is_refused(world: World, attributes: dict[str, str], said: str) -> None:
    world.declare(entry(**attributes))
    refused(world, InvalidSnapshot, said)


def test_every_mistake_in_a_file_is_named_at_once(world: World) -> None:
    world.declare(
        """
        environment = "prod"
        application_databases = {
          one   = { database_name = "shared", username = "one" }
          two   = { database_name = "shared", username = "two" }
          three = { database_name = "Other", username = var.user, color = "red" }
          four  = { database_name = "four", username = "four", secret_name = "a" }
          five  = { database_name = "five", username = "four", secret_name = "b" }
        }
        """
    )
    refused(
        world,
        InvalidSnapshot,
        'terraform.tfvars:2 environment: the file is for environment "prod"',
        'application_databases.two: database "shared" has 2 owners: one (line 4), two (line 5)',
        "application_databases.three.database_name: database_name must be a lower-case letter",
        "application_databases.three.username: a reference stands here; write the value itself",
        "application_databases.three.color: there is no attribute color",
        'application_databases.five: username "four" would have 2 passwords, one of each secret',
    )


def test_a_reader_of_a_database_that_nobody_owns_is_made_and_is_given_nothing(world: World) -> None:
    """The role is a unit of its own; the database, with its grants, is the one that is refused."""
    world.declare_entries({"wiki-reader": READER})
    with pytest.raises(PlanBlocked) as caught:
        world.apply()
    said = 'database "wiki" does not exist and no entry declares its owner; "wiki_reader" would have nothing to use'
    (finding,) = caught.value.findings
    assert (finding.database, finding.username) == ("wiki", "")
    assert said in str(finding)
    done = [(row["action"], row["database"], row["username"], row["status"]) for row in audit(world)]
    assert done == [
        ("create_role", "", "wiki_reader", "success"),
        ("default_privileges", "wiki", "wiki_reader", "skipped"),
        ("privileges", "wiki", "wiki_reader", "skipped"),
        ("refuse", "wiki", "", "error"),
    ]
    role = "FROM pg_roles WHERE rolname = 'wiki_reader'"
    assert world.server.run_as_superuser(f"SELECT rolcanlogin {role}") == [[True]]
    assert world.server.run_as_superuser(f"SELECT FROM pg_auth_members WHERE member = (SELECT oid {role})") == []
    shared = f"SELECT FROM pg_shdepend WHERE refobjid = (SELECT oid {role})"
    assert world.server.run_as_superuser(shared) == []
    assert world.server.run_as_superuser("SELECT FROM pg_database WHERE datname = 'wiki'") == []


# --- the secrets ------------------------------------------------------------------------------------------------------

SECRET = "goldenpath/dev/wiki/postgres"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"username": "wiki_app"}, f'the secret "{SECRET}" has no "password"'),
        ({"password": ""}, f'the secret "{SECRET}" has no "password"'),
        ({"password": 12}, f'the secret "{SECRET}" has no "password"'),
        (b"\x00\x01", f'the secret "{SECRET}" is binary'),
        ("hunter2", f'the secret "{SECRET}" is not a JSON object'),
        ('["hunter2"]', f'the secret "{SECRET}" is not a JSON object'),
        ({"password": "hunter2", "username": "somebody"}, 'has another "username" than the declared "wiki_app"'),
        ({"password": "hunter2", "dbname": "elsewhere"}, 'has another "dbname" than the declared "wiki"'),
        ({"password": "hunter2\n"}, "has control characters (a line break at its end?)"),
    ],
    ids=[
        "without password",
        "empty password",
        "a number for a password",
        "binary",
        "not JSON",
        "no object",
        "for another user",
        "for another database",
        "control characters",
    ],
)
def test_a_secret_that_cannot_be_used_is_refused(world: World, value: Any, said: str) -> None:
    world.aws.put_secret(SECRET, value)
    with contextlib.suppress(KeyError):
        del world.passwords["wiki_app"]
    refused(world, SecretUnavailable, said)
    assert not any("hunter2" in row["message"] for row in audit(world))


def test_every_secret_that_is_missing_or_unusable_is_named_at_once(world: World) -> None:
    entries = {name: {"database_name": name, "username": f"{name}_app"} for name in ("blog", "chat", "shop")}
    world.declare_entries(entries, with_secrets=False)
    world.aws.put_secret("goldenpath/dev/shop/postgres", "hunter2")
    world.aws.put_secret("goldenpath/dev/rds/master", {"username": "rds_provisioner", "host": "localhost"})
    refused(
        world,
        SecretUnavailable,
        'the secret "goldenpath/dev/rds/master" has no "password"',
        'the secret "goldenpath/dev/blog/postgres" does not exist or has no value',
        'the secret "goldenpath/dev/chat/postgres" does not exist or has no value',
        'the secret "goldenpath/dev/shop/postgres" is not a JSON object',
    )


# --- the server -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def environment_on(server: Server, aws: Aws, **settings: str) -> Iterator[World]:
    """An environment on another server than the shared one."""
    with World(server, aws, server.master, settings=settings) as world:
        world.declare_entries({"wiki": WIKI})
        yield world


def test_a_server_that_is_down_is_refused(world: World) -> None:
    port = free_port()
    world.aws.put_secret("goldenpath/dev/rds/master", {**world.server.admin_secret(world.admin), "port": port})
    refused(world, DatabaseUnavailable, f"the server localhost:{port} cannot be reached: connection refused")


def test_a_server_whose_name_does_not_resolve_is_refused(world: World) -> None:
    secret = {**world.server.admin_secret(world.admin), "host": "db.invalid"}
    world.aws.put_secret("goldenpath/dev/rds/master", secret)
    refused(world, DatabaseUnavailable, "cannot be reached: the name does not resolve")


def test_a_server_without_tls_is_refused(latest_server: Server, aws: Aws) -> None:
    with Server(latest_server.version, tls=False) as server, environment_on(server, aws) as world:
        refused(world, DatabaseUnavailable, "cannot be reached: it offers no TLS")


@pytest.mark.parametrize("what", ["of another host", "of another authority", "expired"])
def test_a_server_with_the_wrong_certificate_is_refused(latest_server: Server, aws: Aws, what: str) -> None:
    certificate = {
        "of another host": lambda: session_authority().issue("elsewhere.example"),
        "of another authority": lambda: Authority().issue(),
        "expired": lambda: session_authority().issue(expired=True),
    }[what]()
    trusted = {"DB_CA_BUNDLE": str(session_authority().ca_file)}
    with (
        Server(latest_server.version, certificate=certificate) as server,
        environment_on(server, aws, **trusted) as world,
    ):
        refused(world, DatabaseUnavailable, "is not trusted: ")
        assert server.log_statements() == []


def test_a_bundle_that_is_missing_is_refused(world: World) -> None:
    world.settings["DB_CA_BUNDLE"] = "/nowhere/bundle.pem"
    refused(world, DatabaseUnavailable, "the certificate bundle bundle.pem cannot be read (FileNotFoundError)")


def test_a_standby_is_refused(latest_server: Server, aws: Aws) -> None:
    with latest_server.create_standby() as standby, environment_on(standby, aws) as world:
        refused(
            world, DatabaseUnavailable, "the server is a standby and cannot be written; point DB_HOST at the writer"
        )


def test_a_server_older_than_13_is_refused(world: World) -> None:
    """The server is made to say that it is a 12: none that old can be had with TLS."""
    with contextlib.closing(world.server.superuser()) as connection:
        connection.run("SET allow_system_table_mods = on")
        connection.run("ALTER FUNCTION pg_catalog.current_setting(text) RENAME TO true_setting")
        connection.run(
            "CREATE FUNCTION pg_catalog.current_setting(text) RETURNS text LANGUAGE sql STABLE AS "
            "$$ SELECT CASE $1 WHEN 'server_version_num' THEN '120022' ELSE true_setting($1) END $$"
        )
    refused(world, DatabaseUnavailable, "PostgreSQL 12 is older than 13; upgrade the instance")


def test_an_administrator_with_the_wrong_password_is_refused(world: World) -> None:
    world.aws.put_secret("goldenpath/dev/rds/master", world.server.admin_secret(Login(world.admin.username, "wrong")))
    refused(world, DatabaseUnavailable, 'refused "rds_provisioner": password authentication failed')


def test_an_administrator_without_its_rights_is_told_the_sql_that_gives_them(world: World) -> None:
    world.server.run_as_superuser('ALTER ROLE "rds_provisioner" NOCREATEROLE NOCREATEDB')
    refused(
        world,
        PlanBlocked,
        'the administrator "rds_provisioner" lacks CREATEROLE and CREATEDB, which this plan needs; '
        'as the RDS master: ALTER ROLE "rds_provisioner" CREATEROLE CREATEDB',
    )
    world.server.run_as_superuser('ALTER ROLE "rds_provisioner" CREATEROLE CREATEDB')
    assert world.apply()["status"] == "applied"


def test_an_administrator_without_admin_on_a_role_is_told_the_sql_that_gives_it(world: World) -> None:
    if world.server.version < 16:
        pytest.skip("before 16 CREATEROLE is enough")
    world.apply()
    world.server.run_as_superuser('REVOKE "wiki_reader" FROM "rds_provisioner"')
    world.put_secret("wiki-reader", "wiki_reader", "wiki")
    refused(
        world,
        PlanBlocked,
        'the administrator "rds_provisioner" has no ADMIN option on role "wiki_reader", which this plan needs; '
        'as a role that has it: GRANT "wiki_reader" TO "rds_provisioner" WITH ADMIN OPTION',
    )
    world.server.run_as_superuser('GRANT "wiki_reader" TO "rds_provisioner" WITH ADMIN OPTION')
    assert world.apply()["status"] == "applied"


def test_databases_and_roles_that_are_not_ours_are_named_at_once(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE wiki_app LOGIN; CREATE ROLE wiki_reader LOGIN; CREATE ROLE somebody")
    world.server.run_as_superuser("GRANT wiki_app, wiki_reader TO rds_provisioner WITH ADMIN OPTION")
    world.server.run_as_superuser("CREATE DATABASE wiki OWNER somebody")
    refused(
        world,
        PlanBlocked,
        'role "wiki_app" exists but is not managed here; adopt it (adopt: ["wiki"])',
        'role "wiki_reader" exists but is not managed here; adopt it (adopt: ["wiki-reader"])',
        'database "wiki" belongs to "somebody", and "wiki_app" is declared as its owner',
    )


def test_a_database_that_is_not_ours_is_named_beside_its_owner(world: World) -> None:
    world.declare_entries({"wiki": WIKI})
    world.server.run_as_superuser("CREATE ROLE wiki_app LOGIN")
    world.server.run_as_superuser("GRANT wiki_app TO rds_provisioner WITH ADMIN OPTION")
    world.server.run_as_superuser("CREATE DATABASE wiki OWNER wiki_app")
    refused(
        world,
        PlanBlocked,
        'role "wiki_app" exists but is not managed here; adopt it (adopt: ["wiki"])',
        'database "wiki" exists but is not managed here; adopt it (adopt: ["wiki"])',
    )


def test_an_object_that_is_no_tfvars_file_is_refused(world: World) -> None:
    world.aws.put_snapshot(SNAPSHOTS, "dev/notes.txt", "not a snapshot")
    tfvars = {"key": "dev/notes.txt"}
    refused(world, InvalidRequest, 'the key "dev/notes.txt" is not a snapshot of dev', tfvars=tfvars)
