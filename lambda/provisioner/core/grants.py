"""What should be granted in one database: what stands in it and the access levels in, grants and findings out.

A level is a rule over whatever stands: for each object, the privileges of the declared roles follow the level table,
and what is not ours to touch is desired exactly as it is. What we would have to touch but may not becomes a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from provisioner.core import access_levels as levels
from provisioner.core.errors import Finding
from provisioner.core.model import AccessLevel
from provisioner.core.roles import is_revocable
from provisioner.core.state import (
    DATABASE_OWNER,
    PUBLIC,
    DatabaseFacts,
    Grant,
    ObjectGroup,
    ObjectKind,
    Target,
    grants_of,
)

if TYPE_CHECKING:
    from provisioner.core.ownership import Ownership

# What is granted on these is the owner's business: it is reported and never revoked.
UNMANAGED_KINDS = frozenset({ObjectKind.ROUTINE, ObjectKind.TYPE, ObjectKind.LARGE_OBJECT})


@dataclass(frozen=True, slots=True)
class DatabasePolicy:
    """One declared database with all that decides about the grants in it.

    `members` maps each declared role that has an entry here to its level; `covered` are the schemas in which levels
    hold; `creators` the roles whose future objects get default privileges.
    """

    facts: DatabaseFacts
    owner: str
    ownership: Ownership
    members: Mapping[str, AccessLevel]
    covered: frozenset[str] = frozenset()
    creators: frozenset[str] = frozenset()

    @staticmethod
    def of(facts: DatabaseFacts, ownership: Ownership) -> DatabasePolicy:
        """The room of a declared database."""
        owner = ownership.declared_owner(facts.name) or facts.owner
        levels_here = {
            entry.username: entry.access_level
            for entry in ownership.by_database[facts.name]
            if ownership.manages(entry.username)
        }
        room = DatabasePolicy(facts, owner, ownership, levels_here)
        creators = room._creators()
        schemas = {group.target.schema: group.target.owner for group in facts.groups if _is_schema(group)}
        holders = {owner, DATABASE_OWNER, *creators}
        covered = frozenset(schema for schema, holder in schemas.items() if schema == "public" or holder in holders)
        return replace(room, covered=covered, creators=creators)

    def all_groups(self) -> tuple[ObjectGroup, ...]:
        """The observed groups, and an empty one for each default privilege that is wanted and has no row yet."""
        present = {group.target for group in self.facts.groups}
        wanted = (
            Target(kind, owner=creator, creator=creator)
            for creator in sorted(self.creators)
            for kind in levels.DEFAULT_PRIVILEGE_KINDS
        )
        return (*self.facts.groups, *(ObjectGroup(target, ()) for target in wanted if target not in present))

    def desired_grants(self, group: ObjectGroup, findings: list[Finding]) -> frozenset[Grant]:
        """What should be granted on one group: what the levels say, and what we leave as it is."""
        wanted = self._level_grants(group)
        present = grants_of([group])
        kept = frozenset(grant for grant in present - wanted if self._is_kept(grant, group, findings))
        held = _needed_by_kept(kept, present - wanted - kept)
        findings.extend(self._dependent_grant(grant) for grant in sorted(held) if grant.option)
        findings.extend(self._ungrantable(group))
        return wanted | kept | held

    def _level_grants(self, group: ObjectGroup) -> frozenset[Grant]:
        target = group.target
        if not self._is_covered(target):
            return frozenset()
        return frozenset(
            Grant(target, role, privilege, target.owner)
            for role, level in self.members.items()
            if role != target.owner and not (level is AccessLevel.OWNER and self._owner_holds_implicitly(target))
            for privilege in levels.PRIVILEGES[level].get(target.kind, frozenset())
        ) | self._wanted_on_database(target)

    def _wanted_on_database(self, target: Target) -> frozenset[Grant]:
        """CONNECT for the administrator; and for the owner, from whom it can be taken as from anybody."""
        if target.kind is not ObjectKind.DATABASE:
            return frozenset()
        holders = {self.ownership.server.administrator: levels.ADMINISTRATOR_PRIVILEGES[ObjectKind.DATABASE]}
        if self.owner in self.members:
            holders[self.owner] = levels.PRIVILEGES[AccessLevel.OWNER][ObjectKind.DATABASE]
        return frozenset(
            Grant(target, role, privilege, target.owner)
            for role, privileges in holders.items()
            for privilege in privileges
        )

    def _is_covered(self, target: Target) -> bool:
        """Whether the levels hold on a target, and it is ours to grant on."""
        if target.extension or not self.ownership.may_act_as(target.owner, self.owner):
            return False
        if target.creator:
            return target.creator in self.creators and not target.schema
        if target.kind is ObjectKind.DATABASE:
            return True
        if target.kind is ObjectKind.COLUMN:
            return False
        return target.schema in self.covered and (
            target.kind is ObjectKind.SCHEMA or target.owner in self._covered_owners()
        )

    def _covered_owners(self) -> frozenset[str]:
        return self.creators | {self.owner, DATABASE_OWNER}

    def _owner_holds_implicitly(self, target: Target) -> bool:
        """Everything but the schema `public` where that belongs to somebody else than the owner."""
        is_foreign_public = target.kind is ObjectKind.SCHEMA and target.schema == "public" and not target.creator
        return not is_foreign_public or target.owner in {self.owner, DATABASE_OWNER}

    def _is_kept(self, grant: Grant, group: ObjectGroup, findings: list[Finding]) -> bool:
        """Whether a grant that no level asks for is left as it is, with a finding where that is worth one."""
        target = grant.target
        if grant.grantee == PUBLIC:
            return self._public_grant_is_kept(grant, findings)
        is_declared = grant.grantee in self.ownership.by_role and self.ownership.manages(grant.grantee)
        if not is_declared or grant.grantee == target.owner:
            return True
        if self._is_within_level(grant):
            return True
        if target.extension or target.kind in UNMANAGED_KINDS:
            findings.append(self._outside_the_levels(grant))
            return True
        if self.ownership.may_act_as(grant.grantor, self.owner):
            return False
        findings.append(self._unrevocable(grant, group))
        return True

    def _is_within_level(self, grant: Grant) -> bool:
        """What no level needs but one allows: a column's privilege, another grantor's grant, whatever an owner gets."""
        level = self.members.get(grant.grantee)
        kind = ObjectKind.TABLE if grant.target.kind is ObjectKind.COLUMN else grant.target.kind
        if level is None or level is AccessLevel.OWNER:
            return level is AccessLevel.OWNER
        if self._is_covered(grant.target) and self.ownership.may_act_as(grant.grantor, self.owner):
            # The owner's own grant stands beside it, and a privilege passed on would keep its giver's option alive.
            return False
        return not grant.option and grant.privilege in levels.PRIVILEGES[level].get(kind, frozenset())

    def _public_grant_is_kept(self, grant: Grant, findings: list[Finding]) -> bool:
        target = grant.target
        if grant.privilege in levels.PUBLIC_KEEPS[target.kind]:
            return True
        is_revocable = not target.extension and target.kind is not ObjectKind.LARGE_OBJECT
        if is_revocable and self.ownership.may_act_as(grant.grantor, self.owner):
            return False
        findings.append(self._public_beyond(grant))
        return True

    def _public_beyond(self, grant: Grant) -> Finding:
        target = grant.target
        codes = {ObjectKind.DATABASE: "public_can_connect", ObjectKind.SCHEMA: "public_can_create"}
        # The owner creates by what everybody may; it must not lose that on the way.
        is_public = target.kind is ObjectKind.SCHEMA and target.schema == "public"
        keep = f'GRANT CREATE, USAGE ON SCHEMA "public" TO "{self.owner}"; ' if is_public else ""
        on = f'{target.kind.value.upper()} "{target.schema or self.facts.name}"' if target.kind in codes else "..."
        whose = "an extension" if target.extension else f'"{target.owner}"'
        return Finding(
            codes.get(target.kind, "public_privileges"),
            f'in database "{self.facts.name}" everybody has {grant.privilege} on {_name(target)}, which belongs '
            f"to {whose} and is not ours to change",
            f'as "{grant.grantor}" in that database: {keep}REVOKE {grant.privilege} ON {on} FROM PUBLIC',
            database=self.facts.name,
        )

    def _ungrantable(self, group: ObjectGroup) -> Iterable[Finding]:
        """What the levels lack on a schema `public` that belongs to somebody in whose place we cannot grant."""
        target = group.target
        is_public = target.kind is ObjectKind.SCHEMA and target.schema == "public" and not target.creator
        if not is_public or self.ownership.may_act_as(target.owner, self.owner):
            return
        for role, level in sorted(self.members.items()):
            held = {item.privilege for item in group.items if item.grantee in {role, PUBLIC}}
            lacks = ", ".join(sorted(levels.PRIVILEGES[level][ObjectKind.SCHEMA] - held))
            if lacks and role != target.owner and not (role == self.owner and target.owner == DATABASE_OWNER):
                yield Finding(
                    "level_out_of_reach",
                    f'role "{role}" lacks {lacks} on schema "public" of database "{self.facts.name}", which belongs to '
                    f'"{target.owner}" and is not ours to grant on',
                    f'as "{target.owner}" in that database: GRANT {lacks} ON SCHEMA "public" TO "{role}"',
                    database=self.facts.name,
                    username=role,
                )

    def _outside_the_levels(self, grant: Grant) -> Finding:
        """What a role holds beyond its level where none is enforced: an extension's objects, kinds without a level."""
        target = grant.target
        what = f"{_name(target)}{' that belongs to an extension' if target.extension else ''}"
        return Finding(
            "extension_privileges" if target.extension else "privileges_outside_levels",
            f'role "{grant.grantee}" holds {grant.privilege} on {what} in database "{self.facts.name}", beyond its '
            "level",
            f'if that is not meant, as "{grant.grantor}": REVOKE {grant.privilege} there FROM "{grant.grantee}"',
            database=self.facts.name,
            username=grant.grantee,
        )

    def _unrevocable(self, grant: Grant, group: ObjectGroup) -> Finding:
        return Finding(
            "privilege_beyond_reach",
            f'role "{grant.grantee}" holds {grant.privilege} on {_name(grant.target, group.count)}, beyond its level, '
            f'granted by "{grant.grantor}", which is not managed here',
            f'as "{grant.grantor}": REVOKE {grant.privilege} there FROM "{grant.grantee}"',
            database=self.facts.name,
            username=grant.grantee,
        )

    def _dependent_grant(self, grant: Grant) -> Finding:
        return Finding(
            "dependent_grants",
            f'role "{grant.grantee}" has passed {grant.privilege} on {_name(grant.target)} on to a role that is not '
            "managed here; revoking it would take that grant too, so both stay",
            f'as "{grant.grantee}": REVOKE {grant.privilege} there from whom it was passed on to; then run again',
            database=self.facts.name,
            username=grant.grantee,
        )

    def _creators(self) -> frozenset[str]:
        """The roles whose objects here the levels cover: the owner, and managed roles that create here too.

        A role creates here if it owns something already, or could: it is a member of the owner. The administrator is
        one where it owns something. Objects of others are reported, not covered.
        """
        holders = {group.target.owner for group in self.facts.groups if _is_object(group) or _is_schema(group)}
        members = {
            item.member
            for item in self.ownership.memberships_in.get(self.owner, ())
            if item.confers_privileges and not is_revocable(item, self.ownership)
        }
        others = frozenset(
            role
            for role in holders | members
            if role not in {self.owner, DATABASE_OWNER, self.ownership.server.administrator}
            and self.ownership.manages(role)
            and self.ownership.may_act_as(role, self.owner)
        )
        administrator = self.ownership.server.administrator
        is_creator = any(_is_object(group) and group.target.owner == administrator for group in self.facts.groups)
        own = frozenset({self.owner}) if self.ownership.may_act_as(self.owner, self.owner) else frozenset()
        return own | others | (frozenset({administrator}) if is_creator else frozenset())


