"""What a role that leaves, or somebody else with a tenant's password, prepares before it and does meanwhile."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pg8000.native
import pytest

from provisioner.core.errors import ApplyFailed
from stack.aws import Aws
from stack.leaver import (
    OWNER,
    READER,
    blocked,
    is_there,
    leave,
    query,
    retired,
    run,
    say_as_administrator,
    world_of_a_leaver,
)
from stack.postgres import Login, Server
from stack.world import World

EVIL = """
CREATE FUNCTION evil() RETURNS int LANGUAGE plpgsql AS 'BEGIN CREATE TABLE IF NOT EXISTS taken (); RETURN 1; END';
"""
# A function of the server's own, on which PostgreSQL keeps no dependency, runs whatever it is told.
RUNS = "CREATE VIEW runs AS SELECT evil()"
TEXT = "query_to_xml('SELECT public.evil()', true, true, '')::text"


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with world_of_a_leaver(pg_server, admin, aws) as world:
        yield world


def begin(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start what waits for somebody, and whatever comes of it."""
    outcome: list[Any] = []

    def run_it() -> None:
        try:
            outcome.append(act())
        except (ApplyFailed, pg8000.native.DatabaseError) as error:
            outcome.append(error)

    thread = threading.Thread(target=run_it)
    thread.start()
    return thread, outcome


def until_somebody_waits(world: World, how_many: int = 1) -> None:
    for _ in range(1000):
        if query(world, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")[0][0] >= how_many:
            return
        time.sleep(0.02)
    pytest.fail("nobody waits")


def make_in_shop(world: World, *statements: str) -> None:
    """What the leaver makes in the database of another, where others may enter, before it leaves."""
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "shop")
    run(world, "leaver", "shop", ";".join(statements))
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver", "shop")


# --- what would be the administrator's, within the reach of a tenant ------------------------------------------------


def test_of_a_kept_database_nobody_else_gets_a_copy(world: World) -> None:
    """Of a template whoever may create databases does, and enters the copy as its owner."""
    run(world, "leaver", "old", "CREATE FUNCTION who() RETURNS text SECURITY DEFINER LANGUAGE sql"
        " AS 'SELECT current_user::text'")  # fmt: skip
    run(world, "leaver", "postgres", "ALTER DATABASE old IS_TEMPLATE true")
    leave(world)
    retired(world)
    query(world, "ALTER ROLE reporter CREATEDB")
    with pytest.raises(pg8000.native.DatabaseError, match="permission denied to copy"):
        run(world, "reporter", "postgres", "CREATE DATABASE copy TEMPLATE old")
    query(world, "ALTER DATABASE old IS_TEMPLATE true")
    [warning] = [item for item in world.drift()["warnings"] if item["code"] == "kept_database_open"]
    query(world, warning["next_step"].partition(": ")[2])
    assert "kept_database_open" not in [item["code"] for item in world.drift()["warnings"]]


def test_statistics_that_run_a_text_block(world: World) -> None:
    """Unlike an index they take functions that are not immutable; autovacuum evaluates them as the table's owner."""
    if world.server.version < 14:
        pytest.skip("no statistics of expressions")
    run(world, "leaver", "old", EVIL + "CREATE TABLE trap (id int, n int); CREATE TABLE plain (id int, n int);"
        f"CREATE STATISTICS s ON (id::text || {TEXT}), n FROM trap;"
        "CREATE STATISTICS t ON (id + 1), (to_char(now(), 'YYYY') || n) FROM plain")  # fmt: skip
    leave(world)
    [blocker] = blocked(world)
    assert "trap" in blocker["message"]
    query(world, "DROP STATISTICS s", "old")
    retired(world)


@pytest.mark.parametrize(
    "attached",
    [
        f"ALTER TABLE trap ADD n int DEFAULT length({TEXT})",
        f"ALTER TABLE trap ADD CHECK (length({TEXT}) > id)",
        f"CREATE RULE r AS ON DELETE TO trap DO ALSO SELECT {TEXT}",
        f"{RUNS}; CREATE RULE r AS ON DELETE TO trap DO ALSO SELECT table_to_xml('runs', true, true, '')",
        "CREATE RULE r AS ON DELETE TO trap DO ALSO SELECT lo_unlink(old.id::oid)",
        "CREATE TRIGGER t BEFORE DELETE ON trap FOR EACH ROW EXECUTE FUNCTION lo_manage('id')",
    ],
    ids=["default", "check", "rule", "view", "large object", "extension"],
)
def test_the_servers_own_functions_that_run_what_they_are_told_block(world: World, attached: str) -> None:
    """A foreign key that cascades does so as who owns the table, in the session of whoever deletes."""
    run(world, "shop_user", "shop", "CREATE EXTENSION lo")
    parent = "id serial PRIMARY KEY, made timestamptz DEFAULT now(), key uuid DEFAULT gen_random_uuid()"
    trap = "CREATE TABLE trap (id int REFERENCES parent ON DELETE CASCADE)"
    make_in_shop(world, EVIL, f"CREATE TABLE parent ({parent})", trap, attached)
    leave(world)
    [blocker] = blocked(world)
    assert "trap" in blocker["message"]
    assert "parent" not in blocker["message"]
    query(world, "ALTER TABLE trap OWNER TO shop_user", "shop")
    retired(world)


