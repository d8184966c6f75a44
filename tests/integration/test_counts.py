"""What a run costs a server, counted on the wire: connections, round trips, statements and writes, and no seconds."""

import contextlib
import hashlib
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bench import fleet
from stack.aws import Aws
from stack.postgres import Server
from stack.proxy import Proxy
from stack.world import World

WORKERS = 3
DATABASES = 4
ROLES = DATABASES * len(fleet.LEVELS)

# As a proxy counts them: the request for TLS, the handshake, the start-up, two of SCRAM, one query, the Terminate.
LOOK = 7
# The same without a query; the server ends it.
PROBE = 6
# As a look, with CREATE DATABASE beside it, what everybody loses from outside, and letting in; the proof is the
# query, and the Terminate goes with COMMIT.
CREATE = 10
# A Terminate that crosses the server's own counts twice. One message more for each database would be more than these.
CROSSED = DATABASES - 1


@pytest.fixture
def proxy(latest_server: Server) -> Iterator[Proxy]:
    with Proxy(latest_server.port) as proxy:
        yield proxy


@pytest.fixture
def world(latest_server: Server, aws: Aws, proxy: Proxy) -> Iterator[World]:
    """A fleet declared, its server reached through the proxy only."""
    with World(latest_server, aws, latest_server.master, settings={"MAX_WORKERS": str(WORKERS)}) as world:
        secret = {**latest_server.admin_secret(latest_server.master), "port": proxy.port}
        aws.put_secret("goldenpath/dev/rds/master", secret)
        world.declare_entries(fleet.entries(DATABASES))
        yield world


@pytest.fixture
def provisioned(world: World, proxy: Proxy) -> World:
    """The same once it stands, counted from zero."""
    assert world.apply()["status"] == "applied"
    proxy.reset_counts()
    return world


def transactions(server: Server) -> int:
    """The next transaction id: one is taken by whatever writes, and by nothing else."""
    return int(server.run_as_superuser("SELECT txid_snapshot_xmax(txid_current_snapshot())")[0][0])


def test_a_second_run_connects_once_for_the_lock_once_for_each_database_and_once_for_each_password(
    provisioned: World, proxy: Proxy
) -> None:
    assert provisioned.apply()["status"] == "no_change"

    assert proxy.counts().connections == 1 + DATABASES + ROLES


def test_an_unchanged_database_costs_seven_round_trips_and_a_password_six(provisioned: World, proxy: Proxy) -> None:
    provisioned.apply()

    # The session that holds the lock asks for it, and then the shared catalogs.
    assert proxy.counts().round_trips <= (LOOK + 1) + LOOK * DATABASES + PROBE * ROLES + CROSSED


def test_an_unchanged_database_is_asked_one_question(provisioned: World, latest_server: Server) -> None:
    mark = latest_server.mark()

    provisioned.apply()

    asked = [each.database for each in latest_server.log_statements(mark)]
    assert sorted(asked) == ["app0000", "app0001", "app0002", "app0003", *["postgres"] * asked.count("postgres")]
    assert asked.count("postgres") <= 4


