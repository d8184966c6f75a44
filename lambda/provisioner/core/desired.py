"""What should stand: a declaration and an observation in, two comparable states and the warnings between them out.

An access level is a rule over whatever stands in a database, so the desired state is built over the observed
inventory: for each object, the privileges of the declared roles follow the level table, and everything that is not
ours to touch is desired exactly as it is. What we would have to touch but may not becomes a finding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from provisioner.core import levels
from provisioner.core.errors import Finding
from provisioner.core.model import AccessLevel
from provisioner.core.scope import Scope, is_marked
from provisioner.core.state import (
    DATABASE_OWNER,
    IAM_ROLE,
    PUBLIC,
    AclItem,
    Database,
    DatabaseFacts,
    Grant,
    Kind,
    Membership,
    ObjectGroup,
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
NO_LEVEL_SPEAKS_OF = frozenset({Kind.ROUTINE, Kind.TYPE, Kind.LARGE_OBJECT})


def new_database(name: str, owner: str, server: Server) -> DatabaseFacts:
    """What CREATE DATABASE makes from template0: PUBLIC may connect, and `public` belongs to whom the version says."""
    schema_owner = DATABASE_OWNER if server.version >= PUBLIC_SCHEMA_FOLLOWS_OWNER else server.bootstrap
    everybody = ("USAGE",) if server.version >= PUBLIC_SCHEMA_FOLLOWS_OWNER else ("CREATE", "USAGE")
    return DatabaseFacts(
        name=name,
        owner=owner,
        groups=(
            ObjectGroup(
                Target(Kind.DATABASE, owner=owner),
                (
                    *_items(owner, owner, ("CONNECT", "CREATE", "TEMPORARY")),
                    *_items(owner, PUBLIC, ("CONNECT", "TEMPORARY")),
                ),
            ),
            ObjectGroup(
                Target(Kind.SCHEMA, schema="public", owner=schema_owner),
                (
                    *_items(schema_owner, schema_owner, ("CREATE", "USAGE")),
                    *_items(schema_owner, PUBLIC, everybody),
                ),
            ),
        ),
    )


def as_created(scope: Scope) -> Server:
    """The server, with what stands in the databases that an interrupted run left closed: nobody has been in them."""
    left = {
        name: replace(facts, groups=new_database(name, facts.owner, scope.server).groups)
        for name, facts in scope.server.databases.items()
        if name in scope.by_database and scope.is_left_closed(facts)
    }
    return replace(scope.server, databases={**scope.server.databases, **left})


def observed_roles(scope: Scope) -> dict[str, Role]:
    """The compared part of the declared roles that exist."""
    return {
        name: _observed_role(facts, scope)
        for name in scope.by_role
        if (facts := scope.server.roles.get(name)) is not None
    }


def observed_state(scope: Scope) -> State:
    """The compared part of what was observed: the declared roles and databases that exist."""
    databases = {
        name: observed_database(database, scope)
        for name in scope.by_database
        if (database := scope.server.databases.get(name)) is not None
    }
    return State(observed_roles(scope), databases)


@dataclass(frozen=True, slots=True)
class Desired:
    """The state that should be, the inventory that it was built over, and what stays as it is though it should not."""

    state: State
    inventory: Mapping[str, DatabaseFacts]
    findings: tuple[Finding, ...]


def desired_state(scope: Scope) -> Desired:
    """Build the state that a declaration asks for over what stands; see the module's first sentence."""
    findings: list[Finding] = []
    inventory = take_inventory(scope)
    databases = {name: desired_database(facts, scope, findings) for name, facts in inventory.items()}
    return Desired(State(desired_roles(scope, findings), databases), inventory, tuple(findings))


def take_inventory(scope: Scope) -> dict[str, DatabaseFacts]:
    """What stands in each declared database, or will where it is yet to be created."""
    found = {name: scope.server.databases.get(name) or _to_be_created(name, scope) for name in scope.by_database}
    return {name: facts for name, facts in found.items() if facts is not None}


def desired_roles(scope: Scope, findings: list[Finding]) -> dict[str, Role]:
    """The state that the declared roles should have; findings are added to the list."""
    observed = observed_roles(scope)
    return {name: _desired_role(name, scope, observed.get(name), findings) for name in scope.by_role}