def test_a_rule_that_reaches_code_in_another_relation_blocks(world: World) -> None:
    """What the rule names is a view, or another's table with a trigger: it depends on no function."""
    make_in_shop(
        world, EVIL, "CREATE TABLE trap (id int)", RUNS, "CREATE RULE r AS ON DELETE TO trap DO ALSO TABLE runs"
    )
    leave(world)
    [blocker] = blocked(world)
    assert "trap" in blocker["message"]


def test_a_table_with_a_partition_of_somebody_elses_blocks(world: World) -> None:
    """A foreign key acts on it as who owns the whole, and fires the triggers of the part."""
    make_in_shop(world, EVIL, "CREATE TABLE whole (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE quiet (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE its PARTITION OF quiet FOR VALUES FROM (0) TO (9)")  # fmt: skip
    query(world, "ALTER TABLE part OWNER TO reporter", "shop")
    leave(world)
    [blocker] = blocked(world)
    assert "whole" in blocker["message"]
    assert "more" not in blocker["message"]


def test_a_view_of_rows_that_only_their_owner_sees_blocks(world: World) -> None:
    run(world, "shop_user", "shop", "CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;"
        "CREATE TABLE open_ (id int)")  # fmt: skip
    make_in_shop(world, "CREATE VIEW rows_ AS TABLE guarded; CREATE VIEW harmless AS TABLE open_;"
        "GRANT SELECT ON rows_, harmless TO reporter")  # fmt: skip
    leave(world)
    [blocker] = blocked(world)
    assert "rows_" in blocker["message"]
    assert "more" not in blocker["message"]


@pytest.mark.parametrize("whose", ["leaver", "shop_user"])
def test_a_view_that_asks_in_the_name_of_another_view_blocks(world: World, whose: str) -> None:
    """What a view of `security_invoker` reaches depends on who owns the view above it."""
    if world.server.version < 15:
        pytest.skip("no such views")
    run(world, "shop_user", "shop", "CREATE TABLE hidden (id int); REVOKE ALL ON hidden FROM leaver")
    inner = "CREATE VIEW below WITH (security_invoker = true) AS TABLE hidden"
    outer = "CREATE VIEW above AS TABLE below; GRANT SELECT ON above TO reporter"
    if whose == "shop_user":
        run(world, "shop_user", "shop", inner + "; GRANT SELECT ON below TO leaver")
    make_in_shop(world, *([inner] if whose == "leaver" else []), outer)
    leave(world)
    [blocker] = blocked(world)
    assert ("below" if whose == "leaver" else "above") in blocker["message"]


# --- who is there, and is not to be seen ----------------------------------------------------------------------------


def test_a_login_that_waits_for_a_lock_ends_with_the_quarantine(world: World) -> None:
    """It was allowed before, and no session shows it until it is in; another who owns a database holds it up."""
    world.declare_entries({"shop": OWNER | {"createdb": True}, "report": READER}, with_secrets=False)
    world.apply()
    run(world, "shop_user", "postgres", "CREATE DATABASE its")
    with contextlib.closing(world.login("shop_user", "postgres")) as holder:
        holder.run("BEGIN; ALTER DATABASE its RENAME TO another")
        logins = [begin(lambda role=role: world.login(role, "its")) for role in ("leaver", "reporter")]
        until_somebody_waits(world, 2)
        assert world.apply(quarantine=["leaver"])["status"] == "applied"
        holder.run("ROLLBACK")
        for thread, _ in logins:
            thread.join()
    [[ended], [other]] = [outcome for _, outcome in logins]
    assert isinstance(ended, pg8000.native.DatabaseError)
    assert ended.args[0]["C"] == "57P01"
    other.close()


