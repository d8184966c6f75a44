"""The time that a function is given, told by what it gets done: no test of handing on waits for a real clock."""

from stack.postgres import Server


class Clock:
    """Lambda's context in a function that has the time to make a few databases more on a server.

    Args:
        server: where they are made; asked at every look at the clock.
        databases: how many, counted from now.
        call: a number that tells this call from others.
    """

    def __init__(self, server: Server, databases: int, call: int) -> None:
        self.aws_request_id = f"call-{call}"
        self._server = server
        self._enough = made(server) + databases

    def get_remaining_time_in_millis(self) -> int:
        """A quarter of an hour until they are made, then less than is kept for ending a run."""
        return 900_000 if made(self._server) < self._enough else 60_000


def made(server: Server) -> int:
    """How many of a fleet's databases are there and finished, as the mark on them says."""
    question = "SELECT count(*) FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE '%rds-provisioner%'"
    return int(server.run_as_superuser(question)[0][0])
