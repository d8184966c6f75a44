"""What roles that leave still hold on a server, as it was observed; `core.leaving` and `core.retiring` decide on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something of one kind that cannot be handed over, how often, and one of them by its description."""

    kind: str
    count: int
    example: str


class PassedOn(NamedTuple):
    """What a role granted to another of what it had been granted itself: revoked from it, that goes too.

    So does what others granted of that in their turn; `grantor` names who did, and is empty for the role itself.
    """

    grantee: str
    privilege: str
    grantable: bool
    grantor: str = ""


@dataclass(frozen=True, slots=True)
class DatabaseHoldings:
    """What a role has in one database that it owns, or that names it or holds what does.

    `owned` counts what it owns there by kind, `grants` what it was granted, on the database too, by grantor, and
    `defaults` the default privileges that name it or are its own, by creator. `passed_on` counts, by grantee and
    privilege, what it granted to others of what it was granted. Of a database of its own, `holders` are the others who
    have something on the database itself, and `visitors` the others who are in it. `refusal` says why it could not be
    looked into.
    """

    database: str
    owner: str
    comment: str = ""
    refusal: str = ""
    owned: Sequence[tuple[str, int]] = ()
    grants: Sequence[tuple[str, int]] = ()
    passed_on: Sequence[tuple[str, str, int]] = ()
    defaults: Sequence[tuple[str, int]] = ()
    obstacles: Sequence[Obstacle] = ()
    holders: Sequence[str] = ()
    visitors: Sequence[str] = ()

    @property
    def granted_by(self) -> frozenset[str]:
        """In whose place it is revoked: who granted something to the role, or will by default."""
        return frozenset(name for name, _ in (*self.grants, *self.defaults))

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it belongs to the role or names it."""
        return not (self.owned or self.grants or self.defaults)


@dataclass(frozen=True, slots=True)
class RoleHoldings:
    """What a role has on a server: by database, and what is in none.

    `granted` are the memberships (role, member) that it granted, where the server depends on that; `shared` is what
    cannot be handed over. `refusal` says why the role could not be looked at.
    """

    databases: Sequence[DatabaseHoldings] = ()
    granted: Sequence[tuple[str, str]] = ()
    shared: Sequence[Obstacle] = ()
    refusal: str = ""

    def inside(self, database: str) -> DatabaseHoldings:
        """What it has in a database, which may be nothing."""
        return next((each for each in self.databases if each.database == database), DatabaseHoldings(database, ""))


@dataclass(frozen=True, slots=True)
class Leaving:
    """The roles that the event names, and what was observed of them and of those that are quarantined.

    `now` is the server's clock (ISO 8601, UTC). `sessions` counts those of each role that has any, and `subscriptions`
    names the enabled ones of each role that owns any: their workers are sessions that come back. `may_signal` says that
    the administrator may end sessions of roles that it is no member of. `holdings` are those of the roles to be
    retired, `sizes` the bytes of the databases that are kept, `opened` who else has something on one of them.
    """

    quarantine: frozenset[str] = frozenset()
    retire: frozenset[str] = frozenset()
    retire_after_days: int = 7
    now: str = ""
    sessions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    subscriptions: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    may_signal: bool = False
    holdings: Mapping[str, RoleHoldings] = field(default_factory=lambda: MappingProxyType({}))
    sizes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    opened: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
