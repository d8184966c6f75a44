"""What should stand: a declaration and an observation in, two comparable states and the warnings between them out.

An access level is a rule over whatever stands in a database, so the desired state is built over the observed
inventory: for each object, the privileges of the declared roles follow the level table, and everything that is not
ours to touch is desired exactly as it is. What we would have to touch but may not becomes a finding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from provisioner.core import access_levels as levels
from provisioner.core.errors import Finding
from provisioner.core.model import AccessLevel
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.state import (
    DATABASE_OWNER,
    IAM_ROLE,
    PUBLIC,
    AclItem,
    Database,
    DatabaseFacts,
    Grant,
    Membership,
    ObjectGroup,
    ObjectKind,
    PasswordCheck,
    Role,
    RoleFacts,
    Server,
    State,
    Target,
    grants_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The PostgreSQL version (`server_version_num` / 10000) from which `public` belongs to the owner of its database.
PUBLIC_SCHEMA_FOLLOWS_OWNER = 15
# What is granted on these is the owner's business: it is reported and never revoked.
UNMANAGED_KINDS = frozenset({ObjectKind.ROUTINE, ObjectKind.TYPE, ObjectKind.LARGE_OBJECT})


def new_database(name: str, owner: str, server: Server) -> DatabaseFacts:
    """What CREATE DATABASE makes from template0: PUBLIC may connect, and `public` belongs to whom the version says."""
    schema_owner = DATABASE_OWNER if server.version >= PUBLIC_SCHEMA_FOLLOWS_OWNER else server.bootstrap
    everybody = ("USAGE",) if server.version >= PUBLIC_SCHEMA_FOLLOWS_OWNER else ("CREATE", "USAGE")
    return DatabaseFacts(
        name=name,
        owner=owner,
        groups=(
            ObjectGroup(
                Target(ObjectKind.DATABASE, owner=owner),
                (
                    *_items(owner, owner, ("CONNECT", "CREATE", "TEMPORARY")),
                    *_items(owner, PUBLIC, ("CONNECT", "TEMPORARY")),
                ),
            ),
            ObjectGroup(
                Target(ObjectKind.SCHEMA, schema="public", owner=schema_owner),
                (
                    *_items(schema_owner, schema_owner, ("CREATE", "USAGE")),
                    *_items(schema_owner, PUBLIC, everybody),
                ),
            ),
        ),
    )


def as_created(ownership: Ownership) -> Server:
    """The server, with what stands in the databases that an interrupted run left closed: nobody has been in them."""
    left = {
        name: replace(facts, groups=new_database(name, facts.owner, ownership.server).groups)
        for name, facts in ownership.server.databases.items()
        if name in ownership.by_database and ownership.is_left_closed(facts)
    }
    return replace(ownership.server, databases={**ownership.server.databases, **left})


def observed_roles(ownership: Ownership) -> dict[str, Role]:
    """The compared part of the declared roles that exist."""
    return {
        name: _observed_role(facts, ownership)
        for name in ownership.by_role
        if (facts := ownership.server.roles.get(name)) is not None
    }


def observed_state(ownership: Ownership) -> State:
    """The compared part of what was observed: the declared roles and databases that exist."""
    databases = {
        name: observed_database(database, ownership)
        for name in ownership.by_database
        if (database := ownership.server.databases.get(name)) is not None
    }
    return State(observed_roles(ownership), databases)


@dataclass(frozen=True, slots=True)
class Desired:
    """The state that should be, the inventory that it was built over, and what stays as it is though it should not."""

    state: State
    inventory: Mapping[str, DatabaseFacts]
    findings: tuple[Finding, ...]


def desired_state(ownership: Ownership) -> Desired:
    """Build the state that a declaration asks for over what stands; see the module's first sentence."""
    findings: list[Finding] = []
    inventory = take_inventory(ownership)
    databases = {name: desired_database(facts, ownership, findings) for name, facts in inventory.items()}
    return Desired(State(desired_roles(ownership, findings), databases), inventory, tuple(findings))


def take_inventory(ownership: Ownership) -> dict[str, DatabaseFacts]:
    """What stands in each declared database, or will where it is yet to be created."""
    found = {
        name: ownership.server.databases.get(name) or _to_be_created(name, ownership) for name in ownership.by_database
    }
    return {name: facts for name, facts in found.items() if facts is not None}


def desired_roles(ownership: Ownership, findings: list[Finding]) -> dict[str, Role]:
    """The state that the declared roles should have; findings are added to the list."""
    observed = observed_roles(ownership)
    return {name: _desired_role(name, ownership, observed.get(name), findings) for name in ownership.by_role}


def desired_database(facts: DatabaseFacts, ownership: Ownership, findings: list[Finding]) -> Database:
    """The state that one declared database should have, over what stands in it; findings are added to the list.

    One that is not ours to change is desired as it is.
    """
    if not ownership.may_change(facts):
        return observed_database(facts, ownership)
    room = DatabasePolicy.of(facts, ownership)
    entries = ownership.by_database[facts.name]
    return Database(
        name=facts.name,
        owner=room.owner,
        extensions=facts.extensions.union(*(entry.extensions for entry in entries)),
        grants=frozenset(grant for group in room.all_groups() for grant in room.desired_grants(group, findings)),
    )


