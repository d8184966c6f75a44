"""What is read of a server's catalogs is read once, until something is written there."""

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

from stack.postgres import Server

T = TypeVar("T")


def once_until_written(read: Callable[[Server], T]) -> Callable[[Server], T]:
    """Give the same answer again while the server's write-ahead log stands still: no catalog changes without it."""
    found: weakref.WeakKeyDictionary[Server, tuple[str, T]] = weakref.WeakKeyDictionary()

    @functools.wraps(read)
    def answer(server: Server) -> T:
        before = _position(server)
        if server in found and found[server][0] == before:
            return found[server][1]
        value = read(server)
        # Reading may tidy up a page, which is written too: then the next reading counts.
        if _position(server) == before:
            found[server] = before, value
        return value

    return answer


def _position(server: Server) -> str:
    """Where the log stands; a server whose files were set back has begun anew."""
    query = "SELECT pg_postmaster_start_time() || ' ' || pg_current_wal_insert_lsn()"
    return str(server.run_as_superuser(query)[0][0])
