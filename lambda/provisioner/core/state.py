"""What stands on a server: roles, databases, what is granted in them, and the facts that decide what may be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from provisioner.core.kinds import ObjectKind

# The grantee that stands for everybody (`aclitem` grantee 0). No role can bear the name: "public" is reserved.
PUBLIC = "public"
# The role that since PostgreSQL 14 stands for whoever owns the current database; it owns `public` since 15.
DATABASE_OWNER = "pg_database_owner"
# The connection limit of a role or a database that has none, and of a database whose DROP DATABASE was interrupted.
NO_LIMIT, INVALID = -1, -2
# More objects than any server has.
ANY_NUMBER = 10**12
# Who creates an extension that is not ours to create.
RDS_MASTER, ITS_OWNER = "the RDS master", "its owner"
# The role of RDS whose members log in with tokens of IAM; the server does not look at their passwords.
IAM_ROLE = "rds_iam"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What a grant is on.

    Tables, sequences and columns are not named one by one: a target is a group, all objects of one kind in one schema
    with one owner and one access control list (`acl`, as PostgreSQL prints it, empty for all other kinds), so that a
    database of ten thousand tables is as small in memory as one of ten. `extension` sets apart the objects that
    belong to an extension. Where `creator` is set, the target is the default privilege for what that role creates
    from now on, in `schema` or, where that is empty, in the whole database.
    """

    kind: ObjectKind
    schema: str = ""
    owner: str = ""
    acl: str = ""
    extension: bool = False
    creator: str = ""

    @property
    def is_schema(self) -> bool:
        return self.kind is ObjectKind.SCHEMA and not self.creator

    @property
    def is_public_schema(self) -> bool:
        return self.is_schema and self.schema == "public"

    def in_words(self, count: int | None = 1, whose: str = "") -> str:
        """A person's words for so many objects; without a `count`, for all of them."""
        where = f' in schema "{self.schema}"' if self.schema else ""
        if self.creator:
            return f'future {self.kind}s of "{self.creator}"{where}'
        if self.kind is ObjectKind.DATABASE:
            return "the database"
        if self.kind is ObjectKind.SCHEMA:
            return f'schema "{self.schema}"'
        number, plural = "" if count is None else f"{count} ", "" if count == 1 else "s"
        return f"{number}{self.kind}{plural}{whose}{where}"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege of one grantee on some target; with `grant_option`, the right to pass it on, held beside it."""

    grantor: str
    grantee: str
    privilege: str
    grant_option: bool = False

    @property
    def privilege_alone(self) -> Grant:
        return replace(self, grant_option=False)


@dataclass(frozen=True, slots=True, order=True)
class Membership:
    """That `member` is a member of `role`, as recorded by `grantor` (always the bootstrap superuser up to 15)."""

    role: str
    member: str
    grantor: str
    admin_option: bool = False
    inherit_option: bool = True
    set_option: bool = True

    @property
    def confers_privileges(self) -> bool:
        """Whether the member may do what the role may: ADMIN alone, as a creator has it from 16 on, is not that."""
        return self.inherit_option or self.set_option


class PasswordCheck(StrEnum):
    """What a login probe said of the secret's password."""

    CURRENT = "current"
    DIFFERS = "differs"
    OTHER_VERIFIER = "other verifier"  # the server keeps it in a form that no login with it is tried against
    ROTATING = "rotating"  # whatever it is now, a rotation is under way that will settle it
    UNKNOWN = "unknown"
    NOT_CHECKED = "not asked"  # the role does not exist yet, or logs in by IAM


@dataclass(frozen=True, slots=True)
class Marker:
    """Our mark on a role or a database: a comment holding JSON, with these fields in this order (see `core.marker`).

    `creating` names the databases that a run is creating for this role, and `has_temporary_membership` says that the
    administrator has made itself a member of the role for that time. `quarantined` is the moment since when a role
    is, by the server's clock in ISO 8601, and `login` whether it could log in before. `comment` is what stood there
    before the object was adopted, `connection_limit` the one that we set. `current` says that it was read as we
    would write it. What is not ours has the mark of no environment, with its comment.
    """

    environment: str = ""
    connection_limit: int = NO_LIMIT
    login: bool = True
    creating: tuple[str, ...] = ()
    has_temporary_membership: bool = False
    quarantined: str = ""
    kept: str = ""
    kept_from: str = ""
    comment: str = ""
    current: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Role:
    """One role as `pg_roles` has it; `valid_until` empty for never.

    `has_admin_option`: the administrator may alter the role and grant it. `administrator_inherits`: the administrator
    has the role's privileges already, without borrowing them. `inherits`: the role has the privileges of the roles it
    is a member of. `has_large_settings`: what ALTER ROLE ... SET stored for its sessions would cost the server much.
    """

    name: str
    can_login: bool = True
    superuser: bool = False
    createdb: bool = False
    createrole: bool = False
    replication: bool = False
    bypass_rls: bool = False
    connection_limit: int = -1
    valid_until: str = ""
    expired: bool = False
    marker: Marker = Marker()
    has_admin_option: bool = True
    administrator_inherits: bool = False
    inherits: bool = True
    has_large_settings: bool = False

    @property
    def has_limit_of_ours(self) -> bool:
        """Whether its connection limit is the one that we set; any other is an operator's."""
        return self.marker.connection_limit == self.connection_limit


