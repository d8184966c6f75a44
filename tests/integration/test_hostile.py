"""A tenant who owns a database, and may create more, attacks the run with what it may do there, on a real server."""

import contextlib
import json
import re
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.core import acl
from provisioner.core.errors import PlanBlocked
from provisioner.edges.postgres import Login as Way
from provisioner.edges.postgres import ServerAddress, tls_context
from stack.aws import Aws
from stack.binaries import available
from stack.dump import dump
from stack.postgres import Server
from stack.world import World

EVIL = {"evil": {"database_name": "evil", "username": "evil_user", "createdb": True}}
REPORT = {"report": {"database_name": "evil", "username": "reporter", "access_level": "reader"}}
GOOD = {"good": {"database_name": "good", "username": "good_user"}}
LATE = {"late": {"database_name": "good", "username": "late_reader", "access_level": "reader"}}


def prepared(server: Server, aws: Aws) -> Iterator[World]:
    """A hostile and a harmless tenant, each with a database."""
    with World(server, aws, server.create_delegated_admin()) as made:
        made.declare_entries(EVIL | GOOD)
        made.apply()
        yield made


@pytest.fixture
def world(pg_server: Server, aws: Aws) -> Iterator[World]:
    yield from prepared(pg_server, aws)


@pytest.fixture
def newest(latest_server: Server, aws: Aws) -> Iterator[World]:
    """For what takes long and is about memory of ours."""
    yield from prepared(latest_server, aws)


def as_tenant(world: World, *statements: str, database: str = "evil") -> None:
    with contextlib.closing(world.login("evil_user", database)) as tenant:
        for statement in statements:
            tenant.run(statement)


def privileges_of(world: World, role: str, database: str = "evil") -> set[tuple[str, str]]:
    rows = world.server.run_as_superuser(
        "SELECT relname, privilege_type FROM pg_catalog.pg_class, pg_catalog.aclexplode(relacl)"
        f" WHERE grantee = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = '{role}')",
        database,
    )
    return {(str(name), str(privilege)) for name, privilege in rows}


def attributes(world: World) -> dict[str, Any]:
    return {
        name: rest
        for name, *rest in world.server.run_as_superuser(
            "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles"
        )
    }


# --- code of the tenant's, lying in wait for the administrator ------------------------------------------------------

TRAPS = [
    # What search_path would find first, had the run not set its own.
    "CREATE SCHEMA trap",
    "CREATE TABLE public.told (what text)",
    """CREATE FUNCTION public.tell(what text) RETURNS text LANGUAGE plpgsql AS $$
       BEGIN INSERT INTO public.told VALUES (what || ' as ' || current_user); RETURN what; END $$""",
    """CREATE FUNCTION public.aclexplode(acl aclitem[]) RETURNS TABLE (grantor oid, grantee oid, privilege_type text,
       is_grantable bool) LANGUAGE sql AS $$ SELECT public.tell('aclexplode'); SELECT 10::oid, 10::oid, 'x', true $$""",
    """CREATE FUNCTION public.pg_get_userbyid(id oid) RETURNS name LANGUAGE sql
       AS $$ SELECT public.tell('pg_get_userbyid')::name $$""",
    "CREATE FUNCTION public.shobj_description(oid, name) RETURNS text LANGUAGE sql AS $$ SELECT public.tell('so') $$",
    "CREATE FUNCTION public.concat(name, text) RETURNS bool LANGUAGE sql AS $$ SELECT public.tell('operator') = '' $$",
    "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.concat)",
    "CREATE OPERATOR public.!~ (LEFTARG = name, RIGHTARG = text, FUNCTION = public.concat)",
    "CREATE TYPE public.disguise AS (a int)",
    "CREATE FUNCTION public.unmask(public.disguise) RETURNS text LANGUAGE sql AS $$ SELECT public.tell('cast') $$",
    "CREATE CAST (public.disguise AS text) WITH FUNCTION public.unmask(public.disguise) AS IMPLICIT",
    "CREATE TABLE public.pg_class (oid oid, relname name)",
    "CREATE VIEW public.pg_roles AS SELECT public.tell('pg_roles') AS rolname",
    "CREATE VIEW public.pg_locks AS SELECT public.tell('pg_locks') AS locktype",
    "ALTER DATABASE evil SET search_path = public, trap, pg_catalog",
]


