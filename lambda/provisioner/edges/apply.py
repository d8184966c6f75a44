"""Changes a server: a script in, an outcome for each change out; each transaction is proved before it is committed.

Roles come first, in one transaction; then each database, alone or beside others of other owners. A database's
transaction ends with the observation of that database, and is committed only if nothing is left to change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from random import SystemRandom
from threading import Event
from typing import TYPE_CHECKING

from provisioner.core.ddl import PasswordStatement, Statement
from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime
from provisioner.core.guard import database_changes
from provisioner.core.model import Outcome, Status
from provisioner.core.plan import AdoptDatabase, Change
from provisioner.core.script import DatabaseScript, Script, database_statements, targets_to_name
from provisioner.edges.clock import now_utc
from provisioner.edges.observe import Login, add_names, ask_inside
from provisioner.edges.postgres import SqlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from provisioner.core.scope import Scope
    from provisioner.core.state import DatabaseFacts, PasswordCheck
    from provisioner.edges.postgres import Connection

# A GRANT that grants nothing and a REVOKE that revokes nothing are warnings to the server. To us they are failures.
NOTHING_GRANTED = frozenset({"01006", "01007"})
TRIES = 6
# How many databases are created at once: more than two gain nothing, the server copies files.
CREATORS = 2
# One message to the server; longer scripts of roles are sent in several, in the one transaction.
STATEMENTS_PER_MESSAGE = 200
_RANDOM = SystemRandom()


@dataclass(frozen=True)
class Workshop:
    """What an apply works with.

    `make_verifier` gives the SCRAM verifier of a role's password, `prove` what a login with it says. `seconds_left`
    says how long the function may still run; below `reserve` seconds nothing further is begun. `fence` is the statement
    that fails unless this run still holds its lock: every connection that changes something sends it first.
    """

    login: Login
    scope: Scope
    make_verifier: Callable[[str], str] = field(repr=False)
    prove: Callable[[str], PasswordCheck] = field(repr=False)
    workers: int
    fail_fast: bool
    seconds_left: Callable[[], float]
    reserve: float
    fence: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the changes, and every failure.

    `passwords` are what a login said of each that was set. `out_of_time` says that databases, or such logins, were left
    for the next run.
    """

    outcomes: tuple[Outcome, ...]
    failures: tuple[Finding, ...]
    out_of_time: bool
    passwords: Mapping[str, PasswordCheck]


def apply_script(script: Script, inventory: Mapping[str, DatabaseFacts], workshop: Workshop) -> Applied:
    """Send a script; a failure of the roles ends it, one of a database ends it or not as `fail_fast` says."""
    try:
        connection = workshop.login.connect()
    except (SqlError, DatabaseUnavailable) as error:
        failure = _failure(error, "the server")
        return _sum_up([_Result((), failure), *_skip_all(script, failure)], {})
    logins: dict[str, PasswordCheck | None] = {}
    with connection:
        results = [_apply_roles(connection, script, workshop)]
        if results[0].failure:
            results += [_skipped(item.changes, results[0].failure) for item in script.databases]
        else:
            databases, logins = _apply_databases(connection, script, inventory, workshop)
            results += databases
            done = {outcome.database for result in results for outcome in result.outcomes if outcome.is_success}
            _return_what_is_lent(connection, [item for item in script.databases if item.name not in done])
    return _sum_up(results, logins)


@dataclass(frozen=True, slots=True)
class _Result:
    outcomes: tuple[Outcome, ...]
    failure: Finding | None = None
    skipped: bool = False
    out_of_time: bool = False


def _sum_up(results: Sequence[_Result], logins: Mapping[str, PasswordCheck | None]) -> Applied:
    return Applied(
        outcomes=tuple(outcome for result in results for outcome in result.outcomes),
        failures=tuple(dict.fromkeys(result.failure for result in results if result.failure and not result.skipped)),
        out_of_time=any(result.out_of_time for result in results) or None in logins.values(),
        passwords={role: check for role, check in logins.items() if check is not None},
    )


def _skip_all(script: Script, reason: Finding) -> list[_Result]:
    groups = (script.role_changes, *(item.changes for item in script.databases))
    return [_skipped(changes, reason) for changes in groups]


# --- roles ----------------------------------------------------------------------------------------------------------


