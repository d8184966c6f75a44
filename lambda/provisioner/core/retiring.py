"""How a quarantined role goes for good: what it holds in, the changes that hand it over, and what stands against.

Its own databases pass to the administrator, closed to everybody else and marked as kept; what it owns elsewhere passes
to the owner of that database. Nothing is ever dropped but the role itself: objects change their owner, privileges are
revoked one by one, and the server refuses to drop a role that anything still depends on.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.holdings import DatabaseHoldings, Obstacle, PassedOn, RoleHoldings
from provisioner.core.kept import is_kept
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import quote
from provisioner.core.state import DATABASE_OWNER, PUBLIC
from provisioner.core.text import count, join_names


def successor(holding: DatabaseHoldings, role: str, ownership: Ownership) -> str:
    """Who gets what a role owns in a database; empty where nobody is ours to give it to."""
    database = ownership.server.databases.get(holding.database)
    if holding.owner == role or (database and is_kept(database, ownership)):
        return ownership.server.administrator
    declared = ownership.declared_owner(holding.database)
    is_ours = ownership.manages(holding.owner) and declared in {"", holding.owner}
    return holding.owner if is_ours else ""


def keeps(grantee: str, database: str, ownership: Ownership) -> bool:
    """Whether somebody keeps what a role that is retired passed on to it: what is declared follows from the levels."""
    return grantee not in ownership.levels.get(database, {})


def granted_again(passed_on: Iterable[PassedOn], database: str, ownership: Ownership) -> list[PassedOn]:
    """What would be lost with a role by those who keep it; who has it of one that keeps it loses nothing."""
    return [
        item
        for item in passed_on
        if keeps(item.grantee, database, ownership) and not (item.grantor and keeps(item.grantor, database, ownership))
    ]


def retirement(role: str, ownership: Ownership) -> Iterable[Change]:
    """The changes by which a role goes."""
    me, holdings = ownership.server.administrator, _holdings(role, ownership)
    for holding in holdings.databases:
        if holding.owner == role:
            quoted = (name if name == PUBLIC else f'"{name}"' for name in (role, *holding.holders))
            names = join_names(quoted, most=100)
            reason = f'kept: passes to "{me}" and is closed to everybody else, to {names}'
            yield Change(ChangeKind.KEEP_DATABASE, database=holding.database, username=role, reason=reason)
        if not holding.is_empty:
            yield _passing_on(role, holding, successor(holding, role, ownership) or holding.owner, ownership)
    yield Change(ChangeKind.DROP_ROLE, username=role, reason="; ".join(_what_goes(role, ownership)))


def _passing_on(role: str, holding: DatabaseHoldings, heir: str, ownership: Ownership) -> Change:
    """What a role owns in a database passes to its heir there, and what it was given is revoked."""
    owned = ", ".join(count(number, kind) for kind, number in holding.owned)
    goes = [(holding.grants, "grant"), (holding.defaults, "default privilege")]
    gone = " and ".join(count(sum(number for _, number in given), noun) for given, noun in goes if given)
    parts = [f'{owned} to "{heir}"' if owned else "", f"{gone} to it or of it revoked" if gone else ""]
    parts += _what_becomes(holding, ownership, "{} ({})")
    roles = {role, *holding.granted_by, *([heir] if holding.owned else [])}
    acts_as = frozenset(heir if name == DATABASE_OWNER else name for name in roles)
    return Change(
        ChangeKind.PASS_OBJECTS,
        database=holding.database,
        username=role,
        owner=heir,
        acts_as=acts_as,
        reason="; ".join(part for part in parts if part),
        # What is approved: which kinds pass to whom, and in whose place; the numbers may change.
        subject="; ".join(
            [heir, *(kind for kind, _ in holding.owned), *sorted(acts_as), *_what_becomes(holding, ownership, "{}")]
        ),
    )


def _what_becomes(holding: DatabaseHoldings, ownership: Ownership, words: str) -> Iterable[str]:
    """By grantee what becomes of what a role was granted and has passed on; `words` say a privilege and how often."""
    for grantee, items in groupby(holding.passed_on, key=itemgetter(0)):
        name = "everybody" if grantee == PUBLIC else f'"{grantee}"'
        fate = "stay" if keeps(grantee, holding.database, ownership) else "go"
        passed_on = (words.format(privilege, count(number, "object")) for _, privilege, number in items)
        yield f"its grants to {name} {fate}: {', '.join(passed_on)}"


def members_of(role: str, ownership: Ownership) -> str:
    """The names of a role's members beside the administrator."""
    members = {item.member for item in ownership.memberships_in.get(role, ())} - {ownership.server.administrator}
    return join_names(sorted(members), most=100)


