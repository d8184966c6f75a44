"""What is observed is what the server itself says of each role and object, asked in another way."""

import itertools
from dataclasses import replace

import pytest

from provisioner.core.acl import parse_acl
from provisioner.core.credentials import Credentials
from provisioner.core.kinds import ObjectKind
from provisioner.core.state import PUBLIC, Grant, ObjectGroup, PasswordCheck
from provisioner.core.state import Server as Observed
from provisioner.edges.database_catalogs import read_database, read_object_names
from provisioner.edges.postgres import Login, ServerAddress, tls_context
from provisioner.edges.probe import probe_passwords
from provisioner.edges.server_catalogs import observe_server
from provisioner.edges.sqlstates import SqlError
from provisioner.observation import connection_finding
from stack.postgres import Server

ROLES = ("owner", "direct", "everybody_only", "passed", "member")
BEFORE = """
    CREATE ROLE owner LOGIN; CREATE ROLE direct LOGIN; CREATE ROLE everybody_only LOGIN; CREATE ROLE passed LOGIN;
    CREATE ROLE member LOGIN; CREATE ROLE holder; GRANT holder TO member;"""
INSIDE = """
    SET ROLE owner;
    CREATE TABLE untouched (id int); CREATE TABLE granted (id int, note text); CREATE SEQUENCE numbers;
    CREATE VIEW seen AS SELECT 1 AS id; CREATE SCHEMA app; CREATE TABLE app.things (id int);
    CREATE TABLE closed (id int); REVOKE ALL ON closed FROM owner;
    GRANT SELECT, INSERT ON granted TO direct WITH GRANT OPTION; GRANT UPDATE (note) ON granted TO direct;
    GRANT SELECT ON seen TO PUBLIC; GRANT USAGE ON SCHEMA app TO direct, holder; GRANT DELETE ON app.things TO holder;
    GRANT USAGE ON numbers TO direct; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO direct;
    ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT USAGE ON SEQUENCES TO direct;
    SET ROLE direct; GRANT SELECT ON granted TO passed; RESET ROLE;
    CREATE TABLE foreign_one (id int)"""
QUESTIONS = {
    ObjectKind.DATABASE: "SELECT has_database_privilege('{role}', '{name}', '{privilege}')",
    ObjectKind.SCHEMA: "SELECT has_schema_privilege('{role}', '{name}', '{privilege}')",
    ObjectKind.TABLE: "SELECT has_table_privilege('{role}', '{name}', '{privilege}')",
    ObjectKind.SEQUENCE: "SELECT has_sequence_privilege('{role}', '{name}', '{privilege}')",
}
OBJECTS = {
    ObjectKind.DATABASE: (["shop"], ["CONNECT", "TEMPORARY", "CREATE"]),
    ObjectKind.SCHEMA: (["public", "app"], ["USAGE", "CREATE"]),
    ObjectKind.TABLE: (
        ["public.untouched", "public.granted", "public.seen", "public.closed", "app.things", "public.foreign_one"],
        ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
    ),
    ObjectKind.SEQUENCE: (["public.numbers"], ["USAGE", "SELECT", "UPDATE"]),
}


def login_of(server: Server) -> Login:
    return Login(ServerAddress(server.host, server.port, tls_context(str(server.ca_file))), *server.master, "postgres")


def observe(server: Server) -> Observed:
    login = login_of(server)
    with login.connect() as connection:
        found = observe_server(connection, ["shop"])
    with login.connect("shop") as connection:
        database = read_database(connection, found.databases["shop"])
        named = [each.target for each in database.groups if each.target.acl]
        return replace(found, databases={"shop": read_object_names(connection, database, named)})


@pytest.fixture
def prepared(pg_server: Server) -> Server:
    pg_server.run_as_superuser(BEFORE)
    pg_server.run_as_superuser("CREATE DATABASE shop OWNER owner TEMPLATE template0")
    pg_server.run_as_superuser("GRANT CREATE ON DATABASE shop TO direct; REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC")
    pg_server.run_as_superuser("GRANT CREATE, USAGE ON SCHEMA public TO owner", "shop")
    pg_server.run_as_superuser(INSIDE, "shop")
    return pg_server


