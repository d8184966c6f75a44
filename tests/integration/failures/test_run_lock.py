"""The run lock: one run at a time, whatever a tenant does, and nobody who only looks is kept waiting."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner import run_input
from provisioner.core.errors import RunInProgress, StaleSnapshot
from provisioner.edges import lock
from provisioner.edges.lock import TAKE_NAME
from provisioner.edges.postgres import Login as Way
from provisioner.edges.postgres import ServerAddress, tls_context
from stack import processes
from stack.aws import Aws
from stack.binaries import ROOT
from stack.held import wait_until
from stack.postgres import Login, Server
from stack.world import AUDIT, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
BLOG = {"blog": {"database_name": "blog", "username": "blog_user"}}
CONTENDERS = 6
CONTENTION_SECONDS = 3.0
RUNS = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'rds-provisioner run %'"
WAITING = "SELECT FROM pg_stat_activity WHERE application_name = 'rds-provisioner waiting'"


@contextlib.contextmanager
def run_of(world: World) -> Iterator[int]:
    """A session that is a run as far as anybody can tell; gives its process."""
    with contextlib.closing(world.server.connect(*world.admin)) as connection:
        connection.run(TAKE_NAME)
        yield connection.run("SELECT pg_backend_pid()")[0][0]


class Called:
    """A call under way in a thread."""

    def __init__(self, world: World, event: Any = None, **fields: Any) -> None:
        self.ended: dict[str, Any] | Exception | None = None
        self._thread = threading.Thread(target=self._call, args=(world, event, fields))
        self._thread.start()

    def _call(self, world: World, event: Any, fields: dict[str, Any]) -> None:
        try:
            self.ended = world.call(event, **fields)
        except Exception as error:  # noqa: BLE001 - told to the test
            self.ended = error

    def end(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.ended


def s3_event(world: World, version: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": f"event-{version}",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {"bucket": {"name": "snapshots"}, "object": {"key": world.snapshot_key, "version-id": version}},
    }


def codes(answer: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


# --- never two ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def contender(server: Server, admin: Login, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'lambda'}{os.pathsep}{ROOT / 'tests'}",
        "SECRET": json.dumps(server.admin_secret(admin)),
        "CA_FILE": str(server.ca_file),
    }
    command = [sys.executable, "-m", "stack.contender", *map(str, arguments)]
    process = processes.start(command, env=environment, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        processes.end(process)


def way_in(server: Server, admin: Login) -> Way:
    secret = server.admin_secret(admin)
    return Way(ServerAddress(secret["host"], secret["port"], tls_context(str(server.ca_file))), *admin, "postgres")


def test_of_many_processes_never_two_have_the_lock(
    pg_server: Server, admin: Login, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with contextlib.ExitStack() as stack:
        contenders = [
            stack.enter_context(contender(pg_server, admin, "contend", tmp_path / "turn", CONTENTION_SECONDS))
            for _ in range(CONTENDERS)
        ]
        said = [json.loads(each.communicate(timeout=60)[0]) for each in contenders]
    turns = sum(each["turns"] for each in said)
    assert sum(each["overlaps"] for each in said) == 0
    assert turns > 50
    tell(f"{turns} turns of {CONTENDERS} processes, never two at once")


def test_two_that_step_back_for_each_other_try_again(pg_server: Server) -> None:
    """One took its name and has not looked yet; the other looks and steps back, whoever of them came first."""
    way = way_in(pg_server, pg_server.create_delegated_admin())
    with way.connect() as one, way.connect() as other:
        one.run(TAKE_NAME)
        with pytest.raises(RunInProgress):
            lock.acquire_run_lock(other, 0, lambda: None)
        assert one.run(lock._STEP_BACK) == []
        other.run(TAKE_NAME)
        assert len(one.run(lock._STEP_BACK)) == 1
        assert lock.acquire_run_lock(other, 0, lambda: None)[1] is False


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT pg_sleep(50)"])
def test_a_killed_process_gives_the_lock_back_within_seconds(pg_server: Server, admin: Login, statement: str) -> None:
    """Up to 13 a server that is busy for a dead client notices it when it has its answer, within statement_timeout."""
    if "sleep" in statement and pg_server.version < 14:
        statement = "SELECT pg_sleep(5)"
    way = way_in(pg_server, admin)
    with contender(pg_server, admin, "keep", statement) as process, way.connect() as next_run:
        assert process.stdout
        pid = json.loads(process.stdout.readline())["pid"]
        with pytest.raises(RunInProgress):
            lock.acquire_run_lock(next_run, 0.2, lambda: None)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        lock.acquire_run_lock(next_run, 15, lambda: None)
        assert time.monotonic() - killed < 8


def test_a_holder_whose_host_vanished_is_noticed_within_a_quarter_of_a_minute(pg_server: Server) -> None:
    """Without a farewell only keep-alives tell; the system's own wait two hours. The first connection of a run has the
    settings too that wait for the server's version.
    """
    with way_in(pg_server, pg_server.create_delegated_admin()).connect() as holder:
        lock.acquire_run_lock(holder, 0, lambda: None)
        asked = "SELECT name, setting FROM pg_settings WHERE name ~ '^(tcp_|client_conn|idle_sess)' ORDER BY name"
        found = {name: int(setting) for name, setting in holder.run(asked)}
    idle, interval, count = (found[f"tcp_keepalives_{name}"] for name in ("idle", "interval", "count"))
    assert 0 < idle + interval * count <= 15
    assert 0 < found["tcp_user_timeout"] <= 15_000
    assert found.get("client_connection_check_interval", 5_000) == 5_000
    assert found.get("idle_session_timeout", 0) == 0


# --- no tenant ------------------------------------------------------------------------------------------------------


def test_a_tenant_can_neither_take_nor_fake_the_lock(pg_server: Server, admin: Login, aws: Aws) -> None:
    with World(pg_server, aws, admin) as world, contextlib.ExitStack() as stack:
        world.declare_entries(SHOP)
        assert world.apply()["status"] == "applied"
        names = ("rds-provisioner run 1 20260101120000000000", "rds-provisioner 1 20260101120000000000")
        tenants = [stack.enter_context(contextlib.closing(world.login("shop_user", "postgres"))) for _ in range(4)]
        # The whole of a run's name too: what a run's session writes about itself, said by a tenant of its own.
        tenants[0].run(TAKE_NAME)
        assert tenants[0].run("SHOW application_name")[0][0].startswith("rds-provisioner run ")
        for tenant, name in zip(tenants[1:], (*names, "rds-provisioner waiting"), strict=True):
            tenant.run(f"SET application_name = '{name}'")
        # That of the version before, and many more: nobody asks for one.
        tenants[0].run("SELECT pg_advisory_lock(7274500165014000)")
        tenants[0].run("SELECT count(pg_advisory_lock(number)) FROM generate_series(1, 1000) AS number")
        # As much as it may lock of what a run reads.
        tenants[0].run("BEGIN")
        tenants[0].run("SELECT FROM pg_stat_activity, pg_database, pg_roles")
        world.declare_entries(SHOP | BLOG)
        assert "run_under_way" not in codes(world.dry_run())
        assert world.apply()["status"] == "applied"
        with run_of(world) as pid, pytest.raises(Exception, match="42501"):
            tenants[1].run(f"SELECT pg_terminate_backend({pid})")
        for tenant in tenants:
            assert tenant.run("SELECT 1") == [[1]]


def test_an_owner_cannot_name_the_sessions_of_the_administrator_in_its_database_as_a_run(
    pg_server: Server, admin: Login, aws: Aws
) -> None:
    """Tools of an operator's log in there too, as the administrator, and may say no application_name of their own."""
    with World(pg_server, aws, admin) as world:
        world.declare_entries(SHOP)
        assert world.apply()["status"] == "applied"
        with run_of(world) as pid:
            [[seen]] = world.server.run_as_superuser(f"SELECT application_name FROM pg_stat_activity WHERE pid = {pid}")
        with contextlib.closing(world.login("shop_user", "shop")) as owner:
            owner.run(f"ALTER DATABASE shop SET application_name = '{seen}'")
        with contextlib.closing(world.server.connect(*world.admin, "shop")) as tool:
            assert tool.run("SHOW application_name") == [[seen]]
            assert "run_under_way" not in codes(world.dry_run())
            assert world.apply()["status"] == "no_change"
            assert tool.run("SELECT 1") == [[1]]


