"""Changes a server: a script in, an outcome for each change out; each transaction is proved before it is committed.

Roles come first, in one transaction, or each alone where that fails; then each database, alone or beside others of
other owners. A database's transaction ends with the observation of that database, and is committed only if nothing is
left to change. This is the one place where a failed change becomes a finding of its unit, whatever it failed with.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.database_script import DatabaseScript, database_statements
from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime, ProvisioningError
from provisioner.core.model import Outcome, Status
from provisioner.core.quoting import PasswordStatement, Statement
from provisioner.core.state import PasswordCheck
from provisioner.edges.clock import now_utc
from provisioner.edges.postgres import LOCK_TIMEOUT_MS
from provisioner.edges.sqlstates import LOCK_LOST, SqlError
from provisioner.edges.transaction import (
    MAX_ATTEMPTS,
    ApplyContext,
    change_database,
    refuse_empty_grants,
    retry,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from provisioner.core.role_script import RoleScript
    from provisioner.core.script import LeavingScript, LeavingStep, Script
    from provisioner.edges.postgres import Connection

# How many databases are created at once: more than two gain nothing, the server copies files.
PARALLEL_CREATES = 2
# One message to the server; longer scripts of roles are sent in several, in the one transaction.
STATEMENTS_PER_MESSAGE = 200
# The least that a role is waited for once many others were held.
SHORTEST_LOCK_TIMEOUT_MS = 100
_FAIL_FAST = Finding("skipped", "an earlier change failed and fail_fast is set")
_OUT_OF_TIME = Finding("out_of_time", "the function's time is nearly up", "run again: the next run continues")


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of the changes, and every failure.

    `passwords` are what a login said of each that was set. `out_of_time` says that databases, or such logins, were left
    for the next run.
    """

    outcomes: tuple[Outcome, ...]
    failures: tuple[Finding, ...]
    out_of_time: bool
    passwords: Mapping[str, PasswordCheck]


