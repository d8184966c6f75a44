"""PostgreSQL fails in the middle of a run: it ends with a named error in bounded time, and the next one converges."""

import contextlib
import itertools
import time
from typing import Any

import pytest

from stack import binaries
from stack.aws import Aws
from stack.dump import dump
from stack.held import HeldRun, wait_until
from stack.postgres import Server
from stack.proxy import Proxy
from stack.world import AUDIT, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
REPORT = {"report": {"database_name": "shop", "username": "reporter", "access_level": "reader"}}
BLOG = {"blog": {"database_name": "blog", "username": "blog_user"}}
WAITING_FOR_A_LOCK = """SELECT FROM pg_stat_activity
    WHERE application_name ~ '^rds-provisioner [0-9]' AND wait_event_type = 'Lock'"""
LOCK_SESSION = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'rds-provisioner run %'"


def trail(world: World) -> str:
    return world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv").decode()


def error_of(run: HeldRun) -> tuple[str, str]:
    return type(run.error).__name__, str(run.error)


def test_a_run_that_loses_its_lock_changes_nothing_more(world: World) -> None:
    world.declare_entries(SHOP)
    started = dump(world.server)
    with HeldRun(world) as run:
        world.server.run_as_superuser(f"SELECT pg_terminate_backend(pid) FROM ({LOCK_SESSION}) AS held")
    kind, message = error_of(run)
    assert kind == "ApplyFailed"
    assert "the run has lost its lock, so that another may be at work" in message
    assert dump(world.server) == started
    assert "shop_user,create_role,error" in trail(world)


def test_who_gets_the_lock_of_a_run_that_lives_on_is_not_disturbed_by_it(world: World) -> None:
    world.declare_entries(SHOP)
    with HeldRun(world) as run:
        world.server.run_as_superuser(f"SELECT pg_terminate_backend(pid) FROM ({LOCK_SESSION}) AS held")
        assert world.apply(run_id="second")["status"] == "applied"
        after_second = dump(world.server)
    assert error_of(run)[0] == "RunInProgress"
    assert "another object was put here since this run began" in error_of(run)[1]
    assert dump(world.server) == after_second
    assert world.apply()["status"] == "no_change"


def test_sessions_of_a_run_that_lost_its_lock_are_ended_by_the_next(world: World) -> None:
    """As when a server still creates a database for a process that was killed."""
    world.declare_entries(SHOP)
    left_over = _session_of_a_dead_run(world)
    assert world.apply()["status"] == "applied"
    with pytest.raises(Exception, match=r"terminating connection|network error|57P01"):
        left_over.run("SELECT 1")


def _session_of_a_dead_run(world: World) -> Any:
    connection = world.server.connect(*world.admin)
    connection.run("SET application_name = 'rds-provisioner 4711 20260101120000000000'")
    return connection


def test_a_session_parked_in_template1_keeps_nobody_from_creating_a_database(world: World) -> None:
    world.declare_entries(SHOP)
    with contextlib.closing(world.server.superuser("template1")):
        assert world.apply()["status"] == "applied"


def test_tuple_concurrently_updated_is_tried_again(world: World) -> None:
    """A foreign GRANT on the same database is held open until ours waits for it, then committed: ours gets XX000."""
    world.declare_entries(SHOP)
    world.apply()
    world.declare_entries(SHOP | REPORT)
    mark = world.server.mark()
    with contextlib.closing(world.server.superuser("shop")) as foreign, HeldRun(world) as run:
        foreign.run("BEGIN")
        foreign.run("GRANT CONNECT ON DATABASE shop TO rds_iam")
        run.release()
        wait_until(lambda: world.server.run_as_superuser(WAITING_FOR_A_LOCK))
        foreign.run("COMMIT")
    assert run.answer, run.error
    assert run.answer["status"] == "applied"
    assert "tuple concurrently updated" in world.server.log_text(since=mark)


def test_an_open_alter_table_stops_one_database_and_the_next_run_finishes(world: World) -> None:
    world.declare_entries(SHOP | BLOG)
    world.apply()
    with contextlib.closing(world.login("shop_user", "shop")) as tenant:
        tenant.run("CREATE TABLE customer (id int)")
        world.declare_entries(
            SHOP | REPORT | BLOG | {"b": REPORT["report"] | {"database_name": "blog", "username": "blogger"}}
        )
        tenant.run("BEGIN")
        tenant.run("ALTER TABLE customer ADD COLUMN name text")
        with pytest.raises(Exception, match="somebody holds a lock there") as caught:
            world.apply(fail_fast=False)
        tenant.run("COMMIT")
    assert type(caught.value).__name__ == "ApplyFailed"
    assert 'database "shop" could not be changed' in str(caught.value)
    assert "blog,blogger,grant,success" in trail(world)
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_a_restart_in_mid_run_ends_it_with_a_name_and_the_next_converges(world: World) -> None:
    world.declare_entries(SHOP)
    with HeldRun(world) as run:
        world.server.restart()
    assert error_of(run)[0] == "ApplyFailed"
    assert "call again in a few minutes" in error_of(run)[1]
    assert world.apply()["status"] == "applied"


def test_a_failover_in_mid_run_ends_it_and_a_standby_is_refused(world: World) -> None:
    world.declare_entries(SHOP)
    with world.server.create_standby() as standby, Proxy(world.server.port) as proxy:
        world.aws.put_secret("goldenpath/dev/rds/master", world.server.admin_secret(world.admin) | {"port": proxy.port})
        with HeldRun(world) as run:
            proxy._server_port = standby.port
            proxy.drop()
        assert error_of(run)[0] == "ApplyFailed"
        with pytest.raises(Exception, match="the server is a standby and cannot be written"):
            world.apply()


