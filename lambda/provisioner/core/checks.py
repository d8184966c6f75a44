"""What must stop a run: what is declared, what stands and the changes in, blockers out.

A blocker is a fact under which nothing may be changed in its unit. All of them are shown, not the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.access_levels import AccessLevel
from provisioner.core.changes import Change
from provisioner.core.errors import Finding
from provisioner.core.kept import is_kept, kept_blockers
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.quoting import quote
from provisioner.core.roles import iam_login
from provisioner.core.state import ITS_OWNER, Database, Role
from provisioner.core.text import join_names


def find_blockers(ownership: Ownership, changes: tuple[Change, ...]) -> Iterable[Finding]:
    """All that stands against the changes, whole or by role and database."""
    yield from _missing_administrator_rights(ownership, changes)
    # It is the role that cannot be served; its database is, by that, where the role owns it.
    yield from (replace(problem, database="") for problem in ownership.secret_problems)
    for entry in ownership.declaration.entries:
        role = ownership.server.roles.get(entry.username)
        if role is not None:
            yield from _role_blockers(role, entry.application, ownership)
    for name in ownership.by_database:
        database = ownership.server.databases.get(name)
        if database is not None:
            yield from _database_blockers(database, ownership)
        elif not ownership.declared_owner(name):
            yield _missing_database(name, ownership)
        elif holder := ownership.server.locked_databases.get("template0"):
            message = (
                f'database "{name}" cannot be created: {holder} holds a lock on template0, which it is copied from'
            )
            yield Finding("template_locked", message, ownership.way_in("template0"), database=name)
    yield from _extension_blockers(ownership)


def _role_blockers(role: Role, application: str, ownership: Ownership) -> Iterable[Finding]:
    place = {"username": role.name}
    if role.name in {ownership.server.administrator, ownership.server.bootstrap}:
        message = f'role "{role.name}" is the administrator\'s own login'
        yield Finding("administrator", message, f"give the application {application} another username", **place)
        return
    attributes = {"SUPERUSER": role.superuser, "REPLICATION": role.replication, "BYPASSRLS": role.bypass_rls}
    # Of a role of ours it is taken back; who administers others, such as the RDS master, is nobody's to take over.
    attributes["CREATEROLE"] = role.createrole and not has_marker(role, ownership.environment)
    powers = [word for word, held in attributes.items() if held]
    if powers:
        message = f'role "{role.name}" has {", ".join(powers)}, which no access level may have'
        remedy = f"ALTER ROLE {quote(role.name)} " + " ".join("NO" + word for word in powers)
        next_step = f"give {application} another username; or, as the RDS master or a superuser: {remedy}"
        yield Finding("privileged_role", message, next_step, **place)
    yield from iam_login(role.name, ownership, **place)
    if not ownership.manages(role.name):
        elsewhere = f' (its mark names environment "{role.marker.environment}")' if role.marker.environment else ""
        yield Finding(
            "foreign_role",
            f'role "{role.name}" exists but is not managed here{elsewhere}',
            f'adopt it (adopt: ["{application}"]) or give {application} another username',
            **place,
        )


def _missing_database(name: str, ownership: Ownership) -> Finding:
    users = join_names(f'"{entry.username}"' for entry in ownership.by_database[name])
    return Finding(
        "database_missing",
        f'database "{name}" does not exist and no entry declares its owner; {users} would have nothing to use',
        f'declare an entry with database_name = "{name}" and access_level = "owner", or correct the name',
        database=name,
    )


def _database_blockers(database: Database, ownership: Ownership) -> Iterable[Finding]:
    name = database.name
    if is_kept(database, ownership):
        yield from kept_blockers(database, ownership)
        return
    levels = ownership.levels[name]
    owner, level = ownership.declared_owner(name), levels.get(database.owner)
    if database.owner != owner and (owner or level):
        yield _different_owner(database, owner, level, ownership)
        return
    if database.invalid:
        message = f'database "{name}" is invalid: a DROP DATABASE was interrupted, and nobody can connect to it'
        remedy = f"as its owner: DROP DATABASE {quote(name)}; then run again, which makes it anew"
        yield Finding("database_invalid", message, remedy, database=name)
        return
    if database.is_template or not (database.allows_connections or ownership.is_left_closed(database)):
        what = "is a template" if database.is_template else "does not allow connections"
        remedy = f"ALTER DATABASE {quote(name)} WITH IS_TEMPLATE false ALLOW_CONNECTIONS true"
        yield Finding("database_closed", f'database "{name}" {what}', f"as its owner: {remedy}", database=name)
    yield from _who_owns(database, ownership)
    if database.unreadable_reason:
        message = f'database "{name}" could not be looked into: {database.unreadable_reason}'
        yield Finding("database_unreadable", message, ownership.way_in(name), database=name)


def _who_owns(database: Database, ownership: Ownership) -> Iterable[Finding]:
    """What stands against a database that is not ours, or whose owner is not."""
    name, owner = database.name, ownership.declared_owner(database.name)
    if not ownership.manages_database(database):
        application = ownership.by_database[name][0].application
        marked = database.marker.environment
        # One of ours whose owner is not has a blocker for that role.
        elsewhere = f' (its mark names environment "{marked}")' if marked not in {"", ownership.environment} else ""
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
    elif not owner:
        yield from iam_login(database.owner, ownership, database=name)


def _different_owner(database: Database, owner: str, level: AccessLevel | None, ownership: Ownership) -> Finding:
    """Where another owner is declared, or the one that it has at a lower level."""
    declared = f'"{owner}" is declared as its owner' if owner else f"that role is declared as its {level}"
    remedy = (
        f', or move everything by hand: in each database of "{database.owner}", as who administers both roles: '
        f"{reassign_sql(database.owner, owner)}"
    )
    return Finding(
        "owner_change" if ownership.manages(database.owner) else "foreign_owner",
        f'database "{database.name}" belongs to "{database.owner}", and {declared}; an owner can do everything in it, '
        "and is never changed here, since every object would have to move too",
        f'declare "{database.owner}" as the owner' + (remedy if owner else ""),
        database=database.name,
        username=owner or database.owner,
    )


def reassign_sql(old: str, new: str) -> str:
    """The statements that move what one role owns in a database, and databases that it owns."""
    both = f"{quote(old)}, {quote(new)}"
    return (
        f"GRANT {both} TO CURRENT_USER; REASSIGN OWNED BY {quote(old)} TO {quote(new)}; REVOKE {both} FROM CURRENT_USER"
    )


def _extension_blockers(ownership: Ownership) -> Iterable[Finding]:
    for entry in ownership.declaration.entries:
        name, database = entry.database, ownership.server.databases.get(entry.database)
        if database and database.unreadable_reason:
            continue
        place = {"database": name, "username": entry.username}
        present = database.extensions if database else frozenset()
        missing = sorted(set(entry.extensions) - present)
        for extension in missing:
            creator = ownership.server.available_extensions.get(extension)
            if creator is None:
                message = f'extension "{extension}" is not available on this server'
                yield Finding("extension_unavailable", message, "correct the name, or leave it out", **place)
            elif creator:
                script = "takes no superuser: its script would run what the owner has made as the administrator"
                why = script if creator == ITS_OWNER else "is not trusted: the owner of a database may not create it"
                message = f'extension "{extension}" {why}'
                remedy = f'in database "{name}" as {creator}: CREATE EXTENSION {quote(extension)}; then run again'
                yield Finding("extension_not_trusted", message, remedy, **place)
            for needed in sorted({*ownership.server.extension_requirements.get(extension, ())} - present):
                if needed not in missing:
                    message = f'extension "{extension}" needs "{needed}", which is neither in the database nor declared'
                    next_step = f'add "{needed}" to the extensions of the entry'
                    yield Finding("extension_requirement", message, next_step, **place)
        has_public = database is None or any(group.target.is_public_schema for group in database.groups)
        if missing and database and database.may_be_entered and not has_public:
            message = f'database "{name}" has no schema "public" any more, where extensions are created'
            remedy = f'as "{database.owner}" in that database: CREATE SCHEMA "public", or CREATE EXTENSION in another'
            yield Finding("extension_without_schema", message, remedy, **place)


def _missing_administrator_rights(ownership: Ownership, changes: tuple[Change, ...]) -> Iterable[Finding]:
    """What the administrator would need for these changes and does not have, before any of them is tried."""
    me = ownership.server.roles[ownership.server.administrator]
    lacks = []
    needed = {item.kind.right for item in changes}
    if not me.createrole and "CREATEROLE" in needed:
        lacks.append("CREATEROLE")
    gives_createdb = ownership.server.has_membership_options and any(item.createdb is not None for item in changes)
    if not me.createdb and ("CREATEDB" in needed or gives_createdb):
        lacks.append("CREATEDB")
    if not ownership.server.has_membership_options and not me.inherits and any(item.database for item in changes):
        # From 16 on a membership says for itself that it is inherited.
        lacks.append("INHERIT")
    if lacks and not me.superuser:
        yield Finding(
            "administrator_rights",
            f'the administrator "{me.name}" lacks {" and ".join(lacks)}, which this plan needs',
            f"as the RDS master: ALTER ROLE {quote(me.name)} {' '.join(lacks)}",
        )
    for name in sorted(_roles_to_act_on(ownership, changes)):
        facts = ownership.server.roles.get(name)
        if facts is not None and not facts.has_admin_option and not facts.superuser:
            yield Finding(
                "administrator_lacks_admin",
                f'the administrator "{me.name}" has no ADMIN option on role "{name}", which this plan needs',
                f"as a role that has it: GRANT {quote(name)} TO {quote(me.name)} WITH ADMIN OPTION",
                username=name,
            )


def _roles_to_act_on(ownership: Ownership, changes: tuple[Change, ...]) -> set[str]:
    """The roles that are changed, and those in whose place databases are, where that takes a membership."""
    altered = {change.username for change in changes if not change.database}
    behind = {role for change in changes if change.database for role in change.acting_roles}
    administrator_inherits = {name for name, facts in ownership.server.roles.items() if facts.administrator_inherits}
    return altered | (behind - administrator_inherits - {ownership.server.administrator})