def apply_script(script: Script, context: ApplyContext) -> ApplyResult:
    """Send a script; what fails keeps back what depends on it, or all that is not started where `fail_fast` says so."""
    try:
        connection = context.login.connect()
    except Exception as error:  # noqa: BLE001 - no unit was started, and each has to be told of
        changes = [item.changes for item in script.roles] + [item.changes for item in script.databases]
        if isinstance(error, OutOfTime):
            return _summarize([_left_for_the_next_run(each) for each in changes], {})
        failure = _failure(error, "the server", context)
        return _summarize([UnitResult((), failure), *(_skipped(each, failure) for each in changes)], {})
    with connection:
        roles = _apply_roles(connection, script.roles, context)
        databases, logins = _apply_databases(connection, script, roles, context)
        done = {outcome.database for result in databases for outcome in result.outcomes if outcome.is_success}
        _revoke_temporary_memberships(connection, [item for item in script.databases if item.name not in done])
    return _summarize([*roles.results, *databases], logins)


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What came of one role or database."""

    outcomes: tuple[Outcome, ...]
    failure: Finding | None = None
    skipped: bool = False
    out_of_time: bool = False


@dataclass(slots=True)
class _Roles:
    """What became of the roles: why each failed, which do not exist for that, and what ends it all."""

    results: list[UnitResult] = field(default_factory=list)
    failed: dict[str, Finding] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    stop: Finding | None = None

    def add(self, role: RoleScript, result: UnitResult) -> None:
        self.results.append(result)
        if result.failure or result.out_of_time:
            self.failed[role.name] = result.failure or _OUT_OF_TIME
            if any(change.kind is ChangeKind.CREATE_ROLE for change in role.changes):
                self.absent.add(role.name)


def _summarize(results: Sequence[UnitResult], logins: Mapping[str, PasswordCheck | None]) -> ApplyResult:
    return ApplyResult(
        outcomes=tuple(outcome for result in results for outcome in result.outcomes),
        failures=tuple(dict.fromkeys(result.failure for result in results if result.failure and not result.skipped)),
        out_of_time=any(result.out_of_time for result in results) or None in logins.values(),
        passwords={role: check for role, check in logins.items() if check is not None},
    )


# --- roles ----------------------------------------------------------------------------------------------------------


def _apply_roles(connection: Connection, scripts: Sequence[RoleScript], context: ApplyContext) -> _Roles:
    """All in one transaction; where that fails each alone, so that who fails is known and costs no other anything."""
    roles, begun = _Roles(), time.monotonic()
    # A verifier takes a millisecond, most of it outside of Python, and a role more than that of the server: those of a
    # message are made beside each other, and beside the message before.
    with ThreadPoolExecutor(context.workers) as pool:
        passwords = (item.role for role in scripts for item in role.statements if isinstance(item, PasswordStatement))
        verifiers = {name: pool.submit(context.make_verifier, name) for name in passwords}
        send = partial(_send_roles, connection, verifiers, context)
        if len(scripts) > 1:
            changes = [change for role in scripts for change in role.changes]
            try:
                send(scripts)
            except Exception as error:  # noqa: BLE001 - each is tried alone, and then told of
                if _ends_everything(error):
                    roles.stop = _failure(error, "the roles", context)
                    roles.results = [_failed(error, changes, begun, "the roles", context)]
                    return roles
            else:
                roles.results = [UnitResult(_outcomes(changes, Status.SUCCESS, begun))]
                return roles
        for role in scripts:
            roles.add(role, _apply_role(role, roles, send, context))
    return roles


def _apply_role(role: RoleScript, roles: _Roles, send: Callable[..., None], context: ApplyContext) -> UnitResult:
    if roles.stop:
        return _skipped(role.changes, roles.stop)
    if context.is_late:
        return _left_for_the_next_run(role.changes)
    begun = time.monotonic()
    try:
        send([role], failed=len(roles.failed))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this role's
        result = _failed(error, role.changes, begun, f'role "{role.name}"', context, username=role.name)
        if _ends_everything(error) or context.fail_fast:
            roles.stop = (result.failure or _OUT_OF_TIME) if _ends_everything(error) else _FAIL_FAST
        return result
    return UnitResult(_outcomes(role.changes, Status.SUCCESS, begun))


def _send_roles(
    connection: Connection,
    verifiers: Mapping[str, Future[str]],
    context: ApplyContext,
    scripts: Sequence[RoleScript],
    *,
    failed: int = 0,
) -> None:
    """Send roles in one transaction; one alone waits, and is tried again, the less the more have `failed` before it.

    So many roles that are all held cost twice as much as one, and not each its whole time-out.
    """

    def complete(item: Statement | PasswordStatement) -> Statement:
        return item.complete(verifiers[item.role].result()) if isinstance(item, PasswordStatement) else item

    def send() -> None:
        wait = f"SET LOCAL lock_timeout = {max(LOCK_TIMEOUT_MS >> failed, SHORTEST_LOCK_TIMEOUT_MS)}"
        statements = [Statement(text) for text in (*context.begin, wait)]
        statements += [item for role in scripts for item in role.statements]  # type: ignore[misc]
        with transaction(connection, leave=False):
            for start in range(0, len(statements), STATEMENTS_PER_MESSAGE):
                message = statements[start : start + STATEMENTS_PER_MESSAGE]
                connection.run(*map(complete, message), secret=True)
                refuse_empty_grants(connection)

    # Where several are sent together, one that is busy is told from the others before it is tried again.
    retry(send, context, tries=1 if len(scripts) > 1 else max(MAX_ATTEMPTS >> failed, 1))


def _ends_everything(error: Exception) -> bool:
    """Whether no role and no database could be changed any more."""
    return isinstance(error, OutOfTime) or (
        isinstance(error, SqlError) and (error.is_connection_lost or error.sqlstate == LOCK_LOST)
    )


def _revoke_temporary_memberships(connection: Connection, not_done: Iterable[DatabaseScript]) -> None:
    """Give back the owners whose last database was not reached, as far as the connection still allows.

    Where it does not, the marker on the role says so, and the next run gives it back.
    """
    for item in not_done:
        if item.on_abort:
            with suppress(SqlError, OutOfTime):
                connection.run(*item.on_abort)


# --- databases ------------------------------------------------------------------------------------------------------


def _apply_databases(
    connection: Connection, script: Script, roles: _Roles, context: ApplyContext
) -> tuple[list[UnitResult], dict[str, PasswordCheck | None]]:
    """Change the databases, and log in once as each role whose password was set; None where there was no time for it.

    The two take turns: most of a new database is waiting for the server to copy it.
    """
    if roles.stop:
        return [_skipped(item.changes, roles.stop) for item in script.databases], {}
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
        context.log_mistake(error)
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

    roles: _Roles
    context: ApplyContext
    creators: SimpleQueue[Connection]
    stack: ExitStack
    failed: Event = field(default_factory=Event)

    def apply(self, items: Sequence[DatabaseScript]) -> list[UnitResult]:
        results: list[UnitResult] = []
        for item in items:
            is_whole = all(result.failure is None and not result.out_of_time for result in results)
            # The owner's marker names what it was created for until all of that has a marker of its own.
            results.append(self._apply(item if is_whole else replace(item, on_success=item.on_abort)))
        return results

    def _apply(self, item: DatabaseScript) -> UnitResult:
        if self.failed.is_set() and self.context.fail_fast:
            return _skipped(item.changes, _FAIL_FAST)
        if self.context.is_late:
            return _left_for_the_next_run(item.changes)
        failure = self.roles.failed.get(item.owner)
        if failure and (
            item.uses_temporary_membership or any(change.kind is ChangeKind.ADOPT_DATABASE for change in item.changes)
        ):
            return _skipped(item.changes, Finding("skipped", f'its owner "{item.owner}" failed: {failure.message}'))
        begun = time.monotonic()
        kept = tuple(change for change in item.changes if not change.concerns(self.roles.absent))
        try:
            self._change(item, kept)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this database's
            self.failed.set()
            result = _failed(error, kept, begun, f'database "{item.name}"', self.context, database=item.name)
        else:
            result = UnitResult(_outcomes(kept, Status.SUCCESS, begun))
        left = tuple(change for change in item.changes if change.concerns(self.roles.absent))
        reason = "a role that it needs could not be created"
        return replace(result, outcomes=(*result.outcomes, *_outcomes(left, Status.SKIPPED, begun, reason)))

    def _change(self, item: DatabaseScript, kept: tuple[Change, ...]) -> None:
        context = self.context
        if kept != item.changes:
            temporary = frozenset({item.owner}) if item.uses_temporary_membership else frozenset()
            inside = [change for change in kept if change not in item.changes_outside]
            statements = database_statements(inside, item.database, context.ownership, temporary=temporary)
            item = replace(item, changes=kept, statements=statements)
        if not kept:
            return
        if item.open:
            self._create(item)
        change_database(item, context.blocked_roles | self.roles.absent, context)

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


# --- roles that leave -------------------------------------------------------------------------------------------------


def apply_departures(
    script: Script, before: ApplyResult, change: Callable[[LeavingScript, LeavingStep], None], context: ApplyContext
) -> ApplyResult:
    """Let roles leave one after the other, after all else; what fails keeps back the further steps of its role."""
    results: list[UnitResult] = []
    stop = _FAIL_FAST if before.failures and context.fail_fast else None
    for item in script.leaving:
        failed = stop
        for step in item.steps:
            begun = time.monotonic()
            if failed:
                results.append(_skipped(step.changes, failed))
            elif context.is_late or before.out_of_time:
                results.append(_left_for_the_next_run(step.changes))
            else:
                try:
                    change(item, step)
                    results.append(UnitResult(_outcomes(step.changes, Status.SUCCESS, begun)))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this role's
                    subject = f'role "{item.role}"' + (f' in database "{step.database}"' if step.database else "")
                    results.append(_failed(error, step.changes, begun, subject, context, username=item.role))
                    failed = Finding("skipped", f'an earlier step failed: role "{item.role}" stays quarantined')
                    stop = _FAIL_FAST if context.fail_fast else None
    after = _summarize(results, {})
    return ApplyResult(
        (*before.outcomes, *after.outcomes),
        (*before.failures, *after.failures),
        before.out_of_time or after.out_of_time,
        before.passwords,
    )


# --- both -----------------------------------------------------------------------------------------------------------


def _outcomes(changes: Iterable[Change], status: Status, begun: float, message: str = "") -> tuple[Outcome, ...]:
    now = now_utc()
    duration = round((time.monotonic() - begun) * 1000)
    return tuple(change.outcome(status, now, message, duration) for change in changes)


def _skipped(changes: Sequence[Change], reason: Finding) -> UnitResult:
    return UnitResult(_outcomes(changes, Status.SKIPPED, time.monotonic(), str(reason)), reason, skipped=True)


def _left_for_the_next_run(changes: Sequence[Change]) -> UnitResult:
    outcomes = _outcomes(changes, Status.SKIPPED, time.monotonic(), str(_OUT_OF_TIME))
    return UnitResult(outcomes, skipped=True, out_of_time=True)


def _failed(
    error: Exception,
    changes: Sequence[Change],
    begun: float,
    subject: str,
    context: ApplyContext,
    *,
    database: str = "",
    username: str = "",
) -> UnitResult:
    failure = _failure(error, subject, context, database=database, username=username)
    outcomes = _outcomes(changes, Status.ERROR, begun, str(failure))
    if isinstance(error, OutOfTime):
        return UnitResult(outcomes, out_of_time=True)
    return UnitResult(outcomes, failure)


def _failure(
    error: Exception, subject: str, context: ApplyContext, *, database: str = "", username: str = ""
) -> Finding:
    if isinstance(error, ProvisioningError):
        return replace(error.findings[0], database=database, username=username)
    if isinstance(error, SqlError):
        message, next_step = f"{subject} could not be changed: {error}", error.next_step
        return Finding("apply_failed", message, next_step, database=database, username=username)
    # Its text may hold anything, so only its kind is told; the log has the place.
    context.log_mistake(error)
    message = f"{subject} could not be changed: the run met a mistake of its own ({type(error).__name__})"
    next_step = "report it with the log of this run; the next run tries it again"
    return Finding("unexpected", message, next_step, database=database, username=username)
