"""A role is retired: what it owned passes on, what it was given goes, then the role. Nothing else is ever dropped."""

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pg8000.native
import pytest

from provisioner.core.errors import ApplyFailed, InvalidRequest, PlanBlocked
from provisioner.core.quoting import Literal, quote
from provisioner.edges.postgres import Connection
from stack.aws import Aws
from stack.leaver import (
    LEAVER,
    LONG_AGO,
    OWNER,
    READER,
    blocked,
    changes,
    is_there,
    leave,
    owners,
    quarantined_since,
    query,
    retired,
    run,
    world_of_a_leaver,
)
from stack.postgres import Login, Server
from stack.world import World

ALL_KINDS = """
CREATE SCHEMA works; CREATE TABLE works.job (id serial PRIMARY KEY, note text); CREATE VIEW works.open AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW works.sums AS SELECT 1 AS a; CREATE SEQUENCE works.number;
CREATE FUNCTION works.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE PROCEDURE works.go() LANGUAGE sql AS '';
CREATE AGGREGATE works.total (int) (SFUNC = int4pl, STYPE = int); CREATE TYPE works.mood AS ENUM ('so');
CREATE TYPE works.pair AS (a int, b int); CREATE DOMAIN works.positive AS int; CREATE COLLATION works.c FROM "C";
CREATE TYPE works.span AS RANGE (subtype = float8); CREATE OPERATOR works.=== (LEFTARG = int, RIGHTARG = int,
FUNCTION = int4eq); CREATE TEXT SEARCH CONFIGURATION works.plain (COPY = pg_catalog.simple);
CREATE TEXT SEARCH DICTIONARY works.words (TEMPLATE = simple); CREATE STATISTICS works.both ON id, note FROM works.job;
CREATE CONVERSION works.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; SELECT lo_create(4711);
CREATE PUBLICATION jobs FOR TABLE works.job; CREATE EXTENSION hstore;
CREATE TABLE "it's ""quoted""!" (id int); CREATE FUNCTION "it's ""f""!"("t" "it's ""quoted""!") RETURNS int
LANGUAGE sql AS 'SELECT 1'
"""


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with world_of_a_leaver(pg_server, admin, aws) as world:
        run(world, "leaver", "old", ALL_KINDS)
        yield world


def objects(world: World, database: str) -> set[str]:
    """All that stands in a database of an application's making, by its description."""
    classes = {
        "pg_class": "relnamespace", "pg_proc": "pronamespace", "pg_type": "typnamespace", "pg_operator": "oprnamespace",
        "pg_collation": "collnamespace", "pg_conversion": "connamespace", "pg_ts_config": "cfgnamespace",
        "pg_ts_dict": "dictnamespace", "pg_statistic_ext": "stxnamespace", "pg_namespace": "oid",
    }  # fmt: skip
    parts = [f"SELECT '{name}'::regclass AS c, oid AS o FROM {name} WHERE oid >= 16384" for name in classes]
    parts += [
        f"SELECT '{name}'::regclass, oid FROM {name} WHERE oid >= 16384" for name in ("pg_extension", "pg_publication")
    ]
    parts.append("SELECT 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata")
    rows = query(world, f"SELECT pg_describe_object(c, o, 0) FROM ({' UNION ALL '.join(parts)}) AS every", database)
    return {name for (name,) in rows}


