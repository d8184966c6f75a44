"""Ways into a database: what counts, what is held without effect, what is told of many roles."""

from provisioner.core.access_facts import AccessGroup, Capability, Thing
from provisioner.core.access_levels import AccessLevel
from provisioner.core.access_rows import build_access_rows as build_rows
from provisioner.core.acl import parse_acl
from provisioner.core.effective_access import MAX_OF_PUBLIC, Access
from provisioner.core.model import Entry
from provisioner.core.role_graph import RoleGraph
from provisioner.core.state import Database, Membership, Role, Server
from unit.core.shop import ownership_of

Inside = tuple[Database, tuple[AccessGroup, ...]]
NOBODY = ownership_of()


def server(*names: str, memberships: tuple[Membership, ...] = (), **facts: Role) -> RoleGraph:
    roles = {name: Role(name) for name in ("owner", *names)} | facts
    return RoleGraph(Server(16, "admin", "rdsadmin", roles, {}, memberships=memberships))


def database(connect: str = "", usage: str = "", select: str = "", names: tuple[str, ...] = ("t",)) -> Inside:
    def acl(more: str) -> str:
        return "{" + ",".join(filter(None, ["owner=/owner", more])) + "}"

    groups = (
        AccessGroup(Thing.DATABASE, "", "owner", parse_acl(acl(connect))),
        AccessGroup(Thing.SCHEMA, "s", "owner", parse_acl(acl(usage)), names=("s",)),
        AccessGroup(Thing.TABLE, "s", "owner", parse_acl(acl(select)), len(names), names),
    )
    return Database("d", "owner"), groups


def capabilities(found: RoleGraph, inside: Inside, role: str) -> set[str]:
    return {row.capability for row in build_rows(Access(found, *inside), NOBODY) if row.role == role}


def test_without_connect_or_usage_a_grant_has_no_effect_and_that_is_told() -> None:
    known = server("reader")
    assert capabilities(known, database(select="reader=r/owner"), "reader") == set()
    half = database(connect="reader=c/owner", select="reader=r/owner")
    assert capabilities(known, half, "reader") == {Capability.CONNECT}
    assert [(item.role, item.reason) for item in Access(known, *half).dormant() if item.role == "reader"] == [
        ("reader", "it has no USAGE on their schemas: s")
    ]
    whole = database("reader=c/owner", "reader=U/owner", "reader=r/owner")
    assert capabilities(known, whole, "reader") == {Capability.CONNECT, Capability.READ}


def test_a_role_that_cannot_log_in_has_nothing_and_its_members_have_it_through_it() -> None:
    memberships = (Membership("team", "ann", "owner"),)
    known = server("ann", memberships=memberships, team=Role("team", can_login=False))
    inside = database("team=c/owner", "team=U/owner", "team=r/owner")
    assert capabilities(known, inside, "team") == set()
    rows = [row for row in build_rows(Access(known, *inside), NOBODY) if (row.role, row.capability) == ("ann", "read")]
    assert [row.path for row in rows] == ['member of "team" (granted by "owner"), SELECT granted by "owner"']
    assert rows[0].statement == 'REVOKE "team" FROM "ann" GRANTED BY "owner"'


def test_a_member_that_does_not_inherit_has_it_by_set_role() -> None:
    memberships = (Membership("team", "ann", "owner", inherit_option=False),)
    known = server("ann", memberships=memberships, team=Role("team", can_login=False))
    inside = database("ann=c/owner", "team=U/owner", "team=r/owner")
    [row] = [row for row in build_rows(Access(known, *inside), NOBODY) if (row.role, row.capability) == ("ann", "read")]
    assert row.path == 'SET ROLE "team" (granted by "owner"), SELECT granted by "owner"'


def test_what_pg_database_owner_holds_its_one_member_holds_and_is_told_once() -> None:
    memberships = (Membership("owner", "ann", "admin"),)
    public = AccessGroup(
        Thing.SCHEMA, "public", "pg_database_owner", parse_acl("{pg_database_owner=UC/pg_database_owner}")
    )
    inside, groups = database("owner=c/owner")
    last = 'as the database\'s owner in pg_database_owner, CREATE granted by "pg_database_owner"'

    def paths(known: RoleGraph, role: str) -> list[str]:
        rows = build_rows(Access(known, inside, (*groups, public)), NOBODY)
        return [row.path for row in rows if (row.role, row.capability) == (role, "create")]

    assert paths(server("ann", memberships=memberships), "owner") == [last]
    assert paths(server("ann", memberships=memberships), "ann") == [f'member of "owner" (granted by "admin"), {last}']
    roles = {"owner": Role("owner", inherits=False), "pg_database_owner": Role("pg_database_owner", can_login=False)}
    assert paths(RoleGraph(Server(15, "admin", "rdsadmin", roles, {})), "owner") == [
        'SET ROLE "pg_database_owner", CREATE granted by "pg_database_owner"'
    ]


def test_usage_and_select_have_to_meet_in_one_role() -> None:
    memberships = tuple(Membership(role, "ann", "owner", inherit_option=False) for role in ("x", "y"))
    known = server("ann", "x", "y", memberships=memberships)
    apart = database("ann=c/owner", "x=U/owner", "y=r/owner")
    assert Capability.READ not in capabilities(known, apart, "ann")


def test_the_right_to_pass_on_is_no_readers() -> None:
    declared = ownership_of(Entry("read", "d", "reader", AccessLevel.READER))
    inside = database("reader=c/owner", "reader=U/owner", "reader=r*/owner")
    [row] = [row for row in build_rows(Access(server("reader"), *inside), declared) if row.capability == "read"]
    assert (row.expected, row.path) == ("no", 'SELECT with grant option granted by "owner"')


def test_very_many_roles_that_come_by_public_alone_are_told_as_public() -> None:
    names = [f"r{number}" for number in range(MAX_OF_PUBLIC + 2)]
    inside = database("=c/owner", "r0=U/owner", "r0=r/owner")
    assert {row.role for row in build_rows(Access(server(*names), *inside), NOBODY)} == {"public", "r0", "owner"}
    assert len({row.role for row in build_rows(Access(server(*names[:-1]), *inside), NOBODY)}) == MAX_OF_PUBLIC + 3


def test_names_cannot_break_out_of_a_statement() -> None:
    odd = 'x"; DROP TABLE t; --'
    inside = database("reader=c/owner", "reader=U/owner", "reader=r/owner", names=(odd,))
    [row] = [row for row in build_rows(Access(server("reader"), *inside), NOBODY) if row.capability == "read"]
    assert row.statement == 'REVOKE SELECT ON TABLE "s"."x""; DROP TABLE t; --" FROM "reader"; -- as "owner"'
