"""What stands on a server: connections in, `Server` facts out; each catalog question beside what is made of its rows.

The shared catalogs are asked once, each database once, in one message that answers with one JSON document, whose size
follows the number of roles, schemas and distinct access control lists, not the number of tables.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from provisioner.core.ddl import Literal
from provisioner.core.errors import DatabaseUnavailable, Finding
from provisioner.core.marker import parse_marker
from provisioner.core.state import (
    AclItem,
    DatabaseFacts,
    Kind,
    Membership,
    ObjectGroup,
    OtherPrivilege,
    PasswordCheck,
    RoleFacts,
    Server,
    Target,
)
from provisioner.edges.postgres import Address, Connection, SqlError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from provisioner.core.credentials import Credentials

OLDEST_VERSION = 13
# A login that names a database that cannot exist is judged and refused before a session is built: cheap to the server.
PROBE_DATABASE = "rds-provisioner/probe"
# Beyond this many distinct access control lists a database is somebody's experiment; it is refused, not held in memory.
MOST_GROUPS = 20_000

Row = list[Any]


@dataclass(frozen=True, slots=True)
class Login:
    """The administrator's way in; `session` is the application_name of its sessions."""

    address: Address
    username: str
    password: str = field(repr=False)
    database: str
    session: str = "rds-provisioner"

    def connect(self, database: str = "") -> Connection:
        """A new connection; to the administrator's own database unless another is named."""
        return Connection(self.address, self.username, self.password, database or self.database, name=self.session)


def observe_server(connection: Connection, databases: Collection[str], *, with_extensions: bool = False) -> Server:
    """Read the shared catalogs: roles, memberships, and the named and the marked databases from outside.

    `with_extensions` asks for the extensions that this server could install too.

    Raises:
        DatabaseUnavailable: the server is a standby or too old.
        SqlError: the connection was lost.
    """
    found = _document(connection, _shared_question(databases, with_extensions=with_extensions))
    version = int(found["version"]) // 10_000
    if found["standby"]:
        raise DatabaseUnavailable(
            Finding("standby", "the server is a standby and cannot be written", "point DB_HOST at the writer")
        )
    if version < OLDEST_VERSION:
        raise DatabaseUnavailable(
            Finding("version", f"PostgreSQL {version} is older than {OLDEST_VERSION}", "upgrade the instance")
        )
    return Server(
        version=version,
        administrator=found["administrator"],
        bootstrap=found["bootstrap"],
        roles={row[0]: _role(row) for row in found["roles"]},
        databases={row[0]: _database(row) for row in found["databases"]},
        memberships=tuple(sorted(Membership(*row) for row in found["memberships"])),
        other_privileges=tuple(OtherPrivilege(*row) for row in found["other"]),
        available_extensions=dict(found["extensions"]),
    )


def observe_databases(
    login: Login,
    server: Server,
    databases: Iterable[str],
    workers: int,
    to_name: Callable[[DatabaseFacts], Sequence[Target]],
) -> Server:
    """Look into each named database that exists; one that cannot be looked into says so in `refusal`.

    `to_name` picks, of what was found in a database, the groups whose objects are to be known by name.
    """
    present = [server.databases[name] for name in databases if name in server.databases]
    with ThreadPoolExecutor(workers) as pool:
        looked_into = pool.map(partial(_look_into, login, to_name), present)
        return replace(server, databases={**server.databases, **{facts.name: facts for facts in looked_into}})


def observe_database(connection: Connection, facts: DatabaseFacts) -> DatabaseFacts:
    """Ask the connected database for everything that `facts` does not know from outside.

    Raises:
        SqlError: the statement failed or the connection was lost.
    """
    return add_contents(facts, _document(connection, INSIDE_QUESTION))


def add_contents(facts: DatabaseFacts, found: Mapping[str, Any]) -> DatabaseFacts:
    """Make facts of the document that `INSIDE_QUESTION` answers with."""
    itself = _database(found["database"])
    groups = (
        *itself.groups,
        *(_schema(row) for row in found["schemas"]),
        *(_objects(row) for row in found["objects"]),
        *(_defaults(row) for row in found["defaults"]),
    )
    if len(groups) > MOST_GROUPS:
        return replace(facts, refusal=f"its objects have more than {MOST_GROUPS} different access control lists")
    return replace(itself, groups=groups, extensions=frozenset(found["extensions"]))


