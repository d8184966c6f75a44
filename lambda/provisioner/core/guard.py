"""What must stop a run, and what a person should know: a scope and its changes in, blockers and warnings out.

A blocker is a fact under which nothing may be changed; a warning is something that was found and left alone. Both are
findings and both are complete: every one of them is shown, not the first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.core.ddl import MEMBERSHIP_OPTIONS
from provisioner.core.desired import (
    Desired,
    desired_database,
    desired_roles,
    desired_state,
    observed_database,
    observed_roles,
    observed_state,
)
from provisioner.core.errors import Finding, shorten_alike
from provisioner.core.model import AccessLevel, Entry
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.plan import (
    AdoptDatabase,
    AdoptRole,
    AlterRole,
    Change,
    CreateDatabase,
    CreateRole,
    Plan,
    RevokeTemporaryMembership,
    SetPassword,
    Unchanged,
    diff,
    diff_database,
)
from provisioner.core.state import (
    DATABASE_OWNER,
    IAM_ROLE,
    NO_LIMIT,
    PUBLIC,
    DatabaseFacts,
    ObjectKind,
    PasswordCheck,
    RoleFacts,
    State,
    Target,
)
from provisioner.core.text import join_names
from provisioner.core.units import Validity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Which change belongs to which of the things that are checked for each entry.
ASPECTS = {
    "role": {"create_role", "alter_role", "adopt_role", "finish", "revoke_membership"},
    "password": {"create_role", "set_password"},
    "database": {"create_database", "adopt_database", "create_extension"},
    "privileges": {"grant", "revoke"},
    "default_privileges": {"grant_default", "revoke_default"},
}


def build_plan(ownership: Ownership) -> Plan:
    """The whole plan of a scope; see the module's first sentence for what is in it beside the changes."""
    desired = desired_state(ownership)
    changes = diff(observed_state(ownership), desired.state, desired.inventory)
    blockers = (*_blockers(ownership), *_missing_administrator_rights(ownership, changes))
    warnings = [
        item for item in (*desired.findings, *_warnings(ownership, desired)) if not _is_accepted(item, ownership)
    ]
    return Plan(
        environment=ownership.environment,
        changes=changes,
        blockers=tuple(sorted(set(blockers))),
        warnings=shorten_alike(warnings),
        unchanged=_unchanged(ownership, changes),
        validity=Validity(
            ownership.environment,
            ownership.host,
            ownership.port,
            ownership.server.system_identifier,
            ownership.server.administrator,
        ),
    )


def _is_accepted(warning: Finding, ownership: Ownership) -> bool:
    """Whether an entry of the role or database that a warning is about accepts it."""
    is_of_role = warning.username in ownership.by_role or not warning.database
    return any(
        warning.code in entry.accepted_findings
        and (entry.database == warning.database or not warning.database)
        and (entry.username == warning.username or not is_of_role)
        for entry in ownership.by_database.get(warning.database, ()) or ownership.by_role.get(warning.username, ())
    )


def database_changes(facts: DatabaseFacts, ownership: Ownership) -> list[Change]:
    """What one existing database lacks or has too much of, as it was just observed; in no order."""
    return diff_database(observed_database(facts, ownership), desired_database(facts, ownership, []), facts)


def verify_roles_and_markers(
    ownership: Ownership, made: Iterable[Change], left: Collection[Change] = ()
) -> tuple[Finding, ...]:
    """What an observation from outside the databases, made after the changes, does not show of them: roles, marks.

    What is inside a database has been proved in its own transaction. Of what was `left`, blocked or failed, nothing is
    expected: neither of those roles, nor that a role whose databases were left has no note of them any more.
    """
    left_roles = {change.username for change in left if not change.database}
    creating = {role for change in left if change.database for role in change.acting_roles}
    roles = [
        change
        for change in diff(State(observed_roles(ownership)), State(desired_roles(ownership, [])), {})
        if change.username not in left_roles
        and not (isinstance(change, RevokeTemporaryMembership) and change.username in creating)
    ]
    unmarked = [
        change
        for change in made
        if isinstance(change, CreateDatabase | AdoptDatabase)
        and not (
            (facts := ownership.server.databases.get(change.database))
            and facts.owner == change.username
            and has_marker(facts, ownership.environment)
        )
    ]
    return (
        *(
            Finding(
                "not_as_declared",
                f"{change.action} ({change.detail}) was done, but the server does not show it",
                "run again; if it stays, see the runbook",
                database=change.database,
                username=change.username,
            )
            for change in (*roles, *unmarked)
        ),
        *(
            Finding(
                "password_not_proved",
                f'the new password of role "{role}" was set, but what a login with it was told says nothing of it',
                "run again, which logs in once more; if it stays, try to log in as the application",
                username=role,
            )
            for role, check in sorted(ownership.server.passwords.items())
            if check is PasswordCheck.UNKNOWN
        ),
    )


