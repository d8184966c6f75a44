"""What the server does not show once the changes are made: an observation from outside the databases in, findings out.

What is inside a database has been proved in its own transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import attrgetter

from provisioner.core import leaving
from provisioner.core.changes import MAKES_OURS, Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.roles import role_changes
from provisioner.core.state import PasswordCheck


def verify_roles_and_markers(
    ownership: Ownership, made: Collection[Change], left: Collection[Change] = ()
) -> tuple[Finding, ...]:
    """What is not seen of roles and markers after the changes that were `made`; `left` are blocked or failed ones."""
    findings = [
        Finding(
            "not_as_declared",
            f"{change.action} ({change.detail}) was done, but the server does not show it",
            "run again; if it stays, see the runbook",
            database=change.database,
            username=change.username,
        )
        for change in (*_roles(ownership, left), *_markers(ownership, made), *_departures(ownership, made))
    ]
    for role, check in sorted(ownership.server.passwords.items()):
        if check is PasswordCheck.UNKNOWN:
            message = f'the new password of role "{role}" was set, but what a login with it was told says nothing of it'
            next_step = "run again, which logs in once more; if it stays, try to log in as the application"
            findings.append(Finding("password_not_proved", message, next_step, username=role))
    return tuple(findings)


def _roles(ownership: Ownership, left: Iterable[Change]) -> Iterable[Change]:
    """What roles still lack: not those that were left, nor the note of one whose databases were."""
    left_roles = {change.username for change in left if not change.database}
    creating = {role for change in left if change.database for role in change.acting_roles}
    for change in sorted(role_changes(ownership), key=attrgetter("order")):
        is_note = change.kind is ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP and change.username in creating
        if change.username not in left_roles and not is_note:
            yield change


def _markers(ownership: Ownership, made: Iterable[Change]) -> Iterable[Change]:
    for change in made:
        database = ownership.server.databases.get(change.database)
        is_seen = database and database.owner == change.username and has_marker(database, ownership.environment)
        if change.kind in MAKES_OURS and not is_seen:
            yield change


def _departures(ownership: Ownership, made: Iterable[Change]) -> Iterable[Change]:
    # What passed on, and is proved by its own transaction, is there in the holdings, which are of before.
    inside = {ChangeKind.KEEP_DATABASE, ChangeKind.PASS_OBJECTS}
    made_actions = {(change.action, change.username) for change in made if change.kind not in inside}
    outside = (*leaving.restorations(ownership), *leaving.departures(ownership))
    return [change for change in outside if (change.action, change.username) in made_actions]