def desired_database(facts: DatabaseFacts, scope: Scope, findings: list[Finding]) -> Database:
    """The state that one declared database should have, over what stands in it; findings are added to the list.

    One that is not ours to change is desired as it is.
    """
    if not scope.may_change(facts):
        return observed_database(facts, scope)
    room = _Room.of(facts, scope)
    entries = scope.by_database[facts.name]
    return Database(
        name=facts.name,
        owner=room.owner,
        extensions=facts.extensions.union(*(entry.extensions for entry in entries)),
        grants=frozenset(grant for group in room.every_group() for grant in room.desired_grants(group, findings)),
    )


def observed_database(facts: DatabaseFacts, scope: Scope) -> Database:
    """The compared part of one database as it stands."""
    return Database(
        name=facts.name,
        owner=facts.owner,
        managed=is_marked(facts, scope.environment),
        extensions=facts.extensions,
        grants=grants_of(facts.groups),
    )


def _to_be_created(name: str, scope: Scope) -> DatabaseFacts | None:
    owner = scope.declared_owner(name)
    # Not for a role that is not ours: a blocker says so.
    if not owner or not scope.manages(owner):
        return None
    return replace(new_database(name, owner, scope.server), allows_connections=False)


# --- roles ----------------------------------------------------------------------------------------------------------


def _observed_role(facts: RoleFacts, scope: Scope) -> Role:
    check = scope.server.passwords.get(facts.name, PasswordCheck.NOT_ASKED)
    return Role(
        name=facts.name,
        createdb=facts.createdb,
        createrole=facts.createrole,
        connection_limit=facts.connection_limit,
        managed=is_marked(facts, scope.environment),
        password_current=check is not PasswordCheck.DIFFERS,
        verifier_current=check is not PasswordCheck.OTHER_VERIFIER,
        memberships=frozenset(scope.memberships_of.get(facts.name, ())),
        unfinished=bool(facts.marker and facts.marker.creating),
        marker_current=facts.marker is None or facts.marker.current,
        lent=facts.name in scope.self_granted,
    )


def _desired_role(name: str, scope: Scope, present: Role | None, findings: list[Finding]) -> Role:
    if present is not None and not scope.manages(name):
        # Not ours to change, and a blocker says so.
        return present
    entries = scope.by_role[name]
    declared_limit = next((entry.connection_limit for entry in entries if entry.connection_limit is not None), None)
    role = Role(name, createdb=any(entry.createdb for entry in entries), secret=scope.secrets.get(name, ""))
    if declared_limit is not None:
        role = replace(role, connection_limit=declared_limit)
    elif present is not None and not scope.server.roles[name].has_limit_of_ours:
        # A limit that nobody declared and that we did not set is an operator's; it stands.
        role = replace(role, connection_limit=present.connection_limit)
    if present is not None:
        kept = frozenset(item for item in present.memberships if _membership_stays(item, scope, findings))
        role = replace(role, memberships=kept)
    return role


def _membership_stays(membership: Membership, scope: Scope, findings: list[Finding]) -> bool:
    """Whether a declared role keeps a membership: in a managed role it is access that nobody declared."""
    role, member = membership.role, membership.member
    if role == IAM_ROLE:
        return True
    if not scope.manages(role):
        # With ADMIN alone the member is one statement away from it.
        if not (membership.is_of_use or membership.admin_option):
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
    if _is_taken_back(membership, scope):
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


def _is_taken_back(membership: Membership, scope: Scope) -> bool:
    """Whether a membership is one of a declared role in a managed one, and ours to revoke.

    From 16 a REVOKE takes back only what the named grantor granted, and only somebody with its rights can name it.
    """
    is_ours = scope.server.version < 16 or membership.grantor == scope.server.administrator
    return is_ours and membership.member in scope.by_role and scope.manages(membership.role)


