"""A look into each declared database: the administrator's login in, what is to be done to each of them out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from provisioner.core import difference
from provisioner.core.database_script import needs_object_names
from provisioner.core.difference import Difference
from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime
from provisioner.core.ownership import Ownership
from provisioner.core.state import Database, TooLarge
from provisioner.edges.database_catalogs import read_database, read_object_names
from provisioner.edges.postgres import Login
from provisioner.edges.sqlstates import SqlError
from provisioner.telemetry import log_mistake

T = TypeVar("T")

# Each is held in memory and stored in the plan. An owner can grant any number of things to everybody's roles.
MAX_CHANGES = 25_000


def observe_databases(login: Login, ownership: Ownership, workers: int) -> list[Difference]:
    """Look into each declared database that exists, and say at once what is to be done to it.

    One that cannot be looked into says so in `unreadable_reason`. Where single objects are to be changed, their
    names are read.
    """
    present = [
        ownership.server.databases[name] for name in sorted(ownership.by_database & ownership.server.databases.keys())
    ]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(partial(_inspect_database, login, ownership), present))


def _inspect_database(login: Login, ownership: Ownership, facts: Database) -> Difference:
    if not facts.may_be_entered:
        return difference.of_closed(facts, ownership)

    def read() -> Difference:
        with login.connect(facts.name) as connection:
            found = read_database(connection, facts, with_extensions=ownership.declaration.has_extensions)
            result = difference.of(found, ownership)
            if len(result.changes) > MAX_CHANGES:
                why = TooLarge(f"more than {MAX_CHANGES} changes would have to be made in it")
                return Difference(facts.refused(why))
            found = read_object_names(connection, found, needs_object_names(result.changes))
            return replace(result, database=found)

    def unreadable(reason: str) -> Difference:
        return difference.of_closed(replace(facts, unreadable_reason=reason), ownership)

    return look(login, f'database "{facts.name}"', read, unreadable)


def look(login: Login, subject: str, read: Callable[[], T], unreadable: Callable[[str], T]) -> T:
    """What `read` makes of one unit, or `unreadable` of the reason why it could not be looked at.

    The one place where what goes wrong in a look becomes the fact of its unit, or ends the run.

    Raises:
        OutOfTime: there was not time enough.
        DatabaseUnavailable: nor does the administrator get into its own database.
    """
    try:
        return read()
    except OutOfTime:
        raise
    except (SqlError, DatabaseUnavailable) as error:
        # The owner of a database can have its sessions ended; that is no reason to leave the others alone.
        if (isinstance(error, DatabaseUnavailable) or error.is_connection_lost) and not login.can_connect():
            message = f"the server broke off while {subject} was looked at: {error}"
            next_step = "check that the instance is available and has connections left; then run again"
            raise DatabaseUnavailable(Finding("connection_lost", message, next_step)) from None
        return unreadable(str(error))
    except Exception as error:  # noqa: BLE001 - whatever the rows of one unit make us stumble over is about that one
        log_mistake(error)
        return unreadable(f"what stands there cannot be read ({type(error).__name__})")
