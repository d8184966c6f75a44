"""What exceeds a level, or is lacking, and is not ours to change: grants in, findings out."""

from __future__ import annotations

from collections.abc import Iterable

from provisioner.core.access_levels import LEVEL_KINDS
from provisioner.core.errors import Finding
from provisioner.core.kinds import ObjectKind
from provisioner.core.quoting import quote
from provisioner.core.state import Database, Grant, ObjectGroup, Target


def public_exceeds(grant: Grant, group: ObjectGroup, database: Database, owner: str) -> Finding:
    """What everybody holds beyond what PUBLIC may keep."""
    target = group.target
    codes = {ObjectKind.DATABASE: "public_can_connect", ObjectKind.SCHEMA: "public_can_create"}
    # The owner creates by what everybody may; it must not lose that on the way.
    keep = f'GRANT CREATE, USAGE ON SCHEMA "public" TO {quote(owner)}; ' if target.is_public_schema else ""
    on = f"{target.kind.keyword} {quote(target.schema or database.name)}" if target.kind in codes else "..."
    whose = "an extension" if target.extension else f'"{target.owner}"'
    return Finding(
        codes.get(target.kind, "public_privileges"),
        f'in database "{database.name}" everybody has {grant.privilege} on {target.in_words()}, which belongs '
        f"to {whose} and is not ours to change",
        f'as "{grant.grantor}" in that database: {keep}REVOKE {grant.privilege} ON {on} FROM PUBLIC',
        database=database.name,
    )


def exceeds(grant: Grant, group: ObjectGroup, database: Database) -> Finding:
    """What a role holds beyond its level: of an extension, on a kind without levels, or by somebody else's grant."""
    target, code = group.target, "privilege_beyond_reach"
    what = target.in_words(group.object_count)
    if target.extension:
        code, what = "extension_privileges", f"{what} that belongs to an extension"
    elif target.kind not in LEVEL_KINDS:
        code = "privileges_outside_levels"
    return Finding(
        code,
        f'role "{grant.grantee}" holds {grant.privilege} on {what} in database "{database.name}", granted by '
        f'"{grant.grantor}": beyond its level, and not ours to revoke',
        f'if that is not meant, as "{grant.grantor}": REVOKE {grant.privilege} there FROM {quote(grant.grantee)}',
        database=database.name,
        username=grant.grantee,
    )


def dependent(grant: Grant, group: ObjectGroup, database: Database) -> Finding:
    """What a role has passed on to somebody who keeps it."""
    return Finding(
        "dependent_grants",
        f'role "{grant.grantee}" has passed {grant.privilege} on {group.target.in_words()} on to a role that is not '
        "managed here; revoking it would take that grant too, so both stay",
        f'as "{grant.grantee}": REVOKE {grant.privilege} there from whom it was passed on to; then run again',
        database=database.name,
        username=grant.grantee,
    )


def ungrantable(role: str, privileges: Iterable[str], target: Target, database: Database) -> Finding:
    """What a role lacks on somebody else's schema `public`."""
    lacks = ", ".join(sorted(privileges))
    return Finding(
        "level_out_of_reach",
        f'role "{role}" lacks {lacks} on schema "public" of database "{database.name}", which belongs to '
        f'"{target.owner}" and is not ours to grant on',
        f'as "{target.owner}" in that database: GRANT {lacks} ON SCHEMA "public" TO {quote(role)}',
        database=database.name,
        username=role,
    )
