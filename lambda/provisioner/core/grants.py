"""What should be granted in one database: what stands in it and the access levels in, grants and findings out.

A level is a rule over whatever stands: for each object, the privileges of the declared roles follow the level table,
and what is not ours to touch is wanted exactly as it is. What we would have to touch but may not becomes a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from provisioner.core import access_levels as levels
from provisioner.core.access_levels import AccessLevel
from provisioner.core.errors import Finding
from provisioner.core.kinds import ObjectKind
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import quote
from provisioner.core.roles import is_revocable
from provisioner.core.state import DATABASE_OWNER, PUBLIC, Database, Grant, ObjectGroup, Target, all_members


@dataclass(frozen=True)
class DatabasePolicy:
    """One declared database with all that decides about the grants in it."""

    database: Database
    ownership: Ownership

    @cached_property
    def owner(self) -> str:
        return self.ownership.declared_owner(self.database.name) or self.database.owner

    @cached_property
    def members(self) -> Mapping[str, AccessLevel]:
        """The level of each declared role that has an entry here."""
        declared = self.ownership.levels[self.database.name]
        return {role: level for role, level in declared.items() if self.ownership.manages(role)}

    @cached_property
    def covered(self) -> frozenset[str]:
        """The schemas in which levels hold."""
        schemas = {group.target.schema: group.target.owner for group in self.database.groups if group.target.is_schema}
        holders = {self.owner, DATABASE_OWNER, *self.creators}
        return frozenset(schema for schema, holder in schemas.items() if schema == "public" or holder in holders)

    @cached_property
    def guests(self) -> Mapping[str, frozenset[str]]:
        """Of each schema in whose owner's place we cannot act, who may use it, with their members."""
        found = {}
        for group in self.database.groups:
            if group.target.is_schema and not self.ownership.may_act_as(group.target.owner, self.owner):
                given = (grant.grantee for grant in group.items if grant.privilege == "USAGE")
                users = frozenset({"pg_read_all_data", "pg_write_all_data", *given})
                found[group.target.schema] = users | all_members(users, self.ownership.server.memberships)
        return found

    def all_groups(self) -> tuple[ObjectGroup, ...]:
        """The observed groups, and one for each default privilege that is wanted and has no row yet."""
        present = {group.target for group in self.database.groups}
        wanted = (
            Target(kind, owner=creator, creator=creator)
            for creator in sorted(self.creators)
            for kind in levels.DEFAULT_PRIVILEGE_KINDS
        )
        missing = (ObjectGroup(target, _by_default(target)) for target in wanted if target not in present)
        return (*self.database.groups, *missing)

    def wanted_grants(self, group: ObjectGroup, findings: list[Finding]) -> frozenset[Grant]:
        """What should be granted on one group: what the levels say, and what we leave as it is."""
        wanted, present = self._level_grants(group.target), frozenset(group.items)
        kept = frozenset(grant for grant in present - wanted if self._is_kept(grant, group, findings))
        held = _needed_by_kept(kept, present - wanted - kept, group.target.owner)
        findings += [_dependent(grant, group, self.database) for grant in held if grant.grant_option]
        findings += self._ungrantable(group)
        return wanted | kept | held

    # --- what the levels ask for ----------------------------------------------------------------------------------

    def _level_grants(self, target: Target) -> frozenset[Grant]:
        if not self.covers(target):
            return frozenset()
        held = {
            role: level.on(target.kind)
            for role, level in self.members.items()
            if role != target.owner and not (level is AccessLevel.OWNER and self._owner_holds_implicitly(target))
        }
        if target.kind is ObjectKind.DATABASE:
            # The owner too, from whom CONNECT can be taken as from anybody.
            held |= dict.fromkeys({self.owner} & set(self.members), AccessLevel.OWNER.on(target.kind))
            held[self.ownership.server.administrator] = levels.ADMINISTRATOR_PRIVILEGES[target.kind]
        return frozenset(Grant(target.owner, role, each) for role, privileges in held.items() for each in privileges)

    def covers(self, target: Target) -> bool:
        """Whether the levels hold on a target, and it is ours to grant on."""
        if target.kind not in levels.LEVEL_KINDS or target.extension or not self._may_grant(target, target.owner):
            return False
        if target.creator:
            return target.creator in self.creators and not target.schema
        if target.kind in {ObjectKind.DATABASE, ObjectKind.COLUMN}:
            return target.kind is ObjectKind.DATABASE
        return target.schema in self.covered and (
            target.is_schema or target.owner in self.creators | {self.owner, DATABASE_OWNER}
        )

    def _may_grant(self, target: Target, grantor: str) -> bool:
        """Whether we may act in the place of who grants, and name the target, which takes USAGE on its schema."""
        acting = {PUBLIC, self.ownership.server.administrator, self.owner, target.owner, grantor}
        guests = acting if target.is_schema or target.creator else self.guests.get(target.schema, acting)
        return self.ownership.may_act_as(grantor, self.owner) and not acting.isdisjoint(guests)

    def _owner_holds_implicitly(self, target: Target) -> bool:
        """Everything but the schema `public` where that belongs to somebody else than the owner."""
        return not target.is_public_schema or target.owner in {self.owner, DATABASE_OWNER}

    @cached_property
    def creators(self) -> frozenset[str]:
        """The roles whose objects here, present and future, the levels cover: the owner, and managed roles that create.

        A role creates here if it owns something already, or could: it is a member of the owner. The administrator is
        one where it owns something. Objects of others are reported, not covered.
        """
        administrator, ownership = self.ownership.server.administrator, self.ownership
        owners = {group.target.owner for group in self.database.groups if _is_object(group.target)}
        holders = owners | {group.target.owner for group in self.database.groups if group.target.is_schema}
        members = {
            item.member
            for item in ownership.memberships_in.get(self.owner, ())
            if item.confers_privileges and not is_revocable(item, ownership)
        }
        others = (holders | members) - {self.owner, DATABASE_OWNER, administrator}
        managed = {role for role in others if ownership.manages(role)} | {self.owner}
        creators = frozenset(role for role in managed if ownership.may_act_as(role, self.owner))
        return creators | ({administrator} & owners)

    # --- what is left as it is ------------------------------------------------------------------------------------

    def _is_kept(self, grant: Grant, group: ObjectGroup, findings: list[Finding]) -> bool:
        """Whether a grant that no level asks for is left as it is, with a finding where that is worth one."""
        target, is_public = group.target, grant.grantee == PUBLIC
        if is_public:
            is_fine = levels.allows(None, target.kind, grant.privilege, to_public=True)
        else:
            is_declared = grant.grantee in self.ownership.by_role and self.ownership.manages(grant.grantee)
            is_fine = not is_declared or grant.grantee == target.owner or self._is_within_level(grant, target)
        if is_fine:
            return True
        has_level = target.kind in levels.LEVEL_KINDS and not target.extension
        if has_level and self._may_grant(target, grant.grantor):
            return False
        findings.append(
            _public_exceeds(grant, group, self.database, self.owner)
            if is_public
            else _exceeds(grant, group, self.database)
        )
        return True

    def _is_within_level(self, grant: Grant, target: Target) -> bool:
        """What no level needs but one allows: a column's privilege, another grantor's grant, whatever an owner gets."""
        level = self.members.get(grant.grantee)
        is_ours = self.covers(target) and self._may_grant(target, grant.grantor)
        if is_ours and level is not AccessLevel.OWNER:
            # The owner's own grant stands beside it, and a privilege passed on would keep its giver's option alive.
            return False
        return levels.allows(level, target.kind, grant.privilege, option=grant.grant_option)

    def _ungrantable(self, group: ObjectGroup) -> list[Finding]:
        """What the levels lack on a schema `public` that belongs to somebody in whose place we cannot grant."""
        target, found = group.target, []
        if not target.is_public_schema or self.ownership.may_act_as(target.owner, self.owner):
            return []
        for role, level in sorted(self.members.items()):
            held = {grant.privilege for grant in group.items if grant.grantee in {role, PUBLIC}}
            lacks = level.on(ObjectKind.SCHEMA) - held
            if lacks and role != target.owner and not (role == self.owner and target.owner == DATABASE_OWNER):
                found.append(_ungrantable(role, lacks, target, self.database))
        return found