@dataclass(frozen=True, slots=True)
class ObjectGroup:
    """A target as observed: what is granted on it, and how many objects share that access control list.

    `example` names one of them, where they are routines.
    """

    target: Target
    items: tuple[Grant, ...]
    object_count: int = 1
    example: str = ""


class Unreadable(Exception):
    """A database holds something that this release cannot read."""

    remedy = "upgrade rds-provisioner, or report it"


class TooLarge(Unreadable):
    """What a database holds is too much: the business of its owner alone, which costs nobody else anything."""

    remedy = "as its owner: take back there what no entry of the snapshot asks for, until it is less"


@dataclass(frozen=True, slots=True)
class Database:
    """One database as `pg_database` has it and, once looked into, what stands in it.

    `groups` holds the database itself, its schemas, the groups of objects and the default privileges. `extensions` are
    installed, `definers` is what runs with its owner's rights. `unreadable_reason` says why it could not be looked
    into, `remedy` what is to be done about that where it is no matter of a way in.
    """

    name: str
    owner: str
    allows_connections: bool = True
    is_template: bool = False
    marker: Marker = Marker()
    groups: tuple[ObjectGroup, ...] = ()
    extensions: frozenset[str] = frozenset()
    unreadable_reason: str = ""
    remedy: str = ""
    connection_limit: int = NO_LIMIT
    names: Mapping[Target, tuple[tuple[str, ...], ...]] = field(default_factory=lambda: MappingProxyType({}))
    definers: tuple[ObjectGroup, ...] = ()

    @property
    def invalid(self) -> bool:
        return self.connection_limit == INVALID

    @property
    def may_be_entered(self) -> bool:
        """Whether nothing that is known of it from outside keeps a session from looking into it."""
        return self.allows_connections and not (self.is_template or self.invalid or self.unreadable_reason)

    def refused(self, error: Unreadable) -> Database:
        return replace(self, unreadable_reason=str(error), remedy=error.remedy)


@dataclass(frozen=True, slots=True)
class UnmanagedPrivilege:
    """How many objects that no access level speaks of (routines, types, ...) name a role in their ACL, or are its."""

    database: str
    role: str
    catalog: str
    object_count: int
    is_owned: bool = False

    @property
    def kind(self) -> str:
        """A person's words for one of them."""
        return self.catalog.removeprefix("pg_").replace("_", " ")


@dataclass(frozen=True, slots=True)
class Server:
    """Everything that was observed of one server.

    `roles`, `memberships` and `databases` (by name) hold what the run needs to know: the declared, the marked, and
    whoever they are entangled with; `administered` are memberships of the administrator that give it ADMIN and nothing
    else, as a creator has one in each role that it makes (from 16). `bootstrap` is the role with oid 10, which owns
    what initdb made.
    `available_extensions` maps what the server could install to who has to, empty for what is trusted, and
    `extension_requirements` to the extensions that it needs, where it does.
    `available_connections` is how many more sessions it takes at the moment from somebody who is not a superuser,
    `locks_per_session` its max_locks_per_transaction, and `system_identifier` what initdb gave the cluster.
    `locked_databases` maps every database that a lock keeps everybody out of to who holds it, `limited_databases` each
    that limits its sessions to whether it allows any and how many, -1 being any number. `held_elsewhere` maps a role to
    how many databases that no entry declares it owns or holds something in, and one of those.
    """

    version: int
    administrator: str
    bootstrap: str
    roles: Mapping[str, Role]
    databases: Mapping[str, Database]
    memberships: tuple[Membership, ...] = ()
    administered: tuple[Membership, ...] = ()
    other_privileges: tuple[UnmanagedPrivilege, ...] = ()
    held_elsewhere: Mapping[str, tuple[int, str]] = field(default_factory=lambda: MappingProxyType({}))
    available_extensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    extension_requirements: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    passwords: Mapping[str, PasswordCheck] = field(default_factory=lambda: MappingProxyType({}))
    available_connections: int = 100
    system_identifier: str = ""
    locks_per_session: int = 64
    locked_databases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    limited_databases: Mapping[str, tuple[bool, int]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def has_membership_options(self) -> bool:
        """Whether a membership says what it is good for; who creates a role then gets one without INHERIT and SET."""
        return self.version >= 16

    @property
    def public_schema_follows_owner(self) -> bool:
        """Whether `public` belongs to the owner of its database; before, to the bootstrap superuser."""
        return self.version >= 15

    @property
    def max_named_objects(self) -> int:
        """How many objects the grants of one transaction may name.

        From 18 on each is locked until the commit, in a table that all sessions share: so many are one session's.
        """
        return self.locks_per_session if self.version >= 18 else ANY_NUMBER


def all_members(roles: AbstractSet[str], memberships: Iterable[Membership]) -> frozenset[str]:
    """The members of some roles, and theirs, whatever their memberships are good for."""
    known = tuple(memberships)
    members: frozenset[str] = frozenset()
    while more := {item.member for item in known if item.role in roles or item.role in members} - members:
        members |= more
    return members