def add_names(connection: Connection, facts: DatabaseFacts, targets: Sequence[Target]) -> DatabaseFacts:
    """Add the names behind groups of tables, sequences or columns, in order: (name,), or (table, column).

    Raises:
        SqlError: the statement failed or the connection was lost.
    """
    if not targets:
        return facts
    names: dict[Target, list[tuple[str, ...]]] = {target: [] for target in targets}
    questions = (_names_question(number, target) for number, target in enumerate(targets))
    for number, *name in connection.run(" UNION ALL ".join(questions) + " ORDER BY 1, 2, 3"):
        names[targets[number]].append(tuple(part for part in name if part))
    return replace(facts, names={target: tuple(found) for target, found in names.items()})


def observe_passwords(
    address: Address, server: Server, credentials: Mapping[str, Credentials], workers: int, *, iam_role: str = "rds_iam"
) -> Server:
    """Log in once as each role that exists and has a password here, and keep what the server said to it."""
    by_iam = {item.member for item in server.memberships if item.role == iam_role}
    asked = [item for name, item in sorted(credentials.items()) if name in server.roles and name not in by_iam]
    probe = partial(probe_login, address)
    with ThreadPoolExecutor(workers) as pool:
        checks = pool.map(lambda item: probe(item, server.roles[item.username]), asked)
        return replace(server, passwords={item.username: check for item, check in zip(asked, checks, strict=True)})


def probe_login(address: Address, credentials: Credentials, role: RoleFacts) -> PasswordCheck:
    """Whether a password is the role's: connecting is the question, and most refusals answer yes.

    A server judges the password first and everything else after it, so no such database, no CONNECT, a connection
    limit reached and NOLOGIN all mean that the password was right (PostgreSQL, InitPostgres).
    """
    try:
        Connection(address, credentials.username, credentials.password, PROBE_DATABASE).close()
    except SqlError as error:
        return _judge(error, role)
    except DatabaseUnavailable:
        return PasswordCheck.UNKNOWN
    return PasswordCheck.CURRENT


def _judge(error: SqlError, role: RoleFacts) -> PasswordCheck:
    # The same codes also mean "no matching line in pg_hba.conf" and "too many clients", which come before the
    # password is looked at; the routine that reports tells them apart.
    about_the_role = error.routine == "InitializeSessionUserId"
    if error.sqlstate in {"3D000", "42501"} or (error.sqlstate in {"28000", "53300"} and about_the_role):
        return PasswordCheck.CURRENT
    if error.sqlstate == "28P01":
        # An expired password is refused with the same code as a wrong one.
        return PasswordCheck.UNKNOWN if role.expired else PasswordCheck.DIFFERS
    return PasswordCheck.UNKNOWN


def _look_into(
    login: Login, to_name: Callable[[DatabaseFacts], Sequence[Target]], facts: DatabaseFacts
) -> DatabaseFacts:
    if facts.is_template or not facts.allows_connections:
        return facts
    try:
        with login.connect(facts.name) as connection:
            found = observe_database(connection, facts)
            return add_names(connection, found, to_name(found))
    except SqlError as error:
        if error.is_connection_lost:
            message = f'the server broke off while database "{facts.name}" was looked into: {error}'
            next_step = "check that the instance is available and has connections left; then run again"
            raise DatabaseUnavailable(Finding("connection_lost", message, next_step, database=facts.name)) from None
        return replace(facts, refusal=str(error))


