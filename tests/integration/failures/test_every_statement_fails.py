"""Whatever a run says or asks for one role or database may fail: that one is named, and all others are served.

The statements and logins are those of a run that was watched, so one that is added is tried too.
"""

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.errors import ProvisioningError
from stack.aws import Aws
from stack.faults import Faults, Step, Unit
from stack.postgres import Server
from stack.world import AUDIT, World

# One that stands and gets a reader and another password, and two that are new.
BLOG = {"blog": {"database_name": "blog", "username": "blog_user"}}
NEW = {
    "blog-read": {"database_name": "blog", "username": "blog_reader", "access_level": "reader"},
    "shop": {"database_name": "shop", "username": "shop_user"},
    "bank": {"database_name": "bank", "username": "bank_user"},
}
ENTRIES = BLOG | NEW
OWNERS = {"blog": "blog_user", "shop": "shop_user", "bank": "bank_user"}
UNITS = {Unit("role", entry["username"]) for entry in ENTRIES.values()} | {Unit("database", name) for name in OWNERS}

# What a login is told to differ from any password; it is well formed and of nothing.
ANOTHER = "SCRAM-SHA-256$4096:" + "A" * 22 + "==$" + "A" * 43 + "=:" + "A" * 43 + "="
# The second of the new ones, which comes after the first on the same connection, has its counterpart here.
TRIED = sorted(unit for unit in UNITS if "shop" not in unit.name)

# What is said for all units at once, by how it begins, and why it is no unit's.
SHARED = {
    "login platform_admin postgres": "the administrator's way in: without it nothing can be done",
    "SET ": "the session's own settings",
    "SELECT FROM set_config(": "the session's own settings",
    "SELECT a.pid": "the run lock",
    "SELECT pg_stat_clear_snapshot": "the run lock",
    "SELECT other.pid": "the run lock",
    "SELECT count(pg_terminate_backend": "the run lock",
    "SELECT FROM (SELECT FROM pg_stat_activity": "whether the run still holds its lock",
    "WITH me AS": "the shared catalogs: what a tenant can write there is bounded in the question",
    "BEGIN": "the one transaction of all roles; what is in it is tried role by role",
    "COMMIT": "the one transaction of all roles",
}


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    """One application stands; its role has another password than its secret, and the rest is declared as well."""
    with World(latest_server, aws, latest_server.master, settings={"MAX_WORKERS": "1"}) as world:
        world.declare_entries(BLOG)
        world.apply()
        world.declare_entries(ENTRIES)
        yield world


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch, UNITS)


