"""Preflight says whether it would work here: each check fails for its own reason and hides no other."""

import csv
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from provisioner.core.errors import ApplyFailed
from stack import binaries
from stack.aws import ALWAYS, REGION, Aws
from stack.certificates import Authority, session_authority
from stack.dump import dump
from stack.faults import REFUSAL
from stack.fuse import Fuse, FusedProxy
from stack.mortal import Mortal, kill
from stack.postgres import Login, Server
from stack.world import AUDIT, SNAPSHOTS, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
TRAIL = "governance/dev/rds_provision_audit.csv"
WAY = ["dns", "route", "tls", "login"]
SERVER = ["version", "writer", "rights", "administrator_database", "rds_iam", "public_schema"]
CHANGES = ["verifiers", "temporary_membership", "default_privileges"]
SNAPSHOT_CHECKS = ["snapshot_bucket", "snapshot_versioning", "snapshot_events", "snapshot"]
AUDIT_CHECKS = [
    "audit_bucket",
    "audit_versioning",
    "audit_object_lock",
    "audit_events",
    "audit_conditional_writes",
]
EVERY_CHECK = [
    *SNAPSHOT_CHECKS,
    *AUDIT_CHECKS,
    "topic",
    "administrator_secret",
    "secret:shop",
    *WAY,
    *SERVER,
    *CHANGES,
    "audit",
]
LATEST = max(binaries.available(), default=max(binaries.VERSIONS))


def make_ready(world: World) -> World:
    """What no check has anything to say about: events, a lock, a topic, a snapshot."""
    s3 = world.aws.client("s3")
    s3.put_bucket_notification_configuration(
        Bucket=SNAPSHOTS, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    s3.put_object_lock_configuration(
        Bucket=AUDIT,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 365}},
        },
    )
    world.settings["NOTIFY_TOPIC_ARN"] = world.aws.client("sns").create_topic(Name="told")["TopicArn"]
    world.declare_entries(SHOP)
    return world


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    with World(latest_server, aws, latest_server.create_delegated_admin()) as made:
        yield make_ready(made)


def preflight(world: World, **fields: Any) -> dict[str, Any]:
    return world.call(mode="preflight", **fields)


def statuses(answer: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in answer["checks"]}


def not_ok(answer: dict[str, Any]) -> dict[str, str]:
    """Those that did not pass, each of which says what, why and the next step."""
    silent = [check for check in answer["checks"] if check["status"] != "ok" and not all(check.values())]
    assert silent == []
    return {name: status for name, status in statuses(answer).items() if status != "ok"}


def line(answer: dict[str, Any], name: str) -> str:
    [check] = [check for check in answer["checks"] if check["name"] == name]
    return "; ".join(check[key] for key in ("what", "why", "next_step"))


def unknown(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "unknown")


# --- everywhere -----------------------------------------------------------------------------------------------------


def test_a_server_as_it_should_be_is_ready_and_nothing_is_left_on_it(pg_server: Server, admin: Login, aws: Aws) -> None:
    with World(pg_server, aws, admin) as world:
        make_ready(world)
        before, mark = dump(pg_server), pg_server.mark()
        answer = preflight(world)
        assert (answer["status"], not_ok(answer)) == ("ready", {})
        assert list(statuses(answer)) == EVERY_CHECK
        assert dump(pg_server) == before
        log = pg_server.log_text(since=mark)
        assert "ROLLBACK" in log
        assert "COMMIT" not in log
        assert world.apply()["status"] == "applied"
        before = dump(pg_server)
        assert preflight(world)["status"] == "ready"
        assert dump(pg_server) == before
        assert world.apply()["status"] == "no_change"


def test_killed_at_any_message_to_the_server_it_leaves_nothing(pg_server: Server, admin: Login, aws: Aws) -> None:
    fuse = Fuse()
    with World(pg_server, aws, admin) as world, FusedProxy(pg_server.port, fuse, greeting=4) as proxy:
        make_ready(world)
        way(world, port=proxy.port)
        environment = aws.environment() | world.settings | {"POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner"}
        before = dump(pg_server)
        with Mortal(environment) as mortal:
            for point in range(1, 50):
                pid = mortal.begin({"environment": "dev", "mode": "preflight"})
                fuse.light(point, "answered", partial(kill, pid))
                call = mortal.go()
                assert dump(pg_server) == before
                # After its last message it may have ended by itself.
                if not call.killed:
                    break
        assert point > len(CHANGES) + 2
        assert call.answer
        assert call.answer["status"] == "ready"
        wait_until_gone(world)
        assert dump(pg_server) == before


