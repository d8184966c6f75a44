"""Two runs of one environment, in two processes: one works, the other waits or says so, and the trail has both."""

import contextlib
import itertools
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stack.fuse import Fuse, FusedProxy
from stack.held import PLAN, wait_until
from stack.mortal import Call, Mortal
from stack.world import AUDIT, World

SHOP = {"shop": {"database_name": "shop", "username": "shop_user"}}
BLOG = {"blog": {"database_name": "blog", "username": "blog_user"}}
WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'rds-provisioner waiting'"


@pytest.fixture
def runs(world: World) -> Iterator[tuple[Mortal, Mortal]]:
    environment = world.aws.environment() | world.settings | {"POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner"}
    with Mortal(environment) as first, Mortal(environment) as second:
        yield first, second


class Begun:
    """A call under way in a thread."""

    def __init__(self, mortal: Mortal, **fields: Any) -> None:
        self._ended: list[Call] = []
        event = {"environment": "dev", **fields}
        self._thread = threading.Thread(target=lambda: self._ended.append(mortal.call(event)))
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return bool(self._ended)

    def end(self) -> Call:
        self._thread.join(60)
        return self._ended[0]


@contextlib.contextmanager
def holding(world: World) -> Iterator[None]:
    """The next run to store a plan stands still with the lock taken, until the block ends."""
    world.aws.fail("PutObject", kind="timeout", matching=PLAN)
    yield
    world.aws.heal()


def has_stored_a_plan(world: World) -> bool:
    return any(call.operation == "PutObject" for call in world.aws.calls())


def trail(world: World) -> list[str]:
    return world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv").decode().splitlines()


def test_the_second_waits_for_the_first_and_finds_its_work_done(world: World, runs: tuple[Mortal, Mortal]) -> None:
    world.declare_entries(SHOP)
    with holding(world):
        first = Begun(runs[0], run_id="first")
        wait_until(lambda: has_stored_a_plan(world))
        second = Begun(runs[1], run_id="second")
        wait_until(lambda: world.server.run_as_superuser(WAITING))
    answers = [first.end().answer, second.end().answer]
    assert [answer and answer["status"] for answer in answers] == ["applied", "no_change"]
    assert any(",first,shop,shop_user,create_database,success," in row for row in trail(world))
    assert any(",second,shop,shop_user,database,no_change," in row for row in trail(world))


def test_the_second_says_run_in_progress_when_the_first_takes_long(world: World, runs: tuple[Mortal, Mortal]) -> None:
    world.declare_entries(SHOP)
    with holding(world):
        first = Begun(runs[0], run_id="first")
        wait_until(lambda: has_stored_a_plan(world))
        refused = runs[1].call({"environment": "dev", "run_id": "second"})
    assert refused.error == "RunInProgress"
    assert re.search(
        r"another run is at work on this server: process \d+, connected since 20\S+ \S+ UTC", refused.message
    )
    answer = first.end().answer
    assert answer
    assert answer["status"] == "applied"
    assert any(",second,,,refuse,error," in row for row in trail(world))
    assert any(",first,,shop_user,create_role,success," in row for row in trail(world))


def test_many_that_begin_together_do_the_work_once_and_lose_no_row(world: World, runs: tuple[Mortal, Mortal]) -> None:
    world.declare_entries(SHOP | BLOG)
    for number in range(4):
        both = [Begun(run, run_id=f"{name}-{number}") for name, run in zip(("a", "b"), runs, strict=True)]
        statuses = sorted(str((call.answer or {}).get("status")) for call in (run.end() for run in both))
        assert statuses == (["applied", "no_change"] if number == 0 else ["no_change", "no_change"])
    rows = trail(world)
    assert sum(",create_database,success," in row for row in rows) == 2
    assert {row.split(",")[3] for row in rows[1:]} == {f"{name}-{number}" for name in "ab" for number in range(4)}


def test_wherever_the_first_stands_the_second_works_or_waits(world: World) -> None:
    """At each message of the first to AWS, between which lie all its statements, the second begins and goes as far as
    it can: to its end where the first has no lock yet, or to the lock.
    """
    settings = world.settings | {"POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner"}
    fuse, seconds = Fuse(), []
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(FusedProxy(int(world.aws.endpoint_url.rpartition(":")[2]), fuse))
        first = stack.enter_context(Mortal(world.aws.environment(f"http://localhost:{proxy.port}") | settings))
        second = stack.enter_context(Mortal(world.aws.environment() | settings))

        def overtake() -> None:
            seconds.append(Begun(second, run_id=f"second-{point}"))
            wait_until(lambda: seconds[-1].has_ended or world.server.run_as_superuser(WAITING))

        for point in itertools.count(1):
            name = f"tenant_{point}"
            world.declare_entries(SHOP | {name: {"database_name": name, "username": name}})
            fuse.light(point, "answered", overtake)
            answers = [first.call({"environment": "dev", "run_id": f"first-{point}"}).answer]
            overtaken, _ = fuse.is_burnt, fuse.put_out()
            if not overtaken:
                break
            answers.append(seconds[-1].end().answer)
            assert sorted(answer["status"] for answer in answers if answer) == ["applied", "no_change"], point
            made = [row for row in trail(world) if f",{name},{name},create_database,success," in row]
            assert len(made) == 1, point
    assert len(seconds) > 8
    told = {row.split(",")[3] for row in trail(world)[1:]}
    assert told >= {f"{run}-{point}" for run in ("first", "second") for point in range(1, len(seconds) + 1)}


def test_an_event_that_arrives_twice_or_late_does_no_harm(world: World, runs: tuple[Mortal, Mortal]) -> None:
    old = world.declare_entries(SHOP)
    new = world.declare_entries(SHOP | BLOG)
    for version, status in ((new, "applied"), (new, "no_change"), (old, "superseded"), (new, "no_change")):
        answer = runs[0].call(_s3_event(world, version)).answer
        assert answer
        assert answer["status"] == status
    assert any(",snapshot,skipped," in row for row in trail(world))


def _s3_event(world: World, version: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": f"event-{version}",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {"bucket": {"name": "snapshots"}, "object": {"key": world.snapshot_key, "version-id": version}},
    }
