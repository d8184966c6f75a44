"""Roles: scripts in, what came of each out; all in one transaction, or each alone where that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from provisioner.core.changes import ChangeKind
from provisioner.core.errors import Finding, OutOfTime
from provisioner.core.quoting import PasswordStatement, Statement
from provisioner.core.role_script import RoleScript
from provisioner.edges.postgres import LOCK_TIMEOUT_MS, Connection
from provisioner.edges.sqlstates import LOCK_LOST, SqlError
from provisioner.edges.transaction import MAX_ATTEMPTS, ApplyContext, refuse_empty_grants, retry, transaction
from provisioner.edges.unit_results import FAIL_FAST, UnitResult, change_unit

# One message to the server; longer scripts of roles are sent in several, in the one transaction.
STATEMENTS_PER_MESSAGE = 200
# The least that a role is waited for once many others were held.
SHORTEST_LOCK_TIMEOUT_MS = 100


@dataclass(slots=True)
class AppliedRoles:
    """What became of the roles: why each failed, which do not exist for that, and what ends it all."""

    results: list[UnitResult] = field(default_factory=list)
    failed: dict[str, Finding] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    stop: Finding | None = None

    def add(self, role: RoleScript, result: UnitResult) -> None:
        self.results.append(result)
        if result.failure:
            self.failed[role.name] = result.failure
            if any(change.kind is ChangeKind.CREATE_ROLE for change in role.changes):
                self.absent.add(role.name)


def apply_roles(connection: Connection, scripts: Sequence[RoleScript], context: ApplyContext) -> AppliedRoles:
    """All in one transaction; where that fails each alone, so that who fails is known and costs no other anything."""
    roles = AppliedRoles()
    # A verifier takes a millisecond, most of it outside of Python, and a role more than that of the server: those of a
    # message are made beside each other, and beside the message before.
    with ThreadPoolExecutor(context.workers) as pool:
        passwords = (item.role for role in scripts for item in role.statements if isinstance(item, PasswordStatement))
        verifiers = {name: pool.submit(context.make_verifier, name) for name in passwords}
        send = partial(_send_roles, connection, verifiers, context)
        if len(scripts) > 1:
            changes = [change for role in scripts for change in role.changes]
            result = change_unit(changes, Finding("apply_failed", "the roles"), partial(send, scripts), context)
            if result.error is None or _ends_everything(result.error):
                return AppliedRoles([result], stop=result.failure)
        for role in scripts:
            about = Finding("apply_failed", f'role "{role.name}"', username=role.name)
            change = partial(send, [role], failed=len(roles.failed))
            result = change_unit(role.changes, about, change, context, stop=roles.stop)
            if result.error and (_ends_everything(result.error) or context.fail_fast):
                roles.stop = result.failure if _ends_everything(result.error) else FAIL_FAST
            roles.add(role, result)
    return roles


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
