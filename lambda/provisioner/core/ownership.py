"""What a run is about and by whose leave: a declaration and an observation in, what is ours and may be changed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from provisioner.core.access_levels import AccessLevel
from provisioner.core.errors import Finding
from provisioner.core.holdings import Leaving
from provisioner.core.model import Declaration, Entry, group_by
from provisioner.core.quoting import quote
from provisioner.core.state import DATABASE_OWNER, IAM_ROLE, PUBLIC, Database, Membership, Role, Server, all_members


@dataclass(frozen=True)
class Ownership:
    """What a run is about, and by whose leave: the declaration, the observation, the adopted applications.

    `secret_problems` are what keeps the roles of unusable secrets from being changed, `secrets` the ARNs of the others
    by role. `host` and `port` are where the server was found.
    """

    declaration: Declaration
    server: Server
    environment: str
    adopt: frozenset[str] = frozenset()
    secret_problems: tuple[Finding, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    port: int = 0
    leaving: Leaving = field(default_factory=Leaving)

    @property
    def by_role(self) -> Mapping[str, tuple[Entry, ...]]:
        return self.declaration.by_role

    @property
    def by_database(self) -> Mapping[str, tuple[Entry, ...]]:
        return self.declaration.by_database

    @cached_property
    def levels(self) -> Mapping[str, Mapping[str, AccessLevel]]:
        """By database the level of each role that is declared there."""
        return {
            name: {entry.username: entry.access_level for entry in entries}
            for name, entries in self.by_database.items()
        }

    @cached_property
    def memberships_in(self) -> Mapping[str, tuple[Membership, ...]]:
        return group_by(self.server.memberships, "role")

    @cached_property
    def memberships_of(self) -> Mapping[str, tuple[Membership, ...]]:
        return group_by(self.server.memberships, "member")

    @cached_property
    def iam_ways(self) -> Mapping[str, Membership]:
        """For each role whose password RDS does not take but a token of IAM, a membership that makes it so."""
        iam_roles = all_members({IAM_ROLE}, self.server.memberships) | {IAM_ROLE}
        return {item.member: item for item in self.server.memberships if item.role in iam_roles}

    @cached_property
    def self_granted(self) -> frozenset[str]:
        """The managed roles of entries that the administrator made itself a member of; a run borrows them anew."""
        me = self.server.administrator
        memberships = self.memberships_of.get(me, ())
        granted = {item.role for item in memberships if item.grantor == me and item.confers_privileges}
        return frozenset(role for role in granted & self.by_role.keys() if self.manages(role))

    @cached_property
    def adopted_roles(self) -> frozenset[str]:
        return frozenset(entry.username for entry in self.declaration.entries if entry.application in self.adopt)

    @cached_property
    def adopted_databases(self) -> frozenset[str]:
        return frozenset(entry.database for entry in self.declaration.entries if entry.application in self.adopt)

    def declared_owner(self, database: str) -> str:
        """The role that is declared to own a database; empty where none is."""
        levels = self.levels.get(database, {})
        return next((role for role, level in levels.items() if level is AccessLevel.OWNER), "")

    def manages(self, role: str) -> bool:
        """Whether a role carries our marker, is adopted now, or is about to be created."""
        facts = self.server.roles.get(role)
        if facts is None:
            return role in self.by_role
        return role in self.adopted_roles or has_marker(facts, self.environment)

    def manages_database(self, database: Database) -> bool:
        """Whether a database is new, adopted now, marked as its owner is, or left by a run that was interrupted.

        The owner of a database can write its comment, so a marker alone would let a tenant offer us a database.
        """
        if database.name not in self.server.databases or database.name in self.adopted_databases:
            return True
        if has_marker(database, self.environment):
            return self.is_trusted_owner(database.owner)
        return self.is_interrupted_create(database)

    def is_interrupted_create(self, database: Database) -> bool:
        """Whether a run created a database and ended before it could mark it: only its owner's marker tells."""
        owner = self.server.roles.get(database.owner) or Role(database.owner)
        is_only_owner_marked = has_marker(owner, self.environment) and not has_marker(database, self.environment)
        return is_only_owner_marked and database.name in owner.marker.creating

    def left_creating(self, role: Role) -> tuple[str, ...]:
        """The databases that an interrupted run created for a role and did not mark: they stay known until one does."""
        found = (self.server.databases.get(name) for name in role.marker.creating)
        known = (each for each in found if each and each.owner == role.name)
        return tuple(each.name for each in known if self.is_interrupted_create(each))

    def was_cut_off(self, role: Role) -> bool:
        """Whether a run ended while it created databases for a role of ours, and that has to be ended."""
        return role.marker.has_temporary_membership or role.marker.creating != self.left_creating(role)

    def is_left_closed(self, database: Database) -> bool:
        """Whether such a database was not even opened: PUBLIC loses CONNECT in the transaction that opens it.

        So one that somebody closed later is not taken for it.
        """
        is_new = any(
            item.grantee == PUBLIC and item.privilege == "CONNECT" for each in database.groups for item in each.items
        )
        return is_new and not database.allows_connections and self.is_interrupted_create(database)

    def may_change(self, database: Database) -> bool:
        """Whether a database is ours to change: managed, and owned by whom it is declared to be."""
        declared = self.declared_owner(database.name)
        levels = self.levels[database.name]
        is_owned_as_declared = database.owner == declared or not (declared or database.owner in levels)
        return is_owned_as_declared and self.is_trusted_owner(database.owner) and self.manages_database(database)

    def is_trusted_owner(self, owner: str) -> bool:
        """Whether a database of this owner may be ours: the owner is managed, or the administrator itself."""
        return owner == self.server.administrator or self.manages(owner)

    def way_in(self, database: str, leaver: str = "") -> str:
        """The next step that lets the administrator look into a database again.

        Of a database of a `leaver`, which may not log in, it is what the administrator says in its place.
        """
        if database in self.server.locked_databases:
            return "end that transaction (pg_terminate_backend, ROLLBACK PREPARED), then run again"
        facts = self.server.databases.get(database)
        if facts and facts.remedy:
            return facts.remedy
        allows_connections, limit = self.server.limited_databases.get(database, (True, -1))
        options = "" if allows_connections else " ALLOW_CONNECTIONS true"
        options += " CONNECTION LIMIT -1" if limit == 0 else ""
        remedy = f"ALTER DATABASE {quote(database)}{options}; " if options else ""
        remedy += f"GRANT CONNECT ON DATABASE {quote(database)} TO {quote(self.server.administrator)}"
        full = f" (its CONNECTION LIMIT is {limit})" if limit > 0 else ""
        who = "its owner"
        if leaver:
            who, quoted = f'"{self.server.administrator}"', quote(leaver)
            remedy = f"GRANT {quoted} TO CURRENT_USER; {remedy}; REVOKE {quoted} FROM CURRENT_USER"
        return f"as {who}: {remedy}; or find what keeps the administrator out{full}"

    def needs_membership(self, name: str) -> bool:
        """Whether acting in the place of a role takes a membership that the administrator does not have for good."""
        role = self.server.roles.get(name) or Role(name)
        is_temporary = role.marker.has_temporary_membership or name in self.self_granted
        return name != self.server.administrator and (is_temporary or not role.administrator_inherits)

    def may_act_as(self, role: str, database_owner: str) -> bool:
        """Whether statements may be run with a role's privileges: ours, inherited, or borrowed from a managed role.

        To borrow takes ADMIN (from 16); where the administrator lacks that, the plan is made all the same, and blocked.
        """
        if role == DATABASE_OWNER:
            return self.may_act_as(database_owner, "")
        facts = self.server.roles.get(role) or Role(role)
        # A member of a role that logs in by IAM does so too: the administrator would lock itself out.
        may_borrow = not facts.superuser and self.manages(role) and role not in self.iam_ways
        return role == self.server.administrator or facts.administrator_inherits or may_borrow


def has_marker(subject: Role | Database, environment: str) -> bool:
    return subject.marker.environment == environment