def answer(server: Server, observed: Observed, kind: ObjectKind, name: str, role: str, privilege: str) -> bool:
    """Whether the role has the privilege, by the grants that were observed."""
    roles = {role, PUBLIC} | {item.role for item in observed.memberships if item.member == role}
    if server.version >= 14 and role == "owner":
        roles.add("pg_database_owner")
    groups = [group for group in observed.databases["shop"].groups if group_of(group, observed, kind, name)]
    assert len(groups) == 1, (kind, name, groups)
    return any(grant.grantee in roles and grant.privilege == privilege for group in groups for grant in group.items)


def group_of(group: ObjectGroup, observed: Observed, kind: ObjectKind, name: str) -> bool:
    """Whether the group is the one that holds the object; those with an ACL of their own are known by name."""
    target = group.target
    if target.kind is not kind or target.creator:
        return False
    if kind is ObjectKind.DATABASE:
        return True
    if kind is ObjectKind.SCHEMA:
        return target.schema == name
    schema, _, relation = name.partition(".")
    if target.schema != schema:
        return False
    known = {each for names in observed.databases["shop"].names.values() for *_, each in names}
    if relation in known:
        return (relation,) in observed.databases["shop"].names.get(target, ())
    return not target.acl and target.owner == ("owner" if relation != "foreign_one" else observed.bootstrap)


def test_every_privilege_of_every_role_is_seen_as_the_server_sees_it(prepared: Server) -> None:
    observed = observe(prepared)
    wrong = []
    for kind, (names, privileges) in OBJECTS.items():
        cases = list(itertools.product(ROLES, names, privileges))
        query = " UNION ALL ".join(
            f"({QUESTIONS[kind].format(role=role, name=name, privilege=privilege)})" for role, name, privilege in cases
        )
        truth = [row[0] for row in prepared.run_as_superuser(query, "shop")]
        said = [answer(prepared, observed, kind, name, role, privilege) for role, name, privilege in cases]
        wrong += [case for case, one, other in zip(cases, truth, said, strict=True) if one is not other]
    assert wrong == []


STRANGE = ("two words", "a=r/b", 'quo"ted', "back\\slash", "a,b}", "Jörg", "7", "=", "PUBLIC")


def test_access_control_lists_are_read_as_the_server_takes_them_apart(prepared: Server) -> None:
    roles = ['"' + name.replace('"', '""') + '"' for name in STRANGE]
    prepared.run_as_superuser("; ".join(f"CREATE ROLE {role}" for role in roles))
    maintain = ", MAINTAIN" if prepared.version >= 17 else ""
    everybody = ", ".join(roles)
    prepared.run_as_superuser(
        f"GRANT ALL ON untouched TO {everybody};"
        f"GRANT SELECT, INSERT{maintain} ON seen TO {roles[0]} WITH GRANT OPTION;"
        f"SET ROLE {roles[0]}; GRANT SELECT ON seen TO {everybody}, PUBLIC; RESET ROLE;"
        f"GRANT UPDATE (id) ON untouched TO {everybody}; GRANT ALL ON SEQUENCE numbers TO {everybody};"
        f"GRANT ALL ON SCHEMA app TO {everybody}; GRANT ALL ON DATABASE shop TO {everybody};"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON TYPES TO {everybody};"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON ROUTINES TO {everybody};",
        "shop",
    )
    lists = " UNION ALL ".join(
        f"SELECT {column} FROM {catalog} WHERE {column} IS NOT NULL"
        for catalog, column in {
            "pg_class": "relacl",
            "pg_attribute": "attacl",
            "pg_namespace": "nspacl",
            "pg_database": "datacl",
            "pg_default_acl": "defaclacl",
            "pg_proc": "proacl",
        }.items()
    )
    rows = prepared.run_as_superuser(
        f"""SELECT l::text, (SELECT coalesce(json_agg(json_build_array(pg_get_userbyid(i.grantor), CASE i.grantee
            WHEN 0 THEN 'public' ELSE pg_get_userbyid(i.grantee) END, i.privilege_type, i.is_grantable)), '[]')
            FROM aclexplode(l) AS i) FROM ({lists}) AS a (l)""",
        "shop",
    )
    assert len(rows) > 50
    for text, items in rows:
        assert parse_acl(text) == tuple(
            sorted(Grant(*item[:3], option) for item in items for option in {False, item[3]})
        ), text
    assert {item.grantee for text, _ in rows for item in parse_acl(text)} >= {*STRANGE, PUBLIC}


