"""What a plan is made of: a change, and the table of its kinds with the facts of each.

A change names what it does and to whom; how it is said in SQL is `core.ddl`'s business. No change holds a secret.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Any

from provisioner.core.kinds import ObjectKind
from provisioner.core.model import Outcome, Status
from provisioner.core.state import DATABASE_OWNER, NO_LIMIT, Target


class ChangeKind(Enum):
    """The kinds of change, in the order in which they are made, which is written once: here.

    What was left unfinished comes first, roles stand before their databases, rights are given before any is taken, so
    that nobody who keeps access loses it in between.

    `action` is its name in plans, answers and the audit, `symbol` the sign of the plan's text, where a minus says that
    somebody loses something. `aspects` are what of an entry it changes, `right` the attribute of a role that the
    administrator needs for it. `words` say what is done, filled in with the change.
    """

    REVOKE_TEMPORARY_MEMBERSHIP = "finish", "~", ("role",), "", "{0.reason}"
    ADOPT_ROLE = "adopt_role", "~", ("role",), "CREATEROLE", "managed from now on"
    RESTORE_ROLE = "restore_role", "~", ("role",), "", "declared again: {0.reason}"
    CREATE_ROLE = (
        "create_role", "+", ("role", "password"), "CREATEROLE", "login role, password from its secret{0.more}"
    )  # fmt: skip
    ALTER_ROLE = "alter_role", "~", ("role",), "CREATEROLE", "{0.attributes}"
    SET_PASSWORD = "set_password", "~", ("password",), "CREATEROLE", "{0.reason}"
    REVOKE_MEMBERSHIP = "revoke_membership", "-", ("role",), "", 'no longer a member of "{0.subject}"'
    CREATE_DATABASE = "create_database", "+", ("database",), "CREATEDB", 'owned by "{0.username}"'
    ADOPT_DATABASE = "adopt_database", "~", ("database",), "", "managed from now on"
    GRANT = "grant", "+", ("privileges",), "", "{0.grant_in_words}"
    GRANT_DEFAULT = "grant_default", "+", ("default_privileges",), "", "{0.grant_in_words}"
    REVOKE = "revoke", "-", ("privileges",), "", "{0.grant_in_words}"
    REVOKE_DEFAULT = "revoke_default", "-", ("default_privileges",), "", "{0.grant_in_words}"
    CREATE_EXTENSION = "create_extension", "+", ("database",), "", 'extension "{0.subject}"'
    QUARANTINE_ROLE = "quarantine_role", "-", (), "", "{0.reason}"
    KEEP_DATABASE = "keep_database", "-", (), "CREATEDB", "{0.reason}"
    PASS_OBJECTS = "pass_objects", "-", (), "", "{0.reason}"
    GIVE_DATABASE = "give_database", "~", ("database",), "CREATEDB", "{0.reason}"
    DROP_ROLE = "drop_role", "-", (), "CREATEROLE", "{0.reason}"

    def __init__(self, action: str, symbol: str, aspects: tuple[str, ...], right: str, words: str) -> None:
        self.action, self.symbol, self.aspects, self.right, self.words = action, symbol, aspects, right, words
        self.rank = len(type(self).__members__)

    @property
    def is_grant(self) -> bool:
        return "privileges" in self.aspects or "default_privileges" in self.aspects


# These make a database ours, which its marker says in the end.
MAKES_OURS = frozenset({ChangeKind.CREATE_DATABASE, ChangeKind.ADOPT_DATABASE})


@dataclass(frozen=True)
class Change:
    """One change. Beside kind, database and username each kind has fields of its own; the others are empty.

    `database` is empty for a change of a role, which is in no database; `username` is the role that the change is
    about: for a database its owner, for a grant the grantee.

    - Of a role: `createdb`, `createrole` and `connection_limit` as they will be, None for as they are; `secret`, the
      ARN of what its password comes from; `reason`, why it is done. `subject` is the role of which it is no longer a
      member, or the extension that is installed. `login` says that it may log in again. `acts_as` are roles in whose
      place it is done besides.
    - Of grants: privileges of one grantee on targets of one kind in one schema. `owner` owns the database.
      `covers_schema` says that the targets are all that there is of the kind in the schema; `object_count` how many
      objects they are; `grant_depth` through how many hands the grant went.
    """

    kind: ChangeKind
    _: KW_ONLY
    database: str = ""
    username: str = ""
    createdb: bool | None = None
    createrole: bool | None = None
    connection_limit: int | None = None
    secret: str = ""
    reason: str = ""
    subject: str = ""
    login: bool = True
    acts_as: frozenset[str] = frozenset()
    owner: str = ""
    grantor: str = ""
    privileges: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    grant_option: bool = False
    object_count: int = 1
    covers_schema: bool = False
    grant_depth: int = 0

    @property
    def action(self) -> str:
        return self.kind.action

    @property
    def symbol(self) -> str:
        return self.kind.symbol

    @property
    def detail(self) -> str:
        return self.kind.words.format(self)

    @property
    def destructive(self) -> bool:
        """Whether somebody loses something; by a connection limit nobody does."""
        return self.symbol == "-" or False in (self.createdb, self.createrole)

    @property
    def unit_role(self) -> str:
        """The role whose unit it is part of: a membership is the role's that is granted, which may grant itself."""
        return self.subject if self.kind is ChangeKind.REVOKE_MEMBERSHIP else self.username

    @property
    def is_housekeeping(self) -> bool:
        """Whether it only ends what an interrupted run had started."""
        return self.kind is ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP

    @property
    def acting_roles(self) -> frozenset[str]:
        """The roles in whose place the change is made: of a grant the owner, those of the objects, and the grantor."""
        if not self.kind.is_grant:
            return self.acts_as | {self.username}
        roles = {self.owner, self.grantor, *(target.owner for target in self.targets)}
        return frozenset(self.owner if role == DATABASE_OWNER else role for role in roles)

    @property
    def others_objects(self) -> frozenset[str]:
        """To whom all belongs that a grant in a database is on, or who will create it, where none is the owner's."""
        owners = frozenset(target.owner for target in self.targets)
        is_inside = all(target.kind is not ObjectKind.DATABASE for target in self.targets)
        return owners if is_inside and owners.isdisjoint({self.owner, DATABASE_OWNER}) else frozenset()

    @property
    def depends_on(self) -> frozenset[str]:
        """The roles without which it is not made: who is given something, and those in whose place it is done.

        What is taken from a role waits for nothing of that role's: it could keep it by what is its own to change.
        """
        if self.kind is ChangeKind.REVOKE_MEMBERSHIP:
            return frozenset({self.subject})
        if self.kind in {ChangeKind.REVOKE, ChangeKind.REVOKE_DEFAULT}:
            return self.acting_roles
        return self.acting_roles | {self.username}

    def concerns(self, roles: Collection[str]) -> bool:
        return not self.depends_on.isdisjoint(roles)

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes it the same change, for digest, statuses, audit and recovery: each name is a value of its own.

        Not in it is what others can change all day: why a password is set, how many objects or sessions there are. In
        it is who can write the password that is set.
        """
        if self.kind.is_grant:
            what = self._grant_identity
        elif self.kind is ChangeKind.CREATE_ROLE:
            what = (self.detail, self.secret)
        elif self.kind is ChangeKind.SET_PASSWORD:
            what = (self.secret,)
        elif self.kind is ChangeKind.QUARANTINE_ROLE:
            what = ()
        else:
            what = (self.subject or self.detail,)
        return (self.action, self.database, self.username, *what)

    @property
    def order(self) -> tuple[int, str, int, tuple[str, ...]]:
        """What changes are sorted by: kind, then database; those that can be said in one statement stand together."""
        if not self.kind.is_grant:
            return (self.kind.rank, self.database, 0, self.identity)
        # What differs in the grantee only stands together.
        what = (self._place(None), self._privileges, self.grantor, *self._grant_identity, self.username)
        # A privilege that a grantee passed on is revoked before the grantee loses the right to.
        return (self.kind.rank, self.database, -self.grant_depth, what)

    def to_json(self) -> dict[str, Any]:
        """The change as the answer and the stored plan show it."""
        return {name: getattr(self, name) for name in ("action", "database", "username", "detail", "destructive")}

    # --- words of roles -------------------------------------------------------------------------------------------

    @property
    def attributes(self) -> str:
        rights = {"create databases": self.createdb, "create roles": self.createrole}
        parts = [f"{'may' if may else 'may no longer'} {what}" for what, may in rights.items() if may is not None]
        if self.connection_limit is not None:
            is_lifted = self.connection_limit == NO_LIMIT
            parts.append("no connection limit" if is_lifted else f"connection limit {self.connection_limit}")
        return ", ".join(parts)

    @property
    def more(self) -> str:
        return f", {self.attributes}" if self.attributes else ""

    # --- words of grants ------------------------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        return self.targets[0]

    @property
    def grant_in_words(self) -> str:
        return f"{self._privileges} on {self._place(self.object_count)}"

    @property
    def _privileges(self) -> str:
        return ("the right to pass on " if self.grant_option else "") + ", ".join(self.privileges)

    @property
    def _grant_identity(self) -> tuple[str, ...]:
        extension = "extension" if any(target.extension for target in self.targets) else ""
        place = (self.target.kind.value, self.target.schema, self.target.creator, extension)
        what = ("pass on" if self.grant_option else "", ", ".join(self.privileges), self.grantor)
        return (*place, *what, *sorted({target.owner for target in self.targets}))

    def _place(self, count: int | None) -> str:
        owners = {target.owner for target in self.targets}
        whose = f' of "{min(owners)}"' if len(owners) == 1 and owners.isdisjoint({self.owner, DATABASE_OWNER}) else ""
        return self.target.in_words(count, whose)


@dataclass(frozen=True, slots=True, order=True)
class PlannedChange:
    """A change as a stored plan has it, `what` being the rest of its identity; or a thing that needs none."""

    action: str
    database: str
    username: str
    what: tuple[str, ...] = ()
    detail: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.action, self.database, self.username, *self.what)

    @property
    def unit_role(self) -> str:
        is_membership = self.action == ChangeKind.REVOKE_MEMBERSHIP.action
        return "".join(self.what[:1]) if is_membership else self.username


def build_outcome(
    change: Change | PlannedChange, status: Status, timestamp_utc: str, message: str = "", duration_ms: int = 0
) -> Outcome:
    """What became of a change; without a `message`, in its own words."""
    what = (change.action, change.database, change.username, status, timestamp_utc, duration_ms)
    return Outcome(*what, message or change.detail, change.identity)
