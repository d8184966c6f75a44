"""A shop with its owner, editor and reader: what is declared, and what stands of it."""

from dataclasses import replace
from typing import Any

from provisioner.core import difference
from provisioner.core.access_levels import AccessLevel
from provisioner.core.difference import Difference, new_database
from provisioner.core.kinds import ObjectKind
from provisioner.core.model import Declaration, Entry
from provisioner.core.ownership import Ownership
from provisioner.core.plan import Plan, build_plan
from provisioner.core.state import Grant, Marker, Membership, ObjectGroup, Role, Server, Target

MARK = Marker("dev")

OWNER = Entry("shop", "shop", "owner")

READER = Entry("read", "shop", "reader", AccessLevel.READER)

ADMINISTRATOR = Role("admin", createdb=True, createrole=True, administrator_inherits=True)

TABLES = Target(ObjectKind.TABLE, schema="public", owner="owner")

ENTRIES = (
    Entry("shop", "shop", "owner"),
    Entry("edit", "shop", "editor", AccessLevel.EDITOR),
    Entry("read", "shop", "reader", AccessLevel.READER),
)


def ownership_of(*entries: Entry, roles: tuple[Role, ...] = (), owned: str = "", **fields: Any) -> Ownership:
    """Over roles of ours and, where `owned` names an owner, the database `shop` of ours."""
    server = Server(18, "admin", "rdsadmin", {role.name: role for role in (ADMINISTRATOR, *roles)}, {}, **fields)
    if owned:
        facts = replace(new_database("shop", owned, server), marker=MARK)
        server = replace(server, databases={"shop": facts})
    return Ownership(Declaration(entries=entries), server, "dev")


def ours(name: str, **fields: Any) -> Role:
    return Role(name, marker=MARK, **fields)


def ownership_over(*groups: ObjectGroup, version: int = 18, memberships: tuple[Membership, ...] = ()) -> Ownership:
    roles = {name: Role(name, marker=MARK) for name in ("owner", "editor", "reader", "elsewhere")}
    roles |= {name: Role(name, has_admin_option=False) for name in ("stranger",)}
    roles["admin"] = Role("admin", createdb=True, createrole=True, administrator_inherits=True)
    server = Server(version, "admin", "rdsadmin", roles, {}, memberships=memberships)
    facts = new_database("shop", "owner", server)
    facts = replace(facts, marker=MARK, groups=(*facts.groups, *groups))
    entries = (*ENTRIES, Entry("other", "other", "elsewhere"))
    declaration = Declaration(entries=entries)
    return Ownership(declaration, replace(server, databases={"shop": facts}), "dev")


def differences_of(ownership: Ownership) -> tuple[Difference, ...]:
    """Those of the declared databases, as the observation of a server gives them."""
    present = [database for name, database in ownership.server.databases.items() if name in ownership.by_database]
    return (*(difference.of(database, ownership) for database in present), *difference.of_new(ownership))


def plan_of(ownership: Ownership) -> Plan:
    return build_plan(ownership, differences_of(ownership))


def with_option(grantor: str, grantee: str, privilege: str) -> tuple[Grant, Grant]:
    """A privilege, and the right to pass it on."""
    return Grant(grantor, grantee, privilege), Grant(grantor, grantee, privilege, grant_option=True)