def test_a_database_with_what_most_have_none_of_is_asked_once_more(provisioned: World, latest_server: Server) -> None:
    with contextlib.closing(provisioned.login("app0000", "app0000")) as owner:
        owner.run("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with contextlib.closing(provisioned.login("app0001", "app0001")) as owner:
        owner.run("SELECT lo_create(0)")
    mark = latest_server.mark()

    provisioned.apply()

    asked = [each.database for each in latest_server.log_statements(mark) if each.database != "postgres"]
    assert sorted(asked) == ["app0000", "app0000", "app0001", "app0001", "app0002", "app0003"]


def test_a_second_run_writes_nothing(provisioned: World, latest_server: Server) -> None:
    before = transactions(latest_server)

    provisioned.apply()

    assert transactions(latest_server) == before


@pytest.mark.parametrize("mode", ["dry_run", "drift"])
def test_a_run_that_stops_at_the_gate_writes_nothing(world: World, latest_server: Server, mode: str) -> None:
    before = transactions(latest_server)

    world.call(mode=mode)

    assert transactions(latest_server) == before


def test_a_new_database_costs_ten_round_trips(world: World, proxy: Proxy) -> None:
    world.apply()

    # Beside the databases: the session of the lock with its query after the apply, the two that create databases
    # with what is said of the roles, and a login as each new role.
    beside = (LOOK + 2) + (LOOK + 2) + LOOK + PROBE * ROLES
    assert proxy.counts().connections == 1 + 2 + DATABASES + ROLES
    assert proxy.counts().round_trips <= beside + CREATE * DATABASES + CROSSED


def test_one_application_more_costs_what_it_takes_and_a_look_at_the_rest(provisioned: World, proxy: Proxy) -> None:
    provisioned.declare_entries(fleet.entries(DATABASES + 1))

    assert provisioned.apply()["status"] == "applied"

    new_roles = len(fleet.LEVELS)
    assert proxy.counts().connections == 1 + DATABASES + ROLES + (1 + 1 + new_roles)


def test_what_the_server_answers_does_not_grow_with_the_number_of_tables(
    provisioned: World, proxy: Proxy, latest_server: Server
) -> None:
    def answered_with(tables: int) -> int:
        create = "EXECUTE format('CREATE TABLE t%s (id int)', number)"
        loop = f"FOR number IN 1..{tables} LOOP {create}; END LOOP"
        latest_server.run_as_superuser(
            "DROP OWNED BY app0000; SET ROLE app0000; " + f"DO $$ BEGIN {loop}; END $$", "app0000"
        )
        provisioned.apply()
        proxy.reset_counts()
        assert provisioned.apply()["status"] == "no_change"
        return proxy.counts().bytes_received

    few, many = answered_with(10), answered_with(1000)

    # A digit or two more, and what signatures in a handshake differ by.
    assert abs(many - few) < 20 * (1 + DATABASES + ROLES)


class Gauge:
    """How many connections to the server this process has open, and had at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = self.most = 0
        self._lock = threading.Lock()
        wrap, close = ssl.SSLContext.wrap_socket, ssl.SSLSocket._real_close  # type: ignore[attr-defined]

        def counted_wrap(context: ssl.SSLContext, *arguments: Any, **options: Any) -> ssl.SSLSocket:
            with self._lock:
                self.open += 1
                self.most = max(self.most, self.open)
            return wrap(context, *arguments, **options)

        def counted_close(sock: ssl.SSLSocket) -> None:
            with self._lock:
                self.open -= 1
            close(sock)

        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", counted_wrap)
        monkeypatch.setattr(ssl.SSLSocket, "_real_close", counted_close)


@pytest.fixture
def gauge(monkeypatch: pytest.MonkeyPatch) -> Gauge:
    """Counts from now on; only PostgreSQL is spoken to over TLS here."""
    return Gauge(monkeypatch)


def test_never_more_connections_at_once_than_workers_and_two(world: World, gauge: Gauge) -> None:
    world.apply()
    world.apply()

    assert WORKERS < gauge.most <= WORKERS + 2
    assert gauge.open == 0


def test_on_a_server_that_is_nearly_full_room_is_left(world: World, gauge: Gauge, latest_server: Server) -> None:
    takes, reserved = latest_server.run_as_superuser(
        "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
    )[0]
    latest_server.end_kept_session()
    left = 4
    with contextlib.ExitStack() as others:
        for _ in range(takes - reserved - left):
            others.enter_context(contextlib.closing(latest_server.superuser()))

        assert world.apply()["status"] == "applied"

    assert gauge.most <= left - 1


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that were hashed from now on, one for each time."""
    passwords: list[bytes] = []
    hash_password = hashlib.pbkdf2_hmac

    def count(name: str, password: bytes, *arguments: Any) -> bytes:
        passwords.append(password)
        return hash_password(name, password, *arguments)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", count)
    return passwords


def test_the_administrators_password_is_hashed_once_for_all_its_connections(
    provisioned: World, hashed: list[bytes]
) -> None:
    provisioned.apply()

    assert hashed.count(provisioned.server.master.password.encode()) == 1
    assert len(hashed) == ROLES + 1


def test_a_new_password_is_hashed_once_for_its_verifier_and_its_first_login(world: World, hashed: list[bytes]) -> None:
    assert world.apply()["status"] == "applied"

    of_roles = sorted(password.encode() for password in world.passwords.values())
    administrator = world.server.master.password.encode()
    assert sorted(each for each in hashed if each != administrator) == of_roles


def test_a_run_leaves_nothing_of_a_password_in_memory_that_the_next_could_use(
    provisioned: World, hashed: list[bytes]
) -> None:
    provisioned.apply()
    first = list(hashed)

    provisioned.apply()

    assert sorted(hashed) == sorted(first * 2)
