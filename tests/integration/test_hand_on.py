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