def test_an_owner_is_retired_and_its_database_kept(world: World) -> None:
    leave(world)
    before, me = objects(world, "old"), world.admin.username
    planned = world.dry_run(retire=["leaver"])
    assert changes(planned) == [
        ("keep_database", "old", "leaver"),
        ("pass_objects", "old", "leaver"),
        ("pass_objects", "shop", "leaver"),
        ("drop_role", "", "leaver"),
    ], planned["plan_text"]
    assert all(item["destructive"] for item in planned["changes"])
    assert planned["blockers"] == []
    assert f'to "{me}"' in planned["plan_text"]
    answer = world.apply(retire=["leaver"])
    assert (answer["status"], answer["plan_digest"]) == ("applied", planned["plan_digest"])
    assert not is_there(world)
    assert objects(world, "old") == before
    assert owners(world, "old") - {"rdsadmin"} == {me}
    assert query(world, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'old'") == [[me]]
    assert query(
        world,
        "SELECT has_database_privilege('public', 'old', 'CONNECT'),"
        " has_database_privilege('reporter', 'old', 'CONNECT')",
    ) == [[False, False]]
    [warning] = [item for item in world.drift()["warnings"] if item["code"] == "kept_database"]
    assert 'DROP DATABASE "old"' in warning["next_step"]
    assert "snapshot" in warning["next_step"]
    assert "leaver" in warning["message"]
    assert "MB" in warning["message"]
    again = world.apply()
    assert (again["status"], again["changes"]) == ("no_change", [])


def test_what_it_owns_in_others_databases_passes_to_their_owner(world: World) -> None:
    query(world, "GRANT CREATE ON DATABASE shop TO leaver")
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "shop")
    run(world, "leaver", "shop", ALL_KINDS.replace("4711", "4712"))
    query(world, "REVOKE CREATE ON DATABASE shop FROM leaver; ", "shop")
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver; ", "shop")
    leave(world)
    before = objects(world, "shop")
    answer = world.apply(retire=["leaver"])
    assert answer["status"] == "applied"
    assert not is_there(world)
    assert objects(world, "shop") == before
    assert owners(world, "shop") - {"rdsadmin"} == {"shop_user"}
    run(world, "shop_user", "shop", "DROP FUNCTION works.one(); INSERT INTO works.job (note) VALUES ('mine')")
    # The levels hold on what has passed on.
    assert run(world, "reporter", "shop", "SELECT count(*) FROM works.job") == [[1]]
    assert world.apply()["status"] == "no_change"


