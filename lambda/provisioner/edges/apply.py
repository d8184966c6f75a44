"""Changes a server: a script in, an outcome for each change out; each transaction is proved before it is committed.

Roles come first, in one transaction, or each alone where that fails; then each database, alone or beside others of
other owners. A database's transaction ends with the observation of that database, and is committed only if nothing is
left to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Event

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.database_script import DatabaseScript
from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime
from provisioner.core.quoting import PasswordStatement
from provisioner.core.script import Script
from provisioner.core.state import PasswordCheck
from provisioner.edges.apply_roles import AppliedRoles, apply_roles
from provisioner.edges.postgres import Connection
from provisioner.edges.server_findings import OUT_OF_TIME
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import ApplyContext, change_database, refuse_empty_grants, retry, transaction
from provisioner.edges.unit_results import (
    FAIL_FAST,
    ApplyResult,
    UnitResult,
    change_unit,
    failure_of,
    skipped_unit,
)
from provisioner.telemetry import log_mistake

# How many databases are created at once: more than two gain nothing, the server copies files.
PARALLEL_CREATES = 2


def apply_script(script: Script, context: ApplyContext) -> ApplyResult:
    """Send a script; what fails keeps back what depends on it, or all that is not started where `fail_fast` says so."""
    try:
        connection = context.login.connect()
    except Exception as error:  # noqa: BLE001 - no unit was started, and each has to be told of
        is_late = isinstance(error, OutOfTime)
        failure = OUT_OF_TIME if is_late else failure_of(error, Finding("apply_failed", "the server"), context)
        units = [role.changes for role in script.roles] + [database.changes for database in script.databases]
        skipped = [skipped_unit(each, failure) for each in units]
        return ApplyResult([UnitResult((), failure, error), *skipped])
    with connection:
        roles = apply_roles(connection, script.roles, context)
        databases, logins = _apply_databases(connection, script, roles, context)
        done = {outcome.database for result in databases for outcome in result.outcomes if outcome.is_success}
        _revoke_temporary_memberships(connection, [item for item in script.databases if item.name not in done])
    return ApplyResult([*roles.results, *databases], logins)


def _revoke_temporary_memberships(connection: Connection, not_done: Iterable[DatabaseScript]) -> None:
    """Give back the owners whose last database was not reached, as far as the connection still allows.

    Where it does not, the marker on the role says so, and the next run gives it back.
    """
    for item in not_done:
        if item.on_abort:
            with suppress(SqlError, OutOfTime):
                connection.run(*item.on_abort)


def _apply_databases(
    connection: Connection, script: Script, roles: AppliedRoles, context: ApplyContext
) -> tuple[list[UnitResult], dict[str, PasswordCheck | None]]:
    """Change the databases, and log in once as each role whose password was set; None where there was no time for it.

    The two take turns: most of a new database is waiting for the server to copy it.
    """
    if roles.stop:
        return [skipped_unit(item.changes, roles.stop) for item in script.databases], {}
    context = replace(context, blocked_roles=context.blocked_roles | roles.absent)
    by_owner: dict[str, list[DatabaseScript]] = {}
    for item in script.databases:
        by_owner.setdefault(item.owner, []).append(item)
    with ExitStack() as stack:
        creators = _open_create_connections(connection, script, context, stack)
        each = _Databases(roles, context, creators, stack)
        # With the session of the lock never more than two connections beside the workers': a second creator is one.
        with ThreadPoolExecutor(context.workers + 1 - creators.qsize()) as pool:
            databases: list[Future[list[UnitResult]]] = []
            logins: dict[str, Future[PasswordCheck | None]] = {}
            passwords = [item.role for item in script.role_statements if isinstance(item, PasswordStatement)]
            made = [role for role in passwords if role not in roles.failed]
            # Where there is no database, one turn without any: a password can change alone.
            groups = list(by_owner.values()) or [[]]
            share, waiting = math.ceil(len(made) / len(groups)), iter(made)
            for items in groups:
                databases.append(pool.submit(each.apply, items))
                logins |= {role: pool.submit(_probe, role, context) for role in islice(waiting, share)}
        return (
            [result for future in databases for result in future.result()],
            {role: future.result() for role, future in logins.items()},
        )


def _probe(role: str, context: ApplyContext) -> PasswordCheck | None:
    if context.is_late:
        return None
    try:
        return context.probe_password(role)
    except OutOfTime:
        return None
    except Exception as error:  # noqa: BLE001 - what one role's login shows is no reason to leave the others
        log_mistake(error)
        return PasswordCheck.UNKNOWN


def _open_create_connections(
    connection: Connection, script: Script, context: ApplyContext, stack: ExitStack
) -> SimpleQueue[Connection]:
    """The connections that create databases; taking one out of the queue keeps others from using it."""
    creators: SimpleQueue[Connection] = SimpleQueue()
    creators.put(connection)
    wanted = min(PARALLEL_CREATES, context.workers, sum(1 for item in script.databases if item.create))
    for _ in range(wanted - 1):
        if another := _another_creator(context, stack):
            creators.put(another)
    return creators


def _another_creator(context: ApplyContext, stack: ExitStack) -> Connection | None:
    # One is enough; where another is not to be had, that is no reason to stop.
    with suppress(SqlError, DatabaseUnavailable, OutOfTime):
        another = stack.enter_context(context.login.connect())
        another.run(context.fence)
        return another
    return None


@dataclass(frozen=True)
class _Databases:
    """Changes databases, those of one owner one after the other."""

    roles: AppliedRoles
    context: ApplyContext
    creators: SimpleQueue[Connection]
    stack: ExitStack
    failed: Event = field(default_factory=Event)

    def apply(self, items: Sequence[DatabaseScript]) -> list[UnitResult]:
        results: list[UnitResult] = []
        is_whole = True
        for item in items:
            # The owner's marker names what it was created for until all of that has a marker of its own.
            own, *others = self._apply(item if is_whole else replace(item, on_success=item.on_abort))
            is_whole = is_whole and own.failure is None
            results += (own, *others)
        return results

    def _apply(self, item: DatabaseScript) -> list[UnitResult]:
        failure, stop = self.roles.failed.get(item.owner), None
        is_adopted = any(change.kind is ChangeKind.ADOPT_DATABASE for change in item.changes)
        if self.failed.is_set() and self.context.fail_fast:
            stop = FAIL_FAST
        elif failure and (item.temporary or is_adopted):
            stop = Finding("skipped", f'its owner "{item.owner}" failed: {failure.message}')
        kept = tuple(change for change in item.changes if not change.concerns(self.roles.absent))
        results = self._send(item, kept, stop)
        if any(result.error for result in results):
            self.failed.set()
        left = tuple(change for change in item.changes if change.concerns(self.roles.absent))
        without_role = Finding("skipped", "a role that it needs could not be created")
        outcomes = (*results[0].outcomes, *skipped_unit(left, without_role).outcomes)
        return [replace(results[0], outcomes=outcomes), *results[1:]]

    def _send(self, item: DatabaseScript, kept: tuple[Change, ...], stop: Finding | None) -> list[UnitResult]:
        """All at once; where that fails, what belongs to other roles than the owner apart, which they can hold."""

        def send(part: DatabaseScript, changes: tuple[Change, ...], whose: str = "") -> UnitResult:
            subject = f'what belongs to role "{whose}" in ' if whose else ""
            about = Finding("apply_failed", f'{subject}database "{item.name}"', database=item.name, username=whose)
            return change_unit(changes, about, partial(self._change, part, changes), self.context, stop=stop)

        result = send(item, kept)
        by_role: dict[str, list[Change]] = {"": []}
        for change in kept:
            others = change.others_objects - {self.context.ownership.server.administrator}
            by_role.setdefault(min(others, default=""), []).append(change)
        own = tuple(by_role.pop(""))
        if not isinstance(result.error, SqlError) or result.error.is_connection_lost or item.open or not by_role:
            return [result]
        result = send(item, own)
        if result.failure:
            return [result, *(skipped_unit(changes, result.failure) for changes in by_role.values())]
        rest = replace(item, on_success=(), temporary=frozenset())
        return [result, *(send(rest, tuple(changes), role) for role, changes in by_role.items())]

    def _change(self, item: DatabaseScript, kept: tuple[Change, ...]) -> None:
        if not kept:
            return
        if item.open:
            self._create(item)
        change_database(replace(item, changes=kept), self.context, as_written=kept == item.changes)

    def _create(self, item: DatabaseScript) -> None:
        """Create a database, closed, and open it from outside once everybody has lost what they had on it."""
        connection = self.creators.get()
        *outside, let_in = item.open

        def open_it() -> None:
            with transaction(connection, leave=False) as last:
                connection.run(*self.context.begin, *outside)
                refuse_empty_grants(connection)
                last.append(let_in)

        try:
            if item.create:
                retry(lambda: connection.run(item.create or ""), self.context)
            retry(open_it, self.context)
        except SqlError as error:
            if error.is_connection_lost:
                # The next database must not pay for this one.
                connection = _another_creator(self.context, self.stack) or connection
            raise
        finally:
            self.creators.put(connection)
