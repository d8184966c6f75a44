"""Who can do what in a database, and by which path: what was observed in, effective access out.

A path is there if and only if an attempt succeeds: log in, perhaps SET ROLE, and do it; an integration test holds it to
that by trying. What would take a change first (to grant oneself a role by ADMIN or CREATEROLE) is the capability
`administer` and nothing else. `docs/decisions/0018-effective-access.md` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from provisioner.core.access_facts import (
    GIVES,
    IN_SCHEMAS,
    Capability,
    DatabaseAccess,
    Holding,
    Thing,
    holdings_of,
    sum_up,
)
from provisioner.core.role_graph import Chain, RoleGraph
from provisioner.core.state import DATABASE_OWNER, PUBLIC, Membership
from provisioner.core.text import join_names

# The predefined roles whose members may more than any list says, and what on: since 14, 14 and 17.
_ROWS_OF_ALL = (Thing.TABLE, Thing.VIEW, Thing.FIXED_VIEW, Thing.MATERIALIZED_VIEW, Thing.SEQUENCE)
PREDEFINED: Mapping[str, tuple[Capability, tuple[tuple[str, bool], ...]]] = {
    "pg_read_all_data": (Capability.READ, (("SELECT", False),)),
    "pg_write_all_data": (Capability.WRITE, (("DELETE", False), ("INSERT", False), ("UPDATE", False))),
    "pg_maintain": (Capability.MAINTAIN, (("MAINTAIN", False),)),
}
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
# Beyond this many ways of one role into one database they are somebody's experiment.
MAX_WAYS = 20_000


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


@dataclass(frozen=True, slots=True)
class Dormant:
    """What a role holds in a database and cannot use, and why; `count` is the number of holdings."""

    role: str
    reason: str
    count: int


class Access:
    """One database's access, role by role."""

    def __init__(self, graph: RoleGraph, database: DatabaseAccess) -> None:
        self._graph, self.database, self.version = graph, database, graph.version
        self._by_holder: dict[str, list[Holding]] = {}
        for each in sum_up((held, group) for group in database.groups for held in holdings_of(group)):
            self._by_holder.setdefault(each.holder, []).append(each)
        self._users: dict[str, set[str]] = {}
        for group in database.groups:
            if group.thing is Thing.SCHEMA and not group.creator:
                for item in group.items:
                    if item.privilege == "USAGE":
                        self._users.setdefault(item.grantee, set()).add(group.schema)
        self._relevant = self._acting()

    # --- who gets in -----------------------------------------------------------------------------------------------

    def roles(self) -> list[str]:
        """Every role that can log in to the database, in order; of many with PUBLIC's access alone none is named."""
        holders = {each.holder for held in self._by_holder.values() for each in held if _is_connect(each)}
        if DATABASE_OWNER in holders:
            holders.add(self.database.owner)
        found = set(self._graph.superusers)
        for holder in holders:
            found |= self._graph.roles.keys() if holder == PUBLIC else self._graph.inheritors.get(holder, frozenset())
        inside = [name for name in sorted(found) if not self._kept_out(name)]
        of_public = [name for name in inside if self._has_only_what_public_has(name)]
        return [name for name in inside if name not in set(of_public)] if len(of_public) > MAX_OF_PUBLIC else inside

    def _has_only_what_public_has(self, name: str) -> bool:
        return not (name in self._relevant or self._settable(name) or any(True for _ in self._administered(name)))

    def dormant(self) -> list[Dormant]:
        """What roles hold in the database without being able to get in, or to the schema, by name and reason."""
        found = []
        known = {PUBLIC, *self._graph.roles} - self._graph.superusers
        for holder in sorted(self._by_holder.keys() & known):
            held = self._by_holder[holder]
            reason = "" if holder == PUBLIC else self._kept_out(holder)
            if reason:
                found.append(Dormant(holder, reason, len(held)))
                continue
            usable = self._usable(self._inherited(holder))
            hidden = [each for each in held if not _is_reachable(each, usable)]
            if hidden:
                schemas = join_names(sorted({each.schema for each in hidden}))
                found.append(Dormant(holder, f"it has no USAGE on their schemas: {schemas}", len(hidden)))
        return found

    def _kept_out(self, name: str) -> str:
        """Why a role cannot get in, or nothing."""
        role = self._graph.roles[name]
        if self.database.connection_limit == 0 and not role.superuser:
            return "the connection limit of the database is 0"
        return self._graph.login_refused(name) or ("" if self._connects(name) else "it has no CONNECT on the database")

    def _connects(self, name: str) -> bool:
        if self._graph.roles[name].superuser:
            return True
        holders = self._inherited(name).keys() | {PUBLIC}
        return any(_is_connect(each) for holder in holders for each in self._by_holder.get(holder, ()))

    # --- what they can do there ------------------------------------------------------------------------------------

    def ways(self, name: str) -> list[Way]:
        """Every way of a role that can log in, or of PUBLIC."""
        if name == PUBLIC:
            usable = self._usable({PUBLIC: ((),)})
            return [Way(PUBLIC, each) for each in self._by_holder.get(PUBLIC, ()) if _is_reachable(each, usable)]
        if self._graph.roles[name].superuser:
            return [Way(name, everything, attribute="SUPERUSER") for everything in _everything(name)]
        found = list(self._acting_as(name, name, ()))
        # What is had anyway, and what is had in the same way without SET ROLE.
        started = {(way.holding, way.chain[:1]) for way in found}
        for acting, chains in self._settable(name):
            for chain in chains:
                for way in self._acting_as(name, acting, chain):
                    first = () if way.holding.holder == PUBLIC else chain[:1]
                    if (way.holding, first) not in started and not _is_connect(way.holding):
                        found.append(way)
            if len(found) > MAX_WAYS:
                break
        return [*found[:MAX_WAYS], *self._administered(name)]

    def _acting_as(self, name: str, acting: str, set_role: Chain) -> Iterator[Way]:
        if acting != name and acting in self._graph.superusers:
            yield from (Way(name, each, set_role=set_role, attribute="SUPERUSER") for each in _everything(acting))
            return
        roles = self._inherited(acting)
        usable = self._usable(roles)
        for holder, chains in {**roles, PUBLIC: ((),)}.items():
            held = [each for each in self._by_holder.get(holder, ()) if _is_reachable(each, usable)]
            held += self._predefined(holder, usable)
            yield from (Way(name, each, chain, set_role) for each, chain in product(held, chains))

    def _administered(self, name: str) -> Iterator[Way]:
        ways: dict[str, tuple[Membership | None, Chain, Chain]] = {}
        identities: list[tuple[str, Chain]] = [(name, ())]
        identities += [(role, chains[0]) for role, chains in self._graph.settable(name).items()]
        for acting, chain in identities:
            for role, (admin, through) in self._graph.administered(acting).items():
                ways.setdefault(role, (admin, chain, through))
        # Who may SET ROLE to it anyway needs no grant; its own members it cannot be granted to, and this one to nobody.
        useless = {name, DATABASE_OWNER, *self._graph.settable(name)}
        for role in sorted((ways.keys() & (self._by_holder.keys() | PREDEFINED.keys())) - useless):
            admin, chain, through = ways[role]
            acting = chain[-1].role if chain else name
            if self._graph.roles[acting].createrole or not self._graph.is_member(role, name):
                holding = Holding(Capability.ADMINISTER, Thing.ROLE, "", role, count=1, names=(role,))
                attribute = "" if admin else "CREATEROLE"
                yield Way(name, holding, through, chain, attribute=attribute, admin=admin)

    def _predefined(self, holder: str, usable: set[str] | None) -> list[Holding]:
        """What members of a predefined role may do to all tables, views and sequences of the schemas they can use."""
        capability, privileges = PREDEFINED.get(holder, (None, ()))
        if capability is None:
            return []
        held = []
        for group in self.database.groups:
            is_covered = group.thing in _ROWS_OF_ALL and capability in GIVES[group.thing].values()
            if is_covered and not group.creator and (usable is None or group.schema in usable):
                undecided = group.undecided_writes if capability is Capability.WRITE else group.undecided
                each = Holding(capability, group.thing, group.schema, holder, "", privileges, undecided=undecided)
                held.append((each, group))
        return sum_up(held)

    # --- roles and schemas -----------------------------------------------------------------------------------------

    def _acting(self) -> frozenset[str]:
        """The roles as which something can be done here: who holds something, and whoever inherits from those."""
        holders = self._by_holder.keys() | self._users.keys() | PREDEFINED.keys()
        found = {member for holder in holders for member in self._graph.inheritors.get(holder, ())}
        return frozenset(found | self._graph.superusers | holders) - {PUBLIC}

    def _settable(self, name: str) -> list[tuple[str, tuple[Chain, ...]]]:
        settable = self._graph.settable(name)
        found = [(role, settable[role]) for role in sorted(settable.keys() & self._relevant)]
        owner = self.database.owner
        if self._graph.has_database_owner and (owner == name or owner in settable):
            found.append((DATABASE_OWNER, self._through_owner(((),) if owner == name else settable[owner])))
        return found

    def _inherited(self, name: str) -> Mapping[str, tuple[Chain, ...]]:
        """With the membership that no catalog has: that of the database's owner in pg_database_owner."""
        roles = self._graph.inherited(name)
        owner = self.database.owner
        if not self._graph.has_database_owner or owner not in roles or not self._graph.expands(owner):
            return roles
        return {**roles, DATABASE_OWNER: self._through_owner(roles[owner])}

    def _through_owner(self, chains: Iterable[Chain]) -> tuple[Chain, ...]:
        return tuple((*chain, self._graph.owner_membership(self.database.owner)) for chain in chains)

    def _usable(self, roles: Mapping[str, object]) -> set[str] | None:
        """The schemas that these roles have USAGE on; None for all of them."""
        if roles.keys() & _USE_ALL_SCHEMAS:
            return None
        return {schema for holder in (*roles, PUBLIC) for schema in self._users.get(holder, ())}


def _is_reachable(holding: Holding, usable: set[str] | None) -> bool:
    return holding.thing not in IN_SCHEMAS or bool(holding.creator) or usable is None or holding.schema in usable


def _is_connect(holding: Holding) -> bool:
    return holding.capability is Capability.CONNECT


def _everything(role: str) -> list[Holding]:
    return [Holding(each, Thing.EVERYTHING, "", role) for each in _SUPERUSER_MAY]
