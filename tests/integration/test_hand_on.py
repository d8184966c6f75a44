"""A fleet that one call cannot do in its time: the call stops cleanly, and the next goes on where it ended."""

import pytest

from bench import fleet
from provisioner.core.errors import OutOfTime
from stack.aws import Aws
from stack.clock import Clock, made
from stack.postgres import Server
from stack.world import World

DATABASES = 6
IN_ONE_CALL = 2


def test_three_calls_do_what_one_has_no_time_for_and_none_does_anything_twice(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.master, settings={"MAX_WORKERS": "1"}) as world:
        world.declare_entries(fleet.entries(DATABASES))
        mark = latest_server.mark()

        with pytest.raises(OutOfTime):
            world.call(context=Clock(latest_server, IN_ONE_CALL, 1))
        assert made(latest_server) == 2
        with pytest.raises(OutOfTime):
            world.call(context=Clock(latest_server, IN_ONE_CALL, 2))
        assert made(latest_server) == 4
        assert world.call(context=Clock(latest_server, IN_ONE_CALL, 3))["status"] == "applied"

        assert made(latest_server) == 6
        said = [each.statement for each in latest_server.log_statements(mark)]
        created = [line for text in said for line in text.split(";\n") if line.startswith("CREATE DATABASE")]
        assert len(created) == len(set(created)) == DATABASES
        assert world.apply()["status"] == "no_change"


class TimeUntilSaid:
    """Lambda's context in a function whose time is nearly up once the server was sent a certain statement."""

    aws_request_id = "call-1"

    def __init__(self, server: Server, start: str) -> None:
        self._server, self._start, self._mark = server, start, server.mark()

    def get_remaining_time_in_millis(self) -> int:
        """A quarter of an hour, then less than is kept for ending a run."""
        said = [line for each in self._server.log_statements(self._mark) for line in each.statement.split(";\n")]
        return 60_000 if any(line.startswith(self._start) for line in said) else 900_000


def test_a_password_that_there_was_no_time_to_prove_is_no_success_and_the_next_run_proves_it(
    latest_server: Server, aws: Aws
) -> None:
    with World(latest_server, aws, latest_server.master) as world:
        world.declare_entries({"shop": {"database_name": "shop", "username": "shop"}})
        world.apply()
        world.put_secret("shop", "shop", "shop")

        with pytest.raises(OutOfTime, match="not every new password was proved"):
            world.call(context=TimeUntilSaid(latest_server, 'ALTER ROLE "shop" PASSWORD'))

        assert world.apply()["status"] == "no_change"
        world.login("shop", "shop").close()