# --- databases ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Room:
    """One declared database with all that decides about the grants in it.

    `members` maps each declared role that has an entry here to its level; `covered` are the schemas in which levels
    hold; `creators` the roles whose future objects get default privileges.
    """

    facts: DatabaseFacts
    owner: str
    scope: Scope
    members: Mapping[str, AccessLevel]
    covered: frozenset[str] = frozenset()
    creators: frozenset[str] = frozenset()

    @staticmethod
    def of(facts: DatabaseFacts, scope: Scope) -> _Room:
        """The room of a declared database."""
        owner = scope.declared_owner(facts.name) or facts.owner
        levels_here = {
            entry.username: entry.access_level
            for entry in scope.by_database[facts.name]
            if scope.manages(entry.username)
        }
        room = _Room(facts, owner, scope, levels_here)
        creators = room._creators()
        schemas = {group.target.schema: group.target.owner for group in facts.groups if _is_schema(group)}
        holders = {owner, DATABASE_OWNER, *creators}
        covered = frozenset(schema for schema, holder in schemas.items() if schema == "public" or holder in holders)
        return replace(room, covered=covered, creators=creators)

    def every_group(self) -> tuple[ObjectGroup, ...]:
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
        wanted = self._wanted(group)
        present = grants_of([group])
        kept = frozenset(grant for grant in present - wanted if self._stays(grant, group, findings))
        held = _held_by(kept, present - wanted - kept)
        findings.extend(self._dependent(grant) for grant in sorted(held) if grant.option)
        findings.extend(self._out_of_reach(group))
        return wanted | kept | held

    def _wanted(self, group: ObjectGroup) -> frozenset[Grant]:
        target = group.target
        if not self._is_covered(target):
            return frozenset()
        return frozenset(
            Grant(target, role, privilege, target.owner)
            for role, level in self.members.items()
            if role != target.owner and not (level is AccessLevel.OWNER and self._owner_has_it_anyway(target))
            for privilege in levels.PRIVILEGES[level].get(target.kind, frozenset())
        ) | self._wanted_on_database(target)

    def _wanted_on_database(self, target: Target) -> frozenset[Grant]:
        """CONNECT for the administrator; and for the owner, from whom it can be taken as from anybody."""
        if target.kind is not Kind.DATABASE:
            return frozenset()
        holders = {self.scope.server.administrator: levels.ADMINISTRATOR_PRIVILEGES[Kind.DATABASE]}
        if self.owner in self.members:
            holders[self.owner] = levels.PRIVILEGES[AccessLevel.OWNER][Kind.DATABASE]
        return frozenset(
            Grant(target, role, privilege, target.owner)
            for role, privileges in holders.items()
            for privilege in privileges
        )

    def _is_covered(self, target: Target) -> bool:
        """Whether the levels hold on a target, and it is ours to grant on."""
        if target.extension or not self.scope.may_act_as(target.owner, self.owner):
            return False
        if target.creator:
            return target.creator in self.creators and not target.schema
        if target.kind is Kind.DATABASE:
            return True
        if target.kind is Kind.COLUMN:
            return False
        return target.schema in self.covered and (target.kind is Kind.SCHEMA or target.owner in self._coverable())

    def _coverable(self) -> frozenset[str]:
        return self.creators | {self.owner, DATABASE_OWNER}

    def _owner_has_it_anyway(self, target: Target) -> bool:
        """Everything but the schema `public` where that belongs to somebody else than the owner."""
        is_foreign_public = target.kind is Kind.SCHEMA and target.schema == "public" and not target.creator
        return not is_foreign_public or target.owner in {self.owner, DATABASE_OWNER}

    def _stays(self, grant: Grant, group: ObjectGroup, findings: list[Finding]) -> bool:
        """Whether a grant that no level asks for is left as it is, with a finding where that is worth one."""
        target = grant.target
        if grant.grantee == PUBLIC:
            return self._public_stays(grant, findings)
        is_declared = grant.grantee in self.scope.by_role and self.scope.manages(grant.grantee)
        if not is_declared or grant.grantee == target.owner:
            return True
        if self._is_within_level(grant):
            return True
        if target.extension or target.kind in NO_LEVEL_SPEAKS_OF:
            findings.append(self._outside_the_levels(grant))
            return True
        if self.scope.may_act_as(grant.grantor, self.owner):
            return False
        findings.append(self._beyond_reach(grant, group))
        return True

    def _is_within_level(self, grant: Grant) -> bool:
        """What no level needs but one allows: a column's privilege, another grantor's grant, whatever an owner gets."""
        level = self.members.get(grant.grantee)
        kind = Kind.TABLE if grant.target.kind is Kind.COLUMN else grant.target.kind
        if level is None or level is AccessLevel.OWNER:
            return level is AccessLevel.OWNER
        if self._is_covered(grant.target) and self.scope.may_act_as(grant.grantor, self.owner):
            # The owner's own grant stands beside it, and a privilege passed on would keep its giver's option alive.
            return False
        return not grant.option and grant.privilege in levels.PRIVILEGES[level].get(kind, frozenset())

    def _public_stays(self, grant: Grant, findings: list[Finding]) -> bool:
        target = grant.target
        if grant.privilege in levels.PUBLIC_KEEPS[target.kind]:
            return True
        is_revocable = not target.extension and target.kind is not Kind.LARGE_OBJECT
        if is_revocable and self.scope.may_act_as(grant.grantor, self.owner):
            return False
        findings.append(self._public_beyond(grant))
        return True

    def _public_beyond(self, grant: Grant) -> Finding:
        target = grant.target
        codes = {Kind.DATABASE: "public_can_connect", Kind.SCHEMA: "public_can_create"}
        # The owner creates by what everybody may; it must not lose that on the way.
        is_public = target.kind is Kind.SCHEMA and target.schema == "public"
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

    def _out_of_reach(self, group: ObjectGroup) -> Iterable[Finding]:
        """What the levels lack on a schema `public` that belongs to somebody in whose place we cannot grant."""
        target = group.target
        is_public = target.kind is Kind.SCHEMA and target.schema == "public" and not target.creator
        if not is_public or self.scope.may_act_as(target.owner, self.owner):
            return
        for role, level in sorted(self.members.items()):
            held = {item.privilege for item in group.items if item.grantee in {role, PUBLIC}}
            lacks = ", ".join(sorted(levels.PRIVILEGES[level][Kind.SCHEMA] - held))
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

    def _beyond_reach(self, grant: Grant, group: ObjectGroup) -> Finding:
        return Finding(
            "privilege_beyond_reach",
            f'role "{grant.grantee}" holds {grant.privilege} on {_name(grant.target, group.count)}, beyond its level, '
            f'granted by "{grant.grantor}", which is not managed here',
            f'as "{grant.grantor}": REVOKE {grant.privilege} there FROM "{grant.grantee}"',
            database=self.facts.name,
            username=grant.grantee,
        )

    def _dependent(self, grant: Grant) -> Finding:
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
            for item in self.scope.memberships_in.get(self.owner, ())
            if item.is_of_use and not _is_taken_back(item, self.scope)
        }
        others = frozenset(
            role
            for role in holders | members
            if role not in {self.owner, DATABASE_OWNER, self.scope.server.administrator}
            and self.scope.manages(role)
            and self.scope.may_act_as(role, self.owner)
        )
        administrator = self.scope.server.administrator
        is_creator = any(_is_object(group) and group.target.owner == administrator for group in self.facts.groups)
        own = frozenset({self.owner}) if self.scope.may_act_as(self.owner, self.owner) else frozenset()
        return own | others | (frozenset({administrator}) if is_creator else frozenset())


def _held_by(kept: frozenset[Grant], others: frozenset[Grant]) -> frozenset[Grant]:
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
    return group.target.kind is Kind.SCHEMA and not group.target.creator


def _is_object(group: ObjectGroup) -> bool:
    return group.target.kind in {Kind.TABLE, Kind.SEQUENCE} and not group.target.creator and not group.target.extension


def _items(grantor: str, grantee: str, privileges: Iterable[str]) -> tuple[AclItem, ...]:
    return tuple(AclItem(grantor, grantee, privilege) for privilege in privileges)


def _name(target: Target, count: int = 1) -> str:
    if target.creator:
        where = f' in schema "{target.schema}"' if target.schema else ""
        return f'future {target.kind.value}s of "{target.creator}"{where}'
    if target.kind is Kind.DATABASE:
        return "the database"
    if target.kind is Kind.SCHEMA:
        return f'schema "{target.schema}"'
    return f'{count} {target.kind.value}{"" if count == 1 else "s"} in schema "{target.schema}"'
