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


class DatabaseGrant(NamedTuple):
    """What one grantor gave a role on a database, and what the role has passed on of that."""

    database: str
    grantor: str
    passed_on: tuple[PassedOn, ...] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """What a role has in one database that it owns or is named in.

    `owned` counts what it owns there by kind. `grantors` are the roles whose grants name it, `creators` those whose
    default privileges do or are its own; `grants` and `defaults` count both. `passed_on` counts, by grantee and
    privilege, what it granted to others of what it was granted. Of a database of its own, `holders` are
    the others who have something on the database itself, and `visitors` the others who are in it. `refusal` says why
    it could not be looked into.
    """

    database: str
    owner: str
    comment: str = ""
    refusal: str = ""
    owned: tuple[tuple[str, int], ...] = ()
    grantors: tuple[str, ...] = ()
    grants: int = 0
    passed_on: tuple[tuple[str, str, int], ...] = ()
    creators: tuple[str, ...] = ()
    defaults: int = 0
    obstacles: tuple[Obstacle, ...] = ()
    holders: tuple[str, ...] = ()
    visitors: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it belongs to the role or names it."""
        return not (self.owned or self.grants or self.defaults)


@dataclass(frozen=True, slots=True)
class RoleHoldings:
    """What a role has on a server: by database, and what is in none.

    `on_databases` is what it was granted on databases; `granted` the memberships (role,
    member) that it granted, where the server depends on that; `shared` what cannot be handed over. `refusal` says why
    the role could not be looked at.
    """

    databases: tuple[Holding, ...] = ()
    on_databases: tuple[DatabaseGrant, ...] = ()
    granted: tuple[tuple[str, str], ...] = ()
    shared: tuple[Obstacle, ...] = ()
    refusal: str = ""


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
