"""Every kind of thing that a role can own, or be named in, passes on or is named before anything is changed."""

import contextlib
from collections.abc import Iterator

import pytest

from stack.aws import Aws
from stack.leaver import blocked, is_there, leave, query, run, world_of_a_leaver
from stack.postgres import Login, Server
from stack.world import World

# What passes on: by catalog what the role makes itself, and what a superuser makes for it.
MADE = {
    "pg_namespace": "CREATE SCHEMA works; CREATE SCHEMA bare",
    "pg_class": "CREATE TABLE works.job (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, note text UNIQUE);"
    "CREATE TABLE works.part (id int) PARTITION BY RANGE (id);"
    "CREATE TABLE works.part1 PARTITION OF works.part FOR VALUES FROM (0) TO (9); CREATE INDEX ON works.part (id);"
    "CREATE TABLE works.child () INHERITS (works.job); CREATE UNLOGGED TABLE works.fast (id int);"
    "CREATE VIEW works.open AS SELECT 1 AS a; CREATE MATERIALIZED VIEW works.sums AS SELECT 1 AS a;"
    "CREATE SEQUENCE works.number; CREATE RULE r AS ON INSERT TO works.open DO INSTEAD NOTHING;"
    "CREATE TRIGGER t BEFORE UPDATE ON works.fast FOR EACH ROW EXECUTE FUNCTION"
    " suppress_redundant_updates_trigger(); CREATE POLICY own ON works.job TO PUBLIC USING (true);"
    "ALTER TABLE works.job ENABLE ROW LEVEL SECURITY",
    "pg_proc": "CREATE FUNCTION works.one() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    "CREATE PROCEDURE works.go() LANGUAGE sql AS ''; CREATE AGGREGATE works.total (int) (SFUNC = int4pl, STYPE = int);"
    "CREATE AGGREGATE works.rows (*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0')",
    "pg_type": "CREATE TYPE works.mood AS ENUM ('so'); CREATE TYPE works.pair AS (a int, b int); "
    "CREATE DOMAIN works.positive AS int CHECK (VALUE > 0);"
    "CREATE TYPE works.span AS RANGE (subtype = float8);"
    "CREATE TABLE works.typed OF works.pair; CREATE CAST (works.pair AS text) WITH INOUT",
    "pg_operator": "CREATE OPERATOR works.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "pg_collation": 'CREATE COLLATION works.c FROM "C"',
    "pg_conversion": "CREATE CONVERSION works.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    "pg_ts_config": "CREATE TEXT SEARCH CONFIGURATION works.plain (COPY = pg_catalog.simple)",
    "pg_ts_dict": "CREATE TEXT SEARCH DICTIONARY works.words (TEMPLATE = simple)",
    "pg_statistic_ext": "CREATE STATISTICS works.both ON id, note FROM works.job",
    "pg_largeobject": "SELECT lo_create(4711)",
    "pg_publication": "CREATE PUBLICATION jobs FOR TABLE works.job",
    "pg_extension": "CREATE EXTENSION hstore",
    "pg_foreign_server": "CREATE SERVER away FOREIGN DATA WRAPPER w;"
    "CREATE FOREIGN TABLE works.far (id int) SERVER away",
    "pg_default_acl": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reporter",
}
GIVEN = {
    "pg_opfamily": "CREATE OPERATOR FAMILY works.family USING btree; ALTER OPERATOR FAMILY works.family USING btree"
    " OWNER TO leaver",
    "pg_opclass": "CREATE OPERATOR CLASS works.class FOR TYPE int4 USING btree AS OPERATOR 1 <, FUNCTION 1"
    " btint4cmp(int4, int4); ALTER OPERATOR CLASS works.class USING btree OWNER TO leaver;"
    "ALTER OPERATOR FAMILY works.class USING btree OWNER TO leaver",
    "pg_language": "ALTER LANGUAGE plpgsql OWNER TO leaver",
}
# What is named and stands: by the words of the blocker what a superuser makes in `old`.
IN_THE_WAY = {
    "event trigger seen": """
        CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER seen ON ddl_command_end WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION e();
        ALTER EVENT TRIGGER seen OWNER TO leaver""",
    "wrapper v": "CREATE FOREIGN DATA WRAPPER v; ALTER FOREIGN DATA WRAPPER v OWNER TO leaver",
    "user mapping": """
        CREATE FOREIGN DATA WRAPPER u; CREATE SERVER s FOREIGN DATA WRAPPER u;
        CREATE USER MAPPING FOR leaver SERVER s""",
    "policy his": "CREATE TABLE guarded (id int); CREATE POLICY his ON guarded TO leaver",
    "subscription sub": """
        CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 password=x' PUBLICATION p
            WITH (connect = false, enabled = false, create_slot = false, slot_name = NONE);
        ALTER SUBSCRIPTION sub OWNER TO leaver""",
    "tablespace pg_default": "GRANT CREATE ON TABLESPACE pg_default TO leaver",
    "everything": "CREATE PUBLICATION everything FOR ALL TABLES; ALTER PUBLICATION everything OWNER TO leaver",
}
IN_THE_WAY_LATER = {
    "log_statement": (15, "GRANT SET ON PARAMETER log_statement TO leaver"),
    "granted at first": (
        17,
        """CREATE EXTENSION hstore; CREATE TABLE listed (id int); GRANT SELECT ON listed TO leaver;
           ALTER EXTENSION hstore ADD TABLE listed""",
    ),
}
BLOCKING = {
    "pg_event_trigger", "pg_foreign_data_wrapper", "pg_user_mapping", "pg_policy", "pg_subscription", "pg_tablespace",
    "pg_parameter_acl", "pg_init_privs",
}  # fmt: skip
# The role itself: its memberships and settings go with it, and databases are told apart from what is in them.
BY_ITSELF = {"pg_auth_members", "pg_db_role_setting", "pg_database"}
# Only named, in lists of privileges: of columns, beside those of what has an owner.
NAMED = {"pg_attribute", "pg_largeobject_metadata"}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with world_of_a_leaver(pg_server, admin, aws) as world:
        try:
            yield world
        finally:
            with contextlib.suppress(Exception):
                query(world, "DROP SUBSCRIPTION IF EXISTS sub", "old")


