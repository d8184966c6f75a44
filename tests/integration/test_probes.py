"""A login tells whether a password is the role's, is one as any other to the server, and costs nobody else anything."""

import contextlib
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from provisioner.core.credentials import Credentials
from provisioner.core.errors import PlanBlocked
from provisioner.core.state import PasswordCheck, Role
from provisioner.core.state import Server as Facts
from provisioner.edges import probe
from provisioner.edges.postgres import Login as Way
from provisioner.edges.postgres import ServerAddress, tls_context
from provisioner.edges.probe import probe_login, probe_passwords
from provisioner.edges.server_catalogs import observe_server
from stack.aws import Aws
from stack.postgres import Login, Server, make_verifier
from stack.world import World

ENTRIES = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
    "bank": {"database_name": "bank", "username": "bank_user"},
}
ROLES = {"shop_user", "shop_reader", "bank_user"}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply()["status"] == "applied"
        yield world


def address_of(server: Server) -> ServerAddress:
    return ServerAddress(server.host, server.port, tls_context(str(server.ca_file)))


def look(server: Server, *databases: str) -> Facts:
    with Way(address_of(server), *server.master, "postgres").connect() as connection:
        return observe_server(connection, databases)


def ask(facts: Facts, server: Server, password: str, database: str, *roles: str) -> list[PasswordCheck]:
    """What a run with one worker finds of roles that are said to have the password and that database."""
    credentials = {role: Credentials(role, password) for role in roles}
    found = probe_passwords(address_of(server), facts, credentials, dict.fromkeys(roles, (database,)), 1)
    return [found.passwords[role] for role in roles]


# --- the truth table of the login -------------------------------------------------------------------------------------

PROBES = {
    "the right password": ("", "right", PasswordCheck.CURRENT),
    "a wrong password": ("", "wrong", PasswordCheck.DIFFERS),
    "right, and NOLOGIN": ("ALTER ROLE probed NOLOGIN", "right", PasswordCheck.CURRENT),
    "wrong, and NOLOGIN": ("ALTER ROLE probed NOLOGIN", "wrong", PasswordCheck.DIFFERS),
    "right, and no connection allowed": ("ALTER ROLE probed CONNECTION LIMIT 0", "right", PasswordCheck.CURRENT),
    "no password at all": ("ALTER ROLE probed PASSWORD NULL", "right", PasswordCheck.DIFFERS),
    "right, not yet expired": ("ALTER ROLE probed VALID UNTIL '2099-01-01'", "right", PasswordCheck.CURRENT),
    "right, but expired": ("ALTER ROLE probed VALID UNTIL '2001-01-01'", "right", PasswordCheck.UNKNOWN),
    "wrong and expired": ("ALTER ROLE probed VALID UNTIL '2001-01-01'", "wrong", PasswordCheck.UNKNOWN),
    "right, and no CONNECT": ("REVOKE CONNECT ON DATABASE home FROM PUBLIC", "right", PasswordCheck.CURRENT),
    "right, and the database full": ("ALTER DATABASE home CONNECTION LIMIT 0", "right", PasswordCheck.CURRENT),
    "wrong, and the database full": ("ALTER DATABASE home CONNECTION LIMIT 0", "wrong", PasswordCheck.DIFFERS),
    "right, and the database closed": ("ALTER DATABASE home ALLOW_CONNECTIONS false", "right", PasswordCheck.CURRENT),
    "right, and a setting of nobody": ("ALTER ROLE probed SET role = 'nobody'", "right", PasswordCheck.CURRENT),
    "right, and a library": ("ALTER ROLE probed SET local_preload_libraries = 'none'", "right", PasswordCheck.CURRENT),
    "right, and no time": ("ALTER DATABASE home SET statement_timeout = '1ms'", "right", PasswordCheck.CURRENT),
}
_FRESH = (
    "DROP DATABASE IF EXISTS home",
    "DROP ROLE IF EXISTS probed",
    f"CREATE ROLE probed LOGIN PASSWORD '{make_verifier('right')}'",
    "CREATE DATABASE home",
)


@pytest.mark.parametrize("case", PROBES)
def test_what_the_server_says_to_a_login_tells_whether_the_password_is_right(pg_server: Server, case: str) -> None:
    sql, password, expected = PROBES[case]
    for statement in (*_FRESH, *([sql] if sql else [])):
        pg_server.run_as_superuser(statement)
    without = probe_login(address_of(pg_server), Credentials("probed", password), Role("probed", expired="2001" in sql))
    found = [ask(look(pg_server, name), pg_server, password, name, "probed") for name in ("home", "gone")]
    assert [*found, [without]] == [[expected]] * 3


