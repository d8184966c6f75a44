"""Who may act as whom: roles and memberships in, chains of memberships out, by INHERIT, by SET ROLE, by ADMIN.

Up to PostgreSQL 15 a role inherits by its own attribute and may SET ROLE along every membership; from 16 each
membership says both for itself. https://www.postgresql.org/docs/current/role-membership.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from provisioner.core.state import IAM_ROLE, Membership, Server, all_members

Chain = tuple[Membership, ...]


class Paths:
    """Where memberships of one sort lead; every answer is worked out once and kept."""

    def __init__(self, memberships: Iterable[Membership]) -> None:
        self.by_member: dict[str, list[Membership]] = {}
        for item in memberships:
            self.by_member.setdefault(item.member, []).append(item)
        self._shortest: dict[str, dict[str, Chain]] = {}
        self._chains: dict[str, Mapping[str, tuple[Chain, ...]]] = {}

    def __call__(self, role: str) -> Mapping[str, tuple[Chain, ...]]:
        """The roles that a role gets to, itself first, each with its chains of memberships, nearest first.

        Where several lead there, there is one chain, the shortest, for each membership of the role itself that begins
        one: with all of those taken away, nothing leads there any more.
        """
        if role not in self._chains:
            found: dict[str, list[Chain]] = {role: [()]}
            for first in self.by_member.get(role, ()):
                for target, chain in self._shortest_from(first.role).items():
                    found.setdefault(target, []).append((first, *chain))
            self._chains[role] = {target: tuple(chains) for target, chains in found.items()}
        return self._chains[role]

    def _shortest_from(self, role: str) -> Mapping[str, Chain]:
        if role not in self._shortest:
            found: dict[str, Chain] = {role: ()}
            queue = deque([role])
            while queue:
                member = queue.popleft()
                for item in self.by_member.get(member, ()):
                    if item.role not in found:
                        found[item.role] = (*found[member], item)
                        queue.append(item.role)
            self._shortest[role] = found
        return self._shortest[role]


class RoleGraph:
    """The memberships of a server.

    `inherited` are the roles whose privileges a role has without a statement, `settable` those that it may SET ROLE to,
    but for a superuser, which may to all; itself is among both.
    """

    def __init__(self, server: Server) -> None:
        self.roles, self.has_options = server.roles, server.has_membership_options
        memberships = (*server.memberships, *server.administered)
        # Their passwords are not looked at.
        self._by_iam = all_members({IAM_ROLE}, memberships)
        self.inherited = Paths(item for item in memberships if item.inherit_option and self.expands(item.member))
        self.settable = Paths(item for item in memberships if item.set_option)
        self.member_of = Paths(memberships)
        self._admin = Paths(item for item in memberships if item.admin_option)

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
        return self.has_options or role not in self.roles or self.roles[role].inherits

    @cached_property
    def superusers(self) -> frozenset[str]:
        return frozenset(name for name, role in self.roles.items() if role.superuser)

    @cached_property
    def inheritors(self) -> Mapping[str, frozenset[str]]:
        """For each role all that have its privileges without a statement, itself among them."""
        found: dict[str, set[str]] = {name: {name} for name in self.roles}
        for member in self.inherited.by_member:
            for role in self.inherited(member):
                found.setdefault(role, set()).add(member)
        return {role: frozenset(members) for role, members in found.items()}

    def administered(self, role: str) -> Mapping[str, tuple[Membership | None, Chain, Chain]]:
        """The roles that a role may make itself a member of or set the password of, each with the ADMIN that allows it.

        With it go the chain to whom it takes SET ROLE first, and from there to who has the ADMIN. None stands for
        CREATEROLE, which up to 15 is enough for every role but a superuser.
        """
        found: dict[str, tuple[Membership | None, Chain, Chain]] = {}
        for acting, chains in self.settable(role).items():
            for name, admin, through in self._administered_as(acting, role):
                if name not in found and name != role and name not in self.superusers:
                    found[name] = admin, chains[0], through
        return found

    def _administered_as(self, acting: str, role: str) -> Iterator[tuple[str, Membership | None, Chain]]:
        is_creator = acting in self.roles and self.roles[acting].createrole

        def gains(name: str, *, may_grant: bool) -> bool:
            # The password of a role with REPLICATION takes a superuser, up to 15; to its own members it grants nothing.
            may_set_password = is_creator and (self.has_options or not self.roles[name].replication)
            return may_set_password or (may_grant and role not in self.member_of(name))

        if is_creator and not self.has_options:
            yield from ((name, None, ()) for name in self.roles if gains(name, may_grant=True))
        # From 16 who grants has to inherit the privileges of who has the ADMIN; any member of it sets a password.
        granting = self.inherited(acting) if self.has_options else self.settable(acting)
        for holder, chains in (*granting.items(), *self.member_of(acting).items()):
            for item in self._admin.by_member.get(holder, ()):
                if gains(item.role, may_grant=holder in granting):
                    yield item.role, item, chains[0]
