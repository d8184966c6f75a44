"""Somebody else grants and revokes on the same database without pause: a run gets its changes through all the same."""

import contextlib
import threading
from collections.abc import Iterator

import pg8000.native
import pytest

from stack.aws import Aws
from stack.postgres import Server
from stack.world import World

OWNER = {"app": {"database_name": "app", "username": "app_user"}}
READERS = 5


@pytest.fixture
def rounds() -> list[int]:
    """How often the granter has been around."""
    return [0]


@contextlib.contextmanager
def granting(server: Server, rounds: list[int]) -> Iterator[None]:
    """Grants and revokes on the database until left, whatever becomes of it."""
    ended = threading.Event()

    def work() -> None:
        with contextlib.closing(server.superuser()) as connection:
            while not ended.is_set():
                for statement in (
                    "GRANT CREATE ON DATABASE app TO stranger",
                    "REVOKE CREATE ON DATABASE app FROM stranger",
                ):
                    # It collides as we do: "tuple concurrently updated".
                    with contextlib.suppress(pg8000.native.DatabaseError):
                        connection.run(f"{statement} stranger")
                rounds[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_run_gets_through_beside_a_granter_in_a_loop(latest_server: Server, aws: Aws, rounds: list[int]) -> None:
    latest_server.run_as_superuser("CREATE ROLE stranger")
    with World(latest_server, aws, latest_server.create_delegated_admin()) as world:
        world.declare_entries(OWNER)
        world.apply()
        entries = dict(OWNER)
        with granting(latest_server, rounds):
            for number in range(READERS):
                reader = {"database_name": "app", "username": f"reader_{number}", "access_level": "reader"}
                entries[f"reader-{number}"] = reader
                world.declare_entries(entries)
                assert world.apply()["status"] == "applied"
        assert rounds[0] > READERS
        assert world.apply()["status"] == "no_change"
