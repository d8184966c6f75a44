"""One owner has thousands of objects of which each is to be named: the server's locks stay everybody's."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from provisioner.edges.postgres import Connection
from stack.aws import Aws
from stack.postgres import Server
from stack.world import World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
BANK = {"bank": {"database_name": "bank", "username": "bank_user"}}
READER = {"reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"}}
# A server with room for a few hundred locks; what it reckons with for each session is the least that can be set.
LOCKS = {"max_locks_per_transaction": "10", "max_connections": "30", "autovacuum": "off"}
OBJECTS = 1500
ODD_LISTS = f"""
DO $$ DECLARE r text; k int; BEGIN FOR i IN 1..{OBJECTS} LOOP k := i;
    EXECUTE format('CREATE TABLE t%1$s (a int); GRANT UPDATE (a) ON t%1$s TO shop_reader', i);
    FOREACH r IN ARRAY ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] LOOP
        IF k % 2 = 1 THEN EXECUTE format('GRANT %s ON t%s TO pg_monitor', r, i); END IF; k := k / 2; END LOOP;
    EXECUTE format('GRANT INSERT ON t%s TO shop_reader', i);
    IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; CREATE TABLE plain (); END $$"""
SCHEMAS = f"""
DO $$ BEGIN FOR i IN 1..{OBJECTS} LOOP EXECUTE format('CREATE SCHEMA s%1$s CREATE TABLE t ()', i);
    EXECUTE format('REVOKE ALL ON s%1$s.t, s%1$s.t FROM shop_reader; REVOKE ALL ON SCHEMA s%1$s FROM shop_reader', i);
    IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$"""


@pytest.fixture(params=["master", "delegated"])
def world(postgres_version: int, aws: Aws, request: pytest.FixtureRequest) -> Iterator[World]:
    with Server(postgres_version, parameters=LOCKS) as server:
        admin = server.master if request.param == "master" else server.create_delegated_admin()
        with World(server, aws, admin, settings={"MAX_WORKERS": "4"}) as world:
            world.declare_entries(SHOP | BANK | READER)
            assert world.apply()["status"] == "applied"
            yield world


class Neighbour(threading.Thread):
    """Another application, which takes the locks that the server reckons with for it, again and again."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._connection = world.login("bank_user", "bank")
        self._connection.run(
            "DO $$ BEGIN FOR i IN 1..10 LOOP EXECUTE format('CREATE TABLE a%s ()', i); END LOOP; END $$"
        )
        self._is_over = threading.Event()
        self.errors: list[str] = []

    def run(self) -> None:
        """Until it is told to end."""
        reads = ";".join(f"LOCK TABLE a{number} IN SHARE ROW EXCLUSIVE MODE" for number in range(1, 11))
        while not self._is_over.is_set():
            try:
                self._connection.run(f"BEGIN; {reads}; COMMIT")
            except Exception as error:  # noqa: BLE001 - whatever it is
                self.errors.append(str(error))
                self._connection.run("ROLLBACK")

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._is_over.set()
        self.join(30)
        self._connection.close()


@pytest.fixture
def most_locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many locks each message of ours has left in its transaction."""
    counts: list[int] = []
    send = Connection.run

    def watched(connection: Any, *statements: str, **options: Any) -> Any:
        rows = send(connection, *statements, **options)
        if statements[0] == "BEGIN":
            warnings = list(connection._inner.notices)
            locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND NOT fastpath"
            counts.append(send(connection, locks)[0][0])
            connection._inner.notices.extend(warnings)
        return rows

    monkeypatch.setattr(Connection, "run", watched)
    return counts


@pytest.mark.both_administrators
@pytest.mark.parametrize("objects", [ODD_LISTS, SCHEMAS], ids=["access lists", "schemas"])
def test_no_transaction_takes_more_locks_than_the_server_has_for_a_session(
    world: World, objects: str, most_locks: list[int]
) -> None:
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run(objects)
    del most_locks[:]
    late = {"late": {"database_name": "late", "username": "late_user"}}
    world.declare_entries(SHOP | BANK | READER | late)
    with Neighbour(world) as neighbour:
        assert world.apply()["status"] == "applied"
    assert neighbour.errors == []
    world.login("late_user", "late").close()
    assert max(most_locks) < 60
    assert world.drift()["status"] == "in_sync"
    assert world.apply()["status"] == "no_change"
