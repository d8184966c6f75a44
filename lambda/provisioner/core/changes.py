"""What a plan is made of: one closed set of types, each with its sign, its place in the order and its identity.

A change names what it does and to whom; how it is said in SQL is `core.ddl`'s business. No change holds a secret.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from provisioner.core.state import DATABASE_OWNER, NO_LIMIT, ObjectKind, Target


@dataclass(frozen=True, kw_only=True)
class Change:
    """What every change says of itself; `symbol` is the sign that the plan text shows.

    `database` is empty for a change of a role, which is in no database; `username` is the role that the change is
    about: for a database its owner, for a grant the grantee.
    """

    action: ClassVar[str]
    symbol: ClassVar[str] = "~"
    # The order across kinds, written once: what was left unfinished comes first, roles stand before their databases,
    # rights are given before any is taken, so that nobody who keeps access loses it in between.
    rank: ClassVar[int]
    # Whether it only ends what an interrupted run had started.
    is_housekeeping: ClassVar[bool] = False
    database: str = ""
    username: str = ""

    @property
    def detail(self) -> str:
        """The change in a person's words."""
        return ""

    @property
    def destructive(self) -> bool:
        """Whether somebody loses something."""
        return self.symbol == "-"

    @property
    def acting_roles(self) -> frozenset[str]:
        """The roles in whose place the change is made."""
        return frozenset({self.username})

    def concerns(self, roles: Collection[str]) -> bool:
        """Whether one of the roles is given or loses something, or the change is made in its place."""
        return self.username in roles or not self.acting_roles.isdisjoint(roles)

    def to_json(self) -> dict[str, Any]:
        """The change as the answer and the stored plan show it."""
        return {
            "action": self.action,
            "database": self.database,
            "username": self.username,
            "detail": self.detail,
            "destructive": self.destructive,
        }

    def identity(self) -> tuple[str, ...]:
        """What makes it the same change, for the digest, the audit and recovery: each name is a value of its own."""
        return (self.action, self.database, self.username, self.detail)


class _Described(Change):
    """A change whose `description` says all there is to say."""

    description: ClassVar[str]

    @property
    def detail(self) -> str:
        """The description."""
        return self.description


@dataclass(frozen=True, kw_only=True)
class RevokeTemporaryMembership(Change):
    """End what a run that was interrupted had started: give back the role it had borrowed to create databases.

    Where no run was `interrupted`, what is `temporary` all the same goes back, and the marker is written anew.
    """

    action: ClassVar[str] = "finish"
    rank: ClassVar[int] = 0
    is_housekeeping: ClassVar[bool] = True
    interrupted: bool = True
    temporary: bool = False

    @property
    def detail(self) -> str:
        """What is left over."""
        if self.interrupted:
            return "a run was cut off while it created databases for this role; what it borrowed goes back"
        if self.temporary:
            return "the administrator has made itself a member of this role, which no run needs; it gives that back"
        return "its mark is not as this version writes it; what is too much in it goes"


@dataclass(frozen=True, kw_only=True)
class AdoptRole(_Described):
    """Put our marker on a role that stood before."""

    action: ClassVar[str] = "adopt_role"
    rank: ClassVar[int] = 1
    description: ClassVar[str] = "managed from now on"


@dataclass(frozen=True, kw_only=True)
class CreateRole(Change):
    """Create a login role with the password of its secret; `secret` is the ARN of that."""

    action: ClassVar[str] = "create_role"
    symbol: ClassVar[str] = "+"
    rank: ClassVar[int] = 2
    createdb: bool = False
    connection_limit: int = -1
    secret: str = ""

    def identity(self) -> tuple[str, ...]:
        """With the secret: who can write that knows the password."""
        return (self.action, self.database, self.username, self.detail, self.secret)

    @property
    def detail(self) -> str:
        """The attributes that differ from a plain login role."""
        extra = ", may create databases" if self.createdb else ""
        limit = f", connection limit {self.connection_limit}" if self.connection_limit != -1 else ""
        return f"login role, password from its secret{extra}{limit}"


