"""The report of who can do what: reads only, beside a run, in three formats, with what is beyond a level named."""

import contextlib
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from provisioner.core.effective_access import Access
from provisioner.edges.lock import TAKE_NAME
from stack.access import written_rows
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import AUDIT, World

ENTRIES: dict[str, dict[str, Any]] = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "desk": {"database_name": "shop", "username": "shop_editor", "access_level": "editor"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
COLUMNS = ["database", "role", "capability", "scope", "path", "declared_level", "managed", "expected"]


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply(run_id="4711", build_id="b-1")["status"] == "applied"
        with world.login("shop_user", "shop") as owner:
            owner.run("CREATE TABLE items (id serial, name text)")
        yield world


def report(world: World, **fields: Any) -> tuple[dict[str, Any], list[dict[str, str]], dict[str, Any], str]:
    """The answer, the rows of the CSV, the JSON, the HTML."""
    answer = world.call(mode="access", **fields)
    stored = {name: read(world, answer["audit"][f"access_{name}"]) for name in ("csv", "json", "html")}
    return answer, list(csv.DictReader(io.StringIO(stored["csv"]))), json.loads(stored["json"]), stored["html"]


def read(world: World, address: str) -> str:
    return world.aws.read_object(AUDIT, address.removeprefix(f"s3://{AUDIT}/")).decode()


def can(rows: list[dict[str, str]], role: str, database: str = "shop") -> dict[str, str]:
    """What a role can do, each with the worst verdict."""
    found: dict[str, str] = {}
    for row in rows:
        if (row["role"], row["database"]) == (role, database) and not row["capability"].startswith("future"):
            found[row["capability"]] = min(found.get(row["capability"], "yes"), row["expected"])
    return found


def test_what_the_levels_give_is_told_and_expected(world: World) -> None:
    answer, rows, document, html = report(world, run_id="4712")
    assert (answer["status"], answer["mode"], answer["changes"], answer["warnings"]) == ("reported", "access", [], [])
    assert list(rows[0]) == COLUMNS
    # Up to 14 CREATE on public is everybody's, and not ours to take away.
    of_public = {"create": "no"} if world.server.version < 15 else {}
    assert can(rows, "public") == of_public
    assert can(rows, "shop_reader") == {"connect": "yes", "read": "yes"} | of_public
    assert can(rows, "shop_editor") == {"connect": "yes", "temporary": "yes", "read": "yes", "write": "yes"} | of_public
    owner = can(rows, "shop_user")
    anyway = {"maintain", "trigger", "reference"}
    assert owner.keys() - anyway == {"connect", "temporary", "read", "write", "create", "own"}
    assert set(owner.values()) == {"yes"}
    assert document["access"][0].keys() == {*COLUMNS, "statement"}
    assert [{name: row[name] for name in COLUMNS} for row in document["access"]] == rows
    assert "<script" not in html
    assert "shop_reader" in html


def statuses(world: World) -> list[tuple[str, str, str]]:
    [*_, last] = list(csv.DictReader(io.StringIO(read(world, f"s3://{AUDIT}/governance/dev/rds_provision_audit.csv"))))
    return [(last["action"], last["status"], last["message"])]


def test_an_owner_that_does_not_inherit_owns_what_its_level_gives(world: World) -> None:
    """Up to 15 it has to SET ROLE to pg_database_owner, to which "public" belongs from 15 on."""
    world.server.run_as_superuser("ALTER ROLE shop_user NOINHERIT")
    _, rows, _, _ = report(world)
    verdicts = {row["expected"] for row in rows if row["role"] == "shop_user"}
    assert verdicts == {"yes"}
    assert world.server.version < 15 or can(rows, "shop_user")["own"] == "yes"


def test_it_leaves_one_row_in_the_trail_and_a_csv_of_its_own_and_writes_nothing_to_the_server(world: World) -> None:
    before = written_rows(world.server)
    answer, *_ = report(world, requested_by="auditor")
    assert written_rows(world.server) == before
    [(action, status, message)] = statuses(world)
    assert (action, status) == ("access", "dry_run")
    assert message.startswith("Access: 1 database, ")
    own = list(csv.DictReader(io.StringIO(read(world, answer["audit"]["run"]))))
    assert [(row["action"], row["database"], row["requested_by"]) for row in own] == [("access", "shop", "auditor")]


def test_what_is_beyond_a_level_is_told_with_the_statement_that_takes_it_away(world: World) -> None:
    with world.login("shop_user", "shop") as owner:
        owner.run("GRANT INSERT ON items TO shop_reader")
    answer, _, document, html = report(world)
    [row] = [row for row in document["access"] if (row["role"], row["capability"]) == ("shop_reader", "write")]
    assert (row["scope"], row["path"]) == ('1 table in schema "public": items', 'INSERT granted by "shop_user"')
    assert (row["declared_level"], row["managed"], row["expected"]) == ("reader", "yes", "no")
    assert re.search(r"  shop_reader +reader; BEYOND ITS LEVEL: write", answer["plan_text"])
    assert "reader; BEYOND ITS LEVEL: write" in html
    statement, _, grantor = row["statement"].partition("; -- as ")
    assert grantor == '"shop_user"'
    with world.login("shop_user", "shop") as owner:
        owner.run(statement)
    assert "write" not in can(report(world)[1], "shop_reader")


def test_the_statement_that_takes_away_an_aggregate_over_a_definer_quotes_its_name(world: World) -> None:
    aggregate = '"x""; DROP TABLE items; --"(int)'
    with world.login("shop_user", "shop") as owner:
        owner.run("CREATE FUNCTION taken(int, int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        owner.run("REVOKE EXECUTE ON FUNCTION taken FROM PUBLIC")
        owner.run(f"CREATE AGGREGATE {aggregate} (SFUNC = taken, STYPE = int)")
        owner.run(f"REVOKE EXECUTE ON FUNCTION {aggregate} FROM PUBLIC")
        owner.run(f"GRANT EXECUTE ON FUNCTION {aggregate} TO shop_reader")
        [row] = [
            row for row in report(world)[2]["access"] if (row["role"], row["capability"]) == ("shop_reader", "execute")
        ]
        statement = row["statement"].rpartition("; -- as ")[0]
        assert statement == (
            'REVOKE EXECUTE ON ROUTINE "public"."x""; DROP TABLE items; --"(integer) FROM "shop_reader"'
        )
        owner.run(statement)
    assert "execute" not in can(report(world)[1], "shop_reader")


@pytest.mark.parametrize("column", ["a(b", "a)", "a, b", 'a"b', 'x") ON TABLE "t', "Name"])
def test_the_statement_that_takes_away_a_column_names_that_column_of_that_table(world: World, column: str) -> None:
    name = '"' + column.replace('"', '""') + '"'
    with world.login("shop_user", "shop") as owner:
        owner.run(f'CREATE TABLE "t(u" ({name} int); GRANT UPDATE ({name}) ON "t(u" TO shop_reader')
        [row] = [
            row for row in report(world)[2]["access"] if (row["role"], row["capability"]) == ("shop_reader", "write")
        ]
        statement = row["statement"].rpartition("; -- as ")[0]
        assert statement == f'REVOKE UPDATE ({name}) ON TABLE "public"."t(u" FROM "shop_reader"'
        owner.run(statement)
    assert "write" not in can(report(world)[1], "shop_reader")


def test_the_difference_since_the_report_before_is_told_and_garbage_there_is_named(world: World) -> None:
    assert report(world)[2]["difference"]["since"] == ""
    first = report(world)[2]
    with world.login("shop_user", "shop") as owner:
        owner.run("GRANT DELETE ON items TO shop_reader")
    second = report(world)[2]
    assert second["difference"]["since"] == first["created"]
    assert [row["path"] for row in second["difference"]["added"]] == ['DELETE granted by "shop_user"']
    assert second["difference"]["removed"] == []
    world.aws.client("s3").put_object(
        Bucket=AUDIT, Key="governance/dev/access/99991231T000000.000Z-x.json", Body=b"[1]"
    )
    answer, _, third, html = report(world)
    assert [item["code"] for item in answer["warnings"]] == ["access_report_unreadable"]
    assert third["difference"] == {"since": second["created"], "added": [], "removed": []}
    assert "99991231T000000.000Z-x.json" in html


def test_what_a_path_beyond_a_level_leads_to_by_now_is_a_difference_and_what_a_level_gives_is_none(
    world: World,
) -> None:
    with world.login("shop_user", "shop") as owner:
        owner.run("CREATE TABLE salaries (id int); GRANT INSERT ON items TO shop_reader")
        report(world)
        owner.run("GRANT INSERT ON salaries TO shop_reader")
        owner.run("CREATE TABLE news (id int)")
    difference = report(world)[2]["difference"]
    scopes = {name: [row["scope"] for row in difference[name]] for name in ("added", "removed")}
    assert scopes == {
        "added": ['2 tables in schema "public": items, salaries'],
        "removed": ['1 table in schema "public": items'],
    }
    with world.login("shop_user", "shop") as owner:
        owner.run("REVOKE INSERT ON salaries FROM shop_reader")
    difference = report(world)[2]["difference"]
    assert [row["scope"] for row in difference["removed"]] == scopes["added"]
    assert [row["scope"] for row in difference["added"]] == scopes["removed"]


# What a view calls runs with the rights of who reads it; each of these is read by nobody but the owner.
CALLING = {
    "by_name": "SELECT asks() AS n",
    "by_operator": "SELECT 1 OPERATOR(public.===) 2 AS n",
    "by_domain": "SELECT 1::checked AS n",
    "by_domain_over_domain": "SELECT 1::checked_again AS n",
    "by_view": "SELECT * FROM by_operator",
}
CALLED = """
    CREATE TABLE hidden (id int);
    REVOKE SELECT ON hidden FROM shop_editor, shop_reader;
    CREATE FUNCTION asks() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.hidden';
    CREATE FUNCTION mine(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE OPERATOR === (FUNCTION = mine, LEFTARG = int, RIGHTARG = int);
    REVOKE EXECUTE ON FUNCTION mine FROM PUBLIC;
    CREATE DOMAIN checked AS int CHECK (mine(VALUE, 1));
    CREATE DOMAIN checked_again AS checked"""


def test_a_view_that_only_its_owner_can_read_is_no_claim_however_it_asks_for_more(world: World) -> None:
    views = dict(CALLING)
    with world.login("shop_user", "shop") as owner:
        owner.run(CALLED)
        for name, query in CALLING.items():
            owner.run(f"CREATE VIEW {name} AS {query}")
        for word in ("t", "ye", "TRUE", "on", "1") if world.server.version >= 15 else ():
            views[f"v_{word}"] = "hidden"
            owner.run(f'CREATE VIEW "v_{word}" WITH (security_invoker = {word}) AS SELECT * FROM hidden')
        owner.run("CREATE TABLE guarded (id int)")
        owner.run("CREATE POLICY p ON guarded USING (id OPERATOR(public.===) 1)")
        owner.run("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; INSERT INTO guarded VALUES (1)")
    rows = [row for row in report(world)[2]["access"] if (row["role"], row["capability"]) == ("shop_reader", "read")]
    claimed = " ".join(row["scope"] for row in rows if row["expected"] != "unknown")
    told = " ".join(row["scope"] for row in rows if row["expected"] == "unknown")
    with world.login("shop_reader", "shop") as reader:
        for name in [*views, "guarded"]:
            with pytest.raises(pg8000.native.DatabaseError, match="42501"):
                reader.run(f'SELECT * FROM "{name}"')
            assert name not in claimed
    assert sum(int(row["scope"].split()[0]) for row in rows if row["expected"] == "unknown") == len(views) + 1, told


def test_a_view_that_locks_rows_is_read_where_its_owner_may_lock_them(world: World) -> None:
    world.server.run_as_superuser("CREATE TABLE lent (id int); GRANT SELECT ON lent TO shop_user", "shop")
    with world.login("shop_user", "shop") as owner:
        owner.run("CREATE VIEW looks AS SELECT id FROM lent; CREATE VIEW locks AS SELECT id FROM lent FOR SHARE")
        owner.run("CREATE VIEW locks_own AS SELECT id FROM items FOR UPDATE")
        owner.run("CREATE VIEW locks_deep AS SELECT id FROM locks_own WHERE id IN (SELECT id FROM looks FOR UPDATE)")
    found = {
        name: row["expected"]
        for row in report(world)[2]["access"]
        if (row["role"], row["capability"]) == ("shop_reader", "read")
        for name in re.findall(r"\w+", row["scope"].partition(": ")[2])
    }
    views = {"looks": "yes", "locks": "unknown", "locks_own": "yes", "locks_deep": "unknown"}
    assert {name: found[name] for name in views} == views
    with world.login("shop_reader", "shop") as reader:
        for name, expected in views.items():
            refused = pytest.raises(pg8000.native.DatabaseError, match="42501")
            with contextlib.nullcontext() if expected == "yes" else refused:
                reader.run(f"SELECT * FROM {name}")


def test_what_of_a_view_is_computed_is_not_written(world: World) -> None:
    with world.login("shop_user", "shop") as owner:
        owner.run("CREATE VIEW computed AS SELECT upper(name) AS loud FROM items")
        owner.run("CREATE VIEW half AS SELECT id, upper(name) AS loud FROM items")
        owner.run(
            "GRANT INSERT, UPDATE, DELETE ON computed TO shop_reader; GRANT UPDATE (id, loud) ON half TO shop_reader"
        )
    told = [
        (re.findall(r"\w+\(\w+\)|computed", row["scope"]), row["path"].split(" ")[0], row["expected"])
        for row in report(world)[2]["access"]
        if (row["role"], row["capability"]) == ("shop_reader", "write")
    ]
    assert sorted(told) == [
        (["computed"], "DELETE", "no"),
        (["half(id)"], "UPDATE", "no"),
        (["half(loud)"], "UPDATE", "unknown"),
    ]
    with world.login("shop_reader", "shop") as reader:
        reader.run("DELETE FROM computed; UPDATE half SET id = 1")
        for sql in (
            "INSERT INTO computed DEFAULT VALUES",
            "UPDATE computed SET loud = ''",
            "UPDATE half SET loud = ''",
        ):
            with pytest.raises(pg8000.native.DatabaseError, match=r"0A000|55000"):
                reader.run(sql)


def test_a_view_that_calls_what_everybody_may_execute_is_read_by_its_list_alone(world: World) -> None:
    with world.login("shop_user", "shop") as owner:
        owner.run("CREATE FUNCTION shows() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        owner.run("CREATE VIEW shown AS SELECT shows() AS n, upper('x') AS x, 1 = 2 AS y")
    [row] = [row for row in report(world)[2]["access"] if "shown" in row["scope"] and row["role"] == "shop_reader"]
    assert (row["capability"], row["expected"]) == ("read", "yes")
    with world.login("shop_reader", "shop") as reader:
        assert reader.run("SELECT n FROM shown") == [[1]]


def test_a_definer_routine_that_only_triggers_may_call_is_unknown_and_each_of_a_name_is_told_apart(
    world: World,
) -> None:
    definer = "LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; END'"
    with world.login("shop_user", "shop") as owner:
        owner.run(f"CREATE FUNCTION watches() RETURNS trigger {definer}")
        for kind in ("int", "text"):
            owner.run(f"CREATE FUNCTION adds({kind}, {kind}) RETURNS {kind} {definer}")
            owner.run(f"CREATE AGGREGATE adds_up({kind}) (SFUNC = adds, STYPE = {kind})")
        rows = [row for row in report(world)[2]["access"] if row["capability"] == "execute"]
        found = {row["expected"]: row["scope"].partition(": ")[2] for row in rows if row["role"] == "shop_reader"}
        assert found.pop("unknown") == "watches()"
        names = ["adds(integer, integer)", "adds(text, text)", "adds_up(integer)", "adds_up(text)"]
        assert sorted(re.findall(r"\w+\([^)]*\)", found.pop("no"))) == names
        assert found == {}
        with world.login("shop_reader", "shop") as reader, pytest.raises(pg8000.native.DatabaseError, match="0A000"):
            reader.run("SELECT watches()")
        [statement] = {row["statement"] for row in rows if row["role"] == "shop_reader" and row["expected"] == "no"}
        owner.run(statement.partition("; -- as ")[0])
    assert "adds_up" not in str([row for row in report(world)[2]["access"] if row["role"] == "shop_reader"])


def test_a_definer_routine_in_a_schema_that_may_not_be_used_is_unknown_where_something_else_calls_it(
    world: World,
) -> None:
    world.server.run_as_superuser("CREATE ROLE guest LOGIN PASSWORD 'guest-Pa55'")
    with world.login("shop_user", "shop") as owner:
        owner.run("GRANT CONNECT ON DATABASE shop TO guest; CREATE SCHEMA inner_room")
        for name in ("by_operator", "by_none"):
            sql = "(int, int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 7'"
            owner.run(f"CREATE FUNCTION inner_room.{name}{sql}")
        owner.run("CREATE OPERATOR public.=== (FUNCTION = inner_room.by_operator, LEFTARG = int, RIGHTARG = int)")
    _, _, document, _ = report(world)
    found = [row for row in document["access"] if (row["role"], row["capability"]) == ("guest", "execute")]
    assert [(row["expected"], row["scope"].partition(": ")[2]) for row in found] == [
        ("unknown", "by_operator(integer, integer)")
    ]
    with world.server.connect("guest", "guest-Pa55", "shop") as guest:
        assert guest.run("SELECT 1 OPERATOR(public.===) 2") == [[7]]
        with pytest.raises(pg8000.native.DatabaseError, match="42501"):
            guest.run("SELECT inner_room.by_none(1, 2)")
    [hidden] = [item for item in document["dormant"] if item["role"] == "public"]
    assert (hidden["count"], "inner_room" in hidden["reason"]) == (1, True)


def test_a_member_of_ones_own_role_is_administered_where_its_password_can_be_set(world: World) -> None:
    password = "maker-Pa55"
    world.server.run_as_superuser(f"CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{password}'")
    for name, attribute in (("plain", ""), ("copier", "REPLICATION")):
        world.server.run_as_superuser(f"CREATE ROLE {name} LOGIN {attribute}; GRANT maker TO {name}")
        world.server.run_as_superuser(f"SET ROLE shop_user; GRANT CONNECT ON DATABASE shop TO {name}", "shop")
    world.server.run_as_superuser("SET ROLE shop_user; GRANT CONNECT ON DATABASE shop TO maker", "shop")
    told = {row["scope"] for row in report(world)[1] if (row["role"], row["capability"]) == ("maker", "administer")}
    done = set()
    with world.server.connect("maker", password, "shop") as maker:
        for name in ("plain", "copier"):
            for statement in (f"GRANT {name} TO maker", f"ALTER ROLE {name} PASSWORD 'x'"):
                with contextlib.suppress(pg8000.native.DatabaseError):
                    maker.run(statement)
                    done.add(f'role "{name}"')
    assert told & {'role "plain"', 'role "copier"'} == done
    assert bool(done) == (world.server.version < 16)


def test_a_membership_that_gives_nothing_else_sets_passwords_of_whom_its_role_administers(world: World) -> None:
    if world.server.version < 16:
        return  # Every membership may SET ROLE.
    sql = """
        CREATE ROLE warden; GRANT shop_editor TO warden WITH ADMIN OPTION;
        CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'maker-Pa55'; CREATE ROLE guest LOGIN PASSWORD 'maker-Pa55';
        GRANT warden TO maker, guest WITH INHERIT FALSE, SET FALSE"""
    world.server.run_as_superuser(sql)
    world.server.run_as_superuser("SET ROLE shop_user; GRANT CONNECT ON DATABASE shop TO maker, guest", "shop")
    told = {
        row["role"]
        for row in report(world)[1]
        if (row["capability"], row["scope"]) == ("administer", 'role "shop_editor"')
    }
    done = set()
    for name in ("maker", "guest"):
        with world.server.connect(name, "maker-Pa55", "shop") as connection:
            for statement in ("ALTER ROLE shop_editor PASSWORD 'x'", "GRANT shop_editor TO CURRENT_USER"):
                with contextlib.suppress(pg8000.native.DatabaseError):
                    connection.run(statement)
                    done.add(name)
    assert told & {"maker", "guest"} == done == {"maker"}


def test_what_is_granted_on_large_objects_to_come_is_told_with_its_statement(world: World) -> None:
    if world.server.version < 18:
        return  # There are no such default privileges.
    with world.login("shop_user", "shop") as owner:
        owner.run("ALTER DEFAULT PRIVILEGES GRANT SELECT, UPDATE ON LARGE OBJECTS TO shop_reader")
    found = [row for row in report(world)[2]["access"] if "large objects that" in row["scope"]]
    assert {row["capability"] for row in found} == {"future_read", "future_write"}
    with world.login("shop_user", "shop") as owner:
        for row in found:
            owner.run(row["statement"].partition("; -- as ")[0])
    assert not [row for row in report(world)[2]["access"] if "large objects that" in row["scope"]]


def test_more_large_objects_than_are_named_are_told_with_a_statement_for_the_first(world: World) -> None:
    with world.login("shop_user", "shop") as owner:
        owner.run("SELECT lo_create(800000 + n) FROM generate_series(1, 30) AS n")
        owner.run(
            "DO $$ BEGIN FOR i IN 800001..800030 LOOP EXECUTE format("
            "'GRANT SELECT ON LARGE OBJECT %s TO shop_reader', i); END LOOP; END $$"
        )
        [row] = [
            row
            for row in report(world)[2]["access"]
            if "30 large objects" in row["scope"] and row["role"] == "shop_reader"
        ]
        owner.run(row["statement"].partition("; -- as ")[0])
    [row] = [
        row for row in report(world)[2]["access"] if "large object" in row["scope"] and row["role"] == "shop_reader"
    ]
    assert row["scope"].startswith("10 large objects")


def test_what_one_database_makes_us_stumble_over_is_unknown_there_and_hides_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.core import access_rows

    world.declare_entries(ENTRIES | {"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    world.apply()
    take_away = access_rows._take_away

    def stumble(ways: Any, access: Access) -> str:
        if access.database.name == "zoo":
            raise KeyError(access.database.name)
        return take_away(ways, access)

    monkeypatch.setattr(access_rows, "_take_away", stumble)
    answer, rows, document, _ = report(world)
    assert [(item["code"], item["database"]) for item in answer["warnings"]] == [("access_unknown", "zoo")]
    assert [(row["capability"], row["expected"]) for row in rows if row["database"] == "zoo"] == [
        ("unknown", "unknown")
    ]
    assert can(rows, "shop_reader")["read"] == "yes"
    assert [each["unknown"] for each in document["databases"] if each["name"] == "zoo"] == [
        "what stands there cannot be read (KeyError)"
    ]


def test_the_reason_is_told_where_the_trail_knows_it(world: World) -> None:
    reasons = {(item["database"], item["role"]): item for item in report(world)[2]["reasons"]}
    assert (reasons["shop", "shop_reader"]["run_id"], reasons["shop", "shop_reader"]["build_id"]) == ("4711", "b-1")


def test_a_database_that_cannot_be_looked_into_is_unknown_and_keeps_no_other_back(world: World) -> None:
    world.declare_entries(ENTRIES | {"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    world.apply()
    world.server.run_as_superuser(f'REVOKE CONNECT ON DATABASE zoo FROM "{world.admin.username}"')
    world.server.run_as_superuser(f'SET ROLE zoo_user; REVOKE CONNECT ON DATABASE zoo FROM "{world.admin.username}"')
    answer, rows, document, html = report(world)
    assert [(item["code"], item["database"]) for item in answer["warnings"]] == [("access_unknown", "zoo")]
    [unknown] = [row for row in rows if row["database"] == "zoo"]
    assert (unknown["role"], unknown["capability"], unknown["expected"]) == ("", "unknown", "unknown")
    assert can(rows, "shop_reader")["read"] == "yes"
    assert [each["name"] for each in document["databases"] if each["unknown"]] == ["zoo"]
    own = list(csv.DictReader(io.StringIO(read(world, answer["audit"]["run"]))))
    assert {row["database"]: row["status"] for row in own if row["action"] == "access"}["zoo"] == "unknown"
    assert "unknown" in html


def test_it_needs_no_secret_but_the_administrators(world: World) -> None:
    world.declare_entries(
        ENTRIES | {"desk2": {"database_name": "shop", "username": "later", "access_level": "reader"}},
        with_secrets=False,
    )
    answer, *_ = report(world)
    assert answer["status"] == "reported"


def test_it_works_beside_a_run_and_says_so(world: World) -> None:
    held = world.server.connect(*world.admin)
    held.run(TAKE_NAME)
    answer, *_ = report(world)
    held.close()
    assert [item["code"] for item in answer["warnings"]] == ["run_under_way"]


def test_what_is_declared_and_not_on_the_server_is_named(world: World) -> None:
    world.declare_entries(ENTRIES | {"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    answer, rows, _, html = report(world)
    assert {row["database"] for row in rows} == {"shop"}
    [warning] = answer["warnings"]
    assert (warning["code"], warning["message"].endswith(": zoo")) == ("access_not_there", True)
    assert "not on the server: zoo" in html
    world.apply()
    assert report(world)[0]["warnings"] == []


def test_a_managed_database_that_is_declared_no_more_is_reported_too(world: World) -> None:
    world.declare_entries({"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    world.apply()
    _, rows, document, _ = report(world)
    assert {each["name"]: (each["declared"], each["managed"]) for each in document["databases"]} == {
        "shop": (False, True),
        "zoo": (True, True),
    }
    assert can(rows, "shop_reader") == can(rows, "shop_reader") | {"read": "no"}


def test_what_ten_thousand_tables_give_is_one_row(world: World) -> None:
    tables = "DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $$"
    world.server.run_as_superuser(f"SET ROLE shop_user; {tables}", "shop")
    _, rows, _, _ = report(world)
    found = [row for row in rows if (row["role"], row["capability"]) == ("shop_reader", "read")]
    [row] = [row for row in found if "table" in row["scope"]]
    assert row["scope"].startswith('301 tables in schema "public", such as items, t1, t10')


def test_the_template_engine_is_loaded_in_this_mode_alone() -> None:
    program = "import sys, provisioner.handler, provisioner.pipeline; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    program = "import sys, provisioner.access; sys.exit('jinja2' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_a_tenant_makes_odd_or_large_breaks_nothing_and_hides_nothing_of_another(world: World) -> None:
    world.declare_entries(ENTRIES | {"zoo": {"database_name": "zoo", "username": "zoo_user"}})
    world.apply()
    odd = '=1+1"><script>alert(1)</script>\n'.replace('"', '""')
    with world.login("zoo_user", "zoo") as tenant:
        tenant.run(f'CREATE SCHEMA "{odd}"')
        tenant.run(f'CREATE TABLE "{odd}"."{odd}" ("{odd}" int)')
        tenant.run(f'GRANT SELECT ON "{odd}"."{odd}" TO PUBLIC')
        tenant.run(f'GRANT SELECT ("{odd}") ON "{odd}"."{odd}" TO PUBLIC')
        tenant.run(f"COMMENT ON DATABASE zoo IS '{'x' * 5_000_000}'")
        tenant.run(
            "DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE format('CREATE SCHEMA n%1$s; CREATE TABLE n%1$s.t (); "
            "GRANT USAGE ON SCHEMA n%1$s TO PUBLIC; GRANT INSERT ON n%1$s.t TO PUBLIC', i); END LOOP; END $$"
        )
        tenant.run("CREATE VIEW v0 AS SELECT 1 AS a")
        tenant.run(
            "DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE format('CREATE VIEW v%s AS SELECT * FROM v%s', i, i - 1); "
            "END LOOP; END $$"
        )
    answer, rows, _, html = report(world)
    assert "<script" not in html
    assert can(rows, "shop_reader") == can(rows, "shop_reader") | {"connect": "yes", "read": "yes"}
    assert all("\n" not in value for row in rows for value in row.values())
    [folded] = [row for row in rows if (row["role"], row["database"], row["capability"]) == ("public", "zoo", "write")]
    assert folded["scope"].startswith("400 tables in 400 schemas (n1, n10, ")
    assert len([row for row in rows if row["database"] == "zoo"]) < 100
    assert answer["status"] == "reported"


class UsedUp:
    """A function whose time is nearly up as soon as somebody has entered a database."""

    aws_request_id = "4713"

    def __init__(self, world: World, database: str) -> None:
        self.has_come = f"authorized: user={world.admin.username} database={database}"
        self.server, self.mark = world.server, world.server.mark()

    def get_remaining_time_in_millis(self) -> int:
        return 40_000 if self.has_come in self.server.log_text(self.mark) else 900_000


@pytest.mark.both_administrators
def test_what_a_tenant_marks_takes_no_time_from_what_is_declared(world: World) -> None:
    """Who may create databases can mark any number, and keep each look into one waiting."""
    world.server.run_as_superuser("ALTER ROLE shop_user CREATEDB")
    with world.login("shop_user", "postgres") as tenant:
        tenant.run("CREATE DATABASE bait")
        tenant.run("""COMMENT ON DATABASE bait IS '{"managed_by": "rds-provisioner", "environment": "dev"}'""")
    world.settings["MAX_WORKERS"] = "1"
    answer, rows, *_ = report(world, context=UsedUp(world, "bait"))
    assert answer["status"] == "reported"
    [warning] = [each for each in answer["warnings"] if each["code"] == "access_unknown"]
    assert (warning["database"], "no time was left" in warning["message"]) == ("bait", True)
    assert can(rows, "shop_reader") == can(rows, "shop_reader") | {"connect": "yes", "read": "yes"}