def _document(connection: Connection, question: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(connection.run(question)[0][0])
    return document


# --- rows to facts --------------------------------------------------------------------------------------------------


def _role(row: Row) -> RoleFacts:
    # The row has the fields of `RoleFacts` in their order, but for the marker, which is read out of the comment.
    facts = RoleFacts(*row[:11])
    return replace(facts, marker=parse_marker(facts.comment), administrable=row[11], inherited=row[12])


def _database(row: Row) -> DatabaseFacts:
    name, owner, allows_connections, is_template, comment, acl = row
    return DatabaseFacts(
        name=name,
        owner=owner,
        allows_connections=allows_connections,
        is_template=is_template,
        comment=comment,
        marker=parse_marker(comment),
        groups=(ObjectGroup(Target(Kind.DATABASE, owner=owner), _items(acl)),),
    )


def _schema(row: Row) -> ObjectGroup:
    name, owner, extension, acl = row
    return ObjectGroup(Target(Kind.SCHEMA, schema=name, owner=owner, extension=extension), _items(acl))


def _objects(row: Row) -> ObjectGroup:
    schema, kind, owner, extension, acl_text, count, acl = row
    target = Target(Kind(kind), schema=schema, owner=owner, acl=acl_text, extension=extension)
    return ObjectGroup(target, _items(acl), count)


def _defaults(row: Row) -> ObjectGroup:
    creator, schema, kind, acl = row
    return ObjectGroup(Target(Kind(kind), schema=schema, owner=creator, creator=creator), _items(acl))


def _items(rows: Iterable[Row] | None) -> tuple[AclItem, ...]:
    return tuple(sorted(AclItem(*row) for row in rows or ()))


# --- the questions --------------------------------------------------------------------------------------------------


def _acl(expression: str) -> str:
    """An access control list as JSON: [grantor, grantee, privilege, grantable], grantee "public" for everybody."""
    return (
        "(SELECT json_agg(json_build_array(pg_get_userbyid(i.grantor), CASE i.grantee WHEN 0 THEN 'public' ELSE "
        f"pg_get_userbyid(i.grantee) END, i.privilege_type, i.is_grantable)) FROM aclexplode({expression}) AS i)"
    )


_DATABASE_ROW = f"""json_build_array(
            d.datname, pg_get_userbyid(d.datdba), d.datallowconn, d.datistemplate,
            coalesce(shobj_description(d.oid, 'pg_database'), ''),
            {_acl("coalesce(d.datacl, acldefault('d', d.datdba))")})"""


def _names(names: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(Literal(name).sql() for name in sorted(names)) + "]::text[]"


# Reads a directory of the server, so it is asked only where an extension is declared.
_AVAILABLE_EXTENSIONS = """(
        SELECT coalesce(json_agg(json_build_array(v.name, v.trusted)), '[]') FROM (
            SELECT name, bool_or(trusted OR NOT superuser) AS trusted FROM pg_available_extension_versions GROUP BY name
        ) AS v
    )"""


def _shared_question(databases: Collection[str], *, with_extensions: bool) -> str:
    # From 16 it takes ADMIN on a role to alter or grant it; before, CREATEROLE, but never over a superuser. The
    # administrator's own implicit row (ADMIN without INHERIT and SET, from 16) is no membership that matters.
    # Columns that older versions lack are read through to_jsonb.
    return f"""
WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user),
given AS (
    SELECT DISTINCT m.roleid FROM pg_auth_members AS m WHERE m.admin_option AND pg_has_role(m.member, 'MEMBER')
),
wanted AS (
    SELECT d.* FROM pg_database AS d
    WHERE d.datname = ANY ({_names(databases)})
       OR d.oid IN (SELECT objoid FROM pg_shdescription
                    WHERE classoid = 'pg_database'::regclass AND description LIKE '%rds-provisioner%')
)
SELECT json_build_object(
    'version', current_setting('server_version_num'),
    'standby', pg_is_in_recovery(),
    'administrator', current_user,
    'bootstrap', (SELECT rolname FROM pg_roles WHERE oid = 10),
    'roles', (
        SELECT json_agg(json_build_array(
            r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
            r.rolconnlimit,
            CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil::text ELSE '' END,
            coalesce(r.rolvaliduntil < now(), false), coalesce(c.description, ''),
            me.rolsuper OR (NOT r.rolsuper AND CASE
                WHEN current_setting('server_version_num')::int >= 160000
                THEN me.rolcreaterole AND given.roleid IS NOT NULL
                ELSE me.rolcreaterole OR given.roleid IS NOT NULL END),
            pg_has_role(r.oid, 'USAGE')))
        FROM me, pg_roles AS r
        LEFT JOIN pg_shdescription AS c ON c.classoid = 'pg_authid'::regclass AND c.objoid = r.oid
        LEFT JOIN given ON given.roleid = r.oid
    ),
    'memberships', (
        SELECT coalesce(json_agg(json_build_array(
            pg_get_userbyid(m.roleid), pg_get_userbyid(m.member), pg_get_userbyid(m.grantor), m.admin_option,
            coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true),
            coalesce((to_jsonb(m) ->> 'set_option')::bool, true))), '[]')
        FROM me, pg_auth_members AS m
        WHERE NOT (m.member = me.oid AND m.admin_option
                   AND NOT coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)
                   AND NOT coalesce((to_jsonb(m) ->> 'set_option')::bool, true))
    ),
    'databases', (
        SELECT coalesce(json_agg({_DATABASE_ROW}), '[]') FROM wanted AS d
    ),
    'extensions', {_AVAILABLE_EXTENSIONS if with_extensions else "'[]'::json"},
    'other', (
        SELECT coalesce(json_agg(json_build_array(o.datname, o.rolname, o.catalog, o.count)), '[]')
        FROM (
            SELECT d.datname, r.rolname, s.classid::regclass::text AS catalog, count(*) AS count
            FROM pg_shdepend AS s
            JOIN wanted AS d ON d.oid = s.dbid
            JOIN pg_roles AS r ON r.oid = s.refobjid
            WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a'
              AND s.classid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass, 'pg_default_acl'::regclass)
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ) AS o
    ))::text"""


# Objects of the system's schemas belong to no application. An object of an extension follows its extension.
_NOT_SYSTEM = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_IN_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = {}::regclass AND e.objid = {}.oid AND e.deptype = 'e')"
)
_CLASS_IN_EXTENSION = _IN_EXTENSION.format("'pg_class'", "c")
_TABLE_KINDS = "('r', 'p', 'v', 'm', 'f')"
_DEFAULT_ACL = "acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner)"

