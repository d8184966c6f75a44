"""A run is ended before and after every message that it sends, to PostgreSQL and to AWS; the next one must converge.

Every gap between two messages is a point: for a killed process there is nothing else by which the outside could tell
two moments apart. One run is held at each of them, and all is read that a next run could see. Where that is what was to
be seen at the point before, the next run would do the same again; at every other one a run is killed, the next one goes
on, and server and audit are compared with those of an undisturbed run. A run that lives on without its connections has
something to say itself: it is cut off at every point. The points are enumerated, not sampled.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack import binaries, postgres
from stack.aws import Aws
from stack.dump import dump as dump_all
from stack.dump import has_password
from stack.fuse import Fuse, FusedProxy, Moment
from stack.mortal import Call, Mortal, kill
from stack.postgres import Server, give_away
from stack.world import AUDIT, World

SHARED_SECRET = "goldenpath/dev/keycloak/postgres"
BEFORE = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "report": {"database_name": "shop", "username": "reporter", "access_level": "editor"},
}
# Changes a password and an attribute, turns an editor into a reader, creates two roles and two databases of one owner.
AFTER = {
    "shop": {"database_name": "shop", "username": "shop_user", "createdb": True},
    "report": {"database_name": "shop", "username": "reporter", "access_level": "reader"},
    "keycloak": {"database_name": "keycloak", "username": "keycloak_user", "secret_name": SHARED_SECRET},
    "sessions": {"database_name": "sessions", "username": "keycloak_user", "secret_name": SHARED_SECRET},
    "viewer": {"database_name": "keycloak", "username": "viewer", "access_level": "reader"},
}
EVENT = {"environment": "dev", "build_id": "build-1", "run_id": "killed"}
NEXT = {"environment": "dev", "build_id": "build-2", "run_id": "next"}
# Until a client of PostgreSQL may ask something: the request for TLS, two messages of TLS, the start, its proof.
GREETING = 4
# The fewest locks for each session that a server can be set to, which bound what a transaction of ours names.
LOCKS = 10


@dataclass
class Ground:
    """A server whose beginning can be restored, an AWS, and between them and the function the proxies."""

    world: World
    mortal: Mortal
    fuse: Fuse
    proxy: FusedProxy
    aws_proxy: FusedProxy
    saved: Path
    prefix: str = ""
    started: Any = None
    undisturbed: Any = None
    rows: Counter[tuple[str, ...]] = field(default_factory=Counter)
    runs: int = 0
    has_ended: bool = False
    # What is asked, of the run that is ended and of the one that follows; what is said of it in the trail may differ.
    event: dict[str, Any] = field(default_factory=lambda: EVENT)
    next: dict[str, Any] = field(default_factory=lambda: NEXT)
    asked: dict[str, Any] = field(default_factory=dict)
    # Whether what is left to the next run is told in other words, of fewer objects.
    in_parts: bool = False
    before: Callable[[], object] = lambda: None

    @property
    def server(self) -> Server:
        return self.world.server

    @property
    def folder(self) -> str:
        return f"{self.prefix}/{self.world.environment}"

    def restore(self) -> None:
        """The server as it was before the run, and an empty audit."""
        self.server.stop("immediate")
        _copy_what_differs(self.saved, self.server._data)
        self.server.start()
        self.new_audit()

    def new_audit(self) -> None:
        self.runs += 1
        self.prefix = f"governance-{self.runs}"

    def call(self, event: dict[str, Any]) -> Call:
        return self.refuse_secrets(self.mortal.call(event, AUDIT_PREFIX=self.prefix))

    def end_at(self, point: int, moment: Moment, *, by_kill: bool) -> Call:
        """Run until a point and end it there: the process, or all its connections."""
        self.before()
        pid = self.mortal.begin(self.event, AUDIT_PREFIX=self.prefix)
        self.fuse.light(point, moment, (lambda: kill(pid)) if by_kill else self.break_connections)
        call = self.refuse_secrets(self.mortal.go())
        self.has_ended = self.fuse.is_burnt
        self.fuse.put_out()
        return call

    def refuse_secrets(self, call: Call) -> Call:
        """However a run ends, its output holds no password."""
        said = call.output + call.message
        assert not any(password in said for password in (*self.world.passwords.values(), self.world.admin.password))
        return call

    def break_connections(self) -> None:
        self.proxy.drop()
        self.aws_proxy.drop()

    def wait_until_noticed(self) -> None:
        """Until the server has ended the sessions of a client that is gone."""
        deadline = time.monotonic() + 20
        query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{self.world.admin.username}'"
        while self.server.run_as_superuser(query) != [[0]]:
            assert time.monotonic() < deadline, "the server kept a session of a killed run"
            time.sleep(0.005)

    def is_untouched(self) -> bool:
        """Whether the run is as good as never started: it left nothing on the server, and no plan."""
        left = self.world.aws.list_keys(AUDIT, f"{self.folder}/plans/")
        return all("/by-digest/" in key for key in left) and dump(self.server) == self.started

    def successes(self) -> Counter[tuple[str, ...]]:
        """The changes that the trail tells of; what comes after the plan's own words is left away."""
        return _successes(self.world.aws.read_object(AUDIT, f"{self.folder}/rds_provision_audit.csv"))

    def shown(self) -> str:
        """All that the next run could see of this one, but for times and tokens."""
        aws, place = self.world.aws, f"{self.folder}/"
        keys = [key.removeprefix(place) for key in aws.list_keys(AUDIT, place)]
        kinds = sorted((key.rpartition("/")[0], key.rpartition(".")[2]) for key in keys)
        note = aws.read_object(AUDIT, f"{place}open_run.json") == b"{}\n" if "open_run.json" in keys else None
        rows = [sorted(_successes(aws.read_object(AUDIT, place + key)).items()) for key in keys if key.endswith(".csv")]
        right = [has_password(self.server, role, password) for role, password in sorted(self.world.passwords.items())]
        return json.dumps([dump(self.server), right, kinds, note, sorted(rows)], default=str)

    def refuse_to_differ(self, point: str) -> None:
        assert dump(self.server) == self.undisturbed, f"{point}: the server differs from an undisturbed run"
        for role, password in self.world.passwords.items():
            assert has_password(self.server, role, password), f"{point}: {role} has another password than its secret"
        parts = 3 if self.asked or self.in_parts else 4
        missing = {row[:parts] for row in self.rows} - {row[:parts] for row in self.successes()}
        assert not missing, f"{point}: the trail says nothing of {missing}"