def test_functions_operators_casts_and_views_of_a_tenant_are_never_run(world: World) -> None:
    as_tenant(world, *TRAPS)
    world.declare_entries(EVIL | GOOD | REPORT)
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"
    assert world.server.run_as_superuser("SELECT what FROM public.told", "evil") == []
    assert ("told", "SELECT") in privileges_of(world, "reporter")


def test_an_event_trigger_is_not_a_tenants_to_make(world: World) -> None:
    """On RDS only rds_superuser may; the delegated administrator never gives that away."""
    as_tenant(world, "CREATE FUNCTION spy() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$")
    with pytest.raises(Exception, match="permission denied to create event trigger"):
        as_tenant(world, "CREATE EVENT TRIGGER spy ON ddl_command_start EXECUTE FUNCTION spy()")


# As `upper(text)` would be found for a name, were there none that takes one.
IN_WAIT = """CREATE FUNCTION public.upper(name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('role', 'none', true);
    EXECUTE 'GRANT good_user TO evil_user';
    PERFORM set_config('role', 'evil_user', true);
    RETURN 'told'; END $$"""


@pytest.mark.skipif(max(available(), default=0) < 18, reason="before 18 extensions stand in the server's own folder")
@pytest.mark.parametrize("trusted", ["false", "true"], ids=["not trusted", "trusted"])
@pytest.mark.parametrize("administrator", ["master", "delegated"])
def test_the_script_of_an_extension_that_takes_no_superuser_runs_nothing_of_the_owners_as_the_administrator(
    aws: Aws, administrator: str, trusted: str
) -> None:
    """Trusted or not it runs as who calls it, and SET ROLE keeps nobody from RESET ROLE."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        extensions = Path(folder, "extension")
        extensions.mkdir(mode=0o755)
        control = f"default_version = '1'\nsuperuser = false\ntrusted = {trusted}\n"
        (extensions / "helper.control").write_text(control)
        (extensions / "helper--1.sql").write_text("CREATE TABLE helper AS SELECT upper('one'::name) AS version;\n")
        with Server(max(available()), parameters={"extension_control_path": f"$system:{folder}"}) as server:
            admin = server.master if administrator == "master" else server.create_delegated_admin()
            with World(server, aws, admin) as world:
                world.declare_entries(EVIL | GOOD)
                world.apply()
                as_tenant(world, IN_WAIT)
                world.declare_entries({"evil": {**EVIL["evil"], "extensions": ["helper"]}} | GOOD | LATE)
                with pytest.raises(PlanBlocked, match='in database "evil" as its owner: CREATE EXTENSION "helper"'):
                    world.apply()
                world.login("late_reader", "good").close()
                assert (
                    server.run_as_superuser("SELECT FROM pg_auth_members WHERE member::regrole::text = 'evil_user'")
                    == []
                )
                as_tenant(world, "DROP FUNCTION public.upper(name)", 'CREATE EXTENSION "helper"')
                assert world.apply()["status"] == "no_change"


SETTINGS = [
    "role = 'evil_user'",
    "standard_conforming_strings = off",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "statement_timeout = 1",
    "lock_timeout = 1",
    "idle_in_transaction_session_timeout = 1",
    "idle_session_timeout = 1",
    "transaction_timeout = 1",
    "client_encoding = 'SQL_ASCII'",
    "quote_all_identifiers = on",
    "local_preload_libraries = 'nowhere'",
    "DateStyle = 'German'",
    "client_min_messages = error",
    "row_security = off",
    "work_mem = '64kB'",
    "createrole_self_grant = 'set, inherit'",
    "enable_hashjoin = off",
    "default_tablespace = 'nowhere'",
    "default_table_access_method = 'nowhere'",
    "array_nulls = off",
    "bytea_output = 'escape'",
    "transform_null_equals = on",
    "IntervalStyle = 'iso_8601'",
    "enable_indexscan = off",
    "enable_hashagg = off",
    "from_collapse_limit = 1",
    "parallel_setup_cost = 0",
    "min_parallel_table_scan_size = 0",
    "hash_mem_multiplier = 1000",
    # A search for a plan that ends with the statement's time.
    "geqo_threshold = 2",
    "geqo_generations = 2147483647",
    "geqo_pool_size = 100000",
    "join_collapse_limit = 1000",
]
KNOWN_SINCE = {"idle_session_timeout": 14, "createrole_self_grant": 16, "transaction_timeout": 17}


def test_what_a_tenant_sets_for_its_database_does_not_change_what_the_run_does(world: World) -> None:
    as_tenant(world, "CREATE TABLE customer (id int)")
    # From a database whose settings let the tenant in.
    as_tenant(world, "CREATE DATABASE elsewhere")
    settings = [each for each in SETTINGS if KNOWN_SINCE.get(each.split()[0], 13) <= world.server.version]
    as_tenant(world, *(f"ALTER DATABASE evil SET {setting}" for setting in settings), database="elsewhere")
    world.declare_entries(EVIL | GOOD | REPORT)
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"
    as_tenant(world, "ALTER DATABASE evil RESET ALL", database="elsewhere")
    assert privileges_of(world, "reporter") == {("customer", "SELECT")}


def test_what_a_tenant_lets_a_session_take_is_not_what_ours_takes(world: World) -> None:
    as_tenant(world, "ALTER DATABASE evil SET work_mem = '1TB'", "ALTER DATABASE evil SET hash_mem_multiplier = 1000")
    as_tenant(world, "ALTER DATABASE evil SET synchronous_commit = off", "ALTER DATABASE evil SET exit_on_error = on")
    where = ServerAddress(world.server.host, world.server.port, tls_context(str(world.server.ca_file)))
    with Way(where, *world.admin, "evil").connect() as connection:
        assert connection.run("SHOW work_mem") == [["4MB"]]
        assert connection.run("SHOW hash_mem_multiplier") == [["2"]]
        assert connection.run("SHOW synchronous_commit") == [["on"]]
        # What the server refuses is told as such, and not as a connection that is gone.
        assert connection.run("SHOW exit_on_error") == [["off"]]


# --- keeping the others waiting ---------------------------------------------------------------------------------------


SHUT = [
    "REVOKE CONNECT ON DATABASE evil FROM rds_provisioner",
    "ALTER DATABASE evil CONNECTION LIMIT 0",
    "ALTER DATABASE evil ALLOW_CONNECTIONS false",
    "ALTER DATABASE evil IS_TEMPLATE true",
]


@pytest.mark.parametrize("attack", SHUT)
@pytest.mark.parametrize("fail_fast", [{}, {"fail_fast": True}], ids=["by default", "fail_fast"])
def test_a_tenant_who_shuts_its_database_does_not_stop_the_others(
    world: World, attack: str, fail_fast: dict[str, bool]
) -> None:
    world.server.run_as_superuser(f"SET ROLE evil_user; {attack}", "good")
    world.declare_entries(EVIL | GOOD | LATE | REPORT)
    shown = world.dry_run()
    assert [change["action"] for change in shown["changes"] if change["database"] == "evil"] == []
    assert shown["summary"]["blocked"] == 1
    with pytest.raises(Exception, match='database "evil"') as caught:
        world.apply(**fail_fast)
    assert type(caught.value).__name__ == "PlanBlocked"
    assert world.login("late_reader", "good").run("SELECT 1") == [[1]]


@pytest.mark.parametrize("attack", [*SHUT, f"{SHUT[1]}; {SHUT[0]}"])
def test_who_follows_what_is_told_of_a_database_that_is_shut_opens_it(world: World, attack: str) -> None:
    for statement in attack.split("; "):
        world.server.run_as_superuser(f"SET ROLE evil_user; {statement}", "good")
    (blocker,) = world.dry_run()["blockers"]
    for statement in re.findall(r"(?:ALTER|GRANT) [^;]*", blocker["next_step"]):
        world.server.run_as_superuser(f"SET ROLE evil_user; {statement}", "good")
    assert world.dry_run()["blockers"] == []
    assert world.apply()["status"] in {"applied", "no_change"}


@pytest.mark.parametrize(("letter", "privilege"), [("T", "TEMPORARY ON DATABASE evil"), ("t", "TRIGGER ON TABLE t")])
def test_a_privilege_that_is_not_known_is_no_matter_of_how_much_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch, letter: str, privilege: str
) -> None:
    monkeypatch.delitem(acl._PRIVILEGES, letter)
    world.server.run_as_superuser("SET ROLE evil_user; CREATE TABLE public.t ()", "evil")
    world.server.run_as_superuser(f"SET ROLE evil_user; GRANT {privilege} TO good_user", "evil")
    (blocker,) = [each for each in world.dry_run()["blockers"] if each["database"] == "evil"]
    assert (blocker["code"], blocker["next_step"]) == ("database_unreadable", "upgrade rds-provisioner, or report it")
    assert f'unknown privilege "{letter}"' in blocker["message"]


def test_names_that_are_no_text_stop_only_their_own_database(world: World) -> None:
    """A database in SQL_ASCII, which a tenant with CREATEDB makes in the place of its own, holds any bytes."""
    as_tenant(world, "DROP DATABASE evil", database="postgres")
    ascii_database = "CREATE DATABASE evil ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    as_tenant(world, ascii_database, f"COMMENT ON DATABASE evil IS '{MARK}'", database="postgres")
    broken = (
        "DO $$ BEGIN EXECUTE convert_from('\\x435245415445205441424c452022ff222028696420696e7429', 'SQL_ASCII'); END $$"
    )
    world.server.run_as_superuser(f"SET ROLE evil_user; {broken}", "evil")
    world.server.run_as_superuser("GRANT SELECT ON ALL TABLES IN SCHEMA public TO rds_iam", "evil")
    world.declare_entries(EVIL | GOOD | LATE | REPORT)
    with contextlib.suppress(Exception):
        world.apply(fail_fast=False)
    assert world.login("late_reader", "good").run("SELECT 1") == [[1]]


def as_bytes(sql: str) -> str:
    """A statement that a session of a database in SQL_ASCII runs with its characters as bytes, whatever they are."""
    return f"DO $$ BEGIN EXECUTE convert_from('\\x{sql.encode('latin-1').hex()}', 'SQL_ASCII'); END $$"


@pytest.mark.parametrize("junk", ["\xff", "\xf0", "\xe2\x82", "\xc3"])
def test_bytes_that_are_no_text_in_a_shared_catalog_stop_nobody(world: World, junk: str) -> None:
    """What is said of a database, and what it is called, is read together with what is said of all others."""
    ascii_database = "CREATE DATABASE raw ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    as_tenant(world, ascii_database, "CREATE DATABASE odd TEMPLATE template0")
    marked = MARK.replace("}", f', "comment": "{junk}"}}{junk}')
    for statement in (
        f"COMMENT ON DATABASE odd IS '{marked}'",
        f"COMMENT ON DATABASE evil IS 'rds-provisioner {junk}'",
        f'ALTER DATABASE odd RENAME TO "odd{junk}"',
    ):
        as_tenant(world, as_bytes(statement), database="raw")
    try:
        world.declare_entries(EVIL | GOOD | LATE)
        assert {item["database"] for item in world.dry_run()["blockers"]} == {"evil"}
        with pytest.raises(Exception, match='database "evil"') as caught:
            world.apply()
        assert type(caught.value).__name__ == "PlanBlocked"
        assert world.login("late_reader", "good").run("SELECT 1") == [[1]]
        assert world.call(mode="access")["status"] == "reported"
        assert world.call(mode="preflight")["status"] in {"ready", "not_ready"}
    finally:
        # Nor could the tests read it.
        as_tenant(world, as_bytes(f'ALTER DATABASE "odd{junk}" RENAME TO odd'), database="raw")


# --- forged marks and borrowed rights ---------------------------------------------------------------------------------

MARK = '{"managed_by": "rds-provisioner", "environment": "dev"}'


def test_a_database_that_a_tenant_marks_as_ours_is_not_taken_for_ours(world: World) -> None:
    """It owns it all the same: an entry that declares somebody else as its owner is refused, not obeyed."""
    as_tenant(world, "CREATE DATABASE bait", f"COMMENT ON DATABASE bait IS '{MARK}'")
    world.declare_entries(EVIL | GOOD | {"bait": {"database_name": "bait", "username": "new_user"}})
    with pytest.raises(Exception, match='database "bait" belongs to "evil_user"') as caught:
        world.apply()
    assert type(caught.value).__name__ == "PlanBlocked"


def test_databases_that_a_tenant_marks_push_out_nothing_that_is_told_of_others(world: World) -> None:
    for number in range(60):
        world.server.run_as_superuser(f"CREATE DATABASE a{number} OWNER evil_user TEMPLATE template0")
        world.server.run_as_superuser(f"COMMENT ON DATABASE a{number} IS '{MARK}'")
    world.server.run_as_superuser("CREATE ROLE stranger")
    world.server.run_as_superuser("GRANT CONNECT ON DATABASE good TO stranger")
    warnings = world.drift()["warnings"]
    assert "good" in {item["database"] for item in warnings if item["code"] == "foreign_grants"}
    assert any("55 more" in item["message"] for item in warnings)


@pytest.mark.parametrize(
    "comment",
    [
        MARK.replace("dev", "prod"),
        '{"managed_by": "rds-provisioner"}',
        '{"managed_by": "rds-provisioner", "environment": ["dev"], "creating": {"a": 1}}',
        '{"managed_by": "rds-provisioner", "environment": "dev", "creating": [1, null], "verifier": {}, "comment": 1}',
        "rds-provisioner " + "[" * 50_000,
        "rds-provisioner ' \" \\ %s {} :x $1 \u202e \n --",
    ],
    ids=["another environment", "no environment", "wrong types", "odd members", "deep nesting", "odd characters"],
)
def test_a_comment_shaped_like_our_mark_is_data(world: World, comment: str) -> None:
    with contextlib.closing(world.login("evil_user", "evil")) as tenant:
        tenant.run("COMMENT ON DATABASE evil IS " + _literal(comment))
    world.declare_entries(EVIL | GOOD | LATE)
    with contextlib.suppress(Exception):
        world.apply(fail_fast=False)
    assert world.login("late_reader", "good").run("SELECT 1") == [[1]]
    assert attributes(world)["evil_user"] == [False, False, True, False, False]


def _literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_a_tenant_gains_nothing_over_other_roles(world: World) -> None:
    before = attributes(world)
    as_tenant(world, *TRAPS)
    world.declare_entries(EVIL | GOOD | REPORT | LATE)
    world.apply()
    assert {name: rest for name, rest in attributes(world).items() if name in before} == before
    for statement in (
        "COMMENT ON ROLE good_user IS 'mine'",
        "COMMENT ON ROLE evil_user IS 'mine'",
        "GRANT good_user TO evil_user",
        "ALTER ROLE good_user PASSWORD 'x'",
        "SET ROLE rds_provisioner",
    ):
        with pytest.raises(Exception, match=r"42501|permission denied|must have"):
            as_tenant(world, statement)
    memberships = world.server.run_as_superuser(
        "SELECT count(*) FROM pg_auth_members WHERE member::regrole::text IN ('evil_user', 'good_user')"
    )
    assert memberships == [[0]]


def test_default_privileges_of_a_tenant_give_the_administrators_objects_to_nobody(world: World) -> None:
    as_tenant(world, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC", "CREATE TABLE open_to_all (id int)")
    started = dump(world.server)["inside"]["good"]
    world.declare_entries(EVIL | GOOD | REPORT)
    assert world.apply()["status"] == "applied"
    assert dump(world.server)["inside"]["good"] == started


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    'quo"te',
    "apo'strophe",
    "back\\slash",
    "new\nline",
    "tab\tand\rreturn",
    "%s %d {} {0} :x $1 $$ ;--",
    "/* comment",
    "x" * 63,
    "ä" * 31,
    "\U0001f600 \u202e \u200b",
    "PUBLIC",
    "public",
    "pg_looks_like",
    '"; DROP TABLE victim; --',
    "'); DROP TABLE victim; --",
]


def test_names_of_any_shape_are_granted_and_revoked_one_by_one_and_run_nothing(world: World) -> None:
    world.declare_entries(EVIL | GOOD | REPORT)
    world.apply()
    quoted = ['"' + name.replace('"', '""') + '"' for name in NAMES]
    with contextlib.closing(world.login("evil_user", "evil")) as tenant:
        tenant.run("CREATE TABLE victim (id int)")
        for name in quoted:
            if name not in {'"public"', '"pg_looks_like"'}:
                tenant.run(f"CREATE SCHEMA {name}")
            schema = name if name != '"pg_looks_like"' else "public"
            tenant.run(f"CREATE TABLE {schema}.{name} ({name} int, plain int)")
            # Groups of one, so that every name is written out.
            tenant.run(f"GRANT UPDATE ON {schema}.{name} TO reporter")
            tenant.run(f"GRANT INSERT ({name}) ON {schema}.{name} TO reporter")
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"
    held = privileges_of(world, "reporter")
    assert {privilege for _, privilege in held} == {"SELECT"}
    assert {name for name, _ in held} == {*NAMES, "victim"}


def make_many_tables(world: World, numbers: range, acl: str) -> None:
    """Tables that stand in the catalog alone: as many real ones would take minutes to make."""
    names = world.server.run_as_superuser(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_class'::regclass AND attnum > 0 ORDER BY attnum", "evil"
    )
    values = {"oid": "1000000 + t", "relname": "'t' || t", "relfilenode": "0", "relacl": acl}
    columns = ", ".join(values.get(name, f"c.{name}") for (name,) in names)
    world.server.run_as_superuser(
        f"""SET allow_system_table_mods = on; INSERT INTO pg_class SELECT {columns} FROM pg_class AS c,
            generate_series({numbers.start}, {numbers.stop - 1}) AS t WHERE c.relname = 'seed'""",
        "evil",
    )


def test_thousands_of_different_access_lists_are_refused_not_held_in_memory(world: World) -> None:
    world.server.run_as_superuser("; ".join(f"CREATE ROLE friend{number}" for number in range(15)))
    friends = (
        "SELECT array_agg('friend' || f || '=r/evil_user') FROM generate_series(0, 14) AS f WHERE (t >> f) & 1 = 1"
    )
    as_tenant(world, "CREATE TABLE seed ()")
    make_many_tables(world, range(1, 20_101), f"({friends})::aclitem[]")
    world.declare_entries(EVIL | GOOD | LATE)
    with pytest.raises(Exception, match="more than 20000 different access control lists") as caught:
        world.apply(fail_fast=False)
    assert type(caught.value).__name__ == "PlanBlocked"
    assert world.login("late_reader", "good").run("SELECT 1") == [[1]]


def test_thousands_of_schemas_are_refused_too(world: World) -> None:
    world.server.run_as_superuser(
        """SET allow_system_table_mods = on; INSERT INTO pg_namespace SELECT 1000000 + t, 's' || t,
           'evil_user'::regrole, NULL FROM generate_series(1, 20100) AS t""",
        "evil",
    )
    world.declare_entries(EVIL | GOOD | LATE)
    with pytest.raises(Exception, match="more than 20000 different access control lists"):
        world.apply(fail_fast=False)
    assert world.login("late_reader", "good").run("SELECT 1") == [[1]]


def test_a_hundred_thousand_tables_take_no_more_memory_than_a_hundred(newest: World) -> None:
    as_tenant(newest, "CREATE TABLE seed ()")
    newest.declare_entries(EVIL | GOOD | REPORT)
    newest.dry_run()
    peaks, made = [], 1
    for count in (100, 100_000):
        make_many_tables(newest, range(made, count + 1), "NULL")
        made = count + 1
        tracemalloc.start()
        answer = newest.dry_run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert any(f"SELECT on {count + 1} tables" in change["detail"] for change in answer["changes"])
    assert peaks[1] < peaks[0] + 1_000_000


@pytest.mark.parametrize("mode", ["dry_run", "access"])
def test_thousands_of_long_access_lists_take_little_memory(newest: World, mode: str) -> None:
    """Each of several databases may have them, and all are looked into before the run ends."""
    newest.server.run_as_superuser("; ".join(f"CREATE ROLE friend{number}" for number in range(12)))
    friends = "SELECT array_agg('friend' || f || '=arwdDxt/evil_user') FROM generate_series(0, 11) AS f"
    as_tenant(newest, "CREATE TABLE seed ()")
    # What is loaded in one mode only.
    newest.call(mode=mode)
    peaks, made = [], 1
    for count in (10, 4_000):
        make_many_tables(newest, range(made, count), f"({friends} WHERE (t >> f) & 1 = 1)::aclitem[]")
        made = count
        tracemalloc.start()
        newest.call(mode=mode)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10_000_000


def test_the_stored_plan_is_json_whatever_the_names(world: World) -> None:
    as_tenant(world, 'CREATE SCHEMA "a""b\'c\nd"')
    world.declare_entries(EVIL | GOOD | REPORT)
    answer = world.dry_run()
    bucket, key = answer["audit"]["plan"].removeprefix("s3://").split("/", 1)
    plan = json.loads(world.aws.read_object(bucket, key))
    assert any("a\"b'c\nd" in change["detail"] for change in plan["changes"])
