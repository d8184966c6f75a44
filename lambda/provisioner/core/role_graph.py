"""Who may act as whom: roles and memberships in, chains of memberships out, by INHERIT, by SET ROLE, by ADMIN.

Up to PostgreSQL 15 a role inherits by its own attribute and may SET ROLE along every membership; from 16 each
membership says both for itself. https://www.postgresql.org/docs/current/role-membership.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import cached_property

from provisioner.core.state import DATABASE_OWNER, IAM_ROLE, Membership, Role, all_members

Chain = tuple[Membership, ...]

# From this version a membership carries its own INHERIT and SET, and CREATEROLE alone no longer grants any role.
OPTIONS_VERSION = 16


class RoleGraph:
    """The memberships of a server; every answer is worked out once and kept.

    A chain is the memberships from a role to another, nearest first. Where several lead there, there is one chain for
    each membership of the role itself that begins one: with all of those taken away, nothing leads there any more.
    """

    def __init__(self, roles: Mapping[str, Role], memberships: Iterable[Membership], version: int) -> None:
        self.roles, self.version = roles, version
        memberships = tuple(memberships)
        # Their passwords are not looked at.
        self._by_iam = all_members(IAM_ROLE, memberships)
        self._inherit: dict[str, list[Membership]] = {}
        self._set: dict[str, list[Membership]] = {}
        self._admin: dict[str, list[Membership]] = {}
        self._any: dict[str, list[Membership]] = {}
        for item in memberships:
            self._any.setdefault(item.member, []).append(item)
            if item.inherit_option and self.expands(item.member):
                self._inherit.setdefault(item.member, []).append(item)
            if item.set_option:
                self._set.setdefault(item.member, []).append(item)
            if item.admin_option:
                self._admin.setdefault(item.member, []).append(item)
        self._shortest: dict[tuple[str, int], dict[str, Chain]] = {}
        self._inherited: dict[str, dict[str, tuple[Chain, ...]]] = {}
        self._settable: dict[str, dict[str, tuple[Chain, ...]]] = {}

    def inherited(self, role: str) -> Mapping[str, tuple[Chain, ...]]:
        """The roles whose privileges a role has without a statement, itself among them, each with its chains."""
        if role not in self._inherited:
            self._inherited[role] = {role: ((),), **self._by_first(role, self._inherit)}
        return self._inherited[role]

    def settable(self, role: str) -> Mapping[str, tuple[Chain, ...]]:
        """The roles that a role may SET ROLE to, without itself; a superuser, which may to all, has none here."""
        if role not in self._settable:
            self._settable[role] = self._by_first(role, self._set)
        return self._settable[role]

    def is_member(self, member: str, role: str) -> bool:
        """Whether a role is a member of another, by whatever memberships."""
        return role in self._shortest_from(member, self._any)

    def login_refused(self, name: str) -> str:
        """Why a role cannot log in to any database, or nothing."""
        role = self.roles[name]
        if not role.can_login:
            return "it cannot log in (NOLOGIN)"
        if role.expired and name not in self._by_iam:
            return "its password has expired (VALID UNTIL)"
        return "its connection limit is 0" if role.connection_limit == 0 and not role.superuser else ""

    def expands(self, role: str) -> bool:
        """Whether a role inherits along the memberships that it has, as far as that is for itself to say."""
        return self.version >= OPTIONS_VERSION or role not in self.roles or self.roles[role].inherits

    def owner_membership(self, owner: str) -> Membership:
        """The membership of a database's owner in pg_database_owner, which no catalog has."""
        return Membership(DATABASE_OWNER, owner, "")

    @cached_property
    def has_database_owner(self) -> bool:
        """Whether the server has pg_database_owner (from 14)."""
        return DATABASE_OWNER in self.roles

    @cached_property
    def superusers(self) -> frozenset[str]:
        """The roles that may do everything."""
        return frozenset(name for name, role in self.roles.items() if role.superuser)

    @cached_property
    def inheritors(self) -> Mapping[str, frozenset[str]]:
        """For each role all that have its privileges without a statement, itself among them."""
        found: dict[str, set[str]] = {name: {name} for name in self.roles}
        for member in self._inherit:
            for role in self.inherited(member):
                found.setdefault(role, set()).add(member)
        return {role: frozenset(members) for role, members in found.items()}

    def administered(self, role: str) -> Mapping[str, tuple[Membership | None, Chain]]:
        """The roles that a role may make itself a member of, without SET ROLE, each with the ADMIN that allows it.

        With it goes the chain to the role that has the ADMIN. None stands for CREATEROLE, which up to 15 is enough for
        every role but a superuser.
        """
        found: dict[str, tuple[Membership | None, Chain]] = {}
        facts = self.roles.get(role)
        if self.version < OPTIONS_VERSION and facts and facts.createrole:
            found = {name: (None, ()) for name, each in self.roles.items() if not each.superuser}
        # From 16 the ADMIN of a role counts only for who inherits that role's privileges.
        holders = self.inherited(role) if self.version >= OPTIONS_VERSION else {role: ((),), **self.settable(role)}
        for holder, chains in holders.items():
            for item in self._admin.get(holder, ()):
                if item.role not in self.superusers:
                    found.setdefault(item.role, (item, chains[0]))
        return {name: item for name, item in found.items() if name != role}

    def _by_first(self, role: str, edges: Mapping[str, list[Membership]]) -> dict[str, tuple[Chain, ...]]:
        found: dict[str, list[Chain]] = {}
        for first in edges.get(role, ()):
            found.setdefault(first.role, []).append((first,))
            for target, chain in self._shortest_from(first.role, edges).items():
                found.setdefault(target, []).append((first, *chain))
        return {target: tuple(chains) for target, chains in found.items()}

    def _shortest_from(self, role: str, edges: Mapping[str, list[Membership]]) -> dict[str, Chain]:
        key = role, id(edges)
        if key not in self._shortest:
            found: dict[str, Chain] = {}
            queue: deque[tuple[str, Chain]] = deque([(role, ())])
            while queue:
                member, chain = queue.popleft()
                for item in edges.get(member, ()):
                    if item.role not in found and item.role != role:
                        found[item.role] = (*chain, item)
                        queue.append((item.role, found[item.role]))
            self._shortest[key] = found
        return self._shortest[key]
