"""The statements of a plan, in the order and the transactions in which they are sent: plan and scope in, script out.

A dry run stores the script and an apply sends it, so what was shown is what is done. Acting in the place of another
role takes a membership in it. Inside one database's transaction that is borrowed and given back unseen; only CREATE
DATABASE cannot run in a transaction, so for its time the membership stands, and the role's marker says so: a run that
is interrupted in between leaves a note that the next one can read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.database_script import DatabaseScript, write_database_script
from provisioner.core.difference import Difference
from provisioner.core.leaving import DEPARTURES, is_quarantined
from provisioner.core.marker import parse_marker
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import PasswordStatement, Statement
from provisioner.core.role_script import RoleComments, RoleScript, write_role_script
from provisioner.core.state import Marker


@dataclass(frozen=True, slots=True)
class LeavingStep:
    """One transaction of a role that leaves, in a database or, where none is named, in the administrator's own.

    `before` and `after` stand around the statements and around those for what is found by then: the memberships that
    they take.
    """

    change: Change
    statements: tuple[Statement, ...]
    database: str
    before: tuple[Statement, ...]
    after: tuple[Statement, ...]

    @property
    def role(self) -> str:
        return self.change.username

    @property
    def ends_sessions(self) -> bool:
        """Whether those of the role are ended when it is committed."""
        return self.change.kind is ChangeKind.QUARANTINE_ROLE


@dataclass(frozen=True, slots=True)
class Script:
    """The roles, in one transaction; then each database, those of one owner one after the other; then who leaves.

    The steps of one role stand together; none is started after one of them that failed.
    """

    roles: tuple[RoleScript, ...]
    databases: tuple[DatabaseScript, ...]
    leaving: tuple[LeavingStep, ...] = ()

    @property
    def role_statements(self) -> tuple[Statement | PasswordStatement, ...]:
        return tuple(item for role in self.roles for item in role.statements)


def write_script(changes: Sequence[Change], ownership: Ownership, differences: Iterable[Difference]) -> Script:
    """Write the statements of ordered changes; `differences` are of the databases that they are made in."""
    databases = {each.database.name: each.database for each in differences}
    by_role: dict[str, list[Change]] = {}
    by_database: dict[str, list[Change]] = {}
    departing: dict[str, list[Change]] = {}
    creating: dict[str, list[str]] = {}
    for change in changes:
        if change.kind in DEPARTURES:
            departing.setdefault(change.username, []).append(change)
        elif change.database:
            by_database.setdefault(change.database, []).append(change)
        else:
            by_role.setdefault(change.unit_role, []).append(change)
        # What an interrupted run created and could not mark is told by its owner's marker alone: that stays as long.
        if change.kind is ChangeKind.CREATE_DATABASE or (
            change.kind is ChangeKind.ADOPT_DATABASE and ownership.is_interrupted_create(databases[change.database])
        ):
            creating.setdefault(change.username, []).append(change.database)
    limits = {change.username: change.connection_limit for change in changes if change.connection_limit is not None}
    comments = RoleComments(ownership, creating, limits)
    roles = sorted(by_role.keys() | creating.keys())
    return Script(
        tuple(write_role_script(role, by_role.get(role, ()), comments) for role in roles),
        tuple(write_database_script(databases[name], members, comments) for name, members in by_database.items()),
        tuple(_leaving_step(change, ownership) for members in departing.values() for change in members),
    )


# What is done in the database itself.
_INSIDE = frozenset({ChangeKind.PASS_OBJECTS, ChangeKind.GIVE_DATABASE})


def _leaving_step(change: Change, ownership: Ownership) -> LeavingStep:
    acts_as, statements = _leaving_statements(change, ownership)
    borrowed = sorted(role for role in acts_as if ownership.needs_membership(role))
    with_options = ownership.server.has_membership_options
    drop = [ddl.drop_role(change.username)] if change.kind is ChangeKind.DROP_ROLE else []
    return LeavingStep(
        change,
        tuple(statements),
        change.database if change.kind in _INSIDE else "",
        before=tuple(ddl.grant_self(role, with_options=with_options) for role in borrowed),
        after=(*map(ddl.revoke_self, borrowed), *drop),
    )


def _leaving_statements(change: Change, ownership: Ownership) -> tuple[Collection[str], Sequence[Statement]]:
    """In whose place a step is done, and what is known of it before it is started."""
    name, database, now = change.username, change.database, ownership.leaving.now
    if change.kind is ChangeKind.QUARANTINE_ROLE:
        role = ownership.server.roles[name]
        # One that logs in by IAM is lent to nobody. Up to 14 a role grants itself, and by that keeps us waiting for it.
        lent = {name} if ownership.may_act_as(name, "") else set()
        ended_as = {"pg_signal_backend"} if lent and ownership.server.version < 15 else lent
        # The mark tells of no cut-off run any more, so what that borrowed goes back with it.
        marker = replace(RoleComments(ownership, {}, {}).final(name), quarantined=now, login=role.can_login)
        back = [ddl.revoke_self(name)] if role.marker.has_temporary_membership and name not in ended_as else []
        statements = [ddl.set_login(name, login=False), *back, ddl.set_role_marker(name, marker)]
        return ended_as, () if is_quarantined(role) else statements
    if change.kind is ChangeKind.GIVE_DATABASE:
        marker = Marker(ownership.environment, comment=ownership.server.databases[database].marker.comment)
        taken = [ddl.set_owner("DATABASE", database, name), ddl.grant_database("CONNECT", database)]
        return {name}, [*taken, ddl.set_database_marker(database, marker)]
    holdings = ownership.leaving.holdings[name]
    if change.kind is ChangeKind.DROP_ROLE:
        granted = [ddl.revoke_granted(role, member, name) for role, member in holdings.granted]
        return {name} if granted else (), granted
    holding = holdings.inside(database)
    if change.kind is ChangeKind.PASS_OBJECTS:
        return change.acting_roles, [ddl.reassign_owned(name, change.owner)] if holding.owned else []
    statements = [ddl.set_owner("DATABASE", database, ownership.server.administrator)]
    # Its owner may have revoked what an owner has.
    statements += [ddl.grant_database("ALL", database), ddl.unset_template(database)]
    statements += [text for holder in holding.holders for text in ddl.revoke_from("DATABASE", [database], holder)]
    comment = parse_marker(holding.comment).comment
    marker = Marker(ownership.environment, comment=comment, kept=now, kept_from=name)
    return {name}, [*statements, ddl.set_database_marker(database, marker)]
