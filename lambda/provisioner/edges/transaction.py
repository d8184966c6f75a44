"""One transaction of an apply: statements in, committed once what they were to reach is proved, or an error out."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from random import SystemRandom
from typing import TypeVar

from provisioner.core import difference
from provisioner.core.changes import MAKES_OURS, Change
from provisioner.core.database_script import DatabaseScript, database_transactions, needs_object_names
from provisioner.core.errors import OutOfTime
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import Statement
from provisioner.core.state import Database, PasswordCheck
from provisioner.edges.clock import Deadline
from provisioner.edges.database_catalogs import read_database, read_object_names
from provisioner.edges.lock_watch import LockWatch
from provisioner.edges.postgres import Connection, Login
from provisioner.edges.server_findings import OUT_OF_TIME
from provisioner.edges.sqlstates import SqlError

# A GRANT that grants nothing and a REVOKE that revokes nothing are warnings to the server. To us they are failures.
EMPTY_GRANT_WARNINGS = frozenset({"01006", "01007"})
MAX_ATTEMPTS = 6
# How often a database is looked at again where what was seen there is gone before it can be granted on.
MAX_LOOKS = 4
_RANDOM = SystemRandom()

T = TypeVar("T")


@dataclass(frozen=True)
class ApplyContext:
    """What an apply works with.

    `make_verifier` gives the SCRAM verifier of a role's password, `probe_password` what a login with it says.
    After the `deadline` nothing further is started. `fence` is the statement that fails unless this run still holds its
    lock: every connection that changes something sends it first. Nothing is granted to the `blocked_roles`, nor in
    their place. `locks` knows who holds what a statement waits for.
    """

    login: Login
    locks: LockWatch
    ownership: Ownership
    make_verifier: Callable[[str], str] = field(repr=False)
    probe_password: Callable[[str], PasswordCheck] = field(repr=False)
    workers: int
    fail_fast: bool
    deadline: Deadline
    fence: str
    blocked_roles: frozenset[str]
    # Whether a database that stands is given nothing either that no plan showed: approved is what was read.
    only_shown: bool = False

    @property
    def begin(self) -> tuple[str, ...]:
        """What a transaction that changes something begins with; what a GRANT warns of is to be heard in it."""
        return "BEGIN", self.fence, "SET LOCAL client_min_messages = warning"

    @property
    def is_late(self) -> bool:
        """Whether nothing further may be started."""
        return self.deadline.seconds_left() < 0


@contextmanager
def transaction(connection: Connection, *, leave: bool) -> Iterator[list[Statement]]:
    """Ends the transaction that the first message in it begins: BEGIN by itself would be a round trip more.

    What is put into the list that it gives is sent in one message with COMMIT, and with the Terminate where we `leave`.
    """
    last: list[Statement] = []
    try:
        yield last
        connection.run(*last, "COMMIT", leave=leave)
    except Exception:
        # Where the connection is gone the transaction is too; the first error is the one to tell.
        with suppress(SqlError, OutOfTime):
            connection.run("ROLLBACK")
        raise


def retry(attempt: Callable[[], T], context: ApplyContext, *, tries: int = MAX_ATTEMPTS) -> T:
    """Try again what failed for a passing reason, a few times, a little later each time, while there is time."""
    number = 1
    while True:
        try:
            return attempt()
        except SqlError as error:
            if not error.is_transient or number == tries or context.is_late:
                raise
        # With jitter, so that two who got in each other's way do not meet again.
        time.sleep(_RANDOM.uniform(0.05, 0.1) * 2**number)
        number += 1


def refuse_empty_grants(connection: Connection) -> None:
    """Raise where a GRANT or REVOKE since the last call changed nothing."""
    empty = EMPTY_GRANT_WARNINGS.intersection(connection.warnings())
    if empty:
        code = min(empty)
        raise SqlError(code, "the server said that a GRANT or REVOKE changed nothing: the administrator may not")


def change_database(item: DatabaseScript, context: ApplyContext, *, as_written: bool = True) -> None:
    """Send a database's script; where what it speaks of has gone since, look again and say what is needed now.

    The same at once where it is not to be sent `as_written`, since it speaks of roles that do not exist.

    Raises:
        SqlError: it failed, or what is there changes too fast for a few looks.
        DatabaseUnavailable: the server could not be reached.
        OutOfTime: there is no time for more than the transactions that are committed, on which the next run goes on.
    """
    before: Sequence[tuple[Statement, ...]] = item.before if as_written else ()
    statements = item.statements if as_written else None
    for number in range(1, MAX_LOOKS + 1):
        try:
            _send_before(item.name, before, context)
            more = retry(partial(apply_and_verify, item, statements, context), context)
        except SqlError as error:
            if not error.asks_for_look or number == MAX_LOOKS or context.is_late:
                raise
            before, statements = (), None
        else:
            if not more:
                return
            *before, statements = more
    raise SqlError("", f"{len(before)} transactions would not be enough for what differs by now")


def _send_before(database: str, transactions: Sequence[tuple[Statement, ...]], context: ApplyContext) -> None:
    """Send what would be too many locks for one transaction; nothing counts as done before the last one's proof."""
    if not transactions:
        return
    with context.login.connect(database) as connection:

        def send(statements: tuple[Statement, ...]) -> None:
            with transaction(connection, leave=False):
                connection.run(*context.begin, *statements)
                refuse_empty_grants(connection)

        for each in transactions:
            if context.is_late:
                raise OutOfTime(OUT_OF_TIME)
            retry(partial(send, each), context)