def observed_database(facts: DatabaseFacts, ownership: Ownership) -> Database:
    """The compared part of one database as it stands."""
    return Database(
        name=facts.name,
        owner=facts.owner,
        managed=has_marker(facts, ownership.environment),
        extensions=facts.extensions,
        grants=grants_of(facts.groups),
    )


def _to_be_created(name: str, ownership: Ownership) -> DatabaseFacts | None:
    owner = ownership.declared_owner(name)
    # Not for a role that is not ours: a blocker says so.
    if not owner or not ownership.manages(owner):
        return None
    return replace(new_database(name, owner, ownership.server), allows_connections=False)


# --- roles ----------------------------------------------------------------------------------------------------------


def _observed_role(facts: RoleFacts, ownership: Ownership) -> Role:
    check = ownership.server.passwords.get(facts.name, PasswordCheck.NOT_CHECKED)
    return Role(
        name=facts.name,
        createdb=facts.createdb,
        createrole=facts.createrole,
        connection_limit=facts.connection_limit,
        managed=has_marker(facts, ownership.environment),
        password_current=check is not PasswordCheck.DIFFERS,
        verifier_current=check is not PasswordCheck.OTHER_VERIFIER,
        memberships=frozenset(ownership.memberships_of.get(facts.name, ())),
        interrupted_create=bool(facts.marker and facts.marker.creating),
        marker_current=facts.marker is None or facts.marker.current,
        temporary=facts.name in ownership.self_granted,
    )


def _desired_role(name: str, ownership: Ownership, present: Role | None, findings: list[Finding]) -> Role:
    if present is not None and not ownership.manages(name):
        # Not ours to change, and a blocker says so.
        return present
    entries = ownership.by_role[name]
    declared_limit = next((entry.connection_limit for entry in entries if entry.connection_limit is not None), None)
    role = Role(name, createdb=any(entry.createdb for entry in entries), secret=ownership.secrets.get(name, ""))
    if declared_limit is not None:
        role = replace(role, connection_limit=declared_limit)
    elif present is not None and not ownership.server.roles[name].has_limit_of_ours:
        # A limit that nobody declared and that we did not set is an operator's; it stands.
        role = replace(role, connection_limit=present.connection_limit)
    if present is not None:
        kept = frozenset(item for item in present.memberships if _membership_is_kept(item, ownership, findings))
        role = replace(role, memberships=kept)
    return role


def _membership_is_kept(membership: Membership, ownership: Ownership, findings: list[Finding]) -> bool:
    """Whether a declared role keeps a membership: in a managed role it is access that nobody declared."""
    role, member = membership.role, membership.member
    if role == IAM_ROLE:
        return True
    if not ownership.manages(role):
        # With ADMIN alone the member is one statement away from it.
        if not (membership.confers_privileges or membership.admin_option):
            return True
        findings.append(
            Finding(
                "foreign_membership",
                f'role "{member}" is a member of "{role}", which is not managed here, and has what that role has',
                f'if that is not meant: REVOKE "{role}" FROM "{member}"',
                username=member,
            )
        )
        return True
    if _is_revocable(membership, ownership):
        return False
    findings.append(
        Finding(
            "membership_of_another_grantor",
            f'role "{member}" is a member of "{role}", granted by "{membership.grantor}": beyond its level, and not '
            "ours to revoke",
            f'as "{membership.grantor}": REVOKE "{role}" FROM "{member}"',
            username=member,
        )
    )
    return True


def _is_revocable(membership: Membership, ownership: Ownership) -> bool:
    """Whether a membership is one of a declared role in a managed one, and ours to revoke.

    From 16 a REVOKE takes back only what the named grantor granted, and only somebody with its rights can name it.
    """
    is_ours = ownership.server.version < 16 or membership.grantor == ownership.server.administrator
    return is_ours and membership.member in ownership.by_role and ownership.manages(membership.role)


# --- databases ------------------------------------------------------------------------------------------------------


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
            if item.confers_privileges and not _is_revocable(item, self.ownership)
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


def _items(grantor: str, grantee: str, privileges: Iterable[str]) -> tuple[AclItem, ...]:
    return tuple(AclItem(grantor, grantee, privilege) for privilege in privileges)


def _name(target: Target, count: int = 1) -> str:
    if target.creator:
        where = f' in schema "{target.schema}"' if target.schema else ""
        return f'future {target.kind.value}s of "{target.creator}"{where}'
    if target.kind is ObjectKind.DATABASE:
        return "the database"
    if target.kind is ObjectKind.SCHEMA:
        return f'schema "{target.schema}"'
    return f'{count} {target.kind.value}{"" if count == 1 else "s"} in schema "{target.schema}"'