def _unchanged(ownership: Ownership, changes: Iterable[Change]) -> tuple[Unchanged, ...]:
    touched = {(change.action, change.database, change.username) for change in changes}
    result = []
    for entry in ownership.declaration.entries:
        aspects = ["role", "password", "privileges"]
        aspects.append("database" if entry.access_level is AccessLevel.OWNER else "default_privileges")
        for aspect in aspects:
            place = "" if aspect in {"role", "password"} else entry.database
            is_changed = any((action, place, entry.username) in touched for action in ASPECTS[aspect])
            if not is_changed and _is_managed(aspect, entry, ownership):
                result.append(Unchanged(aspect, entry.database, entry.username))
    return tuple(sorted(result))


def _is_managed(aspect: str, entry: Entry, ownership: Ownership) -> bool:
    """Whether something is as declared where nothing is changed; of what is blocked, nobody knows."""
    if aspect == "password" and any(problem.username == entry.username for problem in ownership.secret_problems):
        return False
    if aspect in {"role", "password"}:
        return ownership.manages(entry.username)
    facts = ownership.server.databases.get(entry.database)
    return facts is not None and not facts.refusal and ownership.may_change(facts) and ownership.manages(entry.username)


# --- blockers -------------------------------------------------------------------------------------------------------


def _blockers(ownership: Ownership) -> Iterable[Finding]:
    # It is the role that cannot be served; its database is, by that, where the role owns it.
    yield from (replace(problem, database="") for problem in ownership.secret_problems)
    for entry in ownership.declaration.entries:
        role = ownership.server.roles.get(entry.username)
        if role is not None:
            yield from _role_blockers(role, entry.application, ownership)
    for name in ownership.by_database:
        database = ownership.server.databases.get(name)
        if database is None:
            yield from _missing_database(name, ownership)
        else:
            yield from _database_blockers(database, ownership)
    yield from _extension_blockers(ownership)


def _role_blockers(role: RoleFacts, application: str, ownership: Ownership) -> Iterable[Finding]:
    place = {"username": role.name}
    if role.name in {ownership.server.administrator, ownership.server.bootstrap}:
        message = f'role "{role.name}" is the administrator\'s own login'
        yield Finding("administrator", message, f"give the application {application} another username", **place)
        return
    powers = [
        word
        for word, held in (
            ("SUPERUSER", role.superuser),
            ("REPLICATION", role.replication),
            ("BYPASSRLS", role.bypass_rls),
        )
        if held
    ]
    if powers:
        message = f'role "{role.name}" has {", ".join(powers)}, which no access level may have'
        remedy = f'ALTER ROLE "{role.name}" ' + " ".join("NO" + word for word in powers)
        yield Finding("privileged_role", message, f"as a superuser: {remedy}; or give it another username", **place)
    if role.name in ownership.iam_roles:
        yield _iam_login(role.name, ownership, **place)
    if not ownership.manages(role.name):
        elsewhere = f' (its mark names environment "{role.marker.environment}")' if role.marker else ""
        yield Finding(
            "foreign_role",
            f'role "{role.name}" exists but is not managed here{elsewhere}',
            f'adopt it (adopt: ["{application}"]) or give {application} another username',
            **place,
        )


