"""What a person should know: what is found on a server and left alone. Findings out, every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from provisioner.core import leaving
from provisioner.core.access_levels import AccessLevel, allows
from provisioner.core.checks import reassign_sql
from provisioner.core.errors import MAX_ALIKE, Finding
from provisioner.core.grants import DatabasePolicy
from provisioner.core.kept import is_kept, kept_warning, opened_warning
from provisioner.core.kinds import ObjectKind
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.quoting import quote
from provisioner.core.roles import is_revocable
from provisioner.core.state import DATABASE_OWNER, IAM_ROLE, NO_LIMIT, PUBLIC, Database, PasswordCheck, Role, Target


def find_warnings(ownership: Ownership) -> Iterable[Finding]:
    """All that is worth to be known of the declared roles and databases, and what is ours and declared no longer."""
    for name in sorted(ownership.by_role.keys() & ownership.server.roles.keys()):
        yield from _role_warnings(ownership.server.roles[name], ownership)
        yield from _membership_warnings(name, ownership)
    for name in sorted(ownership.by_database.keys() & ownership.server.databases.keys()):
        database = ownership.server.databases[name]
        if ownership.may_change(database):
            yield from _unmanaged(database, ownership)
    for item in ownership.server.other_privileges:
        is_in_reach = not item.database or item.database in ownership.by_database
        if (item.role == PUBLIC or item.role in ownership.by_role) and is_in_reach and not item.is_owned:
            who = "everybody" if item.role == PUBLIC else f'role "{item.role}"'
            yield Finding(
                "other_privileges",
                f"{who} holds privileges on {item.object_count} objects of catalog {item.catalog}, "
                "of which no access level speaks",
                "nothing to do if whoever granted them meant it",
                database=item.database,
                username=item.role,
            )
    for role, (count, example) in ownership.server.held_elsewhere.items():
        if role in ownership.by_role:
            yield _elsewhere(role, count, example)
    yield from _orphans(ownership)
    yield from _administrator_memberships(ownership)
    yield from _iam_administrator(ownership)


def _elsewhere(role: str, count: int, example: str) -> Finding:
    what = "a database that no entry declares," if count == 1 else f"{count} databases that no entry declares, such as"
    message = f'role "{role}" owns or holds something in {what} "{example}"'
    next_step = "nothing to do if whoever granted it meant it; else take it back there"
    return Finding("other_databases", message, next_step, username=role)


def _role_warnings(role: Role, ownership: Ownership) -> Iterable[Finding]:
    name = role.name
    declared = ownership.by_role[name]
    if not role.can_login and not (role.marker.quarantined and role.marker.login):
        message = f'role "{name}" is NOLOGIN: somebody disabled it, and it stays so'
        yield Finding("nologin", message, f"to let it in again: ALTER ROLE {quote(name)} LOGIN", username=name)
    if role.valid_until:
        message = f'the password of role "{name}" {"expired" if role.expired else "expires"} at {role.valid_until}'
        yield Finding("expiry", message, f"to lift it: ALTER ROLE {quote(name)} VALID UNTIL 'infinity'", username=name)
    is_declared = any(entry.connection_limit is not None for entry in declared)
    if role.connection_limit != NO_LIMIT and not is_declared and not role.has_limit_of_ours:
        message = f'role "{name}" has connection limit {role.connection_limit}, which is not declared; it stands'
        yield Finding("connection_limit", message, "declare connection_limit to manage it here", username=name)
    check = ownership.server.passwords.get(name)
    if check is PasswordCheck.ROTATING:
        message = f'the secret of role "{name}" is being rotated; its password is left alone'
        yield Finding("rotation", message, "run again when the rotation is done", username=name)
    if check is PasswordCheck.UNKNOWN:
        message = f'whether the password of role "{name}" is that of its secret could not be found out'
        yield Finding("password_unknown", message, "try to log in as the application; then run again", username=name)


def _membership_warnings(name: str, ownership: Ownership) -> Iterable[Finding]:
    """What a managed role is a member of beyond its level, where that is not ours to revoke."""
    memberships = ownership.memberships_of.get(name, ()) if ownership.manages(name) else ()
    for membership in memberships:
        role = membership.role
        if role == IAM_ROLE or is_revocable(membership, ownership):
            continue
        if ownership.manages(role):
            yield Finding(
                "membership_of_another_grantor",
                f'role "{name}" is a member of "{role}", granted by "{membership.grantor}": beyond its level, and not '
                "ours to revoke",
                f'as "{membership.grantor}": REVOKE {quote(role)} FROM {quote(name)}',
                username=name,
            )
        elif membership.confers_privileges or membership.admin_option:
            # With ADMIN alone the member is one statement away from it.
            yield Finding(
                "foreign_membership",
                f'role "{name}" is a member of "{role}", which is not managed here, and has what that role has',
                f"if that is not meant: REVOKE {quote(role)} FROM {quote(name)}",
                username=name,
            )


def _administrator_memberships(ownership: Ownership) -> Iterable[Finding]:
    """What somebody else made the administrator a member of; from 16 on its ADMIN option has to stay."""
    me = ownership.server.administrator
    for item in ownership.memberships_of.get(me, ()):
        is_ours = item.role in ownership.by_role and ownership.manages(item.role)
        if not is_ours or not item.confers_privileges or item.grantor == me:
            continue
        options = ("INHERIT OPTION FOR ", "SET OPTION FOR ")
        parts = options if item.admin_option and ownership.server.has_membership_options else ("",)
        remedy = "; ".join(f"REVOKE {option}{quote(item.role)} FROM {quote(me)}" for option in parts)
        yield Finding(
            "administrator_membership",
            f'"{item.grantor}" made the administrator "{me}" a member of role "{item.role}", which no run needs',
            f'if that is not meant, as "{item.grantor}": {remedy}',
            username=item.role,
        )


def _iam_administrator(ownership: Ownership) -> Iterable[Finding]:
    """Where RDS will not take the administrator's password again; nothing that a run does made it so."""
    me = ownership.server.administrator
    way = ownership.iam_ways.get(me)
    if way:
        yield Finding(
            "iam_administrator",
            f'the administrator "{me}" is a member of "{way.role}", by which RDS takes tokens of IAM from it and no '
            "password any more",
            f'as "{way.grantor}": REVOKE {quote(way.role)} FROM {quote(me)}; or see the runbook',
        )