def wait_until_gone(world: World) -> None:
    """Until the server has noticed that the clients of all sessions are gone."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{world.admin.username}'"
    deadline = time.monotonic() + 20
    while world.server.run_as_superuser(query)[0][0]:
        assert time.monotonic() < deadline, "the server kept a session"
        time.sleep(0.01)


# --- AWS ------------------------------------------------------------------------------------------------------------


def test_without_a_snapshot_everything_else_is_checked(world: World) -> None:
    world.aws.client("s3").delete_object(Bucket=SNAPSHOTS, Key=world.snapshot_key)
    answer = preflight(world)
    assert answer["status"] == "ready"
    assert not_ok(answer) == unknown("snapshot", "application_secrets")
    assert "put the tfvars file there" in line(answer, "snapshot")


def test_a_snapshot_that_cannot_be_read_is_said_with_its_place(world: World) -> None:
    world.declare("application_databases = {\n  shop = {}\n}\n")
    answer = preflight(world)
    assert not_ok(answer) == {"snapshot": "failed", "application_secrets": "unknown"}
    assert "database_name" in line(answer, "snapshot")


@pytest.mark.parametrize(("setting", "names"), [("SNAPSHOT_BUCKET", SNAPSHOT_CHECKS), ("AUDIT_BUCKET", AUDIT_CHECKS)])
def test_a_bucket_that_is_not_there_hides_nothing_of_the_others(world: World, setting: str, names: list[str]) -> None:
    world.settings[setting] = "nobody-has-this"
    answer = preflight(world)
    expected = {names[0]: "failed", **unknown(*names[1:])}
    expected |= {"audit": "failed"} if setting == "AUDIT_BUCKET" else unknown("application_secrets")
    assert (answer["status"], not_ok(answer)) == ("not_ready", expected)
    assert "nobody-has-this does not exist" in line(answer, names[0])
    assert answer["audit"]["run"] == "" or setting == "SNAPSHOT_BUCKET"


def test_a_bucket_of_another_account_is_said(world: World) -> None:
    world.settings["AUDIT_BUCKET_OWNER"] = "210987654321"
    assert "belongs to account 210987654321" in line(preflight(world), "audit_bucket")
    world.aws.fail("s3:HeadBucket", ALWAYS, "access_denied", matching=AUDIT)
    answer = preflight(world)
    assert not_ok(answer) == {"audit_bucket": "failed", **unknown(*AUDIT_CHECKS[1:]), "audit": "failed"}
    assert "does not belong to account 210987654321" in line(answer, "audit_bucket")


@pytest.mark.parametrize(("bucket", "name"), [(SNAPSHOTS, "snapshot_versioning"), (AUDIT, "audit_versioning")])
def test_a_bucket_without_versions_fails(world: World, bucket: str, name: str) -> None:
    world.aws.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert not_ok(preflight(world)) == {name: "failed"}


def test_events_that_are_off_and_a_lock_that_is_missing_may_be_meant_and_are_named(
    latest_server: Server, aws: Aws
) -> None:
    with World(latest_server, aws, latest_server.master) as world:
        world.declare_entries(SHOP)
        answer = preflight(world)
    assert (answer["status"], not_ok(answer)) == ("ready", unknown("snapshot_events", "audit_object_lock"))
    assert "replaces the notifications" in line(answer, "snapshot_events")


@pytest.mark.parametrize(
    ("operation", "matching", "name", "permission"),
    [
        ("s3:GetBucketVersioning", AUDIT, "audit_versioning", "s3:GetBucketVersioning"),
        ("s3:GetBucketNotification", "", "snapshot_events", "s3:GetBucketNotification"),
        ("s3:GetObjectLockConfiguration", "", "audit_object_lock", "s3:GetBucketObjectLockConfiguration"),
        ("sns:GetTopicAttributes", "", "topic", "sns:GetTopicAttributes"),
    ],
)
def test_what_aws_does_not_say_is_unknown_and_names_the_right(
    world: World, operation: str, matching: str, name: str, permission: str
) -> None:
    world.aws.fail(operation, ALWAYS, "access_denied", matching=matching)
    answer = preflight(world)
    assert (answer["status"], not_ok(answer)) == ("ready", {name: "unknown"})
    assert f"allow {permission}" in line(answer, name)


def test_an_approval_that_would_call_nobody_is_said_where_approvals_are_put(world: World) -> None:
    assert "no approvals are put" in line(preflight(world), "audit_events")
    world.settings |= {"UNGATED_ENVIRONMENTS": "sandbox", "REQUIRE_PLAN_DIGEST": "dev"}
    answer = preflight(world)
    assert (answer["status"], not_ok(answer)) == ("not_ready", {"audit_events": "failed"})
    assert "an approval that is put calls nobody" in line(answer, "audit_events")
    world.aws.client("s3").put_bucket_notification_configuration(
        Bucket=AUDIT, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    assert not_ok(preflight(world)) == {}
    world.aws.fail("s3:GetBucketNotification", ALWAYS, "access_denied", matching=AUDIT)
    answer = preflight(world)
    assert not_ok(answer) == {"audit_events": "unknown"}
    assert "allow s3:GetBucketNotification" in line(answer, "audit_events")


def test_writes_under_a_condition_are_tried_and_leave_nothing(world: World) -> None:
    answer = preflight(world)
    assert statuses(answer)["audit_conditional_writes"] == "ok"
    assert sorted(world.aws.list_keys(AUDIT)) == sorted([TRAIL, answer["audit"]["run"].removeprefix(f"s3://{AUDIT}/")])
    world.aws.fail("s3:PutObject", 1, "access_denied")
    assert not_ok(preflight(world)) == {"audit_conditional_writes": "failed"}


def test_an_audit_that_takes_nothing_is_one_more_line_and_no_error(world: World) -> None:
    world.aws.fail("s3:PutObject", ALWAYS, "access_denied")
    answer = preflight(world)
    assert not_ok(answer) == {"audit_conditional_writes": "failed", "audit": "failed"}
    assert set(answer["audit"].values()) == {""}


def test_a_look_has_its_rows_in_its_own_csv_and_one_in_the_trail(world: World) -> None:
    world.settings["NOTIFY_TOPIC_ARN"] = f"arn:aws:sns:{REGION}:123456789012:nobody"
    answer = preflight(world, run_id="r1", requested_by="alice")
    rows = list(
        csv.DictReader(
            world.aws.read_object(AUDIT, answer["audit"]["run"][len(f"s3://{AUDIT}/") :]).decode().splitlines()
        )
    )
    assert [(row["action"], row["status"]) for row in rows if row["status"] != "no_change"] == [("preflight", "error")]
    assert len(rows) == len(EVERY_CHECK) - 1
    [trail] = csv.DictReader(world.aws.read_object(AUDIT, TRAIL).decode().splitlines())
    assert (trail["action"], trail["status"], trail["requested_by"]) == ("preflight", "error", "alice")
    assert trail["message"] == "Preflight: 24 ok, 1 failed, 0 unknown."


def test_a_topic_that_is_not_there_fails_and_none_at_all_is_said(world: World) -> None:
    assert "0 subscribers" in line(preflight(world), "topic")
    world.settings["NOTIFY_TOPIC_ARN"] = f"arn:aws:sns:{REGION}:123456789012:nobody"
    assert not_ok(preflight(world)) == {"topic": "failed"}
    world.settings["NOTIFY_TOPIC_ARN"] = ""
    answer = preflight(world)
    assert not_ok(answer) == {}
    assert "nobody is told" in line(answer, "topic")


def test_each_secret_that_cannot_be_used_has_its_own_line(world: World) -> None:
    more = {"wiki": {"database_name": "wiki", "username": "wiki_user"}}
    world.declare_entries({**SHOP, **more}, with_secrets=False)
    world.aws.put_secret("goldenpath/dev/shop/postgres", {"username": "another", "password": "canary-Pa55"})
    answer = preflight(world)
    assert not_ok(answer) == {"secret:shop": "failed", "secret:wiki": "failed"}
    assert "does not exist" in line(answer, "secret:wiki")
    assert "canary" not in str(answer)


def test_a_secret_of_which_no_rotation_can_be_known_has_its_line(world: World) -> None:
    world.aws.fail("secretsmanager:DescribeSecret", times=ALWAYS, kind="access_denied")
    answer = preflight(world)
    assert not_ok(answer) == {"secret:shop": "failed"}
    assert "secretsmanager:DescribeSecret" in line(answer, "secret:shop")


def test_without_the_administrators_secret_the_applications_are_looked_at_all_the_same(world: World) -> None:
    world.aws.put_secret("goldenpath/dev/rds/master", {"password": "canary-Pa55"})
    answer = preflight(world)
    assert not_ok(answer) == {"administrator_secret": "failed", **unknown(*WAY, *SERVER, *CHANGES)}
    assert statuses(answer)["secret:shop"] == "ok"
    assert "canary" not in str(answer)


def test_no_secret_is_shown_and_none_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = world.server.mark()
    answer = preflight(world)
    written = f"{answer} {caplog.text} {capsys.readouterr()} {world.server.log_text(since=mark)}"
    for password in (world.admin.password, *world.passwords.values()):
        assert password not in written


# --- the way to the server ------------------------------------------------------------------------------------------


def way(world: World, **fields: Any) -> dict[str, Any]:
    """Look with other fields in the administrator's secret."""
    world.aws.put_secret("goldenpath/dev/rds/master", {**world.server.admin_secret(world.admin), **fields})
    return preflight(world)


