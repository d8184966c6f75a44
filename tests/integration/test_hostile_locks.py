"""The owner of a database holds a lock that no login gets past: nobody tries, and nobody of ours is left waiting."""

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.errors import ApplyFailed, DatabaseUnavailable, PlanBlocked
from provisioner.edges import postgres
from stack.aws import Aws
from stack.leaver import blocked, is_there, leave, world_of_a_leaver
from stack.postgres import Login, Server
from stack.world import World

SHOP = {
    "shop": {"database_name": "shop", "username": "shop_user", "createdb": True},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
BANK = {"bank": {"database_name": "bank", "username": "bank_user"}}
LATE = {"late": {"database_name": "bank", "username": "bank_reader", "access_level": "reader"}}

# What stays open in a transaction, in which database, and what then waits behind it.
ATTACKS = {
    "a new name": ("ALTER DATABASE shop RENAME TO x", "postgres", ""),
    "a new name behind a comment": (
        "COMMENT ON DATABASE shop IS 'x'",
        "postgres",
        "BEGIN; ALTER DATABASE shop RENAME TO x; ROLLBACK",
    ),
    "its catalogs": ("LOCK TABLE pg_class IN ACCESS SHARE MODE", "shop", "VACUUM FULL pg_class"),
    "an index of its catalogs": ("SELECT FROM pg_class WHERE false", "shop", "REINDEX SYSTEM shop"),
}
WAITING = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND usename {} 'shop_user'"


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(SHOP | BANK)
        assert world.apply()["status"] == "applied"
        yield world


@contextlib.contextmanager
def locked(world: World, attack: str) -> Iterator[None]:
    """The database shop, in which its owner does so."""
    held, place, behind = ATTACKS[attack]
    with contextlib.ExitStack() as stack:
        holder, other = (stack.enter_context(contextlib.closing(world.login("shop_user", place))) for _ in range(2))
        holder.run("BEGIN")
        holder.run(held)
        if behind:
            waits = threading.Thread(target=other.run, args=(behind,))
            waits.start()
            stack.callback(waits.join)
            while world.server.run_as_superuser(WAITING.format("=")) != [[1]]:
                assert waits.is_alive()
        stack.callback(holder.run, "ROLLBACK")
        yield


@pytest.mark.parametrize("attack", ATTACKS)
def test_who_lets_nobody_into_its_database_is_named_and_costs_the_others_nothing(world: World, attack: str) -> None:
    world.declare_entries(SHOP | BANK | LATE)
    with locked(world, attack):
        mark = world.server.mark()
        for _ in range(2):
            with pytest.raises(PlanBlocked) as caught:
                world.apply()
            [finding] = caught.value.findings
            assert (finding.code, finding.database) == ("database_unreadable", "shop")
            assert 'of "shop_user" holds a lock that lets nobody in' in finding.message
            assert "pg_terminate_backend" in finding.next_step
            world.login("bank_reader", "bank").close()
        assert world.dry_run()["summary"]["blocked"] == 1
        assert world.drift()["blockers"][0]["code"] == "database_unreadable"
        report = world.call(mode="access")
        assert [(each["code"], each["database"]) for each in report["warnings"]] == [("access_unknown", "shop")]
        assert world.server.let_in("shop", mark) == []
        assert world.server.run_as_superuser(WAITING.format("<>")) == [[0]]
    assert world.apply()["status"] == "no_change"


@pytest.fixture
def preparing(postgres_version: int, aws: Aws) -> Iterator[World]:
    """Two databases, on a server that takes a prepared transaction."""
    with (
        Server(postgres_version, parameters={"max_prepared_transactions": "1"}) as server,
        World(server, aws, server.create_delegated_admin()) as world,
    ):
        world.declare_entries(SHOP | BANK)
        world.apply()
        yield world


def test_a_prepared_transaction_that_lets_nobody_in_is_named(preparing: World) -> None:
    with contextlib.closing(preparing.login("shop_user", "postgres")) as owner:
        owner.run("BEGIN; ALTER DATABASE shop RENAME TO x; PREPARE TRANSACTION 'left'")
    with pytest.raises(PlanBlocked, match=r"a prepared transaction holds a lock.*ROLLBACK PREPARED"):
        preparing.apply()
    assert preparing.server.run_as_superuser(WAITING.format("<>")) == [[0]]


def test_a_prepared_transaction_that_holds_what_a_run_waits_for_is_named(preparing: World) -> None:
    with contextlib.closing(preparing.login("shop_reader", "shop")) as guest:
        guest.run("BEGIN; DROP OWNED BY CURRENT_USER; PREPARE TRANSACTION 'left'")
    preparing.declare_entries(SHOP | BANK | {"more": SHOP["reports"] | {"username": "more_reader"}})
    with pytest.raises(ApplyFailed, match=r"55P03.*; a prepared transaction holds what it waited for"):
        preparing.apply()


def test_a_role_does_not_leave_a_database_that_its_owner_has_locked(pg_server: Server, admin: Login, aws: Aws) -> None:
    with world_of_a_leaver(pg_server, admin, aws) as world:
        leave(world)
        with locked(world, "its catalogs"):
            mark = world.server.mark()
            found = blocked(world)
            assert any('database "shop" cannot be looked into' in each["message"] for each in found)
            assert world.server.let_in("shop", mark) == []
            assert world.server.run_as_superuser(WAITING.format("<>")) == [[0]]
        assert world.apply(retire=["leaver"])["status"] == "applied"
        assert not is_there(world)


@contextlib.contextmanager
def at_work(world: World, statement: str, count: int) -> Iterator[None]:
    """So many sessions of a tenant's that run a statement until they are ended."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            session = stack.enter_context(contextlib.closing(world.login("shop_user", "shop")))
            [[pid]] = session.run("SELECT pg_backend_pid()")
            works = threading.Thread(target=suppressed, args=(session, statement))
            works.start()
            stack.callback(works.join)
            stack.callback(world.server.run_as_superuser, f"SELECT pg_terminate_backend({pid})", "template1")
        yield


def suppressed(session: Any, statement: str) -> None:
    with contextlib.suppress(Exception):
        session.run(statement)


AGAIN_AND_AGAIN = """DO $$ BEGIN LOOP BEGIN ALTER DATABASE bank RENAME TO x; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP; END $$"""


def test_a_database_that_anybody_locks_for_moments_is_not_taken_for_locked(world: World) -> None:
    """A lock of any database is anybody's until the server sees that it is not theirs; a login gets past."""
    world.declare_entries(SHOP | BANK | LATE)
    with at_work(world, AGAIN_AND_AGAIN, 4):
        assert world.dry_run()["blockers"] == []
        assert world.apply()["status"] == "applied"
        world.login("bank_reader", "bank").close()
        assert world.call(mode="access")["warnings"] == []


@contextlib.contextmanager
def locked_by_a_stranger(world: World, database: str) -> Iterator[None]:
    """Who may do nothing there holds the lesser lock, and has another wait behind it for the greater."""
    with contextlib.closing(world.login("shop_user", "shop")) as holder:
        holder.run("BEGIN")
        holder.run(f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET work_mem = '4MB'")
        with at_work(world, f"ALTER DATABASE {database} RENAME TO x", 1):
            while world.server.run_as_superuser(WAITING.format("="), "template1") != [[1]]:
                pass
            yield
        holder.run("ROLLBACK")


def test_who_lets_nobody_into_the_database_of_another_is_named(world: World) -> None:
    world.declare_entries(SHOP | BANK | LATE)
    with locked_by_a_stranger(world, "bank"):
        [finding] = world.dry_run()["blockers"]
    assert (finding["code"], finding["database"]) == ("database_unreadable", "bank")
    assert 'of "shop_user" holds a lock that lets nobody in' in finding["message"]


def test_who_lets_nobody_into_the_database_of_the_administrator_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No role needs a right for that, and no run gets in: who it is, is told from another database."""
    monkeypatch.setattr(postgres, "LOGIN_TIMEOUT_SECONDS", 1.0)
    with locked_by_a_stranger(world, "postgres"):
        for mode in ("apply", "drift", "access"):
            with pytest.raises(DatabaseUnavailable) as caught:
                world.call(mode=mode)
            [finding] = caught.value.findings
            assert finding.code == "administrator_locked_out"
            assert re.search('session [0-9]+ of "shop_user" holds a lock .* into database "postgres"', finding.message)
            assert "pg_terminate_backend" in finding.next_step
        [check] = [each for each in world.call(mode="preflight")["checks"] if each["name"] == "login"]
        assert (check["status"], 'of "shop_user" holds a lock' in str(check)) == ("failed", True)
    assert world.apply()["status"] == "no_change"


def test_who_lets_no_database_be_created_is_named(world: World) -> None:
    world.declare_entries(SHOP | BANK | LATE | {"new": {"database_name": "new", "username": "new_user"}})
    with locked_by_a_stranger(world, "template0"):
        with pytest.raises(PlanBlocked) as caught:
            world.apply()
        [finding] = caught.value.findings
        assert (finding.code, finding.database) == ("template_locked", "new")
        assert 'of "shop_user" holds a lock on template0' in finding.message
        world.login("bank_reader", "bank").close()
    assert world.apply()["status"] == "applied"


def test_who_lets_nobody_in_anywhere_ends_the_run_with_what_to_look_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any role can: the lock of a catalog that all databases share is taken before it is seen whose that is."""
    monkeypatch.setattr(postgres, "LOGIN_TIMEOUT_SECONDS", 1.0)
    closing, login = contextlib.closing, world.login
    with closing(login("shop_user", "shop")) as holder, closing(login("shop_user", "shop")) as other:
        holder.run("BEGIN; SELECT FROM pg_database WHERE false")
        rule = "CREATE RULE nothing AS ON INSERT TO pg_database DO NOTHING"
        waits = threading.Thread(target=suppressed, args=(other, rule))
        waits.start()
        while holder.run("SELECT count(*) FROM pg_locks WHERE NOT granted") != [[1]]:
            assert waits.is_alive()
        with pytest.raises(DatabaseUnavailable) as caught:
            world.drift()
        holder.run("ROLLBACK")
        waits.join()
    [finding] = caught.value.findings
    assert (finding.code, "a lock that no login gets past" in finding.next_step) == ("unreachable", True)
    assert world.drift()["status"] == "in_sync"
