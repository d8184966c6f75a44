"""A fleet that one call cannot do in its time: the call stops cleanly, and the next goes on where it ended."""

from typing import Any

import pytest

from bench import fleet
from provisioner.core.errors import OutOfTime
from provisioner.handler import lambda_handler
from stack.aws import Aws
from stack.postgres import Server
from stack.world import World

DATABASES = 6
IN_ONE_CALL = 2


class Clock:
    """Lambda's context in a function that is given the time for a few databases."""

    def __init__(self, server: Server, number: int) -> None:
        self.aws_request_id = f"call-{number}"
        self._server = server
        self._before = made(server)

    def get_remaining_time_in_millis(self) -> int:
        """A quarter of an hour until they are made, then less than is kept for ending a run."""
        return 900_000 if made(self._server) < self._before + IN_ONE_CALL else 60_000


def made(server: Server) -> int:
    """How many of the fleet's databases are there and finished, as the mark on them says."""
    question = "SELECT count(*) FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE '%rds-provisioner%'"
    return int(server.run_as_superuser(question)[0][0])


def call(world: World, number: int) -> dict[str, Any]:
    clock: Any = Clock(world.server, number)
    with world._environment():
        return dict(lambda_handler({"environment": "dev"}, clock))


def test_three_calls_do_what_one_has_no_time_for_and_none_does_anything_twice(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.master, settings={"MAX_WORKERS": "1"}) as world:
        world.declare_entries(fleet.entries(DATABASES))
        mark = latest_server.mark()

        with pytest.raises(OutOfTime):
            call(world, 1)
        assert made(latest_server) == 2
        with pytest.raises(OutOfTime):
            call(world, 2)
        assert made(latest_server) == 4
        assert call(world, 3)["status"] == "applied"

        assert made(latest_server) == 6
        said = [each.statement for each in latest_server.log_statements(mark)]
        created = [line for text in said for line in text.split(";\n") if line.startswith("CREATE DATABASE")]
        assert len(created) == len(set(created)) == DATABASES
        assert world.apply()["status"] == "no_change"
