"""The access levels as data: what an owner, an editor and a reader hold, and what everybody else loses.

This is the one place that says it; the table in the README is the same one. Privileges are written out and never as
ALL, whose meaning grows with the server (MAINTAIN came with PostgreSQL 17).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from provisioner.core.kinds import ObjectKind


class AccessLevel(StrEnum):
    """What a role may do in a database; `privileges` are what a level holds on each kind of object.

    An owner holds everything else by owning it, so only the two places are named where owning is not enough: CONNECT
    can be taken from an owner, and `public` may belong to somebody else.
    """

    privileges: Mapping[ObjectKind, frozenset[str]]

    OWNER = (
        "owner",
        {
            ObjectKind.DATABASE: frozenset({"CONNECT", "TEMPORARY", "CREATE"}),
            ObjectKind.SCHEMA: frozenset({"USAGE", "CREATE"}),
        },
    )
    EDITOR = (
        "editor",
        {
            ObjectKind.DATABASE: frozenset({"CONNECT", "TEMPORARY"}),
            ObjectKind.SCHEMA: frozenset({"USAGE"}),
            ObjectKind.TABLE: frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
            ObjectKind.SEQUENCE: frozenset({"USAGE", "SELECT", "UPDATE"}),
        },
    )
    READER = (
        "reader",
        {
            ObjectKind.DATABASE: frozenset({"CONNECT"}),
            ObjectKind.SCHEMA: frozenset({"USAGE"}),
            ObjectKind.TABLE: frozenset({"SELECT"}),
            ObjectKind.SEQUENCE: frozenset({"SELECT"}),
        },
    )

    def __new__(cls, word: str, privileges: Mapping[ObjectKind, frozenset[str]] = MappingProxyType({})) -> Self:
        level = str.__new__(cls, word)
        level._value_, level.privileges = word, privileges
        return level

    def on(self, kind: ObjectKind) -> frozenset[str]:
        return self.privileges.get(kind, frozenset())


# What owning an object gives; no access control list names it, and no level but the owner's has it.
OWN = "OWN"
# What the administrator keeps for itself once PUBLIC has lost CONNECT; without it, it could not come back.
ADMINISTRATOR_PRIVILEGES: dict[ObjectKind, frozenset[str]] = {ObjectKind.DATABASE: frozenset({"CONNECT"})}

# What PUBLIC may keep on a managed database and on what stands in it: nobody gets in but the declared roles, and what
# each of them may do is for its level to say. Routines and types are everybody's by PostgreSQL's own default.
PUBLIC_KEEPS: dict[ObjectKind, frozenset[str]] = {
    ObjectKind.DATABASE: frozenset(),
    ObjectKind.SCHEMA: frozenset({"USAGE"}),
    ObjectKind.TABLE: frozenset({"SELECT"}),
    ObjectKind.SEQUENCE: frozenset({"SELECT"}),
    ObjectKind.COLUMN: frozenset({"SELECT"}),
    ObjectKind.LARGE_OBJECT: frozenset({"SELECT"}),
    ObjectKind.ROUTINE: frozenset({"EXECUTE"}),
    ObjectKind.TYPE: frozenset({"USAGE"}),
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
    "other_databases",
    "other_privileges",
    "public_grants",
}

# The kinds that levels speak of, a column as part of its table. What is granted on any other is its owner's business:
# it is reported and never revoked.
LEVEL_KINDS = frozenset(kind for level in AccessLevel for kind in level.privileges) | {ObjectKind.COLUMN}
# The kinds that get a default privilege, so that an object made tomorrow is covered like those that stand today.
DEFAULT_PRIVILEGE_KINDS = tuple(
    kind for kind in ObjectKind if kind in LEVEL_KINDS - {ObjectKind.DATABASE, ObjectKind.COLUMN}
)


def allows(
    level: AccessLevel | None, kind: ObjectKind, privilege: str, *, option: bool = False, to_public: bool = False
) -> bool:
    """Whether a level (None: no level at all) gives a privilege, or OWN, on objects of a kind, or allows it.

    The one place that decides what exceeds a level: what an apply takes back, what is warned of, and what a report of
    access calls expected. What is granted `to_public` and PUBLIC may keep is within every level. The right to pass a
    privilege on is no level's but the owner's, and neither is what comes by a membership.
    """
    if level is AccessLevel.OWNER:
        return True
    if option or privilege == OWN:
        return False
    # A privilege on a column is within a level that has it on the table.
    allowed = level.on(ObjectKind.TABLE if kind is ObjectKind.COLUMN else kind) if level else frozenset[str]()
    return privilege in allowed or (to_public and privilege in PUBLIC_KEEPS[kind])