def test_an_owner_cannot_keep_a_run_waiting_for_tools_that_it_names_as_left_over(
    pg_server: Server, admin: Login, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came before the run are ended; one that comes back at once, each time, is not waited for."""
    with World(pg_server, aws, admin) as world:
        world.declare_entries(SHOP)
        assert world.apply()["status"] == "applied"
        with contextlib.closing(world.login("shop_user", "shop")) as owner:
            owner.run("ALTER DATABASE shop SET application_name = 'rds-provisioner 1 20260101120000000000'")

        def come_back(_seconds: float) -> None:
            tools.append(world.server.connect(*world.admin, "shop"))

        tools: list[Any] = []
        come_back(0)
        monkeypatch.setattr(lock, "LEFTOVER_TIMEOUT_SECONDS", 1)
        monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=time.monotonic, sleep=come_back))
        assert world.apply()["status"] == "no_change"
        with pytest.raises(Exception, match=r"terminating connection|network error|57P01"):
            tools[0].run("SELECT 1")
        for tool in tools[1:]:
            assert tool.run("SELECT 1") == [[1]]
            tool.close()


def test_a_refused_run_names_the_process_and_the_administrator_can_end_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_input, "LOCK_SECONDS", 0.2)
    world.declare_entries(SHOP)
    with run_of(world) as pid:
        with pytest.raises(RunInProgress, match=rf"process {pid}, connected since 20\d\d-.* UTC") as caught:
            world.apply()
        with contextlib.closing(world.server.connect(*world.admin)) as administrator:
            assert administrator.run(caught.value.findings[0].next_step.rpartition(": ")[2]) == [[True]]
        assert world.apply()["status"] == "applied"


# --- who waits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "status"), [("dry_run", "planned"), ("drift", "drifted")])
def test_who_only_looks_works_beside_a_run_and_says_so(world: World, mode: str, status: str) -> None:
    world.declare_entries(SHOP)
    with run_of(world):
        beside = world.call(mode=mode)
    alone = world.call(mode=mode)
    assert (beside["status"], alone["status"]) == (status, status)
    assert (codes(beside), codes(alone)) == (["run_under_way"], [])
    assert "connected since 20" in beside["warnings"][0]["message"]
    assert beside["plan_digest"] == alone["plan_digest"]


def test_what_a_run_has_half_done_is_not_counted_as_drift(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.declare_entries(SHOP)
    with run_of(world):
        assert world.call(mode="drift")["status"] == "drifted"
    assert '"Drift"' not in capsys.readouterr().out
    world.call(mode="drift")
    assert '"Drift"' in capsys.readouterr().out


def test_an_event_that_only_plans_needs_no_lock(world: World) -> None:
    world.settings["UNGATED_ENVIRONMENTS"] = "sandbox"
    version = world.declare_entries(SHOP)
    with run_of(world):
        answer = world.call(s3_event(world, version))
    assert (answer["status"], codes(answer)) == ("approval_required", ["run_under_way"])


def test_an_event_waits_for_a_run_and_is_applied_after_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_input, "LOCK_SECONDS", 0.1)
    version = world.declare_entries(SHOP)
    with run_of(world):
        called = Called(world, s3_event(world, version))
        wait_until(lambda: world.server.run_as_superuser(WAITING))
        # Longer than a caller would wait.
        time.sleep(1)
        assert called.ended is None
    assert called.end()["status"] == "applied"


def test_an_event_waits_no_longer_than_leaves_time_for_the_work(world: World) -> None:
    version = world.declare_entries(SHOP)
    started = time.monotonic()
    with run_of(world), pytest.raises(RunInProgress):
        world.call(s3_event(world, version), seconds=2)
    assert 1 < time.monotonic() - started < 2


def test_an_event_that_waits_is_superseded_as_soon_as_a_newer_snapshot_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "CHECK_SECONDS", 0.1)
    old = world.declare_entries(SHOP)
    with run_of(world):
        called = Called(world, s3_event(world, old))
        wait_until(lambda: world.server.run_as_superuser(WAITING))
        new = world.declare_entries(SHOP | BLOG)
        assert called.end()["status"] == "superseded"
        waiting = Called(world, s3_event(world, new))
        wait_until(lambda: world.server.run_as_superuser(WAITING))
    assert waiting.end()["status"] == "applied"


def test_what_changed_while_a_call_waited_is_read_again(world: World) -> None:
    """The snapshot and the secrets: what was read before the wait would undo what the run before has set."""
    old = world.declare_entries(SHOP)
    world.apply()
    world.declare_entries(SHOP | {"old": {"database_name": "old", "username": "old_user"}})
    with run_of(world):
        newest = Called(world, {"environment": "dev", "run_id": "newest"})
        wait_until(lambda: world.server.run_as_superuser(WAITING))
        world.put_secret("shop", "shop_user", "shop")
        version = world.declare_entries(SHOP | BLOG)
    assert newest.end()["status"] == "applied"
    world.login("shop_user", "shop").close()
    assert world.server.run_as_superuser("SELECT FROM pg_database WHERE datname = 'old'") == []
    [row] = [row for row in trail(world) if ",newest,blog,blog_user,create_database,success," in row]
    assert f",{version}," in row
    with run_of(world):
        pinned = Called(world, {"environment": "dev", "tfvars": {"version_id": version}})
        wait_until(lambda: world.server.run_as_superuser(WAITING))
        world.declare_entries(SHOP)
    assert isinstance(pinned.end(), StaleSnapshot)
    # A session ends a moment after its client has left.
    wait_until(lambda: world.server.run_as_superuser(RUNS) == [])
    assert old != version


def trail(world: World) -> list[str]:
    return world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv").decode().splitlines()