def dump(server: Server) -> dict[str, Any]:
    """All that a run can change, but for the moments that a marker holds."""
    text = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "a moment", json.dumps(dump_all(server)))
    return dict(json.loads(text))


def _successes(csv: bytes) -> Counter[tuple[str, ...]]:
    from provisioner.core.audit import read_csv

    return Counter(
        (row.action, row.database, row.username, re.split("; planned by run|; approved as", row.message)[0])
        for row in read_csv(csv)[0]
        if row.status.value == "success"
    )


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A run that creates and changes roles and databases."""
    with _new_ground() as ground:
        _prepare(ground)
        yield ground


@pytest.fixture
def leaving() -> Iterator[Ground]:
    """A run that quarantines one role, which has a session, and retires another."""
    with _new_ground() as ground:
        _prepare_leaving(ground)
        yield ground


@pytest.fixture
def leaving_approved() -> Iterator[Ground]:
    """The same, called by an approval of its plan."""
    with _new_ground("prod") as ground:
        _prepare_leaving(ground)
        yield ground


@pytest.fixture
def leaving_much() -> Iterator[Ground]:
    """A run that retires a role whose own database takes several transactions: the server has few locks."""
    with _new_ground(parameters={"max_locks_per_transaction": "10", "max_connections": "40"}) as ground:
        _prepare_leaving(ground, types=140)
        yield ground


@pytest.fixture
def approved() -> Iterator[Ground]:
    """A run that an approval of its plan has called: it creates roles and databases, and changes one that stands."""
    with _new_ground("prod") as ground:
        _prepare_approved(ground)
        yield ground


@pytest.fixture
def large() -> Iterator[Ground]:
    """A run that names more tables than one transaction may, which the newest server locks one by one."""
    with _new_ground(parameters={"max_locks_per_transaction": str(LOCKS)}) as ground:
        ground.in_parts = True
        world = ground.world
        world.declare_entries(BEFORE)
        _apply(ground)
        with contextlib.closing(world.login("shop_user", "shop")) as shop:
            for number in range(3 * LOCKS - 1):
                shop.run(f"CREATE TABLE t{number} (a int)")
                shop.run(f"GRANT TRUNCATE ON t{number} TO reporter")
                # Lists that all differ, so that each table is named.
                for place, privilege in enumerate(("SELECT", "INSERT", "UPDATE", "DELETE", "REFERENCES")):
                    if number >> place & 1:
                        shop.run(f"GRANT {privilege} ON t{number} TO pg_monitor")
            shop.run("CREATE TABLE plain ()")
        _run_undisturbed(ground)
        yield ground


@contextlib.contextmanager
def _new_ground(environment: str = "dev", parameters: Mapping[str, str] | None = None) -> Iterator[Ground]:
    """One server and one AWS for all points; the server is set back by its files."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(max(binaries.available()), parameters=parameters))
        aws = stack.enter_context(Aws())
        world = stack.enter_context(World(server, aws, server.create_delegated_admin(), environment))
        fuse = Fuse()
        proxy = stack.enter_context(FusedProxy(server.port, fuse, greeting=GREETING))
        aws_proxy = stack.enter_context(FusedProxy(int(aws.endpoint_url.rpartition(":")[2]), fuse))
        settings = aws.environment(f"http://localhost:{aws_proxy.port}") | world.settings
        # One worker, so that the order of messages is the same each time.
        settings |= {"MAX_WORKERS": "1", "POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner"}
        mortal = stack.enter_context(Mortal(settings))
        aws.put_secret(f"goldenpath/{environment}/rds/master", server.admin_secret(world.admin) | {"port": proxy.port})
        saved = Path(tempfile.mkdtemp(prefix="pg-saved-", dir=postgres.data_parent))
        stack.callback(shutil.rmtree, saved)
        yield Ground(world, mortal, fuse, proxy, aws_proxy, saved / "data")