@dataclass(frozen=True, kw_only=True)
class AlterRole(Change):
    """Change the attributes of a role that are given; None leaves one as it is."""

    action: ClassVar[str] = "alter_role"
    rank: ClassVar[int] = 3
    createdb: bool | None = None
    createrole: bool | None = None
    connection_limit: int | None = None

    @property
    def destructive(self) -> bool:
        """Taking a right is; a connection limit is not."""
        return self.createdb is False or self.createrole is False

    @property
    def detail(self) -> str:
        """The attributes, each as it will be."""
        words = {True: "may", False: "may no longer"}
        limit = (
            "no connection limit" if self.connection_limit == NO_LIMIT else f"connection limit {self.connection_limit}"
        )
        parts = [
            f"{words[self.createdb]} create databases" if self.createdb is not None else "",
            f"{words[self.createrole]} create roles" if self.createrole is not None else "",
            limit if self.connection_limit is not None else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class SetPassword(Change):
    """Set a role's password to that of its secret; `known` says that it is another one, not only kept otherwise."""

    action: ClassVar[str] = "set_password"
    rank: ClassVar[int] = 4
    known: bool = True
    secret: str = ""

    def identity(self) -> tuple[str, ...]:
        """With the secret, and without the reason, which the role itself can change all day."""
        return (self.action, self.database, self.username, self.secret)

    @property
    def detail(self) -> str:
        """Why."""
        if self.known:
            return "the server has another password than the secret"
        return "the server keeps the password in another form than a SCRAM verifier of 4096 rounds"


@dataclass(frozen=True, kw_only=True)
class RevokeMembership(Change):
    """Take a declared role out of a managed role."""

    action: ClassVar[str] = "revoke_membership"
    symbol: ClassVar[str] = "-"
    rank: ClassVar[int] = 5
    role: str

    @property
    def detail(self) -> str:
        """The role that is left."""
        return f'no longer a member of "{self.role}"'

    def identity(self) -> tuple[str, ...]:
        """With the role that is left."""
        return (self.action, self.database, self.username, self.role)


@dataclass(frozen=True, kw_only=True)
class CreateDatabase(Change):
    """Create a database for its owner."""

    action: ClassVar[str] = "create_database"
    symbol: ClassVar[str] = "+"
    rank: ClassVar[int] = 6

    @property
    def detail(self) -> str:
        """The owner."""
        return f'owned by "{self.username}"'


@dataclass(frozen=True, kw_only=True)
class AdoptDatabase(_Described):
    """Put our marker on a database that stood before."""

    action: ClassVar[str] = "adopt_database"
    rank: ClassVar[int] = 7
    description: ClassVar[str] = "managed from now on"


@dataclass(frozen=True, kw_only=True)
class ChangeGrants(Change):
    """Grant or revoke privileges of one grantee on targets of one kind in one schema.

    `owner` owns the database. `whole` says that the targets are all that there is of the kind in the schema; `count`
    how many objects they are.
    """

    owner: str
    grantor: str
    privileges: tuple[str, ...]
    targets: tuple[Target, ...]
    option: bool = False
    count: int = 1
    whole: bool = False
    distance: int = 0

    @property
    def acting_roles(self) -> frozenset[str]:
        """The owner of the database, those of the objects, and the grantor."""
        roles = {self.owner, self.grantor, *(target.owner for target in self.targets)}
        return frozenset(self.owner if role == DATABASE_OWNER else role for role in roles)

    @property
    def target(self) -> Target:
        """The first target; kind, schema and creator are the same in all."""
        return self.targets[0]

    @property
    def detail(self) -> str:
        """The privileges and what they are on."""
        return f"{self._privileges()} on {self._place(with_count=True)}"

    def identity(self) -> tuple[str, ...]:
        """The grant with every owner of the objects, and without their number, which an application changes all day."""
        target, owners = self.target, sorted({target.owner for target in self.targets})
        extension = "extension" if any(target.extension for target in self.targets) else ""
        place = (target.kind.value, target.schema, target.creator, extension)
        what = ("pass on" if self.option else "", ", ".join(self.privileges), self.grantor)
        return (self.action, self.database, self.username, *place, *what, *owners)

    def alike(self) -> tuple[str, ...]:
        """What sorts changes so that those that differ in the grantee only stand together."""
        what = (self._place(with_count=False), self._privileges(), self.grantor)
        return (*what, *self.identity()[3:], self.username)

    def _privileges(self) -> str:
        return ("the right to pass on " if self.option else "") + ", ".join(self.privileges)

    def _place(self, *, with_count: bool) -> str:
        kind, owners = self.target.kind, {target.owner for target in self.targets}
        whose = f' of "{min(owners)}"' if len(owners) == 1 and owners.isdisjoint({self.owner, DATABASE_OWNER}) else ""
        if self.target.creator:
            where = f' in schema "{self.target.schema}"' if self.target.schema else ""
            return f'future {kind}s of "{self.target.creator}"{where}'
        if kind is ObjectKind.DATABASE:
            return "the database"
        if kind is ObjectKind.SCHEMA:
            return f'schema "{self.target.schema}"'
        if not with_count:
            return f'{kind}s{whose} in schema "{self.target.schema}"'
        return f'{self.count} {kind}{"" if self.count == 1 else "s"}{whose} in schema "{self.target.schema}"'


@dataclass(frozen=True, kw_only=True)
class GrantPrivileges(ChangeGrants):
    """Grant privileges on what stands."""

    action: ClassVar[str] = "grant"
    symbol: ClassVar[str] = "+"
    rank: ClassVar[int] = 8


@dataclass(frozen=True, kw_only=True)
class GrantDefaultPrivileges(ChangeGrants):
    """Grant privileges on what a role creates from now on."""

    action: ClassVar[str] = "grant_default"
    symbol: ClassVar[str] = "+"
    rank: ClassVar[int] = 9


@dataclass(frozen=True, kw_only=True)
class RevokePrivileges(ChangeGrants):
    """Revoke privileges on what stands."""

    action: ClassVar[str] = "revoke"
    symbol: ClassVar[str] = "-"
    rank: ClassVar[int] = 10


@dataclass(frozen=True, kw_only=True)
class RevokeDefaultPrivileges(ChangeGrants):
    """Revoke privileges on what a role creates from now on."""

    action: ClassVar[str] = "revoke_default"
    symbol: ClassVar[str] = "-"
    rank: ClassVar[int] = 11


@dataclass(frozen=True, kw_only=True)
class CreateExtension(Change):
    """Install a trusted extension as the owner of the database."""

    action: ClassVar[str] = "create_extension"
    symbol: ClassVar[str] = "+"
    rank: ClassVar[int] = 12
    extension: str

    @property
    def detail(self) -> str:
        """The extension."""
        return f'extension "{self.extension}"'

    def identity(self) -> tuple[str, ...]:
        """With the extension."""
        return (self.action, self.database, self.username, self.extension)


def order(change: Change) -> tuple[int, str, int, tuple[str, ...]]:
    """What changes are sorted by: kind, then database; those that can be said in one statement stand together."""
    if not isinstance(change, ChangeGrants):
        return (change.rank, change.database, 0, change.identity())
    # A privilege that a grantee passed on is revoked before the grantee loses the right to.
    return (change.rank, change.database, -change.distance, change.alike())
