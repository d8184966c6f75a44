"""An interrupted run's record in, and the server as it is; the rows that the run owes out.

Before its first change a run stores a record in the audit bucket, and clears it when its rows are stored. Whoever
finds it knows the stored plan of that run, looks for each of its changes on the server, and writes the rows that
the trail lacks: `success` for what the server shows, whatever has been declared since, and `unknown` for the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from provisioner.core.audit import AuditRow, build_rows
from provisioner.core.changes import Change, ChangeKind, PlannedChange, build_outcome
from provisioner.core.kinds import ObjectKind
from provisioner.core.model import Outcome, Status
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.state import Database, ObjectGroup, PasswordCheck, Role
from provisioner.core.stored_plan import StoredPlan, UnreadableRecord
from provisioner.core.text import sanitize


@dataclass(frozen=True, slots=True)
class InProgress:
    """The record: the run's token, and the keys under which its plan is stored and its rows would be."""

    run_token: str
    plan_key: str
    run_key: str

    @property
    def recovered_key(self) -> str:
        """Where the rows are kept that others write for it."""
        return f"{self.run_key.removesuffix('.csv')}-settled.csv"


def render_in_progress(run: InProgress | None) -> str:
    """The record of a run, or the one that says that none is in progress."""
    if run is None:
        return "{}\n"
    return json.dumps({"run_token": run.run_token, "plan": run.plan_key, "run": run.run_key}) + "\n"


def parse_in_progress(content: bytes | None, folder: str) -> InProgress | None:
    """Read a record; None where no run is in progress. `folder` is where the objects of the environment lie.

    Raises UnreadableRecord: it is no record, or one that names objects of somebody else's.
    """
    try:
        value = json.loads(content or b"")
        if value == {}:
            return None
        run = InProgress(sanitize(value["run_token"], 128), value["plan"], value["run"])
        for key, shape in ((run.plan_key, "plans/{}.json"), (run.run_key, "runs/{}.csv")):
            if not re.fullmatch(re.escape(f"{folder}/") + shape.format("[A-Za-z0-9._-]{1,400}"), key):
                raise UnreadableRecord("a key of somebody else's")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UnreadableRecord("it is no record that a run stored") from None
    return run


def recovered_rows(
    plan: StoredPlan,
    told: Sequence[AuditRow],
    still_to_do: Iterable[Change],
    ownership: Ownership,
    run_token: str,
    timestamp_utc: str,
) -> tuple[AuditRow, ...]:
    """The rows that a run owes: its changes of which its own rows (`told`) say nothing certain.

    A run that got no answer to a COMMIT may have made a change without knowing, so an error is not certain. What is
    still to be done today has its row in the run of today.
    """
    left = {change.identity for change in still_to_do}
    made = {_key(row) for row in told if row.status is Status.SUCCESS}
    not_begun = {_key(row)[:-1] for row in told if row.status is Status.SKIPPED}
    note, ended = plan.approval, how_it_ended(told)
    successes = (build_outcome(item, Status.SUCCESS, timestamp_utc, item.detail + note) for item in plan.changes)
    told_as = build_rows(plan.provenance, successes)
    owed = [
        _outcome(
            item, timestamp_utc, f"{note}; planned by run {run_token}, which {ended}", shown=shows(ownership, item)
        )
        for item, row in zip(plan.changes, told_as, strict=True)
        if item.identity not in left and _key(row) not in made and _key(row)[:-1] not in not_begun
    ]
    return build_rows(plan.provenance, owed)


def how_it_ended(told: Sequence[AuditRow]) -> str:
    """In words, by the rows that it stored itself: the last thing that a run does."""
    return "ended with errors" if told else "was cut off"