def test_a_server_that_is_full_tells_nothing_and_one_with_reserved_places_left_does(latest_server: Server) -> None:
    for statement in _FRESH:
        latest_server.run_as_superuser(statement)
    query = "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
    takes, reserved = latest_server.run_as_superuser(query)[0]
    latest_server.end_kept_session()
    address, role = address_of(latest_server), Role("probed")
    with contextlib.ExitStack() as others:
        for _ in range(takes - reserved):
            others.enter_context(contextlib.closing(latest_server.superuser()))
        assert probe_login(address, Credentials("probed", "right"), role) is PasswordCheck.CURRENT
        assert probe_login(address, Credentials("probed", "wrong"), role) is PasswordCheck.DIFFERS
        for _ in range(reserved):
            others.enter_context(contextlib.closing(latest_server.superuser()))
        assert probe_login(address, Credentials("probed", "wrong"), role) is PasswordCheck.UNKNOWN


# --- the server's log -------------------------------------------------------------------------------------------------


def test_a_run_that_finds_all_as_declared_leaves_no_fatal_line_in_the_servers_log(world: World) -> None:
    mark = world.server.mark()
    assert world.apply()["status"] == "no_change"
    assert world.drift()["status"] == "in_sync"
    assert world.dry_run()["status"] == "no_change"
    log = world.server.log_text(mark)
    assert [line for line in log.splitlines() if "FATAL" in line or "could not" in line or "unexpected" in line] == []
    # And it did log in as each.
    assert [role for role in sorted(ROLES) if log.count(f"connection authorized: user={role} ") != 3] == []


def test_a_login_says_no_statement(world: World) -> None:
    mark = world.server.mark()
    world.apply()
    assert [each for each in world.server.log_statements(mark) if each.username in ROLES] == []


# --- what a tenant can do about it ------------------------------------------------------------------------------------


def set_for(world: World, whose: str, size: int) -> None:
    """Have the owner of shop store a setting of so many bytes, which nobody refuses before a session reads it."""
    with world.login("shop_user", "shop") as owner:
        owner.run(
            f"DO $$ BEGIN EXECUTE 'ALTER {whose} SET default_text_search_config = '"
            f" || quote_literal(repeat('a', {size})); END $$"
        )


def test_a_stored_setting_is_not_quoted_to_who_logs_in(world: World) -> None:
    # It is compressed to less than what would keep a run out.
    set_for(world, "DATABASE shop", 5_000_000)
    set_for(world, "ROLE shop_user", 5_000_000)
    tracemalloc.start()
    answer = world.apply()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer["status"], peak < 4_000_000) == ("no_change", True)


def test_a_role_with_many_megabytes_of_settings_is_proved_without_a_session(world: World) -> None:
    set_for(world, "ROLE shop_user", 20_000_000)
    mark = world.server.mark()
    answer = world.apply()
    assert answer["status"] == "no_change"
    assert "password_unknown" not in {item["code"] for item in answer["warnings"]}
    inside = {*world.server.let_in("shop", mark), *world.server.let_in("bank", mark)}
    assert ROLES & inside == {"bank_user", "shop_reader"}


def test_a_database_with_many_megabytes_of_settings_blocks_itself_and_nobody_enters_it(world: World) -> None:
    set_for(world, "DATABASE shop", 20_000_000)
    world.declare_entries(ENTRIES | {"till": {"database_name": "till", "username": "till_user"}})
    mark = world.server.mark()
    with pytest.raises(PlanBlocked, match=r'"shop".*its own settings take more than 100000 bytes'):
        world.apply()
    assert world.server.let_in("shop", mark) == []
    world.login("till_user", "till").close()


@pytest.fixture
def seen_before(world: World) -> Iterator[Facts]:
    """What was seen before the owner of shop keeps everybody out who would come in, and nobody who is in."""
    before = look(world.server, "shop")
    with contextlib.ExitStack() as stack:
        reader, owner = (stack.enter_context(contextlib.closing(world.login("shop_user", "shop"))) for _ in range(2))
        # Once through, so that who comes in has to read the catalogs anew.
        owner.run("VACUUM FULL pg_class")
        reader.run("BEGIN; LOCK TABLE pg_class IN ACCESS SHARE MODE")
        waits = threading.Thread(target=owner.run, args=("VACUUM FULL pg_class",))
        waits.start()
        stack.callback(waits.join)
        stack.callback(reader.run, "COMMIT")
        query = "SELECT count(*) FROM pg_locks WHERE relation = 1259 AND mode = 'AccessExclusiveLock' AND NOT granted"
        while world.server.run_as_superuser(query) != [[1]]:
            pass
        yield before


@pytest.mark.parametrize("locked", ["after the look", "before"])
def test_a_database_that_nobody_gets_into_costs_one_wait_and_its_roles_are_proved_all_the_same(
    world: World, seen_before: Facts, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    monkeypatch.setattr(probe, "SECONDS_IN_A_DATABASE", 1.0)
    for role in ROLES:
        world.server.run_as_superuser(f"ALTER ROLE {role} PASSWORD '{make_verifier('same')}'")
    mark = world.server.mark()
    facts = seen_before if locked == "after the look" else look(world.server, "shop")
    assert ask(facts, world.server, "same", "shop", *sorted(ROLES)) == [PasswordCheck.CURRENT] * 3
    log = world.server.log_text(mark)
    assert world.server.let_in("shop", mark) == (["bank_user"] if locked == "after the look" else [])
    assert log.count(f'FATAL:  database "{probe.NO_DATABASE}') == 3
