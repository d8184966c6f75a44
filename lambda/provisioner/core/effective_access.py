"""Who can do what in a database, and by which path: what was observed in, effective access out.

A path is there if and only if an attempt succeeds: log in, perhaps SET ROLE, and do it; an integration test holds it to
that by trying. What would take a change first (to grant oneself a role by ADMIN or CREATEROLE) is the capability
`administer` and nothing else. `docs/decisions/0018-effective-access.md` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from provisioner.core.access_facts import (
    PREDEFINED,
    AccessGroup,
    Capability,
    Holding,
    Thing,
    holdings_of,
    sum_up,
)
from provisioner.core.role_graph import Chain, RoleGraph
from provisioner.core.state import DATABASE_OWNER, PUBLIC, Database, Membership
from provisioner.core.text import join_names

# The two that come with USAGE on every schema.
_USE_ALL_SCHEMAS = frozenset({"pg_read_all_data", "pg_write_all_data"})
_SUPERUSER_MAY = (
    Capability.CONNECT,
    Capability.READ,
    Capability.WRITE,
    Capability.CREATE,
    Capability.TEMPORARY,
    Capability.OWN,
    Capability.EXECUTE,
)
# More roles than this that have nothing but what PUBLIC has are not told one by one.
MAX_OF_PUBLIC = 100


@dataclass(frozen=True, slots=True)
class Way:
    """One path: `role` can do what `holding` says, as a member along `chain`, or first by SET ROLE along `set_role`.

    `attribute` names the role's attribute that it rests on where there is no grant (SUPERUSER, CREATEROLE), and `admin`
    the membership with ADMIN.
    """

    role: str
    holding: Holding
    chain: Chain = ()
    set_role: Chain = ()
    attribute: str = ""
    admin: Membership | None = None

    @property
    def acting(self) -> str:
        return self.set_role[-1].role if self.set_role else self.role


@dataclass(frozen=True, slots=True)
class Dormant:
    """What a role holds in a database and cannot use, and why; `count` is the number of holdings."""

    database: str
    role: str
    reason: str
    count: int


class Access:
    """One database's access, role by role."""

    def __init__(self, graph: RoleGraph, database: Database, groups: Sequence[AccessGroup]) -> None:
        self.graph, self.database = graph, database
        self._by_holder: dict[str, list[Holding]] = {}
        for each in sum_up(held for group in groups for held in holdings_of(group)):
            self._by_holder.setdefault(self._who(each.holder), []).append(each)
        self._users: dict[str, set[str]] = {}
        for group in groups:
            if group.thing is Thing.SCHEMA and not group.creator:
                for item in group.items:
                    if item.privilege == "USAGE":
                        self._users.setdefault(self._who(item.grantee), set()).add(group.schema)
        inheritors = {**graph.inheritors, PUBLIC: frozenset(graph.roles)}
        connect = {each for each, held in self._by_holder.items() if any(map(_is_connect, held))}
        self._connecting = graph.superusers.union(*(inheritors.get(each, ()) for each in connect))
        # The roles as which something can be done here: who holds something, and whoever inherits from those.
        holders = (self._by_holder.keys() | self._users.keys() | PREDEFINED.keys()) - {PUBLIC}
        self._relevant = graph.superusers.union(holders, *(inheritors.get(each, ()) for each in holders))

    def _who(self, holder: str) -> str:
        """Who holds it: the database's owner is the one member of pg_database_owner, which no catalog says."""
        is_owner = holder == DATABASE_OWNER and self.graph.expands(self.database.owner)
        return self.database.owner if is_owner else holder

    # --- who gets in -----------------------------------------------------------------------------------------------

    def roles(self) -> list[str]:
        """Every role that can log in to the database, in order; of many with PUBLIC's access alone none is named."""
        inside = [name for name in sorted(self._connecting) if not self._kept_out(name)]
        with_more = [name for name in inside if self._has_more_than_public(name)]
        return with_more if len(inside) - len(with_more) > MAX_OF_PUBLIC else inside

    def _has_more_than_public(self, name: str) -> bool:
        return name in self._relevant or any(self._settable(name)) or any(self._administered(name))

    def dormant(self) -> Iterator[Dormant]:
        """What roles hold in the database without being able to get in, or to the schema, by name and reason."""
        known = {PUBLIC, *self.graph.roles} - self.graph.superusers - PREDEFINED.keys()
        for holder in sorted(self._by_holder.keys() & known):
            held = self._by_holder[holder]
            reason = "" if holder == PUBLIC else self._kept_out(holder)
            if not reason:
                usable = self._usable(self.graph.inherited(holder))
                held = [each for each in held if not (_is_reachable(each, usable) or each.called_elsewhere)]
                reason = f"it has no USAGE on their schemas: {join_names(sorted({each.schema for each in held}))}"
            if held:
                yield Dormant(self.database.name, holder, reason, len(held))

    def _kept_out(self, name: str) -> str:
        """Why a role cannot get in, or nothing."""
        if self.database.connection_limit == 0 and name not in self.graph.superusers:
            return "the connection limit of the database is 0"
        refused = self.graph.login_refused(name)
        return refused or ("" if name in self._connecting else "it has no CONNECT on the database")

    # --- what they can do there ------------------------------------------------------------------------------------

    def ways(self, name: str) -> Iterator[Way]:
        """Every way of a role that can log in, or of PUBLIC."""
        # What is had anyway, and what is had in the same way without SET ROLE.
        found = set()
        for way in self._acting_as(name, name, ()):
            found.add((way.holding, way.chain[:1]))
            yield way
        if name in self.graph.superusers:
            return
        for acting, chain in self._settable(name):
            for way in self._acting_as(name, acting, chain):
                first = () if way.holding.holder == PUBLIC else chain[:1]
                if (way.holding, first) not in found and not _is_connect(way.holding):
                    yield way
        yield from self._administered(name)

    def _acting_as(self, name: str, acting: str, set_role: Chain) -> Iterator[Way]:
        if acting in self.graph.superusers:
            for capability in _SUPERUSER_MAY:
                everything = Holding(capability, Thing.EVERYTHING, "", acting)
                yield Way(name, everything, set_role=set_role, attribute="SUPERUSER")
            return
        roles = self.graph.inherited(acting)
        usable = self._usable(roles)
        for holder, chains in {**roles, PUBLIC: ((),)}.items():
            held = _reached(self._by_holder.get(holder, ()), usable)
            yield from (Way(name, each, chain, set_role) for each, chain in product(held, chains))

    def _settable(self, name: str) -> Iterator[tuple[str, Chain]]:
        """Every way of a role to SET ROLE to another as which something can be done."""
        settable = self.graph.settable(name)
        for role in sorted((settable.keys() & self._relevant) - {name}):
            yield from ((role, chain) for chain in settable[role])
        if DATABASE_OWNER in self._by_holder:
            # An owner that does not inherit.
            membership = Membership(DATABASE_OWNER, self.database.owner, "")
            for chain in settable.get(self.database.owner, ()):
                yield DATABASE_OWNER, (*chain, membership)

    def _administered(self, name: str) -> Iterator[Way]:
        ways = self.graph.administered(name)
        # Who may SET ROLE to it anyway needs no grant; this one is granted to nobody.
        useless = {DATABASE_OWNER, *self.graph.settable(name)}
        for role in sorted((ways.keys() & (self._by_holder.keys() | PREDEFINED.keys())) - useless):
            admin, set_role, through = ways[role]
            holding = Holding(Capability.ADMINISTER, Thing.ROLE, "", role)
            yield Way(name, holding, through, set_role, attribute="" if admin else "CREATEROLE", admin=admin)

    def _usable(self, roles: Mapping[str, object]) -> set[str] | None:
        """The schemas that these roles have USAGE on; None for all of them."""
        if roles.keys() & _USE_ALL_SCHEMAS:
            return None
        return {schema for holder in (*roles, PUBLIC) for schema in self._users.get(holder, ())}


def _reached(held: Iterable[Holding], usable: set[str] | None) -> list[Holding]:
    """What is reached through schemas that may be used, and, undecided, what something else leads to."""
    by_name, elsewhere = [], []
    for each in held:
        if each.called_elsewhere:
            is_undecided = each.undecided or not _is_reachable(each, usable)
            elsewhere.append(replace(each, called_elsewhere=False, undecided=is_undecided))
        elif _is_reachable(each, usable):
            by_name.append(each)
    return sum_up([*by_name, *elsewhere]) if elsewhere else by_name


def _is_reachable(holding: Holding, usable: set[str] | None) -> bool:
    return not holding.thing.is_in_schema or bool(holding.creator) or usable is None or holding.schema in usable


def _is_connect(holding: Holding) -> bool:
    return holding.capability is Capability.CONNECT