def _prepare(ground: Ground) -> None:
    world = ground.world
    world.declare_entries(BEFORE)
    assert ground.call({"environment": "dev"}).answer["status"] == "applied"  # type: ignore[index]
    with contextlib.closing(world.login("shop_user", "shop")) as shop:
        shop.run("CREATE TABLE customer (id int); CREATE SEQUENCE number")
    world.put_secret("shop", "shop_user", "shop")
    for application in ("keycloak", "viewer"):
        world.put_secret(application, AFTER[application]["username"], "keycloak")  # type: ignore[arg-type]
    aws_secret = {"username": "keycloak_user", "password": world.passwords["keycloak_user"]}
    world.aws.put_secret(SHARED_SECRET, aws_secret)
    world.declare_entries(AFTER)
    _run_undisturbed(ground)
    assert {row[0] for row in ground.rows} >= {
        "create_role", "set_password", "alter_role", "create_database", "grant", "grant_default", "revoke"
    }  # fmt: skip


def _prepare_leaving(ground: Ground, types: int = 0) -> None:
    """What leaves owns a database, a table in another one's, and holds privileges and default privileges there."""
    world = ground.world
    both = {"secret_name": SHARED_SECRET.replace("dev", world.environment)}
    world.passwords["leaver"] = "secret of leaver"
    world.aws.put_secret(both["secret_name"], {"username": "leaver", "password": "secret of leaver"})
    own = {"database_name": "old", "username": "leaver"} | both
    there = {"database_name": "shop", "username": "leaver", "access_level": "editor"} | both
    world.declare_entries(BEFORE | {"old": own, "there": there})
    _apply(ground)
    ground.server.run_as_superuser("GRANT CREATE ON SCHEMA public TO leaver", "shop")
    for database in ("old", "shop"):
        with contextlib.closing(world.login("leaver", database)) as session:
            session.run("CREATE TABLE job (id serial PRIMARY KEY)")
            session.run("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    with contextlib.closing(world.login("leaver", "old")) as session:
        for number in range(types):
            session.run(f"CREATE TYPE kind{number} AS ENUM ()")
    world.declare_entries({"shop": BEFORE["shop"]})
    _apply(ground, quarantine=["leaver"])
    marker = {"managed_by": "rds-provisioner", "environment": world.environment, "quarantined": "2020-02-29T00:00:00Z"}
    ground.server.run_as_superuser(f"COMMENT ON ROLE leaver IS '{json.dumps(marker)}'")
    del world.passwords["leaver"]
    ground.asked = {"quarantine": ["reporter"], "retire": ["leaver"]}
    ground.event = EVENT | ground.asked
    ground.before = lambda: world.login("reporter", "shop")
    ground.before()
    if world.environment != "dev":
        _call_by_approval(ground)
    _run_undisturbed(ground)
    assert {row[0] for row in ground.rows} >= {"quarantine_role", "keep_database", "pass_objects", "drop_role"}


def _apply(ground: Ground, **asked: Any) -> None:
    world, event = ground.world, {"environment": "dev"} | asked
    if world.environment != "dev":
        event = _event_of(world.approve(world.dry_run(**asked)["plan_digest"]))
    assert world.call(event)["status"] == "applied"


def _prepare_approved(ground: Ground) -> None:
    world = ground.world
    world.declare_entries(BEFORE)
    _apply(ground)
    with contextlib.closing(world.login("shop_user", "shop")) as shop:
        shop.run("CREATE TABLE customer (id int); CREATE SEQUENCE number")
    world.put_secret("viewer", "viewer", "keycloak")
    secret = SHARED_SECRET.replace("dev", "prod")
    world.passwords["keycloak_user"] = "secret of keycloak"
    world.aws.put_secret(secret, {"username": "keycloak_user", "password": "secret of keycloak"})
    shared = {"username": "keycloak_user", "secret_name": secret}
    of_sessions = {"database_name": "sessions", "extensions": ["citext"]} | shared
    world.declare_entries(AFTER | {"keycloak": {"database_name": "keycloak"} | shared, "sessions": of_sessions})
    _call_by_approval(ground)
    _run_undisturbed(ground)
    assert {row[0] for row in ground.rows} >= {"create_role", "create_database", "create_extension", "revoke"}


def _call_by_approval(ground: Ground) -> None:
    """Have each run called by the approval of what is planned now, as S3's event: the first run and the next one.

    Each run has an audit of its own, so the plan that was read and its approval are put there anew.
    """
    world, s3, before = ground.world, ground.world.aws.client("s3"), ground.before
    digest = world.dry_run(**ground.asked)["plan_digest"]
    read = world.aws.list_keys(AUDIT, f"governance/prod/plans/by-digest/{digest.removeprefix('sha256:')}/")
    read.append(world.approve(digest))

    def approve() -> None:
        before()
        for key in read:
            there = ground.folder + key.removeprefix("governance/prod")
            s3.copy_object(Bucket=AUDIT, Key=there, CopySource={"Bucket": AUDIT, "Key": key})
        ground.event = ground.next = _event_of(there)

    ground.before = approve


def _event_of(approval: str) -> dict[str, Any]:
    """What EventBridge says of an approval that was put."""
    detail = {"bucket": {"name": AUDIT}, "object": {"key": approval, "version-id": "v"}}
    return {"id": "event", "source": "aws.s3", "detail-type": "Object Created", "detail": detail}


def _run_undisturbed(ground: Ground) -> None:
    """Save the beginning and let a run through: what every other one is compared with."""
    ground.server.stop()
    shutil.copytree(ground.server._data, ground.saved, symlinks=True)
    ground.server.start()
    ground.started = dump(ground.server)
    ground.new_audit()
    ground.before()
    call = ground.call(ground.event)
    assert call.answer, f"the undisturbed run failed: {call.message}"
    assert call.answer["status"] == "applied"
    ground.undisturbed, ground.rows = dump(ground.server), ground.successes()
    again = ground.call(ground.next).answer
    assert again, "the run after the undisturbed one failed"
    assert again["status"] == "no_change"
    assert dump(ground.server) == ground.undisturbed


def _copy_what_differs(source: Path, target: Path) -> None:
    """Make one folder like another; files of one size and time are taken to be the same."""
    wanted, there = _looks(source), _looks(target)
    for name in sorted(there.keys() - wanted.keys(), reverse=True):
        (target / name).unlink() if there[name] else (target / name).rmdir()
    for name in sorted(name for name in wanted if name not in there or there[name] != wanted[name]):
        if wanted[name]:
            shutil.copy2(source / name, target / name)
        else:
            (target / name).mkdir()
        give_away(target / name)


def _looks(folder: Path) -> dict[str, tuple[int, int] | None]:
    """All that lies below a folder, by its path there: the size and time of a file."""
    found: dict[str, tuple[int, int] | None] = {}
    places = [""]
    for place in places:
        for entry in os.scandir(folder / place):
            name, facts = place + entry.name, entry.stat()
            found[name] = None if entry.is_dir() else (facts.st_size, facts.st_mtime_ns)
            if entry.is_dir():
                places.append(f"{name}/")
    return found


@dataclass
class Points:
    """What an enumeration found: how many points, how many after the first write, and those at which something new
    was to be seen from outside.
    """

    count: int = 0
    changed: int = 0
    new: list[int] = field(default_factory=list)
    shown: str = ""

    def add(self, point: int, ground: Ground) -> bool:
        """Count a point, as new where the one before showed something else; whether the run has left anything."""
        self.count = point
        if ground.is_untouched():
            return False
        self.changed += 1
        if (now := ground.shown()) != self.shown:
            self.new.append(point)
        self.shown = now
        return True

    def tell(self, told: Callable[[str], None], how: str) -> None:
        told(f"{how} at {self.count} points, {self.changed} after the first write, {len(self.new)} states")


def _hold_at_each_answer(ground: Ground, see: Callable[[int], None]) -> None:
    """Let a run through that stands still, at each answer to its messages, while somebody looks."""
    failed: list[Exception] = []

    def look(point: int) -> None:
        # In a thread of the proxy's, where nobody would hear of it.
        try:
            see(point)
        except Exception as error:  # noqa: BLE001 - raised where the test stands
            failed.append(error)

    ground.restore()
    ground.before()
    ground.fuse.watch(look)
    call = ground.call(ground.event)
    ground.fuse.put_out()
    if failed:
        raise failed[0]
    assert call.answer, f"a run that nothing disturbed failed: {call.error}: {call.message}"
    ground.restore()


def _kill_at_each(ground: Ground, look: Callable[[], object] = lambda: None) -> Points:
    """Kill a run wherever the outside is another than a message before, and let the next run follow.

    Two sessions may work at once, so a run that is killed at a point may have come further there or less far than the
    one that was held: whatever it left, the next one goes on from it.
    """
    points, killed = Points(), []

    def see(point: int) -> None:
        if points.add(point, ground):
            look()

    _hold_at_each_answer(ground, see)
    for point in points.new:
        if ground.end_at(point, "answered", by_kill=True).killed:
            killed.append(point)
        ground.wait_until_noticed()
        _follow(ground, f"message {point}")
        ground.restore()
    points.new = killed
    return points


def _cut_off_anywhere(ground: Ground) -> Points:
    """Break a run's connections when its nth message is answered, for every n, and let the next run follow.

    Where all that the next run could see is what was to be seen at the point before, it would do the same again: there
    it follows once.
    """
    ground.restore()
    points = Points()
    while True:
        point = points.count + 1
        call = ground.end_at(point, "answered", by_kill=False)
        if not ground.has_ended:
            assert call.answer, f"a run that nothing disturbed failed: {call.error}: {call.message}"
            ground.restore()
            return points
        ground.wait_until_noticed()
        if not points.add(point, ground):
            continue
        if point in points.new:
            _follow(ground, f"message {point}")
        ground.restore()


def _follow(ground: Ground, place: str) -> None:
    following = ground.call(ground.next | ground.asked)
    if ground.asked and following.error == "InvalidRequest":
        # The role is gone already, and its name unknown.
        following = ground.call(ground.next)
    assert following.answer, f"{place}: {following.error}: {following.message}"
    ground.wait_until_noticed()
    ground.refuse_to_differ(place)


def test_killed_after_any_message_is_answered_the_next_run_converges(
    ground: Ground, tell: Callable[[str], None]
) -> None:
    points = _kill_at_each(ground)
    # Plan and Markdown, note, roles, three databases of which two are created, rows, trail, note. Two sessions work at
    # once: 8 to 19 states were met, and all but the databases come one after the other.
    assert len(points.new) >= 7
    points.tell(tell, "killed")


def test_killed_while_roles_leave_the_next_run_goes_on(leaving: Ground, tell: Callable[[str], None]) -> None:
    points = _kill_at_each(leaving)
    # Plan and Markdown, note, NOLOGIN, the database, what is in each of two, the role, rows, trail, note.
    assert len(points.new) >= 9
    points.tell(tell, "killed")


def test_killed_between_the_parts_of_a_large_database_the_next_run_goes_on(
    leaving_much: Ground, tell: Callable[[str], None]
) -> None:
    """Where nobody else can enter it may be half done; in the database of another it is whole or not at all."""
    ground = leaving_much
    passed: set[int] = set()
    ground.aws_proxy.is_counted = False

    def look() -> None:
        sql = "SELECT count(*) FROM pg_type WHERE typname LIKE 'kind%' AND pg_get_userbyid(typowner) <> 'leaver'"
        passed.add(ground.server.run_as_superuser(sql, "old")[0][0])
        theirs = "SELECT count(DISTINCT relowner) FROM pg_class WHERE relname IN ('job', 'job_id_seq')"
        assert ground.server.run_as_superuser(theirs, "shop") == [[1]]

    points = _kill_at_each(ground, look)
    assert len(passed) >= 4, passed
    points.tell(tell, "killed")


def test_killed_between_the_transactions_of_a_large_change_the_next_run_goes_on(
    large: Ground, tell: Callable[[str], None]
) -> None:
    large.aws_proxy.is_counted = False
    points = _kill_at_each(large)
    assert len(points.new) >= 3
    points.tell(tell, "killed")


def test_killed_under_an_approval_the_next_run_goes_on_under_the_same_one(
    approved: Ground, tell: Callable[[str], None]
) -> None:
    # What S3 is told is the same without an approval, where every message to it is a point.
    approved.aws_proxy.is_counted = False
    points = _kill_at_each(approved)
    # Roles, two creations and three databases; two sessions work at once, so not always the same states are met.
    assert len(points.new) >= 7
    points.tell(tell, "killed")


def test_killed_while_roles_leave_under_an_approval_the_next_run_goes_on_under_the_same_one(
    leaving_approved: Ground, tell: Callable[[str], None]
) -> None:
    leaving_approved.aws_proxy.is_counted = False
    points = _kill_at_each(leaving_approved)
    assert len(points.new) >= 4
    points.tell(tell, "killed")


def test_killed_while_the_server_works_under_an_approval_a_run_that_begins_at_once_goes_on_under_it(
    approved: Ground, tell: Callable[[str], None]
) -> None:
    approved.aws_proxy.is_counted = False
    changing = _enumerate_changes(approved)
    for point in changing:
        assert approved.end_at(point, "delivered", by_kill=True).killed
        _follow(approved, f"while message {point} is carried out")
        approved.restore()
    tell(f"followed at once at {len(changing)} points")


def test_a_connection_lost_while_roles_leave_is_made_good(leaving: Ground, tell: Callable[[str], None]) -> None:
    leaving.aws_proxy.is_counted = False
    points = _cut_off_anywhere(leaving)
    assert len(points.new) >= 4
    points.tell(tell, "cut off")


def test_a_connection_lost_with_any_answer_is_made_good_by_the_next_run(
    ground: Ground, tell: Callable[[str], None]
) -> None:
    """The process lives on and has to judge what it cannot know: whether the last message was carried out."""
    ground.aws_proxy.is_counted = False
    points = _cut_off_anywhere(ground)
    # Roles, and three databases of which two are created; the first of them may go with the roles.
    assert len(points.new) >= 5
    points.tell(tell, "cut off")


def test_killed_while_the_server_works_a_run_that_begins_at_once_converges(
    ground: Ground, tell: Callable[[str], None]
) -> None:
    """The server does not know yet that its client is gone, and may still be creating a database for it."""
    ground.aws_proxy.is_counted = False
    changing = _enumerate_changes(ground)
    for point in changing:
        assert ground.end_at(point, "delivered", by_kill=True).killed
        _follow(ground, f"while message {point} is carried out")
        ground.restore()
    tell(f"followed at once at {len(changing)} points")


def _enumerate_changes(ground: Ground) -> list[int]:
    """The messages after which the server itself shows something that it did not show before them."""
    before, changing = ground.started, []

    def see(point: int) -> None:
        nonlocal before
        if (now := dump(ground.server)) != before:
            changing.append(point)
        before = now

    _hold_at_each_answer(ground, see)
    return changing