INSIDE_QUESTION = f"""
WITH relation_groups AS (
    SELECT c.relnamespace, CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, c.relowner,
           {_CLASS_IN_EXTENSION} AS extension, coalesce(c.relacl::text, '') AS acl,
           count(*) AS count, min(c.oid) AS sample
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE (c.relkind IN {_TABLE_KINDS} OR c.relkind = 'S') AND {_NOT_SYSTEM}
    GROUP BY 1, 2, 3, 4, 5 LIMIT {MOST_GROUPS + 1}
),
column_groups AS (
    SELECT c.relnamespace, c.relowner, {_CLASS_IN_EXTENSION} AS extension, a.attacl::text AS acl, count(*) AS count,
           min(a.attrelid::bigint * 65536 + a.attnum) AS sample
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {_NOT_SYSTEM}
    GROUP BY 1, 2, 3, 4 LIMIT {MOST_GROUPS + 1}
)
SELECT json_build_object(
    'database', (
        SELECT {_DATABASE_ROW} FROM pg_database AS d WHERE d.datname = current_database()
    ),
    'schemas', (
        SELECT coalesce(json_agg(json_build_array(n.nspname, pg_get_userbyid(n.nspowner),
            {_IN_EXTENSION.format("'pg_namespace'", "n")},
            {_acl("coalesce(n.nspacl, acldefault('n', n.nspowner))")}) ORDER BY n.nspname), '[]')
        FROM pg_namespace AS n WHERE {_NOT_SYSTEM}
    ),
    'objects', (
        SELECT coalesce(json_agg(o.document ORDER BY o.document::text), '[]') FROM (
            SELECT json_build_array(n.nspname, g.kind, pg_get_userbyid(g.relowner), g.extension, g.acl, g.count,
                {_acl(f"coalesce(c.relacl, {_DEFAULT_ACL})")}) AS document
            FROM relation_groups AS g JOIN pg_namespace AS n ON n.oid = g.relnamespace
            JOIN pg_class AS c ON c.oid = g.sample
            UNION ALL
            SELECT json_build_array(n.nspname, 'column', pg_get_userbyid(g.relowner), g.extension, g.acl, g.count,
                {_acl("a.attacl")})
            FROM column_groups AS g JOIN pg_namespace AS n ON n.oid = g.relnamespace
            JOIN pg_attribute AS a ON a.attrelid = (g.sample / 65536)::oid AND a.attnum = g.sample % 65536
        ) AS o
    ),
    'defaults', (
        SELECT coalesce(json_agg(json_build_array(pg_get_userbyid(d.defaclrole), coalesce(n.nspname, ''),
            CASE d.defaclobjtype WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' WHEN 'n' THEN 'schema'
                 WHEN 'f' THEN 'routine' WHEN 'T' THEN 'type' ELSE 'large object' END,
            {_acl("d.defaclacl")})), '[]')
        FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
    ),
    'extensions', (SELECT coalesce(json_agg(e.extname), '[]') FROM pg_extension AS e)
    )::text"""


def _names_question(number: int, target: Target) -> str:
    schema, owner, acl = Literal(target.schema).sql(), Literal(target.owner).sql(), Literal(target.acl).sql()
    place = (
        f"n.nspname = {schema} AND pg_get_userbyid(c.relowner) = {owner} "
        f"AND {_CLASS_IN_EXTENSION} = {str(target.extension).lower()}"
    )
    if target.kind is Kind.COLUMN:
        return (
            f"SELECT {number}, c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid "
            f"JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE {place} AND a.attacl::text = {acl}"
        )
    kinds = "('S')" if target.kind is Kind.SEQUENCE else _TABLE_KINDS
    return (
        f"SELECT {number}, c.relname, ''::name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        f"WHERE {place} AND c.relkind IN {kinds} AND coalesce(c.relacl::text, '') = {acl}"
    )