def _iam_login(name: str, ownership: Ownership, **place: str) -> Finding:
    way, facts = ownership.iam_ways[name], ownership.server.roles[name]
    is_member = ownership.server.version >= MEMBERSHIP_OPTIONS and facts.has_admin_option
    return Finding(
        "iam_login",
        f'role "{name}" is a member of "{IAM_ROLE}": RDS takes no password of it, nor of who is a member of it, as the '
        f"administrator {'is' if is_member else 'would have to be'}",
        f'as "{way.grantor}": REVOKE "{way.role}" FROM "{name}"; or declare another username',
        **place,
    )


def _missing_database(name: str, ownership: Ownership) -> Iterable[Finding]:
    if ownership.declared_owner(name):
        return
    users = join_names(f'"{entry.username}"' for entry in ownership.by_database[name])
    yield Finding(
        "database_missing",
        f'database "{name}" does not exist and no entry declares its owner; {users} would have nothing to use',
        f'declare an entry with database_name = "{name}" and access_level = "owner", or correct the name',
        database=name,
    )


def _database_blockers(database: DatabaseFacts, ownership: Ownership) -> Iterable[Finding]:
    name = database.name
    owner = ownership.declared_owner(name)
    if owner and database.owner != owner:
        yield _different_owner(database, owner, ownership)
        return
    if not owner and any(entry.username == database.owner for entry in ownership.by_database[name]):
        yield _owner_declared_lower(database, ownership)
        return
    if database.invalid:
        message = f'database "{name}" is invalid: a DROP DATABASE was interrupted, and nobody can connect to it'
        remedy = f'as its owner: DROP DATABASE "{name}"; then run again, which makes it anew'
        yield Finding("database_invalid", message, remedy, database=name)
        return
    if database.is_template or not (database.allows_connections or ownership.is_left_closed(database)):
        what = "is a template" if database.is_template else "does not allow connections"
        remedy = f'ALTER DATABASE "{name}" WITH IS_TEMPLATE false ALLOW_CONNECTIONS true'
        yield Finding("database_closed", f'database "{name}" {what}', f"as its owner: {remedy}", database=name)
    if not ownership.manages_database(database):
        application = ownership.by_database[name][0].application
        elsewhere = f' (its mark names environment "{database.marker.environment}")' if database.marker else ""
        yield Finding(
            "foreign_database",
            f'database "{name}" exists but is not managed here{elsewhere}',
            f'adopt it (adopt: ["{application}"]) or declare another database_name',
            database=name,
            username=owner,
        )
    elif not owner and not ownership.is_trusted_owner(database.owner):
        yield Finding(
            "foreign_owner",
            f'database "{name}" belongs to "{database.owner}", which is not managed here, so nothing can be granted '
            "in it",
            f'declare an entry for its owner "{database.owner}" and adopt it',
            database=name,
        )
    elif not owner and database.owner in ownership.iam_roles:
        yield _iam_login(database.owner, ownership, database=name)
    if database.refusal:
        yield Finding(
            "database_unreadable",
            f'database "{name}" could not be looked into: {database.refusal}',
            f'as its owner: GRANT CONNECT ON DATABASE "{name}" TO "{ownership.server.administrator}"; or find '
            "what keeps the administrator out",
            database=name,
        )


def _different_owner(database: DatabaseFacts, owner: str, ownership: Ownership) -> Finding:
    was_ours = ownership.manages(database.owner)
    # A run that is blocked creates no role, so a new owner has to come by another declaration first.
    first = (
        "" if owner in ownership.server.roles else f'declare "{owner}" as an editor first, so that it is created; then '
    )
    return Finding(
        "owner_change" if was_ours else "foreign_owner",
        f'database "{database.name}" belongs to "{database.owner}", and "{owner}" is declared as its owner; an owner '
        "is never changed here, since every object would have to move too",
        f'declare "{database.owner}" as the owner, or move everything by hand: {first}'
        f'in each database of "{database.owner}", as who administers both roles: '
        f"{_reassign_sql(database.owner, owner)}",
        database=database.name,
        username=owner,
    )


def _owner_declared_lower(database: DatabaseFacts, ownership: Ownership) -> Finding:
    entries = ownership.by_database[database.name]
    level = next(entry.access_level.value for entry in entries if entry.username == database.owner)
    return Finding(
        "owner_change",
        f'database "{database.name}" belongs to "{database.owner}", which is declared as its {level}: an owner can do '
        "everything in it, and an owner is never changed here",
        f'declare "{database.owner}" as the owner',
        database=database.name,
        username=database.owner,
    )