def _unmanaged(database: Database, ownership: Ownership) -> Iterable[Finding]:
    """Whoever else owns or holds something in a managed database."""
    server = ownership.server
    known = {database.owner, server.administrator, server.bootstrap, DATABASE_OWNER, PUBLIC, *ownership.by_role}
    owned: Counter[tuple[str, str, bool]] = Counter()
    policy = DatabasePolicy(database, ownership)
    for group in database.groups:
        target = group.target
        if _is_unmanaged(target, database, ownership):
            owned[target.owner, target.kind, policy.covers(target)] += group.object_count
    for item in server.other_privileges:
        if item.is_owned and item.database == database.name and item.role in ownership.by_role:
            owned[item.role, item.kind, False] += item.object_count
    for (owner, kind, covered), count in sorted(owned.items()):
        told = "the levels cover them" if covered else "no level covers them"
        yield _foreign_objects(owner, kind, count, told, database, ownership)
    groups = [group for group in database.groups if not group.target.extension]
    holders = {item.grantee for group in groups for item in group.items if item.grantee != group.target.owner}
    for role in sorted(holders - known):
        message = f'role "{role}" is not declared and holds privileges in database "{database.name}"'
        next_step = "declare it, or revoke them by hand"
        yield Finding("foreign_grants", message, next_step, database=database.name, username=role)
    yield from _definer_routines(database, ownership)
    if any(item.grantee == PUBLIC and item.privilege == "SELECT" for group in groups for item in group.items):
        message = f'everybody holds SELECT on objects in database "{database.name}"'
        yield Finding("public_grants", message, "revoke it from PUBLIC if that is not meant", database=database.name)
    for role in {database.owner, *ownership.levels[database.name]}:
        members = {item.member for item in ownership.memberships_in.get(role, ()) if item.confers_privileges}
        yield from (_member_of(role, member, database) for member in members - known)


def _definer_routines(database: Database, ownership: Ownership) -> Iterable[Finding]:
    """What another role than the owner may run with somebody else's rights: whether it writes, no catalog says."""
    levels = ownership.levels[database.name]
    grantees = {item.grantee for routines in database.definers for item in routines.items}
    for role in sorted(levels.keys() | (grantees & ownership.by_role.keys())):
        level = levels.get(role)
        # Who has no level here does not come in by what everybody may.
        names = {role, PUBLIC} if level else {role}
        found = [
            routines
            for routines in database.definers
            if routines.target.owner != role
            and any(
                item.grantee in names and not allows(level, ObjectKind.ROUTINE, item.privilege)
                for item in routines.items
            )
        ]
        if not found:
            continue
        count, first = sum(routines.object_count for routines in found), min(found, key=lambda each: each.example)
        owner, name = first.target.owner, f"{quote(first.target.schema or 'pg_temp')}.{quote(first.example)}"
        yield Finding(
            "definer_routines",
            f'role "{role}" may execute {count} SECURITY DEFINER routine{"" if count == 1 else "s"} in database '
            f'"{database.name}", such as {name}, with the rights of "{owner}": beyond its level if one writes',
            f'if that is not meant, as "{owner}": REVOKE EXECUTE ON ROUTINE {name} FROM PUBLIC, {quote(role)} '
            "(one that a trigger runs: ALTER ROUTINE ... SECURITY INVOKER); else accept it in the entry: "
            'accepted_findings = ["definer_routines"]',
            database=database.name,
            username=role,
        )


