"""A role or a database that cannot be changed costs no other anything: each fails alone, and is named."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.errors import ApplyFailed, ProvisioningError
from provisioner.edges import apply_roles, transaction
from stack import binaries
from stack.aws import Aws
from stack.dump import has_password
from stack.held import HeldRun
from stack.postgres import Server
from stack.world import AUDIT, World

SHOP = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "edit": {"database_name": "shop", "username": "shop_editor", "access_level": "editor"},
    "report": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
BANK = {
    "bank": {"database_name": "bank", "username": "bank_user"},
    "teller": {"database_name": "bank", "username": "teller", "access_level": "reader"},
}


@pytest.fixture(autouse=True)
def lock_timeout(pg_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest server is waited for as long as is meant; on the others the same is seen in a fifth of the time."""
    if pg_server.version != max(binaries.available()):
        monkeypatch.setattr(apply_roles, "LOCK_TIMEOUT_MS", apply_roles.LOCK_TIMEOUT_MS // 5)


@pytest.fixture(params=["master", "delegated"])
def world(request: pytest.FixtureRequest, pg_server: Server, aws: Aws) -> Iterator[World]:
    admin = pg_server.master if request.param == "master" else pg_server.create_delegated_admin()
    with World(pg_server, aws, admin) as made:
        made.declare_entries(SHOP)
        made.apply()
        yield made


def trail(world: World) -> list[str]:
    return world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv").decode().splitlines()


@contextlib.contextmanager
def held(world: World, *roles: str) -> Iterator[None]:
    """Each role has another password than its secret, and keeps its own row from being written."""
    with contextlib.ExitStack() as stack:
        for role in roles:
            tenant = stack.enter_context(contextlib.closing(world.login(role, "shop")))
            tenant.run(f"ALTER ROLE {role} PASSWORD 'x'")
            tenant.run("BEGIN")
            tenant.run(f"ALTER ROLE {role} PASSWORD 'y'")
        yield


def test_a_role_that_holds_its_own_row_is_named_and_all_others_are_served(world: World) -> None:
    world.declare_entries(SHOP | BANK)
    started = time.monotonic()
    with held(world, "shop_reader"), pytest.raises(ApplyFailed, match="55P03") as caught:
        world.apply()
    assert [(each.username, each.code) for each in caught.value.findings] == [("shop_reader", "apply_failed")]
    assert 'role "shop_reader" could not be changed' in str(caught.value)
    # Twice the `lock_timeout` of 5 s; the rest is for a machine that does other things too.
    assert time.monotonic() - started < 30
    assert world.login("bank_user", "bank").run("SELECT 1") == [[1]]
    assert world.login("teller", "bank").run("SELECT 1") == [[1]]
    assert any(",,shop_reader,set_password,error," in row and "55P03" in row for row in trail(world))
    assert any(",bank,bank_user,create_database,success," in row for row in trail(world))
    assert world.apply()["status"] == "applied"
    assert has_password(world.server, "shop_reader", world.passwords["shop_reader"])
    assert world.apply()["status"] == "no_change"


def test_a_role_that_grants_itself_to_another_keeps_that_ones_unit_from_nothing(world: World) -> None:
    if world.server.version >= 15:
        pytest.skip("up to 14 a role may grant itself")
    world.declare_entries(SHOP | BANK)
    world.apply()
    secret = {"secret_name": "goldenpath/dev/bank/postgres"}
    both = {"username": "bank_user", "password": world.passwords["bank_user"]}
    world.aws.put_secret(secret["secret_name"], both)
    bank = {name: {"database_name": name, "username": "bank_user"} | secret for name in ("bank", "vault")}
    world.declare_entries(SHOP | BANK | bank)
    with contextlib.closing(world.login("shop_user", "shop")) as tenant:
        tenant.run("GRANT shop_user TO bank_user")
        tenant.run("BEGIN")
        tenant.run("REVOKE shop_user FROM bank_user")
        with pytest.raises(ApplyFailed, match="55P03") as caught:
            world.apply()
    assert [each.username for each in caught.value.findings] == ["shop_user"]
    assert world.login("bank_user", "vault").run("SELECT 1") == [[1]]
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_what_is_taken_from_a_role_does_not_wait_for_its_own_row(world: World) -> None:
    """Else an editor that becomes a reader could keep what it has."""
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("CREATE TABLE items (id int)")
    world.apply()
    lesser = SHOP | {"edit": SHOP["edit"] | {"access_level": "reader"}}
    world.declare_entries(lesser)
    with held(world, "shop_editor"), pytest.raises(ApplyFailed, match='role "shop_editor"'):
        world.apply()
    assert world.server.run_as_superuser("SELECT has_table_privilege('shop_editor', 'items', 'INSERT')", "shop") == [
        [False]
    ]


def test_a_role_that_cannot_be_created_costs_only_what_is_its_own(world: World) -> None:
    """It is made by somebody else, under the eyes of the run."""
    world.declare_entries(SHOP | BANK)
    with HeldRun(world) as run:
        world.server.run_as_superuser("CREATE ROLE teller")
    assert isinstance(run.error, ApplyFailed)
    assert [each.username for each in run.error.findings] == ["teller"]
    assert "42710" in str(run.error)
    assert world.login("bank_user", "bank").run("SELECT 1") == [[1]]
    assert any(",bank,teller,grant,skipped," in row for row in trail(world))
    assert any(",bank,bank_user,create_database,success," in row for row in trail(world))


def test_an_owner_that_cannot_be_created_keeps_its_databases_back_and_no_other(world: World) -> None:
    world.declare_entries(SHOP | BANK | {"till": {"database_name": "till", "username": "till_user"}})
    with HeldRun(world) as run:
        world.server.run_as_superuser("CREATE ROLE bank_user")
    assert isinstance(run.error, ApplyFailed)
    assert [each.username for each in run.error.findings] == ["bank_user"]
    assert any(",bank,bank_user,create_database,skipped," in row and "bank_user" in row for row in trail(world))
    assert world.login("till_user", "till").run("SELECT 1") == [[1]]
    world.server.run_as_superuser("DROP ROLE bank_user")
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_a_role_that_is_dropped_in_a_run_is_made_by_the_next(world: World) -> None:
    with contextlib.closing(world.login("shop_reader", "shop")) as tenant:
        tenant.run("ALTER ROLE shop_reader PASSWORD 'x'")
    world.declare_entries(SHOP | BANK)
    with HeldRun(world) as run:
        world.server.run_as_superuser("DROP OWNED BY shop_reader; DROP ROLE shop_reader", "shop")
    assert isinstance(run.error, ApplyFailed)
    assert {each.username for each in run.error.findings} == {"shop_reader"}
    assert world.login("bank_user", "bank").run("SELECT 1") == [[1]]
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"


def test_fail_fast_begins_nothing_after_the_first_failure(world: World) -> None:
    world.declare_entries(SHOP | BANK)
    with held(world, "shop_reader"), pytest.raises(ApplyFailed, match='role "shop_reader"'):
        world.apply(fail_fast=True)
    assert any(",bank,bank_user,create_database,skipped," in row and "fail_fast" in row for row in trail(world))
    assert world.server.run_as_superuser("SELECT FROM pg_database WHERE datname = 'bank'") == []


def test_a_mistake_of_ours_at_one_database_is_that_databases(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.declare_entries(SHOP | BANK)
    send = transaction.apply_and_verify

    def fail(item: Any, *arguments: Any) -> None:
        if item.name == "shop":
            raise KeyError("what nobody expected")
        send(item, *arguments)

    monkeypatch.setattr(transaction, "apply_and_verify", fail)
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("CREATE TABLE items (id int); REVOKE ALL ON items FROM shop_reader")
    with pytest.raises(ProvisioningError) as caught:
        world.apply()
    assert [(each.code, each.database) for each in caught.value.findings] == [("unexpected", "shop")]
    assert "KeyError" in str(caught.value)
    assert "what nobody expected" not in str(caught.value)
    assert world.login("bank_user", "bank").run("SELECT 1") == [[1]]


class Churn(threading.Thread):
    """An owner whose schemas come and go."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__()
        self._world, self._schema, self._is_over = world, f"s{number}", threading.Event()

    def run(self) -> None:
        with contextlib.closing(self._world.login("shop_user", "shop")) as owner:
            while not self._is_over.is_set():
                for statement in (
                    f"CREATE SCHEMA {self._schema}",
                    f"CREATE TABLE {self._schema}.t (a int)",
                    f"DROP SCHEMA IF EXISTS {self._schema} CASCADE",
                ):
                    with contextlib.suppress(Exception):
                        owner.run(statement)

    def end(self) -> None:
        self._is_over.set()
        self.join(30)
        assert not self.is_alive()


LATE = {"late": {"database_name": "shop", "username": "late_reader", "access_level": "reader"}}


def test_a_schema_that_goes_away_in_a_run_needs_nobody(world: World) -> None:
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run("CREATE SCHEMA gone; CREATE TABLE gone.t (a int); CREATE TABLE public.stays (a int)")
        world.declare_entries(SHOP | LATE)
        with HeldRun(world) as run:
            owner.run("DROP SCHEMA gone CASCADE")
    assert run.answer, run.error
    assert run.answer["status"] == "applied"
    assert world.server.run_as_superuser("SELECT has_table_privilege('late_reader', 'stays', 'SELECT')", "shop") == [
        [True]
    ]
    assert world.apply()["status"] == "no_change"


@pytest.mark.both_administrators
def test_schemas_that_come_and_go_fetch_nobody(world: World) -> None:
    churns = [Churn(world, number) for number in range(3)]
    for churn in churns:
        churn.start()
    try:
        world.declare_entries(SHOP | LATE)
        error = None
        try:
            world.apply()
        except ProvisioningError as failed:
            error = str(failed)
    finally:
        for churn in churns:
            churn.end()
    assert error is None or "call again" in error
    assert world.apply()["status"] in {"applied", "no_change"}


# --- a limit that was set is taken back -----------------------------------------------------------------------------


def limit_of(world: World, role: str) -> int:
    return int(world.server.run_as_superuser(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{role}'")[0][0])


def test_a_connection_limit_that_is_taken_out_of_the_entry_goes(world: World) -> None:
    world.declare_entries(SHOP | {"shop": SHOP["shop"] | {"connection_limit": 7}})
    world.apply()
    assert limit_of(world, "shop_user") == 7
    world.declare_entries(SHOP)
    answer = world.apply()
    assert [(each["action"], each["detail"]) for each in answer["changes"]] == [("alter_role", "no connection limit")]
    assert limit_of(world, "shop_user") == -1
    assert world.apply()["status"] == "no_change"


def test_a_limit_of_an_operator_stands_whatever_stood_in_the_entry_before(world: World) -> None:
    world.declare_entries(SHOP | {"shop": SHOP["shop"] | {"connection_limit": 7}})
    world.apply()
    world.server.run_as_superuser("ALTER ROLE shop_user CONNECTION LIMIT 3")
    world.server.run_as_superuser("ALTER ROLE shop_reader CONNECTION LIMIT 4")
    world.declare_entries(SHOP)
    assert world.apply()["status"] == "no_change"
    assert (limit_of(world, "shop_user"), limit_of(world, "shop_reader")) == (3, 4)


def test_a_limit_that_a_new_role_began_with_goes_too(world: World) -> None:
    limited = {"bank": BANK["bank"] | {"connection_limit": 2}}
    world.declare_entries(SHOP | limited)
    world.apply()
    world.declare_entries(SHOP | {"bank": BANK["bank"]})
    assert world.apply()["status"] == "applied"
    assert limit_of(world, "bank_user") == -1