def _what_goes(role: str, ownership: Ownership) -> Iterable[str]:
    yield f"retired: quarantined since {ownership.server.roles[role].marker.quarantined}"
    if groups := sorted(item.role for item in ownership.memberships_of.get(role, ())):
        yield f"no longer a member of {join_names(groups)}"
    if members := members_of(role, ownership):
        yield f"its members {members} lose what it had"
    if granted := [f'"{member}" in "{group}"' for group, member in _holdings(role, ownership).granted]:
        yield f"memberships that it granted go: {join_names(granted, most=100)}"


# --- blockers -------------------------------------------------------------------------------------------------------

# What stands in the way by kind, and what a person does about it.
_OBSTACLES = {
    "superuser": (
        "owns or may use {}, which is a superuser's to hand over",
        "as a superuser: ALTER ... OWNER TO another role, or REVOKE ALL ON ... FROM {role}",
    ),
    "user_mapping": (
        "has {}, which is for nobody else",
        "as the server's owner: DROP USER MAPPING FOR {role} SERVER ...",
    ),
    "policy": ("is named by {}", "as the table's owner: ALTER POLICY ... TO another role"),
    "initial_privilege": (
        "is named by what extensions granted at first: {}",
        "as the extension's owner: ALTER EXTENSION ... DROP it, REVOKE ALL ON it FROM {role}, ADD it again",
    ),
    "server": (
        "owns the foreign server {}, and who would get it may not use its wrapper",
        "as the wrapper's owner: GRANT USAGE ON FOREIGN DATA WRAPPER ... TO {successor}",
    ),
    "schema": (
        "owns {}, where who would get it may not create",
        "as the schema's owner: GRANT CREATE ON SCHEMA ... TO {successor}",
    ),
    "code": (
        "owns {}, which runs code of a tenant's by an index, a trigger, a default or the like: as {successor} then",
        "look at it; then, as {role}, drop what runs it, or as a member of both: ALTER TABLE ... OWNER TO {successor}",
    ),
    "definer": (
        "owns {}, SECURITY DEFINER: it would run with the rights of {successor}",
        "look at it; then, as {role}: ALTER ROUTINE ... SECURITY INVOKER, or as a member of both: OWNER TO {successor}",
    ),
    "view": (
        "owns {}, whose query or rules reach what the role could not: with the rights of {successor} then",
        "look at it; then, as a member of both: ALTER TABLE ... OWNER TO {successor}",
    ),
    "database": (
        "owns {}, and who would get it may not create in that database",
        "as its owner: GRANT CREATE ON DATABASE ... TO {successor}",
    ),
    "grantor": (
        "has grants of who is a member of the owner, which would revoke the owner's in their place: {}",
        "as the owner: REVOKE that membership for now, or REVOKE GRANT OPTION FOR ... FROM who granted it CASCADE",
    ),
    "prepared_lock": ("owns {}, on which a prepared transaction holds a lock", "COMMIT PREPARED or ROLLBACK PREPARED"),
    "locks": (
        "owns more than one transaction can hand over without taking the server's locks from everybody",
        "raise max_locks_per_transaction, or as its owner pass part of it on: ALTER TABLE ... OWNER TO {successor}",
    ),
    "held": ("is held by others' open transactions: {}", "end them: SELECT pg_terminate_backend(...)"),
    "membership": (
        "granted memberships that were passed on, and would be lost with it: {}",
        "as who has ADMIN: GRANT them by somebody else, and REVOKE ... GRANTED BY {role} CASCADE",
    ),
    "prepared": ("has a prepared transaction: {}", "SET ROLE {role} in that database; ROLLBACK PREPARED ..."),
}