def _apply_roles(connection: Connection, script: Script, workshop: Workshop) -> _Result:
    if not script.role_statements:
        return _Result(())
    begun = time.monotonic()
    # A verifier takes a millisecond, most of it outside of Python, and a role more than that of the server: those of a
    # message are made beside each other, and beside the message before.
    with ThreadPoolExecutor(workshop.workers) as pool:
        verifiers = {role: pool.submit(workshop.make_verifier, role) for role in _roles_with_passwords(script)}

        def complete(item: Statement | PasswordStatement) -> Statement:
            return item.complete(verifiers[item.role].result()) if isinstance(item, PasswordStatement) else item

        def send() -> None:
            statements = [Statement("BEGIN"), Statement(workshop.fence), *script.role_statements]
            with _transaction(connection, leave=False):
                for start in range(0, len(statements), STATEMENTS_PER_MESSAGE):
                    message = statements[start : start + STATEMENTS_PER_MESSAGE]
                    connection.run(*map(complete, message), secret=True)
                    _refuse_empty_grants(connection)

        try:
            _retry(send, workshop)
        except SqlError as error:
            failure = _failure(error, "the roles")
            return _Result(_outcomes(script.role_changes, Status.ERROR, begun, str(failure)), failure)
    return _Result(_outcomes(script.role_changes, Status.SUCCESS, begun))


def _roles_with_passwords(script: Script) -> list[str]:
    return [item.role for item in script.role_statements if isinstance(item, PasswordStatement)]


def _return_what_is_lent(connection: Connection, not_done: Iterable[DatabaseScript]) -> None:
    """Give back the owners whose last database was not reached, as far as the connection still allows.

    Where it does not, the mark on the role says so, and the next run gives it back.
    """
    for item in not_done:
        if item.cut_short:
            with suppress(SqlError):
                connection.run(*item.cut_short)


# --- databases ------------------------------------------------------------------------------------------------------


def _apply_databases(
    connection: Connection, script: Script, inventory: Mapping[str, DatabaseFacts], workshop: Workshop
) -> tuple[list[_Result], dict[str, PasswordCheck | None]]:
    """Change the databases, and log in once as each role whose password was set; None where there was no time for it.

    The two take turns: most of a new database is waiting for the server to copy it.
    """
    by_owner: dict[str, list[DatabaseScript]] = {}
    for item in script.databases:
        by_owner.setdefault(item.owner, []).append(item)
    failed = Event()
    with ExitStack() as stack:
        creators = _open_creators(connection, script, workshop, stack)

        def work(items: Sequence[DatabaseScript]) -> list[_Result]:
            return [_apply_database(item, inventory[item.name], workshop, creators, failed) for item in items]

        # With the session of the lock never more than two connections beside the workers': a second creator is one.
        with ThreadPoolExecutor(workshop.workers + 1 - creators.qsize()) as pool:
            databases: list[Future[list[_Result]]] = []
            logins: dict[str, Future[PasswordCheck | None]] = {}
            roles = _roles_with_passwords(script)
            # Where there is no database, one turn without any: a password can change alone.
            groups = list(by_owner.values()) or [[]]
            share, waiting = math.ceil(len(roles) / len(groups)), iter(roles)
            for items in groups:
                databases.append(pool.submit(work, items))
                logins |= {role: pool.submit(_log_in, role, workshop) for role in islice(waiting, share)}
        return (
            [result for each in databases for result in each.result()],
            {role: each.result() for role, each in logins.items()},
        )


def _log_in(role: str, workshop: Workshop) -> PasswordCheck | None:
    if workshop.seconds_left() < workshop.reserve:
        return None
    try:
        return workshop.prove(role)
    except OutOfTime:
        return None


def _open_creators(
    connection: Connection, script: Script, workshop: Workshop, stack: ExitStack
) -> SimpleQueue[Connection]:
    """The connections that create databases; taking one out of the queue keeps others from using it."""
    creators: SimpleQueue[Connection] = SimpleQueue()
    creators.put(connection)
    wanted = min(CREATORS, workshop.workers, sum(1 for item in script.databases if item.create))
    for _ in range(wanted - 1):
        # One is enough; where another is not to be had, that is no reason to stop.
        with suppress(SqlError, DatabaseUnavailable):
            another = stack.enter_context(workshop.login.connect())
            another.run(workshop.fence)
            creators.put(another)
    return creators


def _apply_database(
    item: DatabaseScript,
    facts: DatabaseFacts,
    workshop: Workshop,
    creators: SimpleQueue[Connection],
    failed: Event,
) -> _Result:
    if failed.is_set() and workshop.fail_fast:
        return _skipped(item.changes, Finding("skipped", "an earlier change failed and fail_fast is set"))
    if workshop.seconds_left() < workshop.reserve:
        reason = Finding("out_of_time", "the function's time is nearly up", "run again: the next run continues")
        outcomes = _outcomes(item.changes, Status.SKIPPED, time.monotonic(), str(reason))
        return _Result(outcomes, skipped=True, out_of_time=True)
    begun = time.monotonic()
    try:
        if item.create:
            _create(item, creators, workshop)
        _retry(lambda: _send_and_prove(item, facts, workshop), workshop)
    except (SqlError, DatabaseUnavailable) as error:
        failed.set()
        failure = _failure(error, f'database "{item.name}"', item.name)
        return _Result(_outcomes(item.changes, Status.ERROR, begun, str(failure)), failure)
    return _Result(_outcomes(item.changes, Status.SUCCESS, begun))