def _needed_by_kept(kept: frozenset[Grant], others: frozenset[Grant]) -> frozenset[Grant]:
    """Of the other grants, those that something kept hangs on: a privilege passed on falls with its giver's option."""
    held: frozenset[Grant] = frozenset()
    while True:
        givers = {(grant.grantor, grant.privilege) for grant in kept | held}
        more = frozenset(
            grant
            for grant in others - held
            if (grant.grantee, grant.privilege) in givers and grant.grantee != grant.target.owner
        )
        if not more:
            return held
        held |= more


def _is_schema(group: ObjectGroup) -> bool:
    return group.target.kind is ObjectKind.SCHEMA and not group.target.creator


def _is_object(group: ObjectGroup) -> bool:
    return (
        group.target.kind in {ObjectKind.TABLE, ObjectKind.SEQUENCE}
        and not group.target.creator
        and not group.target.extension
    )


def _name(target: Target, count: int = 1) -> str:
    if target.creator:
        where = f' in schema "{target.schema}"' if target.schema else ""
        return f'future {target.kind.value}s of "{target.creator}"{where}'
    if target.kind is ObjectKind.DATABASE:
        return "the database"
    if target.kind is ObjectKind.SCHEMA:
        return f'schema "{target.schema}"'
    return f'{count} {target.kind.value}{"" if count == 1 else "s"} in schema "{target.schema}"'
