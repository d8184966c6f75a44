"""Whatever stands on a server and whatever is declared: plans end, are repeatable, and stay within what is ours.

A small simulator makes the changes as PostgreSQL would, and refuses what PostgreSQL would refuse.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.core import difference
from provisioner.core.access_levels import AccessLevel
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.difference import new_database
from provisioner.core.kinds import ObjectKind
from provisioner.core.model import Declaration, Entry
from provisioner.core.ownership import Ownership
from provisioner.core.report import render_text
from provisioner.core.state import (
    PUBLIC,
    Database,
    Grant,
    Marker,
    Membership,
    ObjectGroup,
    PasswordCheck,
    Role,
    Server,
    Target,
)
from unit.core.shop import differences_of, plan_of
from unit.examples import at_most

ADMINISTRATOR, BOOTSTRAP = "admin", "rdsadmin"
APPLICATIONS = ("app_a", "app_b", "app_c")
STRANGERS = ("stranger_x", "stranger_y")
DATABASES = ("one", "two")
MARK = Marker("dev")
PRIVILEGES = {
    ObjectKind.DATABASE: ("CONNECT", "TEMPORARY", "CREATE"),
    ObjectKind.SCHEMA: ("USAGE", "CREATE"),
    ObjectKind.TABLE: ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MAINTAIN"),
    ObjectKind.SEQUENCE: ("USAGE", "SELECT", "UPDATE"),
    ObjectKind.COLUMN: ("SELECT", "UPDATE"),
    ObjectKind.ROUTINE: ("EXECUTE",),
}
QUICK = settings(max_examples=at_most(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])

# --- what may stand, and what may be declared -------------------------------------------------------------------------


@st.composite
def acl(draw: st.DrawFn, owner: str, kind: ObjectKind) -> tuple[Grant, ...]:
    """Grants as they come about: from the owner, and from whoever was given the right to pass them on."""
    items: set[Grant] = set()
    for privilege in draw(st.lists(st.sampled_from(PRIVILEGES[kind]), max_size=3, unique=True)):
        holders = [owner]
        for _ in range(draw(st.integers(1, 4))):
            grantor = draw(st.sampled_from(holders))
            grantee = draw(
                st.sampled_from([name for name in (*APPLICATIONS, *STRANGERS, PUBLIC) if name not in holders])
            )
            grantable = grantee != PUBLIC and draw(st.booleans())
            grant = Grant(grantor, grantee, privilege)
            items -= {replace(grant, grant_option=True)}
            items |= {grant, replace(grant, grant_option=grantable)}
            holders += [grantee] if grantable else []
            if len(holders) > len(APPLICATIONS):
                break
    return tuple(sorted(items))


@st.composite
def group(draw: st.DrawFn, number: int, schema: str, kind: ObjectKind) -> ObjectGroup:
    owner = draw(st.sampled_from((*APPLICATIONS, *STRANGERS, ADMINISTRATOR)))
    target = Target(kind, schema=schema, owner=owner, acl=f"{number}", extension=draw(st.integers(0, 9)) == 0)
    return ObjectGroup(target, draw(acl(owner, kind)), draw(st.integers(1, 3)))


@st.composite
def default_privileges(draw: st.DrawFn) -> ObjectGroup:
    creator = draw(st.sampled_from((*APPLICATIONS, *STRANGERS)))
    kind = draw(st.sampled_from((ObjectKind.TABLE, ObjectKind.SEQUENCE, ObjectKind.SCHEMA, ObjectKind.ROUTINE)))
    schema = "" if kind is ObjectKind.SCHEMA else draw(st.sampled_from(("", "app")))
    items = [item for item in draw(acl(creator, kind)) if item.grantor == creator]
    return ObjectGroup(Target(kind, schema=schema, owner=creator, creator=creator), tuple(items))


@st.composite
def database(draw: st.DrawFn, name: str, version: int) -> Database:
    owner = draw(st.sampled_from((*APPLICATIONS, STRANGERS[0], ADMINISTRATOR)))
    facts = new_database(name, owner, Server(version, ADMINISTRATOR, BOOTSTRAP, {}, {}))
    itself, public = facts.groups
    groups = [
        replace(itself, items=tuple(sorted({*itself.items, *draw(acl(owner, ObjectKind.DATABASE))}))),
        replace(public, items=tuple(sorted({*public.items, *draw(acl(public.target.owner, ObjectKind.SCHEMA))}))),
    ]
    app_owner = draw(st.sampled_from((owner, *STRANGERS)))
    groups.append(
        ObjectGroup(Target(ObjectKind.SCHEMA, schema="app", owner=app_owner), draw(acl(app_owner, ObjectKind.SCHEMA)))
    )
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from((ObjectKind.TABLE, ObjectKind.SEQUENCE, ObjectKind.COLUMN)))
        groups.append(draw(group(number, draw(st.sampled_from(("public", "app"))), kind)))
    defaults = {item.target: item for item in draw(st.lists(default_privileges(), max_size=3)) if item.items}
    marker = draw(st.sampled_from((MARK, MARK, MARK, Marker(), Marker("prod"))))
    return replace(facts, groups=(*groups, *defaults.values()), marker=marker)


@st.composite
def role(draw: st.DrawFn, name: str) -> Role:
    marker = draw(st.sampled_from((MARK, MARK, MARK, Marker()))) if name in APPLICATIONS else Marker()
    return Role(
        name,
        createdb=draw(st.booleans()),
        createrole=draw(st.booleans()),
        connection_limit=draw(st.sampled_from((-1, 5))),
        marker=marker,
        has_admin_option=name in APPLICATIONS,
    )


@st.composite
def servers(draw: st.DrawFn) -> Server:
    version = draw(st.sampled_from((13, 15, 16, 18)))
    present = draw(st.lists(st.sampled_from(APPLICATIONS), unique=True))
    roles = {name: draw(role(name)) for name in (*APPLICATIONS, *STRANGERS)}
    databases = {
        name: draw(database(name, version)) for name in draw(st.lists(st.sampled_from(DATABASES), unique=True))
    }
    used = {item.owner for item in databases.values()} | _names_in(databases.values())
    roles = {name: facts for name, facts in roles.items() if name in used or name in STRANGERS or name in present}
    administrator = Role(ADMINISTRATOR, createdb=True, createrole=True, administrator_inherits=True)
    pairs = draw(st.lists(st.tuples(st.sampled_from(sorted(roles)), st.sampled_from(sorted(roles))), max_size=2))
    return Server(
        version=version,
        administrator=ADMINISTRATOR,
        bootstrap=BOOTSTRAP,
        roles={
            **roles,
            ADMINISTRATOR: administrator,
            BOOTSTRAP: Role(BOOTSTRAP, superuser=True, has_admin_option=False),
        },
        databases=databases,
        memberships=tuple(
            Membership(one, other, draw(st.sampled_from((ADMINISTRATOR, BOOTSTRAP))))
            for one, other in pairs
            if one < other
        ),
        available_extensions={"citext": ""},
        passwords={name: draw(st.sampled_from(PasswordCheck)) for name in roles},
    )


def _names_in(databases: Any) -> set[str]:
    groups = [each for facts in databases for each in facts.groups]
    return {name for each in groups for item in each.items for name in (item.grantee, item.grantor)} | {
        name for each in groups for name in (each.target.owner, each.target.creator)
    }


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    entries = []
    for database_name in draw(st.lists(st.sampled_from(DATABASES), unique=True, min_size=1)):
        members = draw(st.lists(st.sampled_from(APPLICATIONS), unique=True, min_size=1))
        owner = draw(st.sampled_from((*members, "")))
        for member in members:
            level = AccessLevel.OWNER
            if member != owner:
                level = draw(st.sampled_from((AccessLevel.EDITOR, AccessLevel.READER)))
            is_owner = member == owner
            entries.append(
                Entry(
                    f"{database_name}_{member}",
                    database_name,
                    member,
                    level,
                    createdb=is_owner and draw(st.booleans()),
                    connection_limit=draw(st.sampled_from((None, 7))),
                    extensions=("citext",) if is_owner and draw(st.booleans()) else (),
                )
            )
    return Declaration(entries=tuple(entries))


@st.composite
def scopes(draw: st.DrawFn) -> Ownership:
    declaration = draw(declarations())
    adopt = draw(st.sampled_from((frozenset(), frozenset(entry.application for entry in declaration.entries))))
    return Ownership(declaration, draw(servers()), "dev", adopt=adopt)


# --- the simulator ----------------------------------------------------------------------------------------------------


def make(changes: tuple[Change, ...], ownership: Ownership) -> Server:
    """The server after the changes, made one by one; an assertion fails where PostgreSQL would refuse one."""
    server = ownership.server
    for change in changes:
        server = _make_in_database(change, server) if change.database else _make_of_role(change, server)
    return server


def _make_of_role(change: Change, server: Server) -> Server:
    name = change.username
    if change.kind is ChangeKind.CREATE_ROLE:
        assert name not in server.roles
        facts = Role(name, createdb=bool(change.createdb), connection_limit=change.connection_limit or -1, marker=MARK)
        return replace(server, roles={**server.roles, name: facts})
    if change.kind is ChangeKind.REVOKE_MEMBERSHIP:
        kept = tuple(
            item
            for item in server.memberships
            if (item.role, item.member) != (change.subject, name)
            or (server.version >= 16 and item.grantor != ADMINISTRATOR)
        )
        assert len(kept) < len(server.memberships)
        return replace(server, memberships=kept)
    if change.kind is ChangeKind.SET_PASSWORD:
        return replace(server, passwords={**server.passwords, name: PasswordCheck.CURRENT})
    facts = server.roles[name]
    if change.kind in {ChangeKind.ADOPT_ROLE, ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP}:
        facts = replace(facts, marker=MARK)
    if change.kind is ChangeKind.ALTER_ROLE:
        given_values = {
            key: value
            for key in ("createdb", "createrole", "connection_limit")
            if (value := getattr(change, key)) is not None
        }
        facts = replace(facts, **given_values)
    return replace(server, roles={**server.roles, name: facts})


def _make_in_database(change: Change, server: Server) -> Server:
    name = change.database
    if change.kind is ChangeKind.CREATE_DATABASE:
        assert name not in server.databases
        facts = replace(new_database(name, change.username, server), marker=MARK)
    else:
        facts = server.databases[name]
    if change.kind is ChangeKind.ADOPT_DATABASE:
        facts = replace(facts, marker=MARK)
    if change.kind is ChangeKind.CREATE_EXTENSION:
        facts = replace(facts, extensions=facts.extensions | {change.subject})
    if change.kind.is_grant:
        for target in change.targets:
            facts = _change_acl(facts, target, change)
    return replace(server, databases={**server.databases, name: facts})


def _change_acl(facts: Database, target: Target, change: Change) -> Database:
    groups = {each.target: each for each in facts.groups}
    before = groups.pop(target, None) or ObjectGroup(target, ())
    grants = set(before.items)
    edit = _revoke if change.kind.symbol == "-" else _grant
    for privilege in change.privileges:
        edit(grants, Grant(change.grantor, change.username, privilege, change.grant_option), target.owner)
    if grants or not target.creator:
        groups[target] = replace(before, items=tuple(sorted(grants)))
    return replace(facts, groups=tuple(groups.values()))


def _grant(grants: set[Grant], grant: Grant, owner: str) -> None:
    assert grant.grantor == owner, "only owners' grants are ever made"
    assert grant not in grants, "a grant that changes nothing is not free"
    grants |= {grant, grant.privilege_alone}


def _revoke(grants: set[Grant], grant: Grant, owner: str) -> None:
    assert grant in grants, "a revoke that changes nothing is not free"
    rest = {item for item in grants if item.privilege_alone != grant.privilege_alone}
    options = {item.grantee for item in rest if item.privilege == grant.privilege and item.grant_option}
    passed_on = {item.grantor for item in rest if item.privilege == grant.privilege} - {owner}
    assert passed_on <= options, "2BP01: dependent privileges exist"
    grants -= {grant, replace(grant, grant_option=True)}


# --- what must hold ---------------------------------------------------------------------------------------------------


@QUICK
@given(scopes())
def test_equal_states_have_no_difference(ownership: Ownership) -> None:
    for each in differences_of(ownership):
        wanted = [(group, frozenset(group.items)) for group in each.database.groups]
        assert list(difference.grant_changes(each.database, each.database.owner, wanted)) == []


@QUICK
@given(scopes())
def test_after_the_changes_of_a_plan_nothing_is_left_to_change(ownership: Ownership) -> None:
    plan = plan_of(ownership)
    after = replace(ownership, server=make(plan.changes, ownership), adopt=frozenset())
    assert plan_of(after).changes == ()


@QUICK
@given(scopes())
def test_nothing_that_is_not_ours_is_named_in_a_change(ownership: Ownership) -> None:
    for change in plan_of(ownership).changes:
        assert change.username in {PUBLIC, ADMINISTRATOR} or ownership.manages(change.username)
        if change.database:
            facts = ownership.server.databases.get(change.database)
            assert facts is None or ownership.may_change(facts)
            assert change.database in ownership.by_database


@QUICK
@given(scopes(), st.randoms(use_true_random=False))
def test_a_plan_is_the_same_whatever_the_order_of_its_inputs(ownership: Ownership, order: random.Random) -> None:
    plan, other = plan_of(ownership), plan_of(_shuffled(ownership, order.sample))
    assert render_text(other) == render_text(plan)
    assert other.digest == plan.digest


@QUICK
@given(scopes(), st.integers(4, 9))
def test_a_digest_does_not_count_objects(ownership: Ownership, count: int) -> None:
    databases = {
        name: replace(
            facts, groups=tuple(replace(each, object_count=each.object_count + count) for each in facts.groups)
        )
        for name, facts in ownership.server.databases.items()
    }
    grown = replace(ownership, server=replace(ownership.server, databases=databases))
    assert plan_of(grown).digest == plan_of(ownership).digest


def _shuffled(ownership: Ownership, sample: Callable[..., list[Any]]) -> Ownership:
    def shuffle(items: Any) -> tuple[Any, ...]:
        items = list(items)
        return tuple(sample(items, len(items)))

    server = ownership.server
    databases = {
        name: replace(facts, groups=shuffle(replace(each, items=shuffle(each.items)) for each in facts.groups))
        for name, facts in shuffle(server.databases.items())
    }
    shuffled = replace(
        server,
        roles=dict(shuffle(server.roles.items())),
        databases=databases,
        memberships=shuffle(server.memberships),
        passwords=dict(shuffle(server.passwords.items())),
    )
    declaration = replace(ownership.declaration, entries=shuffle(ownership.declaration.entries))
    return Ownership(
        declaration, shuffled, ownership.environment, adopt=frozenset(sorted(ownership.adopt, reverse=True))
    )