def _create(item: DatabaseScript, creators: SimpleQueue[Connection], workshop: Workshop) -> None:
    connection = creators.get()
    try:
        _retry(lambda: connection.run(item.create or ""), workshop)
    finally:
        creators.put(connection)


def _send_and_prove(item: DatabaseScript, facts: DatabaseFacts, workshop: Workshop) -> None:
    """One connection, one transaction: the statements, what is still missing after them, and the proof that nothing is.

    A new database may differ from what its version makes us expect (who owns `public`), and an application may create
    a table in between; what follows from that is done too, unless it takes something away that no plan showed.
    """
    with workshop.login.connect(item.name) as connection, _transaction(connection, leave=True) as last:
        found = _send(connection, ("BEGIN", workshop.fence, *item.statements), facts, workshop.scope)
        rest = _rest(found, workshop.scope)
        if rest and (item.create or not any(change.destructive for change in rest)):
            found = add_names(connection, found, targets_to_name(rest))
            lent = frozenset({item.owner}) if item.is_lent else frozenset()
            statements = database_statements(rest, found, workshop.scope, lent=lent)
            found = _send(connection, statements, found, workshop.scope)
            rest = _rest(found, workshop.scope)
        if rest:
            missing = "; ".join(f"{change.action} {change.username}: {change.detail}" for change in rest[:5])
            raise SqlError("", f"after the changes the database is still not as declared: {missing}")
        last.extend(item.afterwards)


def _send(connection: Connection, statements: Sequence[str], facts: DatabaseFacts, scope: Scope) -> DatabaseFacts:
    with_extensions = scope.declaration.has_extensions
    found = ask_inside(connection, facts, *statements, with_extensions=with_extensions)
    _refuse_empty_grants(connection)
    return found


def _rest(facts: DatabaseFacts, scope: Scope) -> list[Change]:
    # The mark counts together with the owner's, which is shared and observed at the end of the run.
    return [change for change in database_changes(facts, scope) if not isinstance(change, AdoptDatabase)]


# --- both -----------------------------------------------------------------------------------------------------------


@contextmanager
def _transaction(connection: Connection, *, leave: bool) -> Iterator[list[Statement]]:
    """Ends the transaction that the first message in it begins: BEGIN by itself would be a round trip more.

    What is put into the list that it gives is sent in one message with COMMIT, and with the goodbye where we `leave`.
    """
    last: list[Statement] = []
    try:
        yield last
        connection.run(*last, "COMMIT", leave=leave)
    except SqlError:
        # Where the connection is gone the transaction is too; the first error is the one to tell.
        with suppress(SqlError):
            connection.run("ROLLBACK")
        raise


def _retry(attempt: Callable[[], object], workshop: Workshop) -> None:
    """Try again what failed for a passing reason, a few times, a little later each time, while there is time."""
    for number in range(1, TRIES + 1):
        try:
            attempt()
        except SqlError as error:
            if not error.is_passing or number == TRIES or workshop.seconds_left() < workshop.reserve:
                raise
        else:
            return
        # With jitter, so that two who got in each other's way do not meet again.
        time.sleep(_RANDOM.uniform(0.05, 0.1) * 2**number)


def _refuse_empty_grants(connection: Connection) -> None:
    empty = NOTHING_GRANTED.intersection(connection.warnings())
    if empty:
        code = min(empty)
        raise SqlError(code, "the server said that a GRANT or REVOKE changed nothing: the administrator may not")


def _outcomes(changes: Sequence[Change], status: Status, begun: float, message: str = "") -> tuple[Outcome, ...]:
    now = now_utc()
    duration = round((time.monotonic() - begun) * 1000)
    return tuple(
        Outcome(change.action, change.database, change.username, status, now, duration, message or change.detail)
        for change in changes
    )


def _skipped(changes: Sequence[Change], reason: Finding) -> _Result:
    return _Result(_outcomes(changes, Status.SKIPPED, time.monotonic(), str(reason)), reason, skipped=True)


def _failure(error: SqlError | DatabaseUnavailable, subject: str, database: str = "") -> Finding:
    if isinstance(error, DatabaseUnavailable):
        return error.findings[0]
    return Finding("apply_failed", f"{subject} could not be changed: {error}", error.next_step, database=database)
