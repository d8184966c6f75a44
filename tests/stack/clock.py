"""The time that a function is given, told by what it gets done: no test of handing on waits for a real clock."""

from collections.abc import Callable

from stack.postgres import Server


class Clock:
    """Lambda's context in a function whose time is nearly up once something is so.

    Args:
        is_up: asked at every look at the clock.
        call: a number that tells this call from others.
    """

    def __init__(self, is_up: Callable[[], bool], call: int = 1) -> None:
        self.aws_request_id = f"call-{call}"
        self._is_up = is_up

    def get_remaining_time_in_millis(self) -> int:
        """A quarter of an hour until then, less than is kept for ending a run from then on."""
        return 60_000 if self._is_up() else 900_000


def when_made(server: Server, databases: int) -> Callable[[], bool]:
    """Whether so many databases more than now are there and finished."""
    enough = made(server) + databases
    return lambda: made(server) >= enough


def made(server: Server) -> int:
    """How many of a fleet's databases are there and finished, as the marker on them says."""
    query = "SELECT count(*) FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE '%rds-provisioner%'"
    return int(server.run_as_superuser(query)[0][0])
