"""Databases that were kept when their owner was retired: what is said of them, and how a new owner takes one over."""

from __future__ import annotations

from collections.abc import Iterable

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import quote
from provisioner.core.state import PUBLIC, Database
from provisioner.core.text import join_names


def is_kept(database: Database, ownership: Ownership) -> bool:
    """Whether the administrator keeps a database; a marker that somebody else can write counts for nothing."""
    return bool(database.marker.kept and database.owner == ownership.server.administrator)


def kept_warning(database: Database, ownership: Ownership) -> Finding | None:
    """What is said of a kept database that nobody declares."""
    marker, me = database.marker, ownership.server.administrator
    if not is_kept(database, ownership):
        return None
    size = f"{ownership.leaving.sizes.get(database.name, 0) / 2**20:.0f} MB"
    return Finding(
        "kept_database",
        f'database "{database.name}" ({size}) is kept since {marker.kept}; it was "{marker.kept_from}"\'s, and '
        f'belongs to "{me}"',
        f'when its time has come, take a snapshot of the instance, then as "{me}": DROP DATABASE '
        f"{quote(database.name)}; or declare a new owner and adopt it",
        database=database.name,
    )


def opened_warning(database: Database, ownership: Ownership) -> Finding | None:
    """What is said of a kept database, declared or not, on which somebody else was given something, or given copies."""
    holders = ownership.leaving.opened.get(database.name, ())
    is_template = database.is_template and is_kept(database, ownership)
    if not (holders or is_template) or database.name in ownership.adopted_databases:
        return None
    names = ["everybody" if name == PUBLIC else f'"{name}"' for name in holders]
    grantees = ", ".join("PUBLIC" if name == PUBLIC else quote(name) for name in holders)
    remedies = [f"REVOKE ALL ON DATABASE {quote(database.name)} FROM {grantees} CASCADE"] if holders else []
    if is_template:
        names.append("copies by whoever may create databases")
        remedies.append(f"ALTER DATABASE {quote(database.name)} IS_TEMPLATE false")
    return Finding(
        "kept_database_open",
        f'database "{database.name}" is kept for the administrator alone, and is open to {join_names(names, most=100)}:'
        " what a tenant wrote in it runs there with the administrator's rights",
        f'as "{ownership.server.administrator}": {"; ".join(remedies)}',
        database=database.name,
    )


def kept_blockers(database: Database, ownership: Ownership) -> Iterable[Finding]:
    """A kept database is given to a new owner by name only: what a new entry calls its database may be an accident."""
    owner = ownership.declared_owner(database.name)
    marker, entries = database.marker, ownership.by_database[database.name]
    if owner and database.name in ownership.adopted_databases:
        return
    application = next((entry.application for entry in entries if entry.username == owner), "...")
    message = f'database "{database.name}" is kept since {marker.kept}; it was "{marker.kept_from}"\'s'
    first = "" if owner else "declare an entry for its new owner, and "
    next_step = f'{first}adopt it: adopt: ["{application}"]; or declare another database_name'
    yield Finding("database_kept", message, next_step, database=database.name)


def adoptions(ownership: Ownership) -> Iterable[Change]:
    """The kept databases that pass to a new owner, in order."""
    for name in sorted(ownership.by_database):
        database, owner = ownership.server.databases.get(name), ownership.declared_owner(name)
        if database and owner and is_kept(database, ownership):
            reason = f'kept since {database.marker.kept}: passes with all that is in it to "{owner}"'
            yield Change(
                ChangeKind.GIVE_DATABASE,
                database=name,
                username=owner,
                reason=reason,
                subject=database.marker.kept_from,
            )