def apply_and_verify(
    item: DatabaseScript, statements: Sequence[Statement] | None, context: ApplyContext
) -> tuple[tuple[Statement, ...], ...]:
    """One connection, one transaction: the statements, what is still missing after them, and the proof that nothing is.

    Without `statements` all that is missing follows from a look. A new database may differ from what its version makes
    us expect (who owns `public`), and an application may create a table in between; what follows from that is done
    too, unless it takes something away that no plan showed. Where that is more than one transaction may name, it is
    given back, by transaction, and not done.
    """
    ownership = context.ownership
    shown = {change.identity for change in item.changes}
    with context.login.connect(item.name) as connection, transaction(connection, leave=True) as last:
        found = _execute(connection, (*context.begin, *(statements or ())), item.database, ownership)
        rest = _remaining_changes(found, shown, context)
        unseen = [
            change for change in rest if (change.destructive or context.only_shown) and change.identity not in shown
        ]
        wanted = rest if item.open or not unseen else []
        if statements is None:
            # The mark is not seen from inside.
            wanted = [*(change for change in item.changes if change.kind in MAKES_OURS), *wanted]
        if statements is None or wanted:
            found = read_object_names(connection, found, needs_object_names(wanted))
            transactions = database_transactions(wanted, found, ownership, temporary=item.temporary)
            if len(transactions) > 1:
                return transactions
            found = _execute(connection, transactions[0], found, ownership)
            rest = _remaining_changes(found, shown, context)
        if rest:
            missing = "; ".join(f"{change.action} {change.username}: {change.detail}" for change in rest[:5])
            raise SqlError("", f"after the changes the database is still not as declared: {missing}")
        last.extend(item.on_success)
    return ()


def _execute(connection: Connection, statements: Sequence[str], facts: Database, ownership: Ownership) -> Database:
    with_extensions = ownership.declaration.has_extensions
    found = read_database(connection, facts, *statements, with_extensions=with_extensions)
    refuse_empty_grants(connection)
    return found


def _remaining_changes(facts: Database, shown: Collection[tuple[str, ...]], context: ApplyContext) -> list[Change]:
    # The mark counts together with the owner's, which is shared and observed at the end of the run. What another role
    # than the owner makes meanwhile, or holds, keeps nobody else back: it is sent apart, or by the next run.
    return [
        change
        for change in difference.of(facts, context.ownership).changes
        if change.kind not in MAKES_OURS
        and not change.concerns(context.blocked_roles)
        and (change.identity in shown or not change.others_objects)
    ]