def test_grants_default_privileges_and_memberships_in_both_directions_go(world: World) -> None:
    run(world, "shop_user", "shop", "CREATE TABLE customer (id int, name text); CREATE SCHEMA more; CREATE SEQUENCE n;"
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('so');"
        "GRANT ALL ON customer TO leaver WITH GRANT OPTION; GRANT SELECT (name) ON customer TO leaver;"
        "GRANT USAGE ON SCHEMA more TO leaver; GRANT USAGE ON SEQUENCE n TO leaver;"
        "GRANT EXECUTE ON FUNCTION f() TO leaver;"
        "GRANT USAGE ON TYPE mood TO leaver; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO leaver;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA more GRANT USAGE ON SEQUENCES TO leaver;"
        "GRANT TEMPORARY ON DATABASE shop TO leaver")  # fmt: skip
    run(world, "leaver", "shop", "GRANT INSERT ON customer TO reporter")
    run(world, "leaver", "old", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reporter;"
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC;"
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM leaver;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA works GRANT ALL ON SEQUENCES TO reporter, PUBLIC")  # fmt: skip
    query(world, "CREATE ROLE team; CREATE ROLE friend; GRANT team TO leaver; GRANT leaver TO friend")
    leave(world)
    planned = world.dry_run(retire=["leaver"])
    text = planned["plan_text"]
    assert "team" in text
    assert "friend" in text
    assert world.apply(retire=["leaver"])["status"] == "applied"
    assert not is_there(world)
    acl = query(world, "SELECT relacl::text FROM pg_class WHERE relname = 'customer'", "shop")[0][0]
    assert "leaver" not in acl
    assert "reporter=a" not in acl
    assert query(world, "SELECT count(*) FROM pg_default_acl WHERE pg_get_userbyid(defaclrole) = 'leaver'", "old") == [
        [0]
    ]


def test_a_grant_on_a_column_goes_by_whom_it_was_passed_on(world: World) -> None:
    """Who may pass on a column and nothing else of a table is refused a REVOKE on the table."""
    run(world, "shop_user", "shop", 'CREATE TABLE customer (id int, "the ""name"" {}" text, other text)')
    leave(world)
    run(world, "shop_user", "shop", 'GRANT SELECT ("the ""name"" {}", other) ON customer TO leaver;'
        'GRANT SELECT ("the ""name"" {}") ON customer TO reporter WITH GRANT OPTION')  # fmt: skip
    run(world, "reporter", "shop", 'GRANT SELECT ("the ""name"" {}") ON customer TO leaver')
    assert world.apply(retire=["leaver"])["status"] == "applied"
    acls = query(world, "SELECT attacl::text FROM pg_attribute WHERE attrelid = 'customer'::regclass", "shop")
    assert "leaver" not in str(acls)


def test_databases_that_it_made_itself_are_kept_too(world: World) -> None:
    query(world, "ALTER ROLE leaver CREATEDB")
    run(world, "leaver", "postgres", 'CREATE DATABASE "plugin ""one"""')
    leave(world)
    assert world.apply(retire=["leaver"])["status"] == "applied"
    kept = [item["database"] for item in world.drift()["warnings"] if item["code"] == "kept_database"]
    assert kept == ["old", 'plugin "one"']


def test_who_holds_something_where_another_is_retired_in_the_same_run_waits(world: World) -> None:
    world.put_secret("zoo", "zed", "zoo")
    zoo = {"database_name": "zoo", "username": "zed"}
    world.declare_entries({"old": LEAVER, "shop": OWNER, "report": READER, "zoo": zoo}, with_secrets=False)
    world.apply()
    query(world, "CREATE SCHEMA AUTHORIZATION leaver; CREATE TABLE leaver.its AS SELECT 1 AS id;"
          "ALTER TABLE leaver.its OWNER TO leaver", "zoo")  # fmt: skip
    world.declare_entries({"shop": OWNER, "report": READER}, with_secrets=False)
    world.apply(quarantine=["leaver", "zed"])
    quarantined_since(world, "leaver", LONG_AGO)
    quarantined_since(world, "zed", LONG_AGO)
    its = "SELECT pg_get_userbyid(relowner), (SELECT count(*) FROM leaver.its) FROM pg_class WHERE relname = 'its'"
    with pytest.raises(PlanBlocked, match="in the same run"):
        world.apply(retire=["leaver", "zed"])
    assert [is_there(world, role) for role in ("leaver", "zed")] == [True, False]
    assert query(world, its, "zoo") == [["leaver", 1]]
    assert world.apply(retire=["leaver"])["status"] == "applied"
    assert query(world, its, "zoo") == [[world.admin.username, 1]]


def test_an_owner_and_its_reader_leave_one_after_the_other(world: World) -> None:
    world.put_secret("guest", "zoe", "old")
    guest = {"database_name": "old", "username": "zoe", "access_level": "reader"}
    world.declare_entries({"old": LEAVER, "shop": OWNER, "report": READER, "guest": guest}, with_secrets=False)
    world.apply()
    world.declare_entries({"shop": OWNER, "report": READER}, with_secrets=False)
    world.apply(quarantine=["leaver", "zoe"])
    for role in ("leaver", "zoe"):
        quarantined_since(world, role, LONG_AGO)
    with pytest.raises(PlanBlocked, match="in the same run"):
        world.apply(retire=["leaver", "zoe"])
    assert [is_there(world, role) for role in ("leaver", "zoe")] == [False, True]
    assert world.apply(retire=["zoe"])["status"] == "applied"


def test_refused_before_its_time_and_unquarantined(world: World) -> None:
    world.declare_entries({"shop": OWNER, "report": READER}, with_secrets=False)
    with pytest.raises(InvalidRequest, match="not quarantined"):
        world.apply(retire=["leaver"])
    world.apply(quarantine=["leaver"])
    with pytest.raises(InvalidRequest, match="RETIRE_AFTER_DAYS"):
        world.dry_run(retire=["leaver"])
    with pytest.raises(InvalidRequest) as refused:
        world.apply(retire=["leaver", "nobody", "reporter", world.admin.username])
    assert len({finding.username for finding in refused.value.findings}) == 4
    quarantined_since(world, "leaver", "2999-01-01T00:00:00Z")
    with pytest.raises(InvalidRequest, match="RETIRE_AFTER_DAYS"):
        world.apply(retire=["leaver"])
    assert is_there(world)


def test_an_owner_whose_readers_are_declared_is_blocked_and_they_are_named(world: World) -> None:
    shared = {"secret_name": "goldenpath/dev/report/postgres"}
    world.aws.put_secret(shared["secret_name"], {"username": "reporter", "password": world.passwords["reporter"]})
    late = {"database_name": "old", "username": "reporter", "access_level": "reader"} | shared
    leave(world)
    world.declare_entries({"shop": OWNER, "report": READER | shared, "late": late}, with_secrets=False)
    blockers = blocked(world)
    assert any("reporter" in item["message"] and "declared in it" in item["message"] for item in blockers)


STANDS_IN_THE_WAY = {
    "a closed database": ("postgres", "ALTER DATABASE old ALLOW_CONNECTIONS false", "looked into"),
    "a grant on a closed database": (
        "postgres",
        "CREATE DATABASE shut ALLOW_CONNECTIONS false; GRANT CONNECT ON DATABASE shut TO leaver",
        'database "shut" cannot be looked into',
    ),
    "a policy": ("shop", "CREATE TABLE t (id int); CREATE POLICY mine ON t TO leaver", "policy mine"),
    "a wrapper": (
        "old",
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;CREATE USER MAPPING FOR leaver SERVER s",
        "user mapping",
    ),
    "a publication of everything": (
        "old",
        "CREATE PUBLICATION p FOR ALL TABLES; ALTER PUBLICATION p OWNER TO leaver",
        "publication",
    ),
    "the grant of somebody unmanaged": (
        "postgres",
        "CREATE TABLE theirs (id int); GRANT SELECT ON theirs TO leaver",
        "not managed here",
    ),
    "an object where nobody is ours": (
        "postgres",
        "CREATE TABLE its (id int); ALTER TABLE its OWNER TO leaver",
        "not managed here",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STANDS_IN_THE_WAY)
def test_what_cannot_be_handed_over_is_named_and_nothing_is_changed(world: World, case: str) -> None:
    database, sql, named = STANDS_IN_THE_WAY[case]
    leave(world)
    for statement in sql.split(";"):
        with contextlib.suppress(pg8000.native.DatabaseError):
            query(world, statement, database)
    assert any(named in item["message"] for item in blocked(world)), [item["message"] for item in blocked(world)]


def test_who_logs_in_by_iam_is_retired_when_it_does_no_more(world: World) -> None:
    """As a member of it the administrator would log in by IAM too, and no more by its password."""
    leave(world)
    query(world, "GRANT rds_iam TO leaver")
    [next_step] = [each["next_step"] for each in blocked(world) if "may not act in its place" in each["message"]]
    query(world, next_step)
    retired(world)


def test_a_session_in_its_database_blocks(world: World) -> None:
    query(world, "GRANT CONNECT ON DATABASE old TO reporter")
    leave(world)
    with contextlib.closing(world.login("reporter", "old")):
        assert any("reporter" in item["message"] and "sessions" in item["message"] for item in blocked(world))


def test_code_that_maintenance_would_run_for_the_next_owner_blocks(world: World) -> None:
    run(world, "leaver", "old", "CREATE FUNCTION evil(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';"
        "CREATE TABLE trap (id int); CREATE INDEX ON trap (evil(id)); CREATE INDEX ON trap (abs(id))")  # fmt: skip
    leave(world)
    assert any("trap" in item["message"] for item in blocked(world))
    # To what is old enough autovacuum comes all the same, and the owner of a table says what is old for it.
    query(world, "ALTER TABLE trap SET (autovacuum_enabled = false, autovacuum_freeze_max_age = 100000)", "old")
    assert any("trap" in item["message"] for item in blocked(world))
    query(world, "DROP INDEX trap_evil_idx", "old")
    assert world.apply(retire=["leaver"])["status"] == "applied"


def many_types(world: World, database: str) -> None:
    """More than one transaction may pass on, made in several."""
    for part in range(4):
        first, last = part * 425 + 1, part * 425 + 425
        many = f"FOR i IN {first}..{last} LOOP EXECUTE format('CREATE TYPE mood%s AS ENUM ()', i); END LOOP"
        run(world, "leaver", database, f"DO $$ BEGIN {many}; END $$")


def test_more_than_the_locks_of_the_server_allow_blocks_itself_only(world: World) -> None:
    """Thousands of objects in one transaction would leave no lock to anybody else; a person may pass some on before."""
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "shop")
    many_types(world, "shop")
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver", "shop")
    leave(world)
    assert any("locks" in item["message"] for item in blocked(world))
    query(world, "CREATE ROLE nobody_else")
    for i in range(1, 401):
        query(world, f"ALTER TYPE mood{i} OWNER TO shop_user", "shop")
    assert world.apply(retire=["leaver"])["status"] == "applied"
    assert not is_there(world)


def test_a_database_of_its_own_passes_in_as_many_transactions_as_it_takes(world: World) -> None:
    """Nobody else is in it; where one of them fails, the next run goes on with the rest."""
    many_types(world, "old")
    run(world, "leaver", "old", "CREATE TABLE zoo (id serial PRIMARY KEY, note text)")
    leave(world)
    before = objects(world, "old")
    passed = "SELECT count(*) FROM pg_type WHERE typname LIKE 'mood_%' AND pg_get_userbyid(typowner) <> 'leaver'"
    with contextlib.closing(world.server.superuser("old")) as holder:
        holder.run("BEGIN")
        # The last of all: enums come after tables, and this one after the other enums.
        holder.run("COMMENT ON TYPE mood1700 IS 'mine'")
        holder.run("ALTER TYPE mood1700 SET SCHEMA works")
        with pytest.raises(ApplyFailed, match="old"):
            world.apply(retire=["leaver"])
        assert 0 < query(world, passed, "old")[0][0] < 1700
    assert world.apply(retire=["leaver"])["status"] == "applied"
    assert not is_there(world)
    assert objects(world, "old") == before
    new = {"database_name": "old", "username": "heir"}
    world.put_secret("heirs", "heir", "old")
    world.declare_entries({"shop": OWNER, "report": READER, "heirs": new}, with_secrets=False)
    with pytest.raises(ApplyFailed, match="max_locks_per_transaction"):
        world.apply(adopt=["heirs"])
    assert owners(world, "old") - {"rdsadmin"} == {world.admin.username}


@contextlib.contextmanager
def retirement_that_waits(world: World) -> Iterator[Future[Any]]:
    """A retirement that was planned, waits for the lock of a database before its first step, and goes on after."""
    with ThreadPoolExecutor(1) as pool, contextlib.closing(world.server.superuser()) as holder:
        holder.run("BEGIN; ALTER DATABASE old CONNECTION LIMIT 50")
        runner = pool.submit(world.apply, retire=["leaver"])
        while not query(world, "SELECT FROM pg_locks WHERE NOT granted"):
            assert not runner.done()
            time.sleep(0.02)
        yield runner


def test_what_is_dangerous_when_a_database_of_many_objects_is_closed_passes_in_no_part(world: World) -> None:
    """Each part is looked at once more: a member of the role could make something of it until nobody else got in."""
    many_types(world, "old")
    leave(world)
    evil = "CREATE FUNCTION evil(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'"
    with retirement_that_waits(world) as runner:
        query(world, f"SET ROLE leaver; CREATE TABLE late (id int); {evil}; CREATE INDEX ON late (evil(id))", "old")
    with pytest.raises(ApplyFailed, match=r"owns public\.late, which runs code"):
        runner.result()
    assert query(world, "SELECT tableowner FROM pg_tables WHERE tablename = 'late'", "old") == [["leaver"]]


def test_a_database_that_it_gets_during_the_run_is_not_moved_unseen(world: World) -> None:
    """REASSIGN OWNED moves databases too, wherever they are, and this one would be open to everybody still."""
    leave(world)
    with retirement_that_waits(world) as runner:
        query(world, "CREATE DATABASE late OWNER leaver")
    with pytest.raises(ApplyFailed, match="such as database late"):
        runner.result()
    assert query(world, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'late'") == [["leaver"]]
    retired(world)


def test_who_gets_a_routine_gets_its_schema_first(world: World) -> None:
    """REASSIGN OWNED goes in the order in which the role came to own them, and a schema may have come last."""
    query(world, "CREATE SCHEMA late; GRANT CREATE, USAGE ON SCHEMA late TO leaver", "shop")
    run(world, "leaver", "shop", "CREATE FUNCTION late.one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    query(world, "ALTER SCHEMA late OWNER TO leaver", "shop")
    leave(world)
    retired(world)
    sql = "SELECT pg_get_userbyid(proowner), pg_get_userbyid(nspowner) FROM pg_proc, pg_namespace"
    assert query(world, f"{sql} WHERE proname = 'one' AND nspname = 'late'", "shop") == [["shop_user"] * 2]


def test_a_range_of_the_roles_own_blocks_wherever_its_differences_are_asked_for(world: World) -> None:
    run(world, "leaver", "old", "CREATE FUNCTION evil(int, int) RETURNS float8 IMMUTABLE LANGUAGE sql"
        " AS 'SELECT 1.0::float8';"
        "CREATE TYPE trap AS RANGE (subtype = int, subtype_diff = evil); CREATE DOMAIN hidden AS trap;"
        "CREATE DOMAIN deeper AS hidden; CREATE TABLE plain (a trap); CREATE TABLE wrapped (a deeper)")  # fmt: skip
    tables = ["plain", "wrapped"]
    if world.server.version >= 14:
        run(world, "leaver", "old", "CREATE TABLE several (a trap_multirange)")
        tables.insert(1, "several")
    leave(world)
    for table in tables:
        assert any(table in item["message"] for item in blocked(world)), table
        query(world, f'ALTER TABLE {table} OWNER TO "{world.admin.username}"', "old")
    assert world.apply(retire=["leaver"])["status"] == "applied"


def test_what_would_run_with_the_rights_of_another_owner_blocks(world: World) -> None:
    query(world, "GRANT CREATE ON SCHEMA public TO leaver", "shop")
    run(world, "shop_user", "shop", "CREATE TABLE hidden (id int); REVOKE ALL ON hidden FROM leaver")
    run(world, "leaver", "shop", "CREATE FUNCTION peek() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';"
        "CREATE VIEW window_ AS SELECT * FROM hidden; CREATE VIEW harmless AS SELECT 1 AS a;"
        "GRANT SELECT ON window_, harmless TO reporter")  # fmt: skip
    query(world, "REVOKE CREATE ON SCHEMA public FROM leaver", "shop")
    leave(world)
    messages = " ".join(item["message"] for item in blocked(world))
    assert "peek" in messages
    assert "window_" in messages
    assert "harmless" not in messages


def test_the_statement_that_drops_a_kept_database_drops_no_other(world: World) -> None:
    query(world, 'CREATE DATABASE "x""; DROP DATABASE ""shop" OWNER leaver')
    leave(world)
    assert world.apply(retire=["leaver"])["status"] == "applied"
    kept = {
        item["database"]: item["next_step"] for item in world.drift()["warnings"] if item["code"] == "kept_database"
    }
    assert 'DROP DATABASE "x""; DROP DATABASE ""shop"; or' in kept['x"; DROP DATABASE "shop']


def test_a_kept_database_is_given_to_a_new_owner_by_name_only(world: World) -> None:
    leave(world)
    world.apply(retire=["leaver"])
    before = objects(world, "old")
    new = {"database_name": "old", "username": "heir"}
    world.put_secret("heirs", "heir", "old")
    world.put_secret("looking", "viewer", "old")
    viewer = {"database_name": "old", "username": "viewer", "access_level": "reader"}
    world.declare_entries({"shop": OWNER, "report": READER, "heirs": new, "looking": viewer}, with_secrets=False)
    planned = world.dry_run()
    assert "database_kept" in [item["code"] for item in planned["blockers"]]
    assert 'adopt: ["heirs"]' in planned["plan_text"]
    planned = world.dry_run(adopt=["heirs"])
    assert planned["blockers"] == [], planned["plan_text"]
    assert ("give_database", "old", "heir") in changes(planned)
    assert world.apply(adopt=["heirs"])["status"] == "applied"
    assert objects(world, "old") == before
    # An extension has no owner by a statement; it stays the administrator's.
    assert owners(world, "old") - {"rdsadmin", world.admin.username} == {"heir"}
    run(world, "heir", "old", "DROP FUNCTION works.one(); INSERT INTO works.job (note) VALUES ('mine')")
    assert run(world, "viewer", "old", "SELECT count(*) FROM works.job") == [[1]]
    again = world.apply()
    assert (again["status"], again["changes"]) == ("no_change", [])


def test_a_second_owner_is_not_touched(world: World) -> None:
    """Two leave at once; what stands against one keeps the other not back."""
    other = {"database_name": "other", "username": "second"}
    world.put_secret("second", "second", "other")
    world.declare_entries({"old": LEAVER, "shop": OWNER, "report": READER, "second": other}, with_secrets=False)
    world.apply()
    run(world, "second", "other", "CREATE TABLE t (id int)")
    leave(world)
    assert world.apply(quarantine=["second"])["status"] == "applied"
    quarantined_since(world, "second", LONG_AGO)
    query(world, "ALTER DATABASE other ALLOW_CONNECTIONS false")
    with pytest.raises(PlanBlocked, match="second"):
        world.apply(retire=["leaver", "second"])
    assert not is_there(world)
    assert is_there(world, "second")
    query(world, "ALTER DATABASE other ALLOW_CONNECTIONS true")
    assert world.apply(retire=["second"])["status"] == "applied"


def test_prepared_transactions_are_named(postgres_version: int, aws: Aws) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(postgres_version, parameters={"max_prepared_transactions": "5"}))
        with World(server, aws, server.create_delegated_admin()) as world:
            world.declare_entries({"old": {"database_name": "old", "username": "leaver"}})
            world.apply()
            run(world, "leaver", "old", "CREATE TABLE t (id int); CREATE TABLE u (id int)")
            run(world, "leaver", "old", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s mine'")
            world.declare("application_databases = {}")
            world.apply(quarantine=["leaver"])
            quarantined_since(world, "leaver", LONG_AGO)
            messages = " ".join(item["message"] for item in blocked(world))
            assert "it''s mine" in messages
            assert "holds a lock" in messages
            query(world, "ROLLBACK PREPARED 'it''s mine'", "old")
            assert world.apply(retire=["leaver"])["status"] == "applied"


def test_a_lock_keeps_the_role_quarantined_and_the_next_run_goes_on(world: World) -> None:
    leave(world)
    with contextlib.closing(world.server.superuser("old")) as holder:
        holder.run("BEGIN")
        holder.run("LOCK TABLE works.job")
        with pytest.raises(ApplyFailed, match="old"):
            world.apply(retire=["leaver"])
        assert is_there(world)
    assert "quarantined_role" in [item["code"] for item in world.drift()["warnings"]]
    answer = world.apply(retire=["leaver"])
    assert answer["status"] == "applied"
    assert ("keep_database", "old", "leaver") not in changes(answer)
    assert not is_there(world)


@pytest.mark.parametrize("place", ["old", "postgres"], ids=["in a database", "in the shared catalogs"])
def test_rows_that_we_stumble_over_keep_the_role_and_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    leave(world)
    send = Connection.run

    def stumble(connection: Any, *statements: str, **options: Any) -> Any:
        rows = send(connection, *statements, **options)
        if any("gone AS (SELECT oid, rolname" in text for text in statements) and connection.place == place:
            raise KeyError("what nobody expected")
        return rows

    log_in = Connection.__init__

    def remember(connection: Any, login: Any, database: str = "") -> None:
        connection.place = database or login.database
        log_in(connection, login, database)

    monkeypatch.setattr(Connection, "__init__", remember)
    monkeypatch.setattr(Connection, "run", stumble)
    world.declare_entries({"shop": OWNER, "report": READER, "bank": {"database_name": "bank", "username": "bank_user"}})
    with pytest.raises(PlanBlocked) as blocked:
        world.apply(retire=["leaver"])
    assert {(each.code, each.username) for each in blocked.value.findings} == {("retire_blocked", "leaver")}
    assert "cannot be read (KeyError)" in str(blocked.value)
    assert "what nobody expected" not in str(blocked.value)
    assert is_there(world)
    world.login("bank_user", "bank").close()


def test_names_full_of_quotes_and_objects_in_three_databases(world: World) -> None:
    """Such a name cannot be declared; it was marked by hand."""
    name, database = """it's "me" \\ {} """, 'its "own" '
    role, marker = quote(name), '{"managed_by": "rds-provisioner", "environment": "dev"}'
    with contextlib.closing(world.server.connect(*world.admin)) as me:
        me.run(f"CREATE ROLE {role}")
        me.run(f"COMMENT ON ROLE {role} IS '{marker}'")
    query(world, f"CREATE DATABASE {quote(database)} OWNER {role}")
    kinds = ALL_KINDS.split("CREATE PUBLICATION", maxsplit=1)[0].replace("SELECT lo_create(4711);", "")
    for place in (database, "shop", "old"):
        query(world, f"GRANT CREATE ON DATABASE {quote(place)} TO {role}")
        query(world, f"SET SESSION AUTHORIZATION {role}; {kinds.replace('works', 'its')}", place)
        query(world, f"REVOKE CREATE ON DATABASE {quote(place)} FROM {role}")
    world.apply(quarantine=[name])
    moment = json.dumps(json.loads(marker) | {"quarantined": LONG_AGO})
    query(world, f"COMMENT ON ROLE {role} IS '{moment}'")
    before = [objects(world, place) for place in (database, "shop", "old")]
    answer = world.apply(retire=[name])
    assert answer["status"] == "applied"
    assert [item for item in changes(answer) if item[0] == "pass_objects"] == [
        ("pass_objects", place, name) for place in sorted((database, "shop", "old"))
    ]
    assert [objects(world, place) for place in (database, "shop", "old")] == before
    assert name not in str([owners(world, place) for place in (database, "shop", "old")])
    assert not query(world, f"SELECT FROM pg_roles WHERE rolname = {Literal(name).sql()}")