def test_a_role_that_is_granting_itself_is_quarantined_all_the_same(world: World) -> None:
    """To end its sessions as a member of it would take waiting for just that."""
    if world.server.version >= 15:
        pytest.skip("up to 14 a role may grant itself")
    session = world.login("leaver", "shop")
    session.run(f"BEGIN; GRANT leaver TO {world.admin.username}")
    leave(world)
    with pytest.raises((pg8000.native.DatabaseError, pg8000.native.InterfaceError)):
        session.run("COMMIT")
    with pytest.raises(pg8000.native.DatabaseError, match="28000"):
        world.login("leaver", "shop")


def test_who_enters_a_database_while_it_is_closed_is_seen(world: World) -> None:
    """Its login was allowed before, reads the settings of its role, and is nobody's session yet."""
    run(world, "leaver", "old", "CREATE FUNCTION who() RETURNS text SECURITY DEFINER LANGUAGE sql"
        " AS 'SELECT current_user::text'; GRANT CONNECT ON DATABASE old TO reporter")  # fmt: skip
    run(world, "reporter", "shop", "ALTER ROLE reporter SET default_text_search_config = 'pg_catalog.simple'")
    leave(world)
    kept = "SELECT pg_get_userbyid(datdba) <> 'leaver' FROM pg_database WHERE datname = 'old'"
    with (
        contextlib.closing(world.server.superuser("postgres")) as before,
        contextlib.closing(world.server.superuser("old")) as holder,
    ):
        before.run("BEGIN; GRANT CONNECT ON DATABASE old TO pg_monitor")
        retirement, failed = begin(lambda: world.apply(retire=["leaver"]))
        until_somebody_waits(world)
        holder.run("BEGIN; LOCK TABLE pg_ts_config IN ACCESS EXCLUSIVE MODE")
        login, entered = begin(lambda: world.login("reporter", "old"))
        until_somebody_waits(world, 2)
        before.run("ROLLBACK")
        while query(world, kept) == [[False]]:
            assert retirement.is_alive()
            time.sleep(0.02)
        holder.run("ROLLBACK")
        retirement.join()
        login.join()
    assert "1 sessions in it" in str(failed[0])
    assert is_there(world)
    with contextlib.closing(entered[0]) as guest:
        assert guest.run("SELECT who()") == [["leaver"]]
    retired(world)


# --- what is passed on meanwhile ------------------------------------------------------------------------------------


def test_what_is_passed_on_while_it_is_revoked_is_not_lost(world: World) -> None:
    """A member of the role grants in its place when the run has looked for the last time."""
    run(world, "shop_user", "shop", "CREATE TABLE first (id int); CREATE TABLE second (id int);"
        "GRANT SELECT ON first, second TO leaver WITH GRANT OPTION")  # fmt: skip
    leave(world)
    query(world, "CREATE ROLE stranger; GRANT leaver TO reporter")
    may_read = "SELECT has_table_privilege('stranger', 'second', 'SELECT')"
    with (
        contextlib.closing(world.login("shop_user", "shop")) as holder,
        contextlib.closing(world.login("reporter", "shop")) as member,
    ):
        member.run("SET ROLE leaver")
        holder.run("BEGIN; GRANT SELECT ON first TO reporter")
        retirement, failed = begin(lambda: world.apply(retire=["leaver"]))
        until_somebody_waits(world)
        member.run("GRANT SELECT ON second TO stranger")
        holder.run("ROLLBACK")
        retirement.join()
    assert "public.second" in str(failed[0])
    assert query(world, may_read, "shop") == [[True]]
    assert 'its grants to "stranger" stay: SELECT (1 object)' in world.dry_run(retire=["leaver"])["plan_text"]
    retired(world)
    assert query(world, may_read, "shop") == [[True]]


@pytest.mark.parametrize(
    "attack",
    [
        "ALTER DATABASE old CONNECTION LIMIT 0",
        "ALTER DATABASE old ALLOW_CONNECTIONS false",
        "REVOKE CONNECT ON DATABASE old FROM {admin}",
    ],
)
def test_who_follows_what_is_told_of_a_leavers_database_that_is_shut_opens_it(world: World, attack: str) -> None:
    run(world, "leaver", "shop", attack.format(admin=world.admin.username))
    leave(world)
    blockers = world.dry_run(retire=["leaver"])["blockers"]
    told = [each["next_step"] for each in blockers if 'database "old"' in each["message"]]
    assert told
    say_as_administrator(world, told[0])
    retired(world)