def owned(world: World, database: str, role: str) -> set[tuple[str, int]]:
    sql = f"""SELECT classid::regclass::text, objid::bigint FROM pg_shdepend
              WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND deptype = 'o'
                AND refclassid = 'pg_authid'::regclass AND refobjid = '{role}'::regrole"""
    return {(name, oid) for name, oid in query(world, sql, database)}


def make_all(world: World, database: str) -> None:
    query(world, "CREATE FOREIGN DATA WRAPPER w; GRANT USAGE ON FOREIGN DATA WRAPPER w TO PUBLIC", database)
    query(world, f"GRANT CREATE ON DATABASE {database} TO leaver")
    for sql in MADE.values():
        run(world, "leaver", database, sql)
    for sql in GIVEN.values():
        query(world, sql, database)


def test_every_catalog_that_names_roles_is_in_these_tables(world: World) -> None:
    """From 14 on the server tells which columns hold roles; lists of privileges it always tells."""
    sql = """
    SELECT DISTINCT a.attrelid::regclass::text FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE c.relkind = 'r' AND c.relnamespace = 'pg_catalog'::regnamespace AND a.atttypid = 'aclitem[]'::regtype"""
    if world.server.version >= 14:
        sql += """ UNION SELECT fktable::text FROM pg_get_catalog_foreign_keys()
                   WHERE pktable = 'pg_authid'::regclass"""
    assert {name for (name,) in query(world, sql)} <= {*MADE, *GIVEN, *BLOCKING, *BY_ITSELF, *NAMED}


@pytest.mark.parametrize("database", ["old", "shop"])
def test_every_kind_that_can_have_another_owner_gets_one(world: World, database: str) -> None:
    make_all(world, database)
    before = owned(world, database, "leaver")
    assert {name for name, _ in before} == {*MADE, *GIVEN}
    leave(world)
    answer = world.apply(retire=["leaver"])
    assert answer["status"] == "applied"
    assert not is_there(world)
    heir = world.admin.username if database == "old" else "shop_user"
    left = {item for item in before if item[0] != "pg_default_acl"} - owned(world, database, heir)
    assert left == set()


def test_every_kind_in_a_kept_database_is_given_to_its_new_owner(world: World) -> None:
    make_all(world, "old")
    before = owned(world, "old", "leaver")
    leave(world)
    world.apply(retire=["leaver"])
    world.put_secret("heirs", "heir", "old")
    heirs = {"heirs": {"database_name": "old", "username": "heir"}}
    world.declare_entries({"shop": {"database_name": "shop", "username": "shop_user"}, **heirs}, with_secrets=False)
    assert world.apply(adopt=["heirs"])["status"] == "applied"
    assert {name for name, _ in before - owned(world, "old", "heir")} == {"pg_default_acl", "pg_extension"}


def test_every_kind_that_cannot_is_named_and_nothing_is_changed(world: World) -> None:
    cases = IN_THE_WAY | {
        words: sql for words, (since, sql) in IN_THE_WAY_LATER.items() if world.server.version >= since
    }
    # Some only a superuser may own: one that was.
    query(world, "ALTER ROLE leaver SUPERUSER")
    for sql in cases.values():
        query(world, sql, "old")
    query(world, "ALTER ROLE leaver NOSUPERUSER")
    leave(world)
    everything = "SELECT dbid, classid, objid, objsubid, refobjid, deptype FROM pg_shdepend ORDER BY 1, 2, 3, 4, 5, 6"
    before = query(world, everything)
    messages = "\n".join(item["message"] for item in blocked(world))
    assert query(world, everything) == before
    assert [words for words in cases if words not in messages] == [], messages