def test_a_name_that_does_not_resolve_ends_the_way_there(world: World) -> None:
    answer = way(world, host="nowhere.invalid")
    assert not_ok(answer) == {"dns": "failed", **unknown("route", "tls", "login", *SERVER, *CHANGES)}
    assert "does not resolve" in line(answer, "dns")


def test_a_port_that_nobody_listens_on_ends_the_way_there(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = way(world, port=taken.getsockname()[1])
    assert not_ok(answer) == {"route": "failed", **unknown("tls", "login", *SERVER, *CHANGES)}
    assert "connection refused" in line(answer, "route")
    assert "not looked at; route did not pass" in line(answer, "login")


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (lambda: Authority().issue("localhost"), "is not trusted"),
        (lambda: session_authority().issue("db.example.com"), "not valid for 'localhost'"),
        (lambda: session_authority().issue("localhost", expired=True), "expired"),
    ],
)
def test_a_certificate_that_is_not_right_ends_the_way_there(aws: Aws, certificate: Any, reason: str) -> None:
    with Server(LATEST, certificate=certificate()) as server, World(server, aws, server.master) as world:
        world.settings["DB_CA_BUNDLE"] = str(session_authority().issue("localhost").ca_file)
        answer = preflight(make_ready(world))
    assert not_ok(answer) == {"tls": "failed", **unknown("login", *SERVER, *CHANGES)}
    assert reason in line(answer, "tls")