def shows(ownership: Ownership, change: PlannedChange) -> bool:
    """Whether the server positively shows what a change was to make; what was not looked at shows nothing."""
    role, database = ownership.server.roles.get(change.username), ownership.server.databases.get(change.database)
    holdings = ownership.leaving.holdings.get(change.username)
    if change.action == "pass_objects" and holdings:
        there = holdings.inside(change.database)
        return there.is_empty and not (there.refusal or holdings.refusal)
    if change.action in {"pass_objects", "drop_role"}:
        # What was to pass on before the role goes has passed on when it is gone.
        return role is None
    if change.database:
        return database is not None and _database_shows(ownership, change, database)
    return role is not None and has_marker(role, ownership.environment) and _role_shows(ownership, change, role)


def _role_shows(ownership: Ownership, change: PlannedChange, role: Role) -> bool:
    marker, what = role.marker, change.identity[-1]
    attributes = Change(
        ChangeKind.ALTER_ROLE,
        createdb=role.createdb,
        createrole=role.createrole,
        connection_limit=role.connection_limit,
    ).detail
    member_of = {item.role for item in ownership.memberships_of.get(role.name, ())}
    has_sessions = role.name in ownership.leaving.sessions
    shown = {
        "create_role": True,
        "adopt_role": True,
        "quarantine_role": bool(marker.quarantined) and not role.can_login and not has_sessions,
        "restore_role": not marker.quarantined,
        "finish": not marker.creating and not marker.has_temporary_membership,
        "alter_role": set(what.split(", ")) <= set(attributes.split(", ")),
        "set_password": ownership.server.passwords.get(role.name) is PasswordCheck.CURRENT,
        "revoke_membership": what in ownership.server.roles and what not in member_of,
    }
    return shown.get(change.action, False)


def _database_shows(ownership: Ownership, change: PlannedChange, database: Database) -> bool:
    marker, owner = database.marker, ownership.server.roles.get(change.username)
    is_ours, is_its = has_marker(database, ownership.environment), database.owner == change.username
    is_creating = owner is not None and database.name in owner.marker.creating
    shown = {
        "create_database": is_its and (is_ours or is_creating),
        "adopt_database": is_ours,
        "create_extension": change.identity[-1] in database.extensions,
        "give_database": is_its,
        "keep_database": bool(marker.kept) and marker.kept_from == change.username,
    }
    return shown[change.action] if change.action in shown else _grants_show(change, database)


def _grants_show(change: PlannedChange, database: Database) -> bool:
    """Whether all objects that a grant was for have it, or none of those that a revocation was for."""
    if len(change.identity) < 10:
        return False
    action, _, grantee, kind, schema, creator, extension, option, privileges, grantor, *owners = change.identity
    target = ObjectKind.TABLE.value if kind == ObjectKind.COLUMN and action == "revoke" else kind
    here = [
        group
        for group in database.groups
        if (group.target.schema, group.target.creator) == (schema, creator)
        and (not extension or group.target.extension)
        and group.target.owner in owners
    ]
    groups = [group for group in here if group.target.kind.value == kind]
    wanted = {(grantor, grantee, privilege) for privilege in privileges.split(", ")}
    if action.startswith("grant"):
        return bool(groups) and all(wanted <= _held(group, option=option) for group in groups)
    # The row of a default privilege goes with the last that it holds; of an object that is gone nothing can be said.
    of_objects = [group for group in here if group.target.kind.value == target]
    was_looked_at = [group for group in database.groups if group.target.is_schema] if creator else of_objects
    return bool(was_looked_at) and all(wanted.isdisjoint(_held(group, option=option)) for group in groups)


def _held(group: ObjectGroup, *, option: str) -> set[tuple[str, str, str]]:
    return {(item.grantor, item.grantee, item.privilege) for item in group.items if item.grant_option or not option}


def _outcome(item: PlannedChange, timestamp_utc: str, note: str, *, shown: bool) -> Outcome:
    found = "and found to stand" if shown else "and the server does not show whether it was made"
    status = Status.SUCCESS if shown else Status.UNKNOWN
    return build_outcome(item, status, timestamp_utc, f"{item.detail}{note}, {found}")


def _key(row: AuditRow) -> tuple[str, ...]:
    return (row.action, row.database, row.username, row.message)