def _reassign_sql(old: str, new: str) -> str:
    """The statements that move what one role owns in a database, and databases that it owns."""
    both = f'"{old}", "{new}"'
    return f'GRANT {both} TO CURRENT_USER; REASSIGN OWNED BY "{old}" TO "{new}"; REVOKE {both} FROM CURRENT_USER'


def _extension_blockers(ownership: Ownership) -> Iterable[Finding]:
    for entry in ownership.declaration.entries:
        database = ownership.server.databases.get(entry.database)
        if database is None or not database.refusal:
            installed = database.extensions if database else frozenset()
            missing = sorted(set(entry.extensions) - installed)
            for extension in missing:
                yield from _one_extension(extension, entry, ownership)
            if missing and database and database.groups and not _has_public_schema(database):
                yield Finding(
                    "extension_without_schema",
                    f'database "{entry.database}" has no schema "public" any more, where extensions are created',
                    f'as "{database.owner}" in that database: CREATE SCHEMA "public", or CREATE EXTENSION in another',
                    database=entry.database,
                    username=entry.username,
                )


def _has_public_schema(database: DatabaseFacts) -> bool:
    is_looked_into = any(group.target.kind is not ObjectKind.DATABASE for group in database.groups)
    schemas = {group.target.schema for group in database.groups if group.target.kind is ObjectKind.SCHEMA}
    return not is_looked_into or "public" in schemas


def _one_extension(extension: str, entry: Entry, ownership: Ownership) -> Iterable[Finding]:
    place = {"database": entry.database, "username": entry.username}
    trusted = ownership.server.available_extensions.get(extension)
    if trusted is None:
        message = f'extension "{extension}" is not available on this server'
        yield Finding("extension_unavailable", message, "correct the name, or leave it out", **place)
    elif not trusted:
        message = f'extension "{extension}" is not trusted: the owner of a database may not create it'
        remedy = f'in database "{entry.database}" as the RDS master: CREATE EXTENSION "{extension}"; then run again'
        yield Finding("extension_not_trusted", message, remedy, **place)


def _missing_administrator_rights(ownership: Ownership, changes: tuple[Change, ...]) -> Iterable[Finding]:
    """What the administrator would need for these changes and does not have, before any of them is tried."""
    me = ownership.server.roles[ownership.server.administrator]
    lacks = []
    of_roles = CreateRole | AlterRole | SetPassword | AdoptRole
    if not me.createrole and any(isinstance(item, of_roles) for item in changes):
        lacks.append("CREATEROLE")
    creates_databases = any(isinstance(item, CreateDatabase) for item in changes)
    grants_createdb = any(isinstance(item, CreateRole) and item.createdb for item in changes) or any(
        isinstance(item, AlterRole) and item.createdb is not None for item in changes
    )
    if not me.createdb and (creates_databases or (grants_createdb and ownership.server.version >= MEMBERSHIP_OPTIONS)):
        lacks.append("CREATEDB")
    if ownership.server.version < MEMBERSHIP_OPTIONS and not me.inherits and any(item.database for item in changes):
        # From 16 on a membership says for itself that it is inherited.
        lacks.append("INHERIT")
    if lacks and not me.superuser:
        yield Finding(
            "administrator_rights",
            f'the administrator "{me.name}" lacks {" and ".join(lacks)}, which this plan needs',
            f'as the RDS master: ALTER ROLE "{me.name}" {" ".join(lacks)}',
        )
    for name in sorted(_roles_to_act_on(ownership, changes)):
        facts = ownership.server.roles.get(name)
        if facts is not None and not facts.has_admin_option and not facts.superuser:
            yield Finding(
                "administrator_lacks_admin",
                f'the administrator "{me.name}" has no ADMIN option on role "{name}", which this plan needs',
                f'as a role that has it: GRANT "{name}" TO "{me.name}" WITH ADMIN OPTION',
                username=name,
            )