def test_a_server_without_tls_is_told_nothing(aws: Aws) -> None:
    with Server(LATEST, tls=False) as server, World(server, aws, server.master) as world:
        answer = preflight(make_ready(world))
    assert not_ok(answer) == {"tls": "failed", **unknown("login", *SERVER, *CHANGES)}
    assert "offers no TLS" in line(answer, "tls")


def test_a_certificate_bundle_that_is_not_there_is_said(world: World) -> None:
    world.settings["DB_CA_BUNDLE"] = "/nowhere/bundle.pem"
    assert not_ok(preflight(world)) == {"tls": "failed", **unknown("login", *SERVER, *CHANGES)}


def test_a_wrong_password_ends_at_the_login(world: World) -> None:
    answer = way(world, password=secrets.token_urlsafe(9))
    assert not_ok(answer) == {"login": "failed", **unknown(*SERVER, *CHANGES)}
    assert "28P01" in line(answer, "login")


# --- the server -----------------------------------------------------------------------------------------------------


def test_a_standby_is_said_and_nothing_is_tried_there(aws: Aws) -> None:
    with Server(LATEST) as primary, primary.create_standby() as standby, World(standby, aws, primary.master) as world:
        answer = preflight(make_ready(world))
    assert not_ok(answer) == {"writer": "failed", **unknown(*CHANGES)}
    assert "point DB_HOST at the writer" in line(answer, "writer")


def alter(world: World, sql: str, database: str = "postgres") -> dict[str, Any]:
    """Change the server as its superuser may, `admin` being the administrator, then look."""
    world.server.run_as_superuser(sql.replace("{admin}", f'"{world.admin.username}"'), database)
    return preflight(world)


def test_an_administrator_without_rights_is_said_and_what_it_cannot_do(world: World) -> None:
    answer = alter(world, "ALTER ROLE {admin} NOCREATEROLE NOCREATEDB")
    assert not_ok(answer) == {"rights": "failed", **dict.fromkeys(CHANGES, "failed")}
    assert "GRANT rds_password" in line(answer, "verifiers")
    assert "lacks CREATEROLE and CREATEDB" in line(answer, "rights")


