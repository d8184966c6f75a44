"""A process that wants the run lock: it takes turns with others and counts how often it was not alone, or keeps it."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from provisioner.edges import lock
from provisioner.edges.postgres import Login, ServerAddress, tls_context

TURN_SECONDS = 0.003


class _Hasty:
    """Waits hardly at all between two tries, so that many of them meet."""

    @staticmethod
    def uniform(_low: float, _high: float) -> float:
        return int.from_bytes(os.urandom(1)) / 256 * 0.01


def contend(login: Login, place: Path, seconds: float) -> dict[str, int]:
    """Take turns for so many seconds; only whoever has the lock makes the file `place`, and takes it away again."""
    lock._RANDOM = _Hasty()  # type: ignore[assignment]
    turns = overlaps = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with login.connect() as connection:
            # Several turns on a connection, as it is with one that waits, and then a new one.
            for _ in range(3):
                lock.acquire_run_lock(connection, 60, lambda: None)
                try:
                    os.close(os.open(place, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    overlaps += 1
                time.sleep(TURN_SECONDS)
                place.unlink(missing_ok=True)
                connection.run("SET application_name = 'rds-provisioner'")
                turns += 1
    return {"turns": turns, "overlaps": overlaps}


def keep(login: Login, statement: str) -> None:
    """Take the lock, say so, and be busy with a statement; nobody says Terminate."""
    connection = login.connect()
    lock.acquire_run_lock(connection, 0, lambda: None)
    _say({"pid": os.getpid()})
    connection.run(statement)
    time.sleep(600)


def _say(what: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    secret: dict[str, Any] = json.loads(os.environ["SECRET"])
    address = ServerAddress(secret["host"], secret["port"], tls_context(os.environ["CA_FILE"]))
    way = Login(address, secret["username"], secret["password"], secret["dbname"])
    if sys.argv[1] == "keep":
        keep(way, sys.argv[2])
    else:
        _say(contend(way, Path(sys.argv[2]), float(sys.argv[3])))