def _roles_to_act_on(ownership: Ownership, changes: tuple[Change, ...]) -> set[str]:
    """The roles that are changed, and those in whose place databases are, where that takes a membership."""
    altered = {change.username for change in changes if not change.database}
    behind = {role for change in changes if change.database for role in change.acting_roles}
    administrator_inherits = {name for name, facts in ownership.server.roles.items() if facts.administrator_inherits}
    return altered | (behind - administrator_inherits - {ownership.server.administrator})


# --- warnings -------------------------------------------------------------------------------------------------------


def _warnings(ownership: Ownership, desired: Desired) -> Iterable[Finding]:
    for name in sorted(ownership.by_role.keys() & ownership.server.roles.keys()):
        yield from _role_warnings(ownership.server.roles[name], ownership)
    for name, facts in desired.inventory.items():
        if name in ownership.server.databases and ownership.may_change(facts):
            yield from _unmanaged(facts, ownership)
    for item in ownership.server.other_privileges:
        if item.role in ownership.by_role and item.database in ownership.by_database:
            yield Finding(
                "other_privileges",
                f'role "{item.role}" holds privileges on {item.count} objects of catalog {item.catalog}, of which no '
                "access level speaks",
                "nothing to do if the owner of the database meant it",
                database=item.database,
                username=item.role,
            )
    yield from _orphans(ownership)
    yield from _administrator_memberships(ownership)
    yield from _iam_administrator(ownership)


def _role_warnings(role: RoleFacts, ownership: Ownership) -> Iterable[Finding]:
    name = role.name
    declared = ownership.by_role[name]
    if not role.can_login:
        message = f'role "{name}" is NOLOGIN: somebody disabled it, and it stays so'
        yield Finding("nologin", message, f'to let it in again: ALTER ROLE "{name}" LOGIN', username=name)
    if role.valid_until:
        message = f'the password of role "{name}" {"expired" if role.expired else "expires"} at {role.valid_until}'
        yield Finding("expiry", message, f"""to lift it: ALTER ROLE "{name}" VALID UNTIL 'infinity'""", username=name)
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


def _administrator_memberships(ownership: Ownership) -> Iterable[Finding]:
    """What somebody else made the administrator a member of; from 16 on its ADMIN option has to stay."""
    me = ownership.server.administrator
    for item in ownership.memberships_of.get(me, ()):
        if (
            not item.confers_privileges
            or item.role not in ownership.by_role
            or item.grantor == me
            or not ownership.manages(item.role)
        ):
            continue
        options = ("INHERIT OPTION FOR ", "SET OPTION FOR ")
        parts = options if item.admin_option and ownership.server.version >= MEMBERSHIP_OPTIONS else ("",)
        remedy = "; ".join(f'REVOKE {option}"{item.role}" FROM "{me}"' for option in parts)
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
            f'as "{way.grantor}": REVOKE "{way.role}" FROM "{me}"; or see the runbook',
        )


def _unmanaged(facts: DatabaseFacts, ownership: Ownership) -> Iterable[Finding]:
    """Whoever else owns or holds something in a managed database."""
    known = {facts.owner, ownership.server.administrator, ownership.server.bootstrap, DATABASE_OWNER, PUBLIC}
    groups = [group for group in facts.groups if not group.target.extension]
    owned: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if _is_unmanaged(group.target, facts.owner):
            owned[group.target.owner, group.target.kind.value] += group.count
    for (owner, kind), count in sorted(owned.items()):
        yield _foreign_objects(owner, kind, count, facts, ownership)
    for role in sorted(
        {item.grantee for group in groups for item in group.items if item.grantee != group.target.owner}
    ):
        if role not in known and role not in ownership.by_role:
            message = f'role "{role}" is not declared and holds privileges in database "{facts.name}"'
            next_step = "declare it, or revoke them by hand"
            yield Finding("foreign_grants", message, next_step, database=facts.name, username=role)
    yield from _definer_routines(facts, ownership)
    if any(
        item.grantee == PUBLIC and item.privilege == "SELECT"
        for group in groups
        if group.target.kind in {ObjectKind.TABLE, ObjectKind.SEQUENCE, ObjectKind.COLUMN, ObjectKind.LARGE_OBJECT}
        for item in group.items
    ):
        message = f'everybody holds SELECT on objects in database "{facts.name}"'
        yield Finding("public_grants", message, "revoke it from PUBLIC if that is not meant", database=facts.name)
    for membership in ownership.memberships_in.get(facts.owner, ()):
        if (
            membership.confers_privileges
            and membership.member not in known
            and membership.member not in ownership.by_role
        ):
            yield _member_of_owner(membership.member, facts)