def test_an_administrator_that_cannot_make_databases_is_said(world: World) -> None:
    assert not_ok(alter(world, "ALTER ROLE {admin} NOCREATEDB")) == {"rights": "failed"}


def test_an_administrator_that_has_one_session_only_is_said(world: World) -> None:
    answer = alter(world, "ALTER ROLE {admin} CONNECTION LIMIT 1")
    assert not_ok(answer) == {"public_schema": "failed"}
    assert "CONNECTION LIMIT" in line(answer, "public_schema")
    with pytest.raises(ApplyFailed):
        world.apply()


def test_who_may_enter_the_administrators_database_is_named(world: World) -> None:
    assert "every role may enter" in line(preflight(world), "administrator_database")
    sql = "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO {admin}"
    answer = alter(world, sql)
    assert "lets in the administrator and: nobody else" in line(answer, "administrator_database")
    answer = alter(world, "CREATE ROLE reporter LOGIN; GRANT CONNECT ON DATABASE postgres TO reporter")
    assert "reporter" in line(answer, "administrator_database")


def test_an_administrator_in_rds_iam_is_said_also_by_another_role(world: World) -> None:
    answer = alter(world, "CREATE ROLE team; GRANT rds_iam TO team; GRANT team TO {admin}")
    assert not_ok(answer) == {"rds_iam": "failed"}
    answer = alter(world, "REVOKE team FROM {admin}; DROP ROLE rds_iam")
    assert "no member of rds_iam" in line(answer, "rds_iam")


def test_a_schema_public_that_somebody_else_owns_in_template1_is_said(aws: Aws) -> None:
    with Server(LATEST) as server, World(server, aws, server.master) as world:
        make_ready(world)
        sql = "CREATE ROLE other; ALTER SCHEMA public OWNER TO other; GRANT CREATE ON SCHEMA public TO PUBLIC"
        server.run_as_superuser(sql, "template1")
        answer = preflight(world)
        assert not_ok(answer) == {"public_schema": "failed"}
        assert '"other"' in line(answer, "public_schema")
        server.run_as_superuser("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
        assert not_ok(preflight(world)) == {"public_schema": "unknown"}


def test_up_to_14_public_belongs_to_the_superuser_and_that_is_said(postgres_servers: Any, aws: Aws) -> None:
    server = postgres_servers(13)
    server.reset()
    with World(server, aws, server.master) as world:
        answer = preflight(make_ready(world))
    assert statuses(answer)["public_schema"] == "ok"
    assert "everybody may create in it" in line(answer, "public_schema")


@pytest.mark.parametrize(
    ("spoilt", "expected"),
    [
        (" PASSWORD '", {"verifiers": "failed"}),
        ('GRANT "rds', {"temporary_membership": "failed", "default_privileges": "failed"}),
        ("ALTER DEFAULT", {"default_privileges": "failed"}),
        ('REVOKE "rds', {"temporary_membership": "failed"}),
    ],
)
def test_what_an_apply_does_and_the_server_refuses_is_said_each_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, spoilt: str, expected: dict[str, str]
) -> None:
    """The server itself refuses: in the place of the statement it is sent one that raises what RDS would."""
    from provisioner.edges.postgres import Connection

    run = Connection.run

    def refused(connection: Any, *statements: str, **options: Any) -> Any:
        sent = [REFUSAL.format("42501") if spoilt in each else each for each in statements]
        return run(connection, *sent, **options)

    monkeypatch.setattr(Connection, "run", refused)
    before = dump(world.server)
    answer = preflight(world)
    assert not_ok(answer) == expected
    assert "42501" in line(answer, next(iter(expected)))
    assert dump(world.server) == before


# --- beside a run ---------------------------------------------------------------------------------------------------


def test_beside_a_run_it_works_and_says_so(world: World) -> None:
    from provisioner.edges.lock import TAKE_NAME

    with closing(world.server.connect(*world.admin)) as run:
        run.run(TAKE_NAME)
        answer = preflight(world)
        assert answer["status"] == "ready"
        assert [warning["code"] for warning in answer["warnings"]] == ["run_under_way"]
    assert preflight(world)["warnings"] == []


def test_no_check_waits_longer_than_the_function_has(world: World) -> None:
    world.aws.fail("s3:*", ALWAYS, "timeout", matching=AUDIT)
    answer = world.call(mode="preflight", seconds=6)
    world.aws.heal()
    assert {name: status for name, status in statuses(answer).items() if name.startswith("audit_")} == unknown(
        *AUDIT_CHECKS
    )