def test_without_a_connection_left_a_run_says_so_and_the_next_continues(aws: Aws) -> None:
    parameters = {"max_connections": "8", "superuser_reserved_connections": "3"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(max(binaries.available()), parameters=parameters))
        world = stack.enter_context(World(server, aws, server.create_delegated_admin()))
        world.declare_entries(SHOP)
        server.end_kept_session()
        with HeldRun(world) as run:
            others = _take_every_connection(server)
        others += _take_every_connection(server)
        with pytest.raises(Exception, match="the server has no connection left") as caught:
            world.apply()
        assert type(caught.value).__name__ == "DatabaseUnavailable"
        assert error_of(run)[0] == "ApplyFailed"
        assert "the server has no connection left" in error_of(run)[1]
        for each in others:
            each.close()
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'platform_admin'"
        wait_until(lambda: server.run_as_superuser(query)[0][0] == 0)
        assert world.apply()["status"] == "applied"


def _take_every_connection(server: Server) -> list[Any]:
    connections = []
    with contextlib.suppress(Exception):
        while True:
            connections.append(server.connect(*server.master))
    return connections


def test_a_server_that_stops_answering_is_waited_for_no_longer_than_the_function_may_run(world: World) -> None:
    world.declare_entries(SHOP)
    with Proxy(world.server.port) as proxy:
        world.aws.put_secret("goldenpath/dev/rds/master", world.server.admin_secret(world.admin) | {"port": proxy.port})
        with HeldRun(world, seconds=2) as run:
            proxy.stall()
        proxy.resume()
    kind, message = error_of(run)
    assert kind == "OutOfTime"
    assert "the function's time was nearly up" in message
    assert message.split(";")[0] in trail(world).replace('""', '"')


@pytest.mark.parametrize(
    ("sqlstate", "remedy"),
    [
        ("XX000", "retry"),
        ("40P01", "retry"),
        ("55P03", "later"),
        ("57P01", "later"),
        ("25006", "later"),
        ("53300", "later"),
        ("57014", "later"),
        ("08006", "later"),
        ("53100", "person"),
        ("42501", "person"),
        ("42601", "person"),
    ],
)
def test_each_failure_has_one_remedy(sqlstate: str, remedy: str) -> None:
    from provisioner.edges.sqlstates import SqlError

    assert SqlError(sqlstate, "").remedy == remedy


def test_a_full_disk_asks_for_storage() -> None:
    from provisioner.edges.sqlstates import SqlError

    assert SqlError("53100", "").next_step == "the server's storage is full: add storage, then call again"


class RunningOut:
    """Lambda's context of a function whose time is up soon after it began."""

    aws_request_id = "running-out"

    def __init__(self, answers: int) -> None:
        self._answers = answers

    def get_remaining_time_in_millis(self) -> int:
        self._answers -= 1
        return 10_000 if self._answers > 0 else 100


class Stalling:
    """Lambda's context of a function whose server falls silent at a look at its clock, with a second left."""

    aws_request_id = "stalling"

    def __init__(self, proxy: Proxy, looks: int) -> None:
        self._proxy, self._looks, self._end = proxy, looks, 0.0

    def get_remaining_time_in_millis(self) -> int:
        self._looks -= 1
        if self._looks == 0:
            self._end = time.monotonic() + 1.0
            self._proxy.stall()
        return 10_000 if self._looks > 0 else max(0, round((self._end - time.monotonic()) * 1000))


def test_wherever_the_deadline_cuts_an_answer_a_run_is_out_of_time_and_the_next_converges(world: World) -> None:
    """Connecting, observing, probing, changing, proving: a look at the clock stands before each answer."""
    from provisioner.core.errors import OutOfTime

    admin = world.server.admin_secret(world.admin)
    statuses = []
    with Proxy(world.server.port) as proxy:
        for looks in itertools.count(1):
            name = f"tenant_{looks}"
            world.declare_entries(SHOP | {name: {"database_name": name, "username": name}})
            world.aws.put_secret("goldenpath/dev/rds/master", admin | {"port": proxy.port})
            context = Stalling(proxy, looks)
            with contextlib.suppress(OutOfTime):
                statuses.append(world.call(context=context, run_id=name)["status"])
            proxy.resume()
            assert f",{name}," in trail(world)
            world.aws.put_secret("goldenpath/dev/rds/master", admin)
            assert world.apply()["status"] in {"applied", "no_change"}
            if statuses:
                break
    assert looks > 15
    assert statuses == ["applied"]
    assert world.apply()["status"] == "no_change"


def test_whenever_the_time_runs_out_a_run_ends_by_itself_and_the_next_converges(world: World) -> None:
    """Each time with a database more to make; looking alone can take too long as well."""
    from provisioner.core.errors import ProvisioningError
    from provisioner.handler import lambda_handler

    errors, entries = set(), dict(SHOP)
    for answers in range(1, 12):
        name = f"tenant_{answers}"
        entries[name] = {"database_name": name, "username": name}
        world.declare_entries(entries)
        context: Any = RunningOut(answers)
        with world._environment():
            try:
                lambda_handler({"environment": "dev", "run_id": name}, context)
            except ProvisioningError as error:
                errors.add(type(error).__name__)
        assert f",{name}," in trail(world)
        assert world.apply()["status"] in {"applied", "no_change"}
    assert errors == {"OutOfTime"}
    assert world.apply()["status"] == "no_change"