def _definer_routines(facts: DatabaseFacts, ownership: Ownership) -> Iterable[Finding]:
    """What another role than the owner may run with somebody else's rights: whether it writes, no catalog says."""
    others = [entry.username for entry in ownership.by_database[facts.name] if entry.username != facts.owner]
    for role in sorted(others):
        found = [
            routines
            for routines in facts.definers
            if routines.owner != role
            and any(item.privilege == "EXECUTE" and item.grantee in {role, PUBLIC} for item in routines.items)
        ]
        if not found:
            continue
        count, first = sum(routines.count for routines in found), min(found, key=lambda each: each.example)
        name = f'"{first.schema}"."{first.example}"'
        yield Finding(
            "definer_routines",
            f'role "{role}" may execute {count} SECURITY DEFINER routine{"" if count == 1 else "s"} in database '
            f'"{facts.name}", such as {name}, with the rights of "{first.owner}": beyond its level if one writes',
            f'if that is not meant, as "{first.owner}": REVOKE EXECUTE ON ROUTINE {name} FROM PUBLIC, "{role}"; '
            'else accept it in the entry: accepted_findings = ["definer_routines"]',
            database=facts.name,
            username=role,
        )


def _is_unmanaged(target: Target, owner: str) -> bool:
    """Whether a schema, or objects, belong to somebody else; `public` may, and columns are part of their table."""
    if target.creator or target.kind in {ObjectKind.DATABASE, ObjectKind.COLUMN}:
        return False
    is_public = target.kind is ObjectKind.SCHEMA and target.schema == "public"
    return not is_public and target.owner not in {owner, DATABASE_OWNER}


def _foreign_objects(owner: str, kind: str, count: int, facts: DatabaseFacts, ownership: Ownership) -> Finding:
    covered = ownership.may_act_as(owner, facts.owner) and (
        ownership.manages(owner) or owner == ownership.server.administrator
    )
    effect = "the levels cover them" if covered else "no level covers them"
    if owner == ownership.server.administrator:
        # REASSIGN would move the databases of the administrator too, its own among them.
        next_step = f'as "{owner}", one by one: ALTER {kind.upper()} ... OWNER TO "{facts.owner}"'
    else:
        next_step = (
            f'to move all that "{owner}" owns there, and databases that it owns, as who administers both roles: '
            f"{_reassign_sql(owner, facts.owner)}"
        )
    is_lesser = any(entry.username == owner for entry in ownership.by_database[facts.name])
    return Finding(
        "created_beyond_level" if is_lesser else "foreign_objects",
        f'{count} {kind}{" belongs" if count == 1 else "s belong"} to "{owner}" in database "{facts.name}", and not to '
        f"its owner; {effect}",
        next_step,
        database=facts.name,
        username=owner,
    )


def _member_of_owner(member: str, facts: DatabaseFacts) -> Finding:
    return Finding(
        "member_of_owner",
        f'role "{member}" is a member of "{facts.owner}" and is not declared: it may do in database "{facts.name}" '
        "what the owner may, and what it creates there belongs to it",
        f'to give that to the owner: ALTER ROLE "{member}" IN DATABASE "{facts.name}" SET role = "{facts.owner}"',
        database=facts.name,
        username=member,
    )


def _orphans(ownership: Ownership) -> Iterable[Finding]:
    for name, role in sorted(ownership.server.roles.items()):
        if has_marker(role, ownership.environment) and name not in ownership.by_role:
            message = f'role "{name}" is managed here and no longer declared; it stays as it is'
            yield Finding("orphaned_role", message, "declare it again, or remove it by the runbook", username=name)
    for name, database in sorted(ownership.server.databases.items()):
        if has_marker(database, ownership.environment) and name not in ownership.by_database:
            message = f'database "{name}" is managed here and no longer declared; it stays as it is'
            yield Finding("orphaned_database", message, "declare it again, or remove it by the runbook", database=name)