def start_again(world: World) -> None:
    """As it was before any run of the test."""
    with contextlib.closing(world.server.superuser("blog")) as blog:
        if blog.run("SELECT FROM pg_roles WHERE rolname = 'blog_reader'"):
            blog.run("DROP OWNED BY blog_reader")
        blog.run(f"ALTER ROLE blog_user PASSWORD '{ANOTHER}'")
        blog.run("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        blog.run("DROP DATABASE IF EXISTS bank WITH (FORCE)")
        blog.run("DROP ROLE IF EXISTS blog_reader, shop_user, bank_user")


def steps_of_a_run(world: World, faults: Faults) -> list[Step]:
    start_again(world)
    faults.begin()
    assert world.apply()["status"] == "applied"
    return list(faults.steps)


def named_in(world: World, **asked: Any) -> tuple[str, set[Unit]]:
    """Run, and say how it ended and which units are named as failed, or as what could not be known."""
    try:
        answer = world.apply(**asked)
    except ProvisioningError as error:
        found = [(each.database, each.username) for each in error.findings]
        ended = type(error).__name__
    else:
        found = [(each["database"], each["username"]) for each in answer["warnings"]]
        ended = str(answer["status"])
    return ended, {Unit("database", name) for name, _ in found} | {Unit("role", name) for _, name in found}


def served(world: World) -> set[Unit]:
    """The units that are as declared."""
    roles = f"""SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword <> '{ANOTHER}'
        AND shobj_description(oid, 'pg_authid') LIKE '%rds-provisioner%'"""
    databases = """SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datallowconn
        AND NOT has_database_privilege('public', oid, 'CONNECT')
        AND shobj_description(oid, 'pg_database') LIKE '%rds-provisioner%'"""
    with contextlib.closing(world.server.superuser("blog")) as server:
        found = {Unit("role", name) for (name,) in server.run(roles)}
        return found | {Unit("database", name) for name, owner in server.run(databases) if OWNERS.get(name) == owner}


def is_reader_served(world: World) -> bool:
    query = "SELECT has_database_privilege('blog_reader', 'blog', 'CONNECT')"
    return bool(world.server.run_as_superuser(query) == [[True]])


def units_that_wait_for(step: Step) -> set[Unit]:
    """A role that is not there has no database."""
    if step.unit is None or step.is_login or step.unit.kind == "database":
        return set()
    return {Unit("database", name) for name, owner in OWNERS.items() if owner == step.unit.name and name != "blog"}


@pytest.mark.parametrize("unit", TRIED, ids=lambda unit: f"{unit.kind} {unit.name}")
def test_whatever_fails_for_one_is_named_and_all_others_are_served(world: World, faults: Faults, unit: Unit) -> None:
    steps = [step for step in steps_of_a_run(world, faults) if step.unit == unit]
    assert steps
    wrong = []
    for step, kind in [(each, kind) for each in steps for kind in kinds_of(each)]:
        start_again(world)
        faults.begin(step, kind)
        ended, named = named_in(world)
        faults.begin()
        others = UNITS - {unit} - units_that_wait_for(step)
        left = sorted(other.name for other in others - served(world))
        if unit not in {Unit("database", "blog"), Unit("role", "blog_reader")} and not is_reader_served(world):
            left.append("what blog_reader is granted")
        if left or (unit not in named and not asks_elsewhere(step, kind)) or named & others:
            wrong.append((step.text, step.number, kind, ended, sorted(each.name for each in named), left))
    assert wrong == []


def asks_elsewhere(step: Step, kind: str) -> bool:
    """A role that does not get into its database is asked without one, so that nothing is left to be named."""
    return step.text == "login  blog" and step.unit == Unit("role", "blog_user") and kind == "lost"


def kinds_of(step: Step) -> list[str]:
    """A refusal of each statement and login; the loss of each connection that is the unit's own; a mistake of ours."""
    if step.is_login:
        return ["42501", "lost"]
    if step.unit and step.unit.kind == "role":
        return ["42501", "mistake"]
    return ["42501", "lost", "mistake"] if step.is_first else ["42501"]


def test_what_is_asked_for_all_at_once_is_little_and_has_a_reason(world: World, faults: Faults) -> None:
    shared = [step.text.strip() for step in steps_of_a_run(world, faults) if step.unit is None]
    assert [text for text in shared if not text.startswith(tuple(SHARED))] == []
    assert [beginning for beginning in SHARED if not any(text.startswith(beginning) for text in shared)] == []


# --- a report of access ---------------------------------------------------------------------------------------------


def databases_of_report(world: World) -> tuple[set[str], set[str]]:
    """Of a new report: the databases that are unknown, and those that it has rows of."""
    answer = world.call(mode="access")
    key = answer["audit"]["access_csv"].removeprefix(f"s3://{AUDIT}/")
    rows = csv.DictReader(io.StringIO(world.aws.read_object(AUDIT, key).decode()))
    unknown = {item["database"] for item in answer["warnings"] if item["code"] == "access_unknown"}
    return unknown, {row["database"] for row in rows if row["capability"] != "unknown"}


def test_whatever_fails_for_one_database_the_report_has_all_others(world: World, faults: Faults) -> None:
    world.apply()
    faults.begin()
    assert databases_of_report(world) == (set(), set(OWNERS))
    steps = [step for step in faults.steps if step.unit == Unit("database", "blog")]
    assert steps
    for step, kind in [(each, kind) for each in steps for kind in kinds_of(each)]:
        faults.begin(step, kind)
        assert databases_of_report(world) == ({"blog"}, set(OWNERS) - {"blog"}), (step, kind)


# --- roles that leave -----------------------------------------------------------------------------------------------

STAYING = BLOG | {"shop": NEW["shop"]}
ASKED = {"quarantine": ["tired"], "retire": ["leaver", "guest"]}
# The databases in which who leaves has something.
HELD = {"old": "leaver", "blog": "leaver", "shop": "guest"}
LEAVING_UNITS = {Unit("role", name) for name in ("leaver", "guest", "tired", "blog_user")} | {
    Unit("database", name) for name in HELD
}
# The other one of two that are retired has its counterpart here, and what else drifts is tried above.
LEAVING_TRIED = sorted(unit for unit in LEAVING_UNITS if unit.name not in {"guest", "shop", "blog_user"})
LEAVING_MARKER = json.dumps(
    {"managed_by": "rds-provisioner", "environment": "dev", "quarantined": "2020-02-29T00:00:00Z"}
)
MARKER = json.dumps({"managed_by": "rds-provisioner", "environment": "dev"})


@pytest.fixture
def leaving(latest_server: Server, aws: Aws) -> Iterator[World]:
    with World(latest_server, aws, latest_server.master, settings={"MAX_WORKERS": "1"}) as world:
        world.declare_entries(STAYING)
        world.apply()
        yield world


def let_leave_again(world: World) -> None:
    """Two roles that may be retired, of which one owns a database, one that is to be quarantined, and another drift."""
    for database in ("blog", "shop"):
        with contextlib.closing(world.server.superuser(database)) as inside:
            inside.run("DROP TABLE IF EXISTS job")
            for role in inside.run("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('leaver', 'guest')"):
                inside.run(f"DROP OWNED BY {role[0]}")
    with contextlib.closing(world.server.superuser()) as server:
        server.run("DROP DATABASE IF EXISTS old WITH (FORCE)")
        server.run("DROP ROLE IF EXISTS leaver, guest, tired")
        server.run(f"SET ROLE {world.admin.username}")
        server.run("CREATE ROLE leaver; CREATE ROLE guest; CREATE ROLE tired LOGIN")
        server.run(f"COMMENT ON ROLE leaver IS '{LEAVING_MARKER}'; COMMENT ON ROLE guest IS '{LEAVING_MARKER}'")
        server.run(f"COMMENT ON ROLE tired IS '{MARKER}'; RESET ROLE")
        server.run("CREATE DATABASE old OWNER leaver")
        server.run(f"COMMENT ON DATABASE old IS '{MARKER}'; ALTER ROLE blog_user PASSWORD '{ANOTHER}'")
    world.server.run_as_superuser("CREATE TABLE job (id int); ALTER TABLE job OWNER TO leaver", "blog")
    world.server.run_as_superuser("GRANT CREATE ON SCHEMA public TO guest", "shop")


def has_left(world: World) -> set[str]:
    """The roles of which all is done that was asked."""
    waiting = f"""SELECT rolname FROM pg_authid WHERE rolname IN ('leaver', 'guest')
        OR rolname = 'tired' AND rolcanlogin OR rolname = 'blog_user' AND rolpassword = '{ANOTHER}'"""
    found = {name for (name,) in world.server.run_as_superuser(waiting)}
    return {unit.name for unit in LEAVING_UNITS if unit.kind == "role"} - found


@pytest.mark.parametrize("unit", LEAVING_TRIED, ids=lambda unit: f"{unit.kind} {unit.name}")
def test_whatever_fails_for_who_leaves_is_named_and_all_others_are_served(
    leaving: World, monkeypatch: pytest.MonkeyPatch, unit: Unit
) -> None:
    world, faults, everybody = leaving, Faults(monkeypatch, LEAVING_UNITS), set(HELD.values()) | {"tired", "blog_user"}
    let_leave_again(world)
    faults.begin()
    assert world.apply(**ASKED)["status"] == "applied"
    assert has_left(world) == everybody
    steps = [step for step in faults.steps if step.unit == unit]
    assert steps
    concerned = {HELD.get(unit.name, unit.name)}
    wrong = []
    for step in steps:
        let_leave_again(world)
        faults.begin(step, "42501")
        ended, named = named_in(world, **ASKED)
        faults.begin()
        left = sorted(everybody - concerned - has_left(world))
        is_named = bool({each.name for each in named} & (concerned | {unit.name}))
        if left or not is_named:
            wrong.append((step.text, step.number, ended, sorted(each.name for each in named), left))
    assert wrong == []
