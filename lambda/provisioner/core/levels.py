"""The access levels as data: what an owner, an editor and a reader hold, and what everybody else loses.

This is the one place that says it; the table in the README is the same one. Privileges are written out and never as
ALL, whose meaning grows with the server (MAINTAIN came with PostgreSQL 17).
"""

from __future__ import annotations

from provisioner.core.model import AccessLevel
from provisioner.core.state import Kind

# What a level holds on each kind of object. An owner holds everything else by owning it, so only the two places are
# named where owning is not enough: CONNECT can be taken from an owner, and `public` may belong to somebody else.
PRIVILEGES: dict[AccessLevel, dict[Kind, frozenset[str]]] = {
    AccessLevel.OWNER: {
        Kind.DATABASE: frozenset({"CONNECT", "TEMPORARY", "CREATE"}),
        Kind.SCHEMA: frozenset({"USAGE", "CREATE"}),
    },
    AccessLevel.EDITOR: {
        Kind.DATABASE: frozenset({"CONNECT", "TEMPORARY"}),
        Kind.SCHEMA: frozenset({"USAGE"}),
        Kind.TABLE: frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
        Kind.SEQUENCE: frozenset({"USAGE", "SELECT", "UPDATE"}),
    },
    AccessLevel.READER: {
        Kind.DATABASE: frozenset({"CONNECT"}),
        Kind.SCHEMA: frozenset({"USAGE"}),
        Kind.TABLE: frozenset({"SELECT"}),
        Kind.SEQUENCE: frozenset({"SELECT"}),
    },
}

# What the administrator keeps for itself once PUBLIC has lost CONNECT; without it, it could not come back.
ADMINISTRATOR_PRIVILEGES: dict[Kind, frozenset[str]] = {Kind.DATABASE: frozenset({"CONNECT"})}

# What PUBLIC may keep on a managed database and on what stands in it: nobody gets in but the declared roles, and what
# each of them may do is for its level to say. Routines and types are everybody's by PostgreSQL's own default.
PUBLIC_KEEPS: dict[Kind, frozenset[str]] = {
    Kind.DATABASE: frozenset(),
    Kind.SCHEMA: frozenset({"USAGE"}),
    Kind.TABLE: frozenset({"SELECT"}),
    Kind.SEQUENCE: frozenset({"SELECT"}),
    Kind.COLUMN: frozenset({"SELECT"}),
    Kind.LARGE_OBJECT: frozenset({"SELECT"}),
    Kind.ROUTINE: frozenset({"EXECUTE"}),
    Kind.TYPE: frozenset({"USAGE"}),
}

# The codes of what lets a declared role, or everybody, do more than its level, and is not ours to take away.
EXCEEDS_LEVEL = frozenset(
    {
        "created_beyond_level",
        "definer_routines",
        "extension_privileges",
        "foreign_membership",
        "membership_of_another_grantor",
        "privilege_beyond_reach",
        "privileges_outside_levels",
        "public_can_connect",
        "public_can_create",
        "public_privileges",
    }
)
# What an entry may accept, so that it is not told again: those, and what others hold or own in a database.
ACCEPTABLE = EXCEEDS_LEVEL | {
    "foreign_grants",
    "foreign_objects",
    "member_of_owner",
    "other_privileges",
    "public_grants",
}

# The kinds that get a default privilege, so that an object made tomorrow is covered like those that stand today.
DEFAULT_PRIVILEGE_KINDS = (Kind.SCHEMA, Kind.TABLE, Kind.SEQUENCE)
