"""A new database is closed until everybody has lost what everybody gets: a tenant that waits for it finds it shut."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.errors import PlanBlocked
from stack.aws import Aws
from stack.postgres import Server
from stack.world import World

NOSY = {"username": "nosy_user", "access_level": "reader", "secret_name": "goldenpath/dev/shared"}
SPY = {"spy": {"database_name": "spy", "username": "spy_user"}, "nosy": {"database_name": "spy", **NOSY}}
BANKS = {f"bank{n}": {"database_name": f"bank{n}", "username": f"bank{n}_user"} for n in range(4)}
# A declared reader of the new database is no more than anybody else until its level holds there.
READER = {"peek": {"database_name": "bank0", **NOSY}}
MARK = """{"managed_by": "rds-provisioner", "environment": "dev", "creating": ["bank0"], "borrowed": true}"""


@pytest.fixture(params=["master", "delegated"])
def world(request: pytest.FixtureRequest, pg_server: Server, aws: Aws) -> Iterator[World]:
    admin = pg_server.master if request.param == "master" else pg_server.create_delegated_admin()
    with World(pg_server, aws, admin) as made:
        made.passwords["nosy_user"] = "secret of nosy_user"
        aws.put_secret(NOSY["secret_name"], {"username": "nosy_user", "password": made.passwords["nosy_user"]})
        made.declare_entries(SPY)
        made.apply()
        yield made


class Intruder(threading.Thread):
    """A tenant that looks for new databases all the time, goes into each as soon as it is there, and leaves a table."""

    def __init__(self, world: World, username: str) -> None:
        super().__init__()
        self._world, self._username, self._is_over = world, username, threading.Event()
        self.seen: set[str] = set()
        self.got_in: list[tuple[str, Any]] = []

    def run(self) -> None:
        with contextlib.closing(self._world.login(self._username, "spy")) as watch:
            while not self._is_over.wait(0.0005):
                for (name,) in watch.run("SELECT datname FROM pg_database WHERE datname LIKE 'bank%'"):
                    self.seen.add(name)
                    self._enter(name)

    def _enter(self, name: str) -> None:
        # pg8000 says different things about a database that is closed and one that is forbidden.
        with contextlib.suppress(Exception):
            connection = self._world.login(self._username, name)
            planted = None
            with contextlib.suppress(Exception):
                planted = connection.run("CREATE TABLE public.customers (name text)")
            self.got_in.append((name, planted))

    def end(self) -> None:
        self._is_over.set()
        self.join(30)
        assert not self.is_alive()


@pytest.mark.parametrize("declared", [BANKS, BANKS | READER], ids=["a stranger", "its reader to be"])
def test_nobody_is_in_a_new_database_before_it_is_closed_to_everybody(
    world: World, declared: dict[str, dict[str, Any]]
) -> None:
    intruders = [Intruder(world, name) for name in ("spy_user", "nosy_user")]
    for intruder in intruders:
        intruder.start()
    try:
        world.declare_entries(SPY | declared)
        assert world.apply()["status"] == "applied"
    finally:
        for intruder in intruders:
            intruder.end()
    assert all(intruder.seen for intruder in intruders)
    is_reader = declared != BANKS
    assert intruders[0].got_in == []
    assert {name for name, _ in intruders[1].got_in} <= ({"bank0"} if is_reader else set())
    # Once its level holds a reader is in; up to 14 `public`, which nobody here may change, lets everybody create.
    may_create = {"bank0"} if is_reader and world.server.version < 15 else set()
    for name in BANKS.keys() - may_create:
        assert world.server.run_as_superuser("SELECT relname FROM pg_class WHERE relname = 'customers'", name) == []
    assert world.apply()["status"] == "no_change"


def leave_behind(world: World, *statements: str) -> None:
    """What an interrupted run left: the role with a note of what is created for it, the database as it was then."""
    world.server.run_as_superuser("CREATE ROLE bank0_user LOGIN")
    world.server.run_as_superuser(f"COMMENT ON ROLE bank0_user IS '{MARK}'")
    if world.server.version >= 16:
        world.server.run_as_superuser(f"GRANT bank0_user TO {world.admin.username} WITH ADMIN OPTION")
    for statement in ("CREATE DATABASE bank0 OWNER bank0_user ALLOW_CONNECTIONS false", *statements):
        world.server.run_as_superuser(statement)
    world.declare_entries(SPY | {"bank0": BANKS["bank0"]})


def test_a_database_that_an_interrupted_run_left_closed_is_opened_by_the_next(world: World) -> None:
    leave_behind(world)
    planned = world.dry_run()
    assert planned["blockers"] == []
    assert "adopt_database" in [change["action"] for change in planned["changes"]]
    assert world.apply()["status"] == "applied"
    with contextlib.closing(world.login("bank0_user", "bank0")) as owner:
        owner.run("CREATE TABLE account (id int)")
    with pytest.raises(Exception, match="permission denied for database"):
        world.login("spy_user", "bank0")
    assert world.apply()["status"] == "no_change"


@pytest.mark.parametrize(
    "later",
    [
        ["REVOKE CONNECT ON DATABASE bank0 FROM PUBLIC"],
        ["""COMMENT ON DATABASE bank0 IS '{"managed_by": "rds-provisioner", "environment": "dev"}'"""],
    ],
    ids=["opened before", "finished before"],
)
def test_a_database_that_somebody_closed_later_stays_a_blocker(world: World, later: list[str]) -> None:
    leave_behind(world, *later)
    with pytest.raises(PlanBlocked, match='database "bank0" does not allow connections'):
        world.apply()
    assert world.server.run_as_superuser("SELECT datallowconn FROM pg_database WHERE datname = 'bank0'") == [[False]]