def _is_unmanaged(target: Target, database: Database, ownership: Ownership) -> bool:
    """Whether a schema, or objects, belong to somebody else than the owner; columns are part of their table.

    The schema `public` and an extension may belong to anybody but a role that is declared.
    """
    if target.creator or target.kind in {ObjectKind.DATABASE, ObjectKind.COLUMN}:
        return False
    is_free = (target.is_public_schema or target.extension) and target.owner not in ownership.by_role
    return not is_free and target.owner not in {database.owner, DATABASE_OWNER}


def _foreign_objects(owner: str, kind: str, count: int, told: str, database: Database, ownership: Ownership) -> Finding:
    if owner == ownership.server.administrator:
        # REASSIGN would move the databases of the administrator too, its own among them.
        next_step = f'as "{owner}", one by one: ALTER {kind.upper()} ... OWNER TO {quote(database.owner)}'
    else:
        next_step = (
            f'to move all that "{owner}" owns there, and databases that it owns, as who administers both roles: '
            f"{reassign_sql(owner, database.owner)}"
        )
    is_lesser = ownership.levels[database.name].get(owner, AccessLevel.OWNER) is not AccessLevel.OWNER
    return Finding(
        "created_beyond_level" if is_lesser else "foreign_objects",
        f'{count} {kind}{" belongs" if count == 1 else "s belong"} to "{owner}" in database "{database.name}", and not '
        f"to its owner; {told}",
        next_step,
        database=database.name,
        username=owner,
    )


def _member_of(role: str, member: str, database: Database) -> Finding:
    what, place = f'role "{member}" is a member of "{role}" and is not declared', {"database": database.name}
    if role != database.owner:
        message = f'{what}: it holds in database "{database.name}" what that one does'
        next_step = f"declare it; or, if that is not meant: REVOKE {quote(role)} FROM {quote(member)}"
        return Finding("foreign_grants", message, next_step, username=member, **place)
    return Finding(
        "member_of_owner",
        f'{what}: it may do in database "{database.name}" what the owner may, and what it creates there belongs to it',
        f"to give that to the owner: ALTER ROLE {quote(member)} IN DATABASE {quote(database.name)} "
        f"SET role = {quote(database.owner)}",
        username=member,
        **place,
    )


def _orphans(ownership: Ownership) -> Iterable[Finding]:
    going = ownership.leaving.quarantine | ownership.leaving.retire
    for name, role in sorted(ownership.server.roles.items()):
        if has_marker(role, ownership.environment) and name not in ownership.by_role and name not in going:
            message = f'role "{name}" is managed here and no longer declared; it stays as it is'
            next_step = f'declare it again; or let it leave: quarantine: ["{name}"]'
            yield leaving.warning(role) or Finding("orphaned_role", message, next_step, username=name)
    by_tenant: dict[tuple[str, str], list[Finding]] = {}
    for name, database in sorted(ownership.server.databases.items()):
        if opened := opened_warning(database, ownership):
            yield opened
        is_ours = has_marker(database, ownership.environment) or ownership.is_interrupted_create(database)
        if is_ours and database.owner not in ownership.leaving.retire and name not in ownership.by_database:
            finding = kept_warning(database, ownership) or _orphaned_database(name)
            was_of = database.marker.kept_from if is_kept(database, ownership) else ""
            by_tenant.setdefault((finding.code, was_of or database.owner), []).append(finding)
    for (code, tenant), found in by_tenant.items():
        yield from found[:MAX_ALIKE]
        if len(found) > MAX_ALIKE:
            # Who may create databases may mark them, too.
            message = f'{len(found) - MAX_ALIKE} more of {code} were found of role "{tenant}"'
            yield Finding(code, message, "mend these first", username=tenant)


def _orphaned_database(name: str) -> Finding:
    message = f'database "{name}" is managed here and no longer declared; it stays as it is'
    return Finding("orphaned_database", message, "declare it again, or remove it by the runbook", database=name)
