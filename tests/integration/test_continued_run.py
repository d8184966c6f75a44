"""A fleet that one call cannot do in its time: the call stops cleanly, and the next goes on where it ended."""

import pytest

from bench import fleet
from provisioner.core.errors import OutOfTime
from stack.aws import Aws
from stack.clock import Clock, made, when_made
from stack.postgres import Server
from stack.world import World

DATABASES = 6
IN_ONE_CALL = 2


def test_three_calls_do_what_one_has_no_time_for_and_none_does_anything_twice(latest_server: Server, aws: Aws) -> None:
    with World(latest_server, aws, latest_server.master, settings={"MAX_WORKERS": "1"}) as world:
        world.declare_entries(fleet.entries(DATABASES))
        mark = latest_server.mark()

        with pytest.raises(OutOfTime):
            world.call(context=Clock(when_made(latest_server, IN_ONE_CALL), 1))
        assert made(latest_server) == 2
        with pytest.raises(OutOfTime):
            world.call(context=Clock(when_made(latest_server, IN_ONE_CALL), 2))
        assert made(latest_server) == 4
        assert world.call(context=Clock(when_made(latest_server, IN_ONE_CALL), 3))["status"] == "applied"

        assert made(latest_server) == 6
        created = [line for line in latest_server.log_lines(mark) if line.startswith("CREATE DATABASE")]
        assert len(created) == len(set(created)) == DATABASES
        assert world.apply()["status"] == "no_change"


def test_a_password_that_there_was_no_time_to_prove_is_no_success_and_the_next_run_proves_it(
    latest_server: Server, aws: Aws
) -> None:
    with World(latest_server, aws, latest_server.master) as world:
        world.declare_entries({"shop": {"database_name": "shop", "username": "shop"}})
        world.apply()
        world.put_secret("shop", "shop", "shop")
        mark = latest_server.mark()

        def is_set() -> bool:
            return any(line.startswith('ALTER ROLE "shop" PASSWORD') for line in latest_server.log_lines(mark))

        with pytest.raises(OutOfTime, match="not every new password was proved"):
            world.call(context=Clock(is_set))

        assert world.apply()["status"] == "no_change"
        world.login("shop", "shop").close()