def retirement_blockers(role: str, ownership: Ownership) -> Iterable[Finding]:
    """All that keeps a role from being retired; nothing of it is started while there is any."""
    holdings = _holdings(role, ownership)
    if not ownership.may_act_as(role, ""):
        way = ownership.iam_ways[role].role if role in ownership.iam_ways else "..."
        yield _blocker(role, "the administrator may not act in its place", f"REVOKE {quote(way)} FROM {quote(role)}")
    sessions = ownership.leaving.sessions.get(role, 0)
    if sessions:
        yield _blocker(role, f"{count(sessions, 'session')} of it stay", "quarantine it again, which ends them")
    if holdings.refusal:
        message = f"what it has could not be looked at: {holdings.refusal}"
        yield _blocker(role, message, "find what is in the way; then ask again")
    for obstacle in holdings.shared:
        yield obstacle_finding(role, obstacle, "", ownership.server.administrator)
    for holding in holdings.databases:
        yield from _holding_blockers(role, holding, ownership)
    yield from _retired_too(role, holdings, ownership)


def _retired_too(role: str, holdings: RoleHoldings, ownership: Ownership) -> Iterable[Finding]:
    """Who is gone can be given nothing, and nothing can be done in its place."""
    names = {name for holding in holdings.databases for name in (holding.owner, *holding.granted_by)}
    for name in sorted(names & ownership.leaving.retire - {role}):
        message = f'it holds something of "{name}", or in its database, which is to be retired in the same run'
        yield _blocker(role, message, f'retire one after the other: "{name}" alone, then "{role}"')


def _holding_blockers(role: str, holding: DatabaseHoldings, ownership: Ownership) -> Iterable[Finding]:
    database, heir = holding.database, successor(holding, role, ownership)
    if holding.refusal:
        message = f'database "{database}" cannot be looked into: {holding.refusal}'
        yield _blocker(role, message, ownership.way_in(database, role if holding.owner == role else ""))
    if holding.owner == role:
        yield from _own_database(role, holding, ownership)
    elif holding.owned and not heir:
        owned = ", ".join(count(number, kind) for kind, number in holding.owned)
        message = f'it owns {owned} in database "{database}", whose owner "{holding.owner}" is not managed here'
        yield _blocker(role, message, "in that database, as who owns them or may: ALTER ... OWNER TO another role")
    for name in sorted(holding.granted_by - {role, DATABASE_OWNER}):
        if not ownership.may_act_as(name, ""):
            message = f'"{name}", which is not managed here, granted it privileges in database "{database}", or on it'
            revoke = f"REVOKE ALL ON ... FROM {quote(role)}"
            yield _blocker(role, message, f'in that database, as "{name}": {revoke}; ALTER DEFAULT PRIVILEGES {revoke}')
    for obstacle in holding.obstacles:
        yield obstacle_finding(role, obstacle, database, heir or holding.owner)


def _own_database(role: str, holding: DatabaseHoldings, ownership: Ownership) -> Iterable[Finding]:
    database = holding.database
    if entries := ownership.by_database.get(database, ()):
        users = join_names(f'"{entry.username}"' for entry in entries)
        message = f'database "{database}" would be closed, and {users} are declared in it'
        yield _blocker(role, message, "take these entries out of the snapshot first, or declare the role again")
    if holding.visitors:
        users = join_names(f'"{name}"' for name in holding.visitors)
        message = f'database "{database}" would be closed, and {users} have sessions in it'
        yield _blocker(role, message, "end them; who was in it may stay otherwise")


def obstacle_finding(role: str, obstacle: Obstacle, database: str, heir: str) -> Finding:
    """What of a role cannot be handed over, in a database or in none, and what a person does about it."""
    what, next_step = _OBSTACLES[obstacle.kind]
    example = obstacle.example if obstacle.count == 1 else f"{obstacle.example} and {obstacle.count - 1} more"
    names = {"role": quote(role), "successor": quote(heir)}
    where = f'in database "{database}" ' if database else ""
    # What a tenant named may hold anything, braces too: it is put in last.
    message = f"{where}it {what.format('{}', **names).replace('{}', example)}"
    return _blocker(role, message, next_step.format(**names))


def _blocker(role: str, message: str, next_step: str) -> Finding:
    return Finding("retire_blocked", f'role "{role}" cannot be retired: {message}', next_step, username=role)


def _holdings(role: str, ownership: Ownership) -> RoleHoldings:
    return ownership.leaving.holdings.get(role, RoleHoldings())
