"""In sync means in sync: what gives a declared role or everybody more than a level is taken back, or named."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from provisioner.core.errors import PlanBlocked
from stack.aws import Aws
from stack.dump import dump
from stack.postgres import Login, Server
from stack.world import AUDIT, World

ENTRIES: dict[str, dict[str, Any]] = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "desk": {"database_name": "shop", "username": "shop_editor", "access_level": "editor"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply()["status"] == "applied"
        run_as(
            world,
            "shop_user",
            "CREATE TABLE items (id serial, name text)",
            "CREATE SCHEMA own",
            "CREATE TABLE own.t (a int)",
        )
        yield world


def run_as(world: World, role: str, *statements: str) -> None:
    with world.login(role, "shop") as connection:
        for statement in statements:
            connection.run(statement)


def is_refused(world: World, role: str, *statements: str) -> bool:
    with world.login(role, "shop") as connection:
        connection.run("BEGIN")
        try:
            for statement in statements:
                connection.run(statement)
        except pg8000.native.DatabaseError as error:
            if error.args[0]["C"] != "42501":
                raise
            return True
        return False


def named(answer: dict[str, Any], code: str) -> list[dict[str, Any]]:
    return [item for item in answer["warnings"] if item["code"] == code]


def drift_metric(text: str) -> float:
    metrics = [json.loads(line) for line in text.splitlines() if '"_aws"' in line]
    return float(metrics[-1]["Drift"][0])


REVOCABLE = {
    "create in a schema": ("GRANT CREATE ON SCHEMA own TO PUBLIC", "CREATE TABLE own.x (a int)"),
    "create schemas": ("GRANT CREATE ON DATABASE shop TO PUBLIC", "CREATE SCHEMA s_r"),
    "create in schemas to come": (
        "ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO PUBLIC; CREATE SCHEMA later",
        "CREATE TABLE later.x (a int)",
    ),
    "write a table": ("GRANT INSERT, TRUNCATE, TRIGGER ON own.t TO PUBLIC", "INSERT INTO own.t VALUES (1)"),
    "write a column": ("GRANT UPDATE (a) ON own.t TO PUBLIC", "UPDATE own.t SET a = 1"),
    "write tables to come": (
        "ALTER DEFAULT PRIVILEGES GRANT DELETE ON TABLES TO PUBLIC; CREATE TABLE own.later (a int)",
        "DELETE FROM own.later",
    ),
    "use a sequence": ("GRANT USAGE ON SEQUENCE items_id_seq TO PUBLIC", "SELECT nextval('items_id_seq')"),
}


def test_what_everybody_may_beyond_reading_is_taken_back(world: World) -> None:
    for grant, attempt in REVOCABLE.values():
        run_as(world, "shop_user", *grant.split("; "))
        assert not is_refused(world, "shop_reader", attempt), attempt
        drift = world.drift()
        assert drift["status"] == "drifted"
        assert {item["username"] for item in drift["changes"] if item["action"].startswith("revoke")} >= {"public"}
        world.apply()
        assert is_refused(world, "shop_reader", attempt), attempt
        # A sequence of a table's own is used by who may insert into the table; nothing of the levels is lost.
        assert not is_refused(world, "shop_editor", "INSERT INTO items (name) VALUES ('a')")
        assert world.apply()["status"] == "no_change"


def test_what_hangs_on_public_is_taken_back_though_its_owner_may_pass_that_on_by_a_grant_too(world: World) -> None:
    """As itself the owner of the database would revoke what it has granted since, and not what `public` was granted."""
    follows = world.server.version >= 14
    owner = "pg_database_owner" if follows else "shop_user"
    world.server.run_as_superuser(f"ALTER SCHEMA public OWNER TO {owner}", "shop")
    run_as(
        world,
        "shop_user",
        "GRANT CREATE ON SCHEMA public TO shop_reader WITH GRANT OPTION",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "REVOKE USAGE ON SCHEMA public FROM shop_editor",
        "GRANT ALL ON SCHEMA public TO shop_user WITH GRANT OPTION",
    )
    assert world.apply()["status"] == "applied"
    assert is_refused(world, "shop_reader", "CREATE TABLE mine (id int)")
    assert world.drift()["status"] == "in_sync"
    assert world.apply()["status"] == "no_change"


def test_what_is_in_a_schema_that_none_of_ours_may_use_is_named_and_keeps_nothing_back(world: World) -> None:
    """By name nobody finds it there: the REVOKE would be refused, and with it all that the database gets."""
    world.server.run_as_superuser(
        "CREATE ROLE archivist; CREATE SCHEMA archive AUTHORIZATION archivist; CREATE TABLE archive.old (a int);"
        "ALTER TABLE archive.old OWNER TO shop_user; GRANT USAGE ON SCHEMA archive TO shop_editor",
        "shop",
    )
    world.server.run_as_superuser("GRANT TRUNCATE ON items, archive.old TO shop_editor", "shop")
    assert world.apply()["status"] == "applied"
    assert is_refused(world, "shop_editor", "TRUNCATE items")
    assert not is_refused(world, "shop_editor", "TRUNCATE archive.old")
    answer = world.drift()
    assert answer["status"] == "in_sync"
    [finding] = named(answer, "privilege_beyond_reach")
    assert 'TRUNCATE on 1 table in schema "archive"' in finding["message"]
    world.server.run_as_superuser("GRANT USAGE ON SCHEMA archive TO shop_user", "shop")
    assert world.apply()["status"] == "applied"
    assert is_refused(world, "shop_editor", "TRUNCATE archive.old")


def test_a_dropped_column_with_a_grant_is_no_column(world: World) -> None:
    run_as(world, "shop_user", "CREATE TABLE c (a int, b int)")
    world.apply()
    run_as(world, "shop_user", "GRANT UPDATE (a), UPDATE (b) ON c TO shop_reader", "ALTER TABLE c DROP b")
    assert world.apply()["status"] == "applied"
    assert is_refused(world, "shop_reader", "UPDATE c SET a = 1")
    assert world.apply()["status"] == "no_change"


DEFINER = (
    "CREATE FUNCTION own.wipe() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = own AS 'DELETE FROM own.t'"
)


def test_what_runs_with_its_owners_rights_is_named_in_every_mode(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    run_as(world, "shop_user", DEFINER)
    assert not is_refused(world, "shop_reader", "SELECT own.wipe()")
    for look in (world.drift, world.dry_run, world.apply):
        found = named(look(), "definer_routines")
        assert [item["username"] for item in found] == ["shop_editor", "shop_reader"]
        assert 'such as "own"."wipe"' in found[0]["message"]
    capsys.readouterr()
    before = drift_of(world, capsys)
    world.declare_entries(
        {name: entry | {"accepted_findings": ["definer_routines"]} for name, entry in ENTRIES.items()}
    )
    assert drift_of(world, capsys) == before - 2
    assert named(world.drift(), "definer_routines") == []
    world.declare_entries(ENTRIES)
    run_as(world, "shop_user", "REVOKE EXECUTE ON FUNCTION own.wipe() FROM PUBLIC")
    assert named(world.drift(), "definer_routines") == []
    assert is_refused(world, "shop_reader", "SELECT own.wipe()")


@pytest.mark.parametrize(
    ("role", "begins", "runs"),
    [
        ("shop_reader", "CREATE AGGREGATE own.sum_up(int) (SFUNC = own.step, STYPE = int)", "SELECT own.sum_up(1)"),
        ("shop_editor", "CREATE TRIGGER t BEFORE INSERT ON own.t FOR EACH ROW EXECUTE FUNCTION own.fire()",
         "INSERT INTO own.t VALUES (1)"),
    ],
    ids=["an aggregate", "a trigger"],
)  # fmt: skip
def test_what_runs_a_definer_without_asking_for_execute_is_named(
    world: World, role: str, begins: str, runs: str
) -> None:
    run_as(
        world,
        "shop_user",
        "CREATE FUNCTION own.step(int, int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER"
        " AS 'BEGIN TRUNCATE items; RETURN 1; END'",
        "CREATE FUNCTION own.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " AS 'BEGIN TRUNCATE public.items; RETURN NEW; END'",
        "REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA own FROM PUBLIC",
    )
    assert named(world.drift(), "definer_routines") == []
    run_as(world, "shop_user", begins, "INSERT INTO items (name) VALUES ('a')")
    assert not is_refused(world, role, "SET search_path = public", runs)
    assert role in {item["username"] for item in named(world.drift(), "definer_routines")}


@pytest.mark.parametrize(
    ("made", "attempt"),
    [
        ("CREATE OPERATOR === (FUNCTION = pg_temp.fires, LEFTARG = int, RIGHTARG = int)", "SELECT 1 === 2"),
        ("CREATE DOMAIN checked AS int CHECK (pg_temp.fires(VALUE, 1))", "SELECT 1::checked"),
    ],
    ids=["an operator", "a domain"],
)
def test_a_definer_of_a_session_that_something_else_calls_is_named_while_it_lasts(
    world: World, made: str, attempt: str
) -> None:
    with contextlib.closing(world.login("shop_user", "shop")) as owner:
        owner.run(
            "CREATE FUNCTION pg_temp.fires(int, int) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER"
            " AS 'BEGIN TRUNCATE public.items; RETURN true; END'"
        )
        assert named(world.drift(), "definer_routines") == []
        owner.run(made)
        assert not is_refused(world, "shop_reader", attempt)
        found = named(world.drift(), "definer_routines")
        assert [item["username"] for item in found] == ["shop_editor", "shop_reader"]
        assert 'such as "pg_temp"."fires"' in found[0]["message"]
        assert "SECURITY DEFINER routine" in str(access_of(world, "shop_reader"))
    assert named(world.drift(), "definer_routines") == []


def access_of(world: World, role: str) -> list[dict[str, Any]]:
    address = world.call(mode="access")["audit"]["access_json"]
    document = json.loads(world.aws.read_object(AUDIT, address.removeprefix(f"s3://{AUDIT}/")))
    return [row for row in document["access"] if row["role"] == role]


def test_what_a_reader_made_besides_tables_is_named(world: World) -> None:
    """Who owns a routine may rewrite what others run."""
    world.server.run_as_superuser("GRANT CREATE ON SCHEMA public TO shop_reader", "shop")
    run_as(
        world,
        "shop_reader",
        "CREATE FUNCTION public.price() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE public.mood AS ENUM ('so')",
        "CREATE OPERATOR public.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)",
    )
    world.server.run_as_superuser("REVOKE CREATE ON SCHEMA public FROM shop_reader", "shop")
    assert not is_refused(world, "shop_reader", "ALTER FUNCTION public.price() SECURITY DEFINER")
    for look in (world.drift, world.apply):
        found = named(look(), "created_beyond_level")
        assert {item["username"] for item in found} == {"shop_reader"}
        assert sorted(item["message"].split(" belongs")[0] for item in found) == ["1 operator", "1 routine", "1 type"]


def drift_of(world: World, capsys: pytest.CaptureFixture[str]) -> float:
    capsys.readouterr()
    world.drift()
    return drift_metric(capsys.readouterr().out)


def test_an_owner_that_is_alone_with_its_routines_is_not_told_of_them(world: World) -> None:
    run_as(world, "shop_user", DEFINER)
    world.declare_entries({"shop": ENTRIES["shop"]})
    assert named(world.drift(), "definer_routines") == []


def test_a_table_that_is_hidden_in_an_extension_is_named(world: World) -> None:
    run_as(
        world,
        "shop_user",
        "CREATE EXTENSION citext",
        "ALTER EXTENSION citext ADD TABLE items",
        "GRANT INSERT ON items TO shop_reader",
        "ALTER EXTENSION citext ADD TABLE own.t",
        "GRANT DELETE ON own.t TO PUBLIC",
    )
    answer = world.drift()
    assert [(item["database"], item["username"]) for item in named(answer, "extension_privileges")] == [
        ("shop", "shop_reader")
    ]
    assert "INSERT" in named(answer, "extension_privileges")[0]["message"]
    assert "everybody has DELETE" in named(answer, "public_privileges")[0]["message"]


def test_admin_alone_on_a_foreign_role_is_named(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE dba")
    options = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" if world.server.version >= 16 else "WITH ADMIN OPTION"
    world.server.run_as_superuser(f"GRANT dba TO shop_reader {options}")
    assert [item["username"] for item in named(world.drift(), "foreign_membership")] == ["shop_reader"]


def test_large_objects_are_named(world: World) -> None:
    with world.login("shop_user", "shop") as owner:
        [[number]] = owner.run("SELECT lo_from_bytea(0, 'x')")
        owner.run(f"GRANT UPDATE ON LARGE OBJECT {number} TO shop_reader")
        [[number]] = owner.run("SELECT lo_from_bytea(0, 'y')")
        owner.run(f"GRANT UPDATE ON LARGE OBJECT {number} TO PUBLIC")
    run_as(world, "shop_editor", "SELECT lo_from_bytea(0, 'z')")
    answer = world.drift()
    assert [item["username"] for item in named(answer, "privileges_outside_levels")] == ["shop_reader"]
    assert "everybody has UPDATE" in named(answer, "public_privileges")[0]["message"]
    assert [item["username"] for item in named(answer, "created_beyond_level")] == ["shop_editor"]


def test_default_privileges_on_routines_and_types_are_named(world: World) -> None:
    run_as(
        world,
        "shop_user",
        "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO shop_reader",
        "ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO shop_editor",
    )
    found = named(world.drift(), "privileges_outside_levels")
    assert [item["username"] for item in found] == ["shop_editor", "shop_reader"]


def test_what_an_entry_accepts_is_accepted_for_its_own_role_and_database(world: World) -> None:
    run_as(world, "shop_user", DEFINER)
    world.declare_entries(ENTRIES | {"reports": ENTRIES["reports"] | {"accepted_findings": ["definer_routines"]}})
    assert [item["username"] for item in named(world.drift(), "definer_routines")] == ["shop_editor"]


def test_the_noise_of_one_tenant_does_not_hide_what_is_found_of_another(world: World) -> None:
    noise = """DO $$ BEGIN FOR i IN 1..300 LOOP
        EXECUTE format('CREATE SCHEMA n%1$s', i);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA n%1$s GRANT EXECUTE ON ROUTINES TO shop_reader', i);
    END LOOP; END $$"""
    world.declare_entries(ENTRIES | {"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    world.apply()
    run_as(world, "shop_user", noise)
    world.server.run_as_superuser("CREATE ROLE zoo_dba")
    world.server.run_as_superuser("GRANT zoo_dba TO zoo_user")
    answer = world.drift()
    found = named(answer, "privileges_outside_levels")
    assert len(found) == 6
    assert any("295 more" in item["message"] for item in found)
    assert [item["username"] for item in named(answer, "foreign_membership")] == ["zoo_user"]


def test_an_extension_where_public_was_dropped_is_a_blocker_and_nothing_is_written(world: World) -> None:
    run_as(world, "shop_user", "CREATE SCHEMA apart")
    if world.server.version < 15:
        world.server.run_as_superuser("DROP SCHEMA public CASCADE", "shop")
    else:
        run_as(world, "shop_user", "DROP SCHEMA public CASCADE")
    world.apply()
    world.declare_entries(ENTRIES | {"shop": ENTRIES["shop"] | {"extensions": ["citext"]}})
    with pytest.raises(PlanBlocked, match='has no schema "public"'):
        world.apply()
    run_as(world, "shop_user", "CREATE EXTENSION citext SCHEMA apart")
    assert world.apply()["status"] == "no_change"


def test_an_extension_where_nothing_is_left_to_stand_in_is_a_blocker(world: World) -> None:
    solo = {"solo": {"database_name": "solo", "username": "solo_user"}}
    world.declare_entries(ENTRIES | solo)
    world.apply()
    world.server.run_as_superuser("DROP SCHEMA public CASCADE", "solo")
    solo["solo"] |= {"extensions": ["citext"]}
    world.declare_entries(ENTRIES | solo)
    with pytest.raises(PlanBlocked, match='has no schema "public"'):
        world.apply()


def test_what_a_reader_owns_is_named_whatever_it_is(world: World) -> None:
    run_as(
        world,
        "shop_user",
        "CREATE FUNCTION own.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE own.h ()",
    )
    for statement in (
        "ALTER SCHEMA public OWNER TO shop_reader",
        "ALTER FUNCTION own.plain() OWNER TO shop_reader",
        "ALTER TABLE own.h OWNER TO shop_reader",
        "ALTER EXTENSION plpgsql ADD TABLE own.h",
    ):
        world.server.run_as_superuser(statement, "shop")
    found = named(world.drift(), "created_beyond_level")
    assert {item["username"] for item in found} == {"shop_reader"}
    kinds = [item["message"].removeprefix("1 ").partition(" belongs")[0] for item in found]
    assert sorted(kinds) == ["routine", "schema", "table"]


def test_a_routine_of_the_owner_or_of_an_extension_is_not_named(world: World) -> None:
    run_as(world, "shop_user", "CREATE FUNCTION own.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    # The server makes routines of the bootstrap superuser for it.
    run_as(world, "shop_user", "CREATE TYPE own.span AS RANGE (subtype = int)")
    world.server.run_as_superuser("CREATE EXTENSION pgcrypto", "shop")
    drift = world.drift()
    assert named(drift, "foreign_objects") == named(drift, "created_beyond_level") == []


def test_a_role_of_another_database_that_may_execute_a_routine_is_named(world: World) -> None:
    world.declare_entries(ENTRIES | {"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    world.apply()
    run_as(world, "shop_user", DEFINER, "GRANT EXECUTE ON FUNCTION own.wipe() TO zoo_user")
    found = named(world.drift(), "definer_routines")
    assert [item["username"] for item in found] == ["shop_editor", "shop_reader", "zoo_user"]


def test_who_is_not_declared_and_a_member_of_one_who_is_is_named(world: World) -> None:
    world.server.run_as_superuser("CREATE ROLE stranger LOGIN")
    for role in ("shop_reader", "shop_editor", "shop_user"):
        world.server.run_as_superuser(f"GRANT {role} TO stranger")
    for answer in (world.drift(), world.dry_run(), world.apply()):
        assert [item["username"] for item in named(answer, "member_of_owner")] == ["stranger"]
        found = named(answer, "foreign_grants")
        assert [(item["database"], item["username"]) for item in found] == [("shop", "stranger")] * 2
        for role, item in zip(("shop_editor", "shop_reader"), found, strict=True):
            assert f'member of "{role}"' in item["message"]
            assert f'REVOKE "{role}" FROM "stranger"' in item["next_step"]


def test_what_a_declared_role_has_in_databases_that_nobody_declares_is_named_and_stays(world: World) -> None:
    server = world.server
    for statement in (
        "CREATE ROLE stranger",
        "CREATE DATABASE elsewhere OWNER stranger",
        "GRANT CREATE ON DATABASE elsewhere TO shop_editor",
        "CREATE DATABASE taken OWNER shop_reader",
        "GRANT CONNECT ON DATABASE taken TO shop_editor",
        "GRANT CONNECT ON DATABASE taken TO stranger",
    ):
        server.run_as_superuser(statement)
    server.run_as_superuser("CREATE TABLE plan (a int); GRANT SELECT ON plan TO shop_reader", "elsewhere")
    before = dump(server)
    for call in (world.dry_run, world.drift, world.apply):
        found = named(call(), "other_databases")
        assert [item["username"] for item in found] == ["shop_editor", "shop_reader"]
        assert all('in 2 databases that no entry declares, such as "elsewhere"' in item["message"] for item in found)
    assert dump(server) == before
    # What a role makes with createdb is its own.
    world.declare_entries({**ENTRIES, "shop": {**ENTRIES["shop"], "createdb": True}})
    world.apply()
    run_as(world, "shop_user", "CREATE DATABASE plugin")
    assert {item["username"] for item in named(world.drift(), "other_databases")} == {"shop_editor", "shop_reader"}


def test_a_privilege_on_what_is_of_no_database_is_named(world: World) -> None:
    """A parameter such as `session_replication_role` turns triggers and foreign keys off."""
    given = {"pg_tablespace": "CREATE ON TABLESPACE pg_default"}
    if world.server.version >= 15:
        given["pg_parameter_acl"] = "SET ON PARAMETER session_replication_role"
    for each in given.values():
        world.server.run_as_superuser(f"GRANT {each} TO shop_editor")
    for call in (world.dry_run, world.drift, world.apply):
        found = named(call(), "other_privileges")
        assert {item["username"] for item in found} == {"shop_editor"}
        assert [item["database"] for item in found] == [""] * len(given)
        assert all(any(catalog in item["message"] for item in found) for catalog in given)


def test_what_everybody_may_do_with_what_is_of_no_database_is_named(world: World) -> None:
    """A role is known by the dependency that it makes, and everybody makes none."""
    given = {"pg_tablespace": "CREATE ON TABLESPACE pg_default"}
    if world.server.version >= 15:
        given["pg_parameter_acl"] = "SET ON PARAMETER session_replication_role"
    assert not named(world.drift(), "other_privileges")
    for each in given.values():
        world.server.run_as_superuser(f"GRANT {each} TO PUBLIC")
    try:
        for call in (world.dry_run, world.drift, world.apply):
            found = named(call(), "other_privileges")
            assert sorted(item["message"].split(" of catalog ")[1].split(",")[0] for item in found) == sorted(given)
            assert all(item["message"].startswith("everybody holds privileges on 1 ") for item in found)
    finally:
        for each in given.values():
            world.server.run_as_superuser(f"REVOKE {each} FROM PUBLIC")


@pytest.mark.parametrize(
    ("given", "catalog"),
    [
        ("SELECT ON pg_authid", "pg_class"),
        ("SELECT (rolpassword) ON pg_authid", "pg_class"),
        ("UPDATE ON pg_largeobject", "pg_class"),
        ("CREATE ON SCHEMA information_schema", "pg_namespace"),
    ],
)
def test_a_privilege_on_what_is_the_systems_own_is_named(world: World, given: str, catalog: str) -> None:
    world.server.run_as_superuser(f"GRANT {given} TO shop_reader", "shop")
    for call in (world.dry_run, world.drift, world.apply):
        [found] = named(call(), "other_privileges")
        assert (found["database"], found["username"]) == ("shop", "shop_reader")
        assert f"of catalog {catalog}," in found["message"]