def _needed_by_kept(kept: frozenset[Grant], others: frozenset[Grant], owner: str) -> frozenset[Grant]:
    """Of the other grants, those that something kept hangs on: a privilege passed on falls with its giver's option."""
    held: frozenset[Grant] = frozenset()
    while True:
        givers = {(grant.grantor, grant.privilege) for grant in kept | held}
        more = frozenset(
            grant for grant in others - held if (grant.grantee, grant.privilege) in givers and grant.grantee != owner
        )
        if not more:
            return held
        held |= more


def _by_default(target: Target) -> tuple[Grant, ...]:
    return tuple(Grant(target.owner, PUBLIC, privilege) for privilege in target.kind.public_by_default)


def _is_object(target: Target) -> bool:
    return target.kind in {ObjectKind.TABLE, ObjectKind.SEQUENCE} and not target.creator and not target.extension


# --- what is not ours to change ---------------------------------------------------------------------------------------


def _public_exceeds(grant: Grant, group: ObjectGroup, database: Database, owner: str) -> Finding:
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


def _exceeds(grant: Grant, group: ObjectGroup, database: Database) -> Finding:
    """What a role holds beyond its level: of an extension, on a kind without levels, or by somebody else's grant."""
    target, code = group.target, "privilege_beyond_reach"
    what = target.in_words(group.object_count)
    needs = "" if target.is_schema or target.creator or not target.schema else ", which needs USAGE on the schema"
    if target.extension:
        code, what = "extension_privileges", f"{what} that belongs to an extension"
    elif target.kind not in levels.LEVEL_KINDS:
        code = "privileges_outside_levels"
    return Finding(
        code,
        f'role "{grant.grantee}" holds {grant.privilege} on {what} in database "{database.name}", granted by '
        f'"{grant.grantor}": beyond its level, and not ours to revoke',
        f'if that is not meant, as "{grant.grantor}"{needs}: '
        f"REVOKE {grant.privilege} there FROM {quote(grant.grantee)}",
        database=database.name,
        username=grant.grantee,
    )


def _dependent(grant: Grant, group: ObjectGroup, database: Database) -> Finding:
    """What a role has passed on to somebody who keeps it."""
    return Finding(
        "dependent_grants",
        f'role "{grant.grantee}" has passed {grant.privilege} on {group.target.in_words()} on to a role that is not '
        "managed here; revoking it would take that grant too, so both stay",
        f'as "{grant.grantee}": REVOKE {grant.privilege} there from whom it was passed on to; then run again',
        database=database.name,
        username=grant.grantee,
    )


def _ungrantable(role: str, privileges: Iterable[str], target: Target, database: Database) -> Finding:
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