def found_in(observed: Observed, kind: ObjectKind) -> set[tuple[str, str, str, str, bool]]:
    groups = [group for group in observed.databases["shop"].groups if group.target.kind is kind]
    return {
        (group.target.creator, group.target.schema, grant.grantee, grant.privilege, grant.grant_option)
        for group in groups
        for grant in group.items
    }


def test_columns_and_default_privileges_and_who_passed_on_are_seen(prepared: Server) -> None:
    observed = observe(prepared)
    assert found_in(observed, ObjectKind.COLUMN) == {("", "public", "direct", "UPDATE", False)}
    defaults = {each for each in found_in(observed, ObjectKind.TABLE) if each[0]}
    assert ("owner", "", "direct", "SELECT", False) in defaults
    assert ("owner", "app", "direct", "USAGE", False) in found_in(observed, ObjectKind.SEQUENCE)
    grants = [grant for group in observed.databases["shop"].groups for grant in group.items]
    assert [grant.grantor for grant in grants if grant.grantee == "passed"] == ["direct"]


def test_tables_that_are_alike_are_one_group(prepared: Server) -> None:
    before = len(observe(prepared).databases["shop"].groups)
    prepared.run_as_superuser(
        "SET ROLE owner; DO $$ BEGIN"
        " FOR n IN 1..300 LOOP EXECUTE format('CREATE TABLE app.t%s (id int)', n); END LOOP; END $$",
        "shop",
    )
    # Those with the default privileges of `owner` are of one kind; `app.things` is another.
    assert len(observe(prepared).databases["shop"].groups) <= before + 1


def test_attributes_marks_and_what_the_administrator_may_are_seen(prepared: Server) -> None:
    prepared.run_as_superuser(
        "ALTER ROLE direct NOLOGIN CREATEDB CONNECTION LIMIT 4 VALID UNTIL '2001-01-01 00:00+00';"
        """COMMENT ON ROLE direct IS '{"managed_by": "rds-provisioner", "environment": "dev"}'"""
    )
    role = observe(prepared).roles["direct"]
    assert (role.can_login, role.createdb, role.connection_limit, role.expired) == (False, True, 4, True)
    assert role.valid_until == "2001-01-01 00:00:00+00"
    assert role.marker.environment == "dev"
    assert role.has_admin_option is (prepared.version < 16)
    assert not role.administrator_inherits


@pytest.mark.parametrize("options", ["INHERIT FALSE, SET TRUE", "INHERIT TRUE, SET FALSE", "INHERIT TRUE, SET TRUE"])
def test_from_16_on_a_role_is_inherited_only_where_its_place_can_be_taken_too(
    latest_server: Server, options: str
) -> None:
    latest_server.run_as_superuser(f"CREATE ROLE other; GRANT other TO {latest_server.master.username} WITH {options}")
    latest_server.run_as_superuser("CREATE DATABASE shop")
    assert observe(latest_server).roles["other"].administrator_inherits is (options == "INHERIT TRUE, SET TRUE")


def test_a_role_of_iam_is_not_asked_for_its_password(latest_server: Server) -> None:
    latest_server.run_as_superuser(
        "CREATE ROLE token LOGIN; CREATE ROLE users; GRANT rds_iam TO users; GRANT users TO token"
    )
    latest_server.run_as_superuser("CREATE DATABASE shop")
    mark = latest_server.mark()
    observed = probe_passwords(
        login_of(latest_server).address, observe(latest_server), {"token": Credentials("token", "any")}, {}, 1
    )
    assert observed.passwords.get("token", PasswordCheck.NOT_CHECKED) is PasswordCheck.NOT_CHECKED
    assert 'user "token"' not in latest_server.log_text(mark)


@pytest.mark.parametrize(
    ("sqlstate", "code"),
    [
        ("28P01", "administrator_refused"),
        ("3D000", "administrator_refused"),
        ("42501", "administrator_refused"),
        ("53200", "server_unavailable"),
        ("53100", "server_unavailable"),
        ("54000", "server_unavailable"),
        ("XX001", "server_unavailable"),
    ],
)
def test_only_what_speaks_of_a_login_or_a_right_sends_people_to_the_secret(
    latest_server: Server, sqlstate: str, code: str
) -> None:
    finding = connection_finding(login_of(latest_server), SqlError(sqlstate, "refused"))
    assert (finding.code, "secret" in finding.next_step) == (code, code == "administrator_refused")
