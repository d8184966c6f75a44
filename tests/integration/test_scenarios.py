"""Takes each folder of `scenarios/` through plan, apply, proof and a second run: a new case needs no Python.

The files of a scenario are described in `scenarios/README.md`.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import PlanBlocked
from provisioner.core.model import Entry
from provisioner.core.snapshot import parse_snapshot
from stack.access import attempts_in, expected, try_all, written_rows
from stack.aws import Aws
from stack.postgres import Login, Server, make_verifier
from stack.world import World

FOLDERS = sorted(path.parent for path in (Path(__file__).parent / "scenarios").glob("*/terraform.tfvars"))
SECTION = re.compile(r"^-- in database (\S+)(?: as (\S+))?\s*$", re.MULTILINE)
OUTSIDER = Login("outsider", "secret of outsider")


@dataclass
class Scenario:
    """One folder, on one server, for one administrator."""

    folder: Path
    world: World

    @property
    def server(self) -> Server:
        return self.world.server

    def read(self, name: str) -> str:
        """A file's text with `{administrator}` filled in; empty where there is none."""
        path = self.folder / name
        return path.read_text().replace("{administrator}", self.world.admin.username) if path.exists() else ""

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.read("event.json") or "{}")

    @property
    def entries(self) -> tuple[Entry, ...]:
        declaration, _ = parse_snapshot(self.read("terraform.tfvars").encode(), "terraform.tfvars", environment="dev")
        return declaration.entries

    def run_sql(self, name: str) -> None:
        """Run a file's sections, each as the role that its heading names, or as the superuser."""
        _, *parts = SECTION.split(self.read(name))
        for database, role, sql in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            with contextlib.closing(self.server.superuser(database)) as connection:
                if role:
                    connection.run(f'SET SESSION AUTHORIZATION "{role}"')
                # One by one: CREATE DATABASE refuses company.
                for statement in re.split(r";[ \t]*(?:\n|$)", sql):
                    connection.run(statement)

    def follow_the_plan(self, plan_text: str) -> None:
        """Run `remedy.sql`, which must be what the plan itself says."""
        _, *parts = SECTION.split(self.read("remedy.sql"))
        told = [each.strip() for sql in parts[2::3] for each in sql.split(";") if each.strip()]
        assert told
        assert [each for each in told if each not in plan_text] == []
        self.run_sql("remedy.sql")

    def declare(self, name: str) -> None:
        """Put a snapshot, and a secret for each of its roles."""
        text = self.read(name)
        declaration, _ = parse_snapshot(text.encode(), "terraform.tfvars", environment="dev")
        for entry in declaration.entries:
            password = f"secret of {entry.username}"
            if entry.secret_name:
                self.world.aws.put_secret(entry.secret_name, {"username": entry.username, "password": password})
            else:
                self.world.put_secret(entry.application, entry.username, entry.database, password=password)
        self.world.declare(text)

    def expected_plan(self) -> str:
        """`plan.txt`, or the one for this version: `plan.pg13-14.txt`."""
        for path in self.folder.glob("plan.pg*-*.txt"):
            first, last = (int(number) for number in re.findall(r"\d+", path.name))
            if first <= self.server.version <= last:
                return path.read_text()
        return (self.folder / "plan.txt").read_text()

    def plan(self, text: str) -> str:
        """The plan's text with the administrator's name, as wide as it is, taken out."""
        name = self.world.admin.username
        return text.replace(f"{name:<24} ", f"{'{administrator}':<24} ").replace(name, "{administrator}") + "\n"

    def prepare(self) -> None:
        """Bring the server to where the scenario begins."""
        self.server.run_as_superuser(f"CREATE ROLE outsider LOGIN PASSWORD '{make_verifier(OUTSIDER.password)}'")
        self.run_sql("before.sql")
        drift = self.read("drift.sql")
        earlier = "before.tfvars" if self.read("before.tfvars") else "terraform.tfvars"
        if drift or earlier == "before.tfvars":
            self.declare(earlier)
            self.world.apply(**json.loads(self.read("before.json") or "{}"))
            self.run_sql("drift.sql")
        self.declare("terraform.tfvars")

    def misjudged(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Who may do in which database what should not be, or may not what should: empty is right."""
        found = {}
        roles = {entry.username: Login(entry.username, f"secret of {entry.username}") for entry in self.entries}
        for database in sorted({entry.database for entry in self.entries}):
            levels = {entry.username: entry.access_level.value for entry in self.entries if entry.database == database}
            attempts = attempts_in(self.server, database)
            for login in (*roles.values(), OUTSIDER):
                wanted = expected(levels.get(login.username, ""), attempts)
                if self.is_open(database, answer) and wanted:
                    wanted.add("create in public")
                wanted = self.adjusted(database, login.username, wanted)
                may = try_all(self.server, login, database, attempts)
                if may != wanted:
                    found[database, login.username] = {"may": may - wanted, "may not": wanted - may}
        return found

    def is_open(self, database: str, answer: dict[str, Any]) -> bool:
        """Whether the plan said that everybody can create in `public` and that this is out of reach (13 and 14)."""
        return any(item["code"] == "public_can_create" and item["database"] == database for item in answer["warnings"])

    def adjusted(self, database: str, role: str, wanted: set[str]) -> set[str]:
        """With the exceptions of `access.txt`: `database role may|may not what`."""
        for line in self.read("access.txt").splitlines():
            where, who, verb, what = re.fullmatch(r"(\S+) (\S+) (may not|may) (.*)", line).groups()  # type: ignore[union-attr]
            if (where, who) == (database, role):
                wanted = set() if what == "connect" else wanted - {what} if verb == "may not" else wanted | {what}
        return wanted

    def make_new_objects(self) -> None:
        """What the owner of each database creates after the run, in `public` and in a schema of its own."""
        for entry in self.entries:
            may = self.adjusted(entry.database, entry.username, {"connect", "create in public"})
            if entry.access_level == "owner" and may:
                login = Login(entry.username, f"secret of {entry.username}")
                with contextlib.closing(self.server.connect(*login, entry.database)) as connection:
                    connection.run("CREATE SCHEMA later; CREATE VIEW later.seen_later AS SELECT 1 AS id")
                    for schema in ("later", "public") if "create in public" in may else ("later",):
                        connection.run(f"CREATE TABLE {schema}.made_later (id int)")
                        connection.run(f"CREATE SEQUENCE {schema}.counted_later")

    @contextlib.contextmanager
    def nothing_is_written(self) -> Iterator[None]:
        """Hold the body to writing nothing: by the statements in the server's log and the versions of its rows."""
        rows, mark = written_rows(self.server), self.server.mark()
        yield
        statements = self.server.log_statements(mark, user=self.world.admin.username)
        assert statements
        assert [each.statement for each in statements if not re.match(r"\s*(SELECT|WITH)\b", each.statement)] == []
        assert written_rows(self.server) == rows


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def scenario(folder: Path, pg_server: Server, admin: Login, aws: Aws) -> Iterator[Scenario]:
    with World(pg_server, aws, admin) as world:
        yield Scenario(folder, world)


@pytest.mark.both_administrators
def test_scenario(scenario: Scenario) -> None:
    scenario.prepare()
    world = scenario.world
    with scenario.nothing_is_written():
        planned = world.dry_run(**scenario.event)
    assert scenario.plan(planned["plan_text"]) == scenario.expected_plan()
    if planned["blockers"]:
        with scenario.nothing_is_written(), pytest.raises(PlanBlocked):
            world.apply(**scenario.event)
        if not (scenario.folder / "remedy.sql").exists():
            return
        scenario.follow_the_plan(planned["plan_text"])
        planned = world.dry_run(**scenario.event)
        assert planned["blockers"] == []
    apply_and_prove(scenario, planned)


def apply_and_prove(scenario: Scenario, planned: dict[str, Any]) -> None:
    world = scenario.world
    applied = world.apply(**scenario.event)
    assert applied["status"] == ("applied" if planned["changes"] else "no_change")
    assert applied["plan_digest"] == planned["plan_digest"]
    scenario.make_new_objects()
    assert scenario.misjudged(applied) == {}
    for call, status in repeated(world):
        with scenario.nothing_is_written():
            answer = call()
        assert (answer["status"], answer["changes"]) == (status, []), answer["plan_text"]


def repeated(world: World) -> tuple[tuple[Callable[[], dict[str, Any]], str], ...]:
    """The runs that must find nothing left to do, without what was adopted being named again."""
    return (world.drift, "in_sync"), (world.apply, "no_change")
