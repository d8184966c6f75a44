"""What stands on a server: connections in, `Server` facts out; each catalog query beside what is made of its rows.

The shared catalogs are asked once, each database once, each in one message, whose answer follows the number of roles,
schemas and distinct access control lists in size, not the number of tables.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from provisioner.core import difference
from provisioner.core.acl import parse_acl
from provisioner.core.database_script import needs_object_names
from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime
from provisioner.core.marker import MAX_COMMENT_CHARACTERS, MAX_ROLE_COMMENT_CHARACTERS, parse_marker
from provisioner.core.quoting import Literal
from provisioner.core.state import (
    Database,
    DefinerRoutines,
    Membership,
    ObjectGroup,
    ObjectKind,
    Role,
    Server,
    Target,
    UnmanagedPrivilege,
)
from provisioner.edges.postgres import Connection, ServerAddress
from provisioner.edges.sqlstates import SqlError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from provisioner.core.difference import Difference
    from provisioner.core.ownership import Ownership
    from provisioner.core.quoting import Statement

OLDEST_VERSION = 13
# Beyond this many distinct access control lists a database is somebody's experiment; it is refused, not held in memory.
MAX_GROUPS = 20_000
# The same for the length of all its lists together, and of that of one database seen from outside; and for how many
# objects would have to be changed one by one.
MAX_ACL_CHARACTERS, MAX_DATABASE_ACL_CHARACTERS, MAX_NAMES = 32_000_000, 500_000, 100_000
# A session reads all that is stored for its database and its role, and a hundred megabytes cost it five hundred. They
# are stored compressed, to one part in a hundred or so, and need not be unpacked to see that they are too long.
MAX_SETTINGS_BYTES = 100_000

Row = list[Any]


@dataclass(frozen=True, slots=True)
class Login:
    """The administrator's way in; `session` is the application_name of its sessions, `version` the server's."""

    address: ServerAddress
    username: str
    password: str = field(repr=False)
    database: str
    session: str = "rds-provisioner"
    version: int = 0

    def connect(self, database: str = "") -> Connection:
        """A new connection; to the administrator's own database unless another is named."""
        where = database or self.database
        return Connection(self.address, self.username, self.password, where, name=self.session, version=self.version)

    def can_connect(self) -> bool:
        """Whether the administrator gets into its own database."""
        try:
            self.connect().close()
        except (SqlError, DatabaseUnavailable):
            return False
        return True


def observe_server(connection: Connection, databases: Collection[str], *, with_extensions: bool = False) -> Server:
    """Read the shared catalogs: roles, memberships, and the named and the marked databases from outside.

    `with_extensions` asks for the extensions that this server could install too.

    Raises:
        DatabaseUnavailable: the server is a standby or too old.
        SqlError: the connection was lost.
    """
    found = json.loads(connection.run(_server_query(databases, with_extensions=with_extensions))[0][0])
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
        other_privileges=tuple(UnmanagedPrivilege(*row) for row in found["other"]),
        available_extensions=dict(found["extensions"]),
        available_connections=found["available_connections"],
        system_identifier=found["system_identifier"],
    )


def observe_databases(login: Login, ownership: Ownership, workers: int) -> list[Difference]:
    """Look into each declared database that exists, and say at once what is to be done to it.

    One that cannot be looked into says so in `unreadable_reason`. Where single objects are to be changed, their
    names are read.
    """
    present = [
        ownership.server.databases[name] for name in sorted(ownership.by_database & ownership.server.databases.keys())
    ]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(partial(_inspect_database, login, ownership), present))


def read_database(
    connection: Connection, facts: Database, *before: Statement | str, with_extensions: bool = False
) -> Database:
    """Ask the connected database for everything that `facts` does not know from outside.

    Statements that are to run first go into the same message. Without `with_extensions`, those installed stay unknown.

    Raises:
        SqlError: a statement failed or the connection was lost.
    """
    found = [GroupRow(*row) for row in connection.run(*before, _database_query(with_extensions=with_extensions))]
    if len(found) > MAX_GROUPS:
        return replace(
            facts, unreadable_reason=f"its objects have more than {MAX_GROUPS} different access control lists"
        )
    if sum(len(each.list_in_force) for each in found) > MAX_ACL_CHARACTERS:
        return replace(
            facts, unreadable_reason=f"its access control lists are longer than {MAX_ACL_CHARACTERS} characters"
        )
    extensions = frozenset(each.name for each in found if each.letter == _EXTENSION)
    named = {each.schema: each.name for each in found if each.letter == "n" and not each.is_default}
    schemas = {_NO_SCHEMA: "", **named}
    # What stands in a schema of the system, or of a session, belongs to no application.
    ours = [each for each in found if each.letter != _EXTENSION and each.schema in schemas]
    try:
        groups = tuple(_group(each, schemas[each.schema]) for each in ours if each.letter != _DEFINER)
        definers = tuple(_definers(each, schemas[each.schema]) for each in ours if each.letter == _DEFINER)
    except ValueError as error:
        return replace(facts, unreadable_reason=str(error))
    return replace(facts, groups=groups, extensions=extensions, definers=definers)


def read_object_names(connection: Connection, facts: Database, targets: Sequence[Target]) -> Database:
    """Add the names behind groups of tables, sequences or columns, in order: (name,), or (table, column).

    Raises:
        SqlError: the statement failed or the connection was lost.
    """
    if not targets:
        return facts
    names: dict[Target, list[tuple[str, ...]]] = {target: [] for target in targets}
    rows = connection.run(_names_query(targets))
    if len(rows) > MAX_NAMES:
        return replace(
            facts, unreadable_reason=f"more than {MAX_NAMES} of its objects would have to be changed one by one"
        )
    for number, *name in rows:
        names[targets[number]].append(tuple(part for part in name if part))
    return replace(facts, names={target: tuple(found) for target, found in names.items()})


def _inspect_database(login: Login, ownership: Ownership, facts: Database) -> Difference:
    if facts.is_template or not facts.allows_connections or facts.invalid or facts.unreadable_reason:
        return difference.of_closed(facts, ownership)
    try:
        with login.connect(facts.name) as connection:
            found = read_database(connection, facts, with_extensions=ownership.declaration.has_extensions)
            result = difference.of(found, ownership)
            found = read_object_names(connection, found, needs_object_names(result.changes))
            return replace(result, database=found)
    except OutOfTime:
        raise
    except (SqlError, DatabaseUnavailable) as error:
        # The owner of a database can have its sessions ended; that is no reason to leave the others alone.
        if (isinstance(error, DatabaseUnavailable) or error.is_connection_lost) and not login.can_connect():
            message = f'the server broke off while database "{facts.name}" was looked into: {error}'
            next_step = "check that the instance is available and has connections left; then run again"
            raise DatabaseUnavailable(Finding("connection_lost", message, next_step, database=facts.name)) from None
        return difference.of(replace(facts, unreadable_reason=str(error)), ownership)
    except Exception as error:  # noqa: BLE001 - whatever one database's rows make us stumble over is about that one
        unreadable_reason = f"what stands in it cannot be read ({type(error).__name__})"
        return difference.of(replace(facts, unreadable_reason=unreadable_reason), ownership)


# --- rows to facts --------------------------------------------------------------------------------------------------

# The letters of `acldefault` and of `pg_default_acl`, which differ in that of sequences.
_KINDS = {
    "d": ObjectKind.DATABASE,
    "n": ObjectKind.SCHEMA,
    "r": ObjectKind.TABLE,
    "s": ObjectKind.SEQUENCE,
    "S": ObjectKind.SEQUENCE,
    "c": ObjectKind.COLUMN,
    "f": ObjectKind.ROUTINE,
    "T": ObjectKind.TYPE,
    "L": ObjectKind.LARGE_OBJECT,
}
_LETTERS = {ObjectKind.TABLE: "r", ObjectKind.SEQUENCE: "s", ObjectKind.COLUMN: "c"}
_KINDS_IN_GROUPS = {ObjectKind.TABLE, ObjectKind.SEQUENCE, ObjectKind.COLUMN}
# Beside those letters, the rows of what is installed.
_EXTENSION = "e"
_DEFINER = "F"
_NO_SCHEMA = 0
# `datconnlimit` of a database whose DROP DATABASE was interrupted.
_INVALID_DATABASE = -2


def _role(row: Row) -> Role:
    # The row has the fields of `Role` in their order, but for the marker, which is read out of the comment.
    facts = Role(*row[:11])
    has_admin_option, administrator_inherits, inherits, has_large_settings = row[11:]
    marker = parse_marker(facts.comment)
    return replace(
        facts,
        marker=marker,
        has_admin_option=has_admin_option,
        administrator_inherits=administrator_inherits,
        inherits=inherits,
        has_large_settings=has_large_settings,
    )


def _database(row: Row) -> Database:
    name, owner, allows_connections, is_template, comment, acl, limit, has_large_settings = row
    facts = Database(
        name=name,
        owner=owner,
        allows_connections=allows_connections,
        is_template=is_template,
        # What was cut is no marker, and nothing that an adoption could keep.
        comment=comment[:MAX_COMMENT_CHARACTERS],
        marker=parse_marker(comment) if len(comment) <= MAX_COMMENT_CHARACTERS else None,
        invalid=limit == _INVALID_DATABASE,
    )
    if len(acl) > MAX_DATABASE_ACL_CHARACTERS:
        return replace(
            facts, unreadable_reason=f"its access control list is longer than {MAX_DATABASE_ACL_CHARACTERS} characters"
        )
    if has_large_settings:
        return replace(
            facts, unreadable_reason=f"its own settings take more than {MAX_SETTINGS_BYTES} bytes: ALTER DATABASE RESET"
        )
    try:
        groups = (ObjectGroup(Target(ObjectKind.DATABASE, owner=owner), parse_acl(acl)),)
    except ValueError as error:
        return replace(facts, unreadable_reason=str(error))
    return replace(facts, groups=groups)


class GroupRow(NamedTuple):
    """A row of what stands in a database, its columns in the order of `_database_query`.

    `schema` is the id of one, and `name` what that one is called, or an extension; `acl` is None where it is the
    default, which then stands in `default`. `is_default` marks a default privilege, not an object.
    """

    letter: str
    schema: int
    name: str
    owner: str
    extension: bool
    acl: str | None
    default: str
    is_default: bool
    number: int

    @property
    def list_in_force(self) -> str:
        """The access control list, or what holds where there is none."""
        return (self.default if self.acl is None else self.acl) or ""


def _group(found: GroupRow, schema: str) -> ObjectGroup:
    kind = _KINDS[found.letter]
    target = Target(
        kind,
        schema=schema,
        owner=found.owner,
        acl=found.acl or "" if kind in _KINDS_IN_GROUPS and not found.is_default else "",
        extension=found.extension,
        creator=found.owner if found.is_default else "",
    )
    return ObjectGroup(target, parse_acl(found.list_in_force), found.number)


def _definers(found: GroupRow, schema: str) -> DefinerRoutines:
    items = parse_acl(found.list_in_force)
    return DefinerRoutines(schema, found.owner, items, example=found.name, object_count=found.number)


# --- the queries --------------------------------------------------------------------------------------------------

# An owner may write hundreds of megabytes on its database: what is too long for a marker is not fetched, only cut.
_DATABASE_ROW = f"""json_build_array(
            d.datname, pg_get_userbyid(d.datdba), d.datallowconn, d.datistemplate,
            coalesce(left(shobj_description(d.oid, 'pg_database'), {MAX_COMMENT_CHARACTERS + 1}), ''),
            CASE WHEN d.is_named
                 THEN left(coalesce(d.datacl, acldefault('d', d.datdba))::text, {MAX_DATABASE_ACL_CHARACTERS + 1})
                 ELSE '' END,
            d.datconnlimit,
            EXISTS (SELECT FROM large_settings AS s WHERE s.setdatabase = d.oid AND s.setrole = 0))"""


def _names(names: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(Literal(name).sql() for name in sorted(names)) + "]::text[]"


# Reads a directory of the server, so it is asked only where an extension is declared.
_AVAILABLE_EXTENSIONS = """(
        SELECT coalesce(json_agg(json_build_array(v.name, v.trusted)), '[]') FROM (
            SELECT name, bool_or(trusted OR NOT superuser) AS trusted FROM pg_available_extension_versions GROUP BY name
        ) AS v
    )"""


def _server_query(databases: Collection[str], *, with_extensions: bool) -> str:
    # From 16 it takes ADMIN on a role to alter or grant it; before, CREATEROLE, but never over a superuser. To act with
    # a role's privileges takes INHERIT, and to act in its place, as some statements must, SET (from 16). The
    # administrator's own implicit row (ADMIN without INHERIT and SET, from 16) is no membership that matters.
    # Columns that older versions lack are read through to_jsonb.
    return f"""
WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user),
given AS (
    SELECT DISTINCT m.roleid FROM pg_auth_members AS m WHERE m.admin_option AND pg_has_role(m.member, 'MEMBER')
),
large_settings AS (
    SELECT setdatabase, setrole FROM pg_db_role_setting WHERE pg_column_size(setconfig) > {MAX_SETTINGS_BYTES}
),
wanted AS (
    SELECT d.*, d.datname = ANY ({_names(databases)}) AS is_named FROM pg_database AS d
    WHERE d.datname = ANY ({_names(databases)})
       OR d.oid IN (SELECT objoid FROM pg_shdescription
                    WHERE classoid = 'pg_database'::regclass
                      AND left(description, {MAX_COMMENT_CHARACTERS}) LIKE '%rds-provisioner%')
)
SELECT json_build_object(
    'version', current_setting('server_version_num'),
    'standby', pg_is_in_recovery(),
    'administrator', current_user,
    'bootstrap', (SELECT rolname FROM pg_roles WHERE oid = 10),
    'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
    'available_connections', (
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0)
               - count(*) FILTER (WHERE datid IS NOT NULL) FROM pg_stat_get_activity(NULL)
    ),
    'roles', (
        SELECT json_agg(json_build_array(
            r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
            r.rolconnlimit,
            CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil::text ELSE '' END,
            coalesce(r.rolvaliduntil < now(), false), coalesce(left(c.description, {MAX_ROLE_COMMENT_CHARACTERS}), ''),
            me.rolsuper OR (NOT r.rolsuper AND CASE
                WHEN current_setting('server_version_num')::int >= 160000
                THEN me.rolcreaterole AND given.roleid IS NOT NULL
                ELSE me.rolcreaterole OR given.roleid IS NOT NULL END),
            pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid, CASE
                WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END),
            r.rolinherit, r.oid IN (SELECT setrole FROM large_settings)))
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
              AND s.classid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass, 'pg_default_acl'::regclass,
                                    'pg_largeobject'::regclass)
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ) AS o
    ))::text"""


# Objects of the system's schemas belong to no application. An object of an extension follows its extension.
_NOT_SYSTEM = "left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'"
_IN_EXTENSION = (
    "EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = {}::regclass AND e.objid = {}.oid AND e.deptype = 'e')"
)
_CLASS_IN_EXTENSION = _IN_EXTENSION.format("'pg_class'", "c")
_TABLE_KINDS = "('r', 'p', 'v', 'm', 'f')"
# Object ids below this are initdb's (FirstNormalObjectId): by it the catalogs' own relations are passed over unread.
_FIRST_OBJECT = 16384


def _database_query(*, with_extensions: bool) -> str:
    """What stands in a database, a row for each group: see `GroupRow` for the columns.

    Each database has a session of its own, so this is parsed and planned every time, by a server that has not yet read
    the catalogs it names: every join, function and further catalog costs more than all the rows do. So schemas are
    matched and access control lists taken apart here, and extensions are asked for only where one is declared.
    """
    kind = """CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END"""
    extensions = """
    UNION ALL
    SELECT 'e', 0, e.extname, '', true, '', '', false, 1 FROM pg_extension AS e"""
    parts = f"""
    SELECT 'd'::"char", 0::oid, ''::text, pg_get_userbyid(d.datdba), false, {_acl("d.datacl", "'d'", "d.datdba")},
           false, 1::bigint
    FROM pg_database AS d WHERE d.datname = current_database()
    UNION ALL
    SELECT 'n', n.oid, n.nspname, pg_get_userbyid(n.nspowner), {_IN_EXTENSION.format("'pg_namespace'", "n")},
           {_acl("n.nspacl", "'n'", "n.nspowner")}, false, 1
    FROM pg_namespace AS n WHERE {_NOT_SYSTEM}
    UNION ALL
    (SELECT {kind}, c.relnamespace, '', pg_get_userbyid(c.relowner), {_CLASS_IN_EXTENSION},
            {_acl("c.relacl", kind, "c.relowner")}, false, count(*)
     FROM pg_class AS c WHERE c.oid >= {_FIRST_OBJECT} AND (c.relkind IN {_TABLE_KINDS} OR c.relkind = 'S')
     GROUP BY 1, 2, 4, 5, 6, 7 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'c', c.relnamespace, '', pg_get_userbyid(c.relowner), {_CLASS_IN_EXTENSION}, a.attacl::text, '', false,
            count(*)
     FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
     WHERE a.attrelid >= {_FIRST_OBJECT} AND a.attacl IS NOT NULL AND NOT a.attisdropped
     GROUP BY 2, 4, 5, 6 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'F', p.pronamespace, min(p.proname::text), pg_get_userbyid(p.proowner), false,
            {_acl("p.proacl", "'f'", "p.proowner")}, false, count(*)
     FROM pg_proc AS p WHERE p.oid >= {_FIRST_OBJECT} AND p.prosecdef
     GROUP BY 2, 4, 6, 7 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    (SELECT 'L', 0, '', pg_get_userbyid(l.lomowner), false, {_acl("l.lomacl", "'L'", "l.lomowner")}, false, count(*)
     FROM pg_largeobject_metadata AS l GROUP BY 4, 6, 7 LIMIT {MAX_GROUPS + 1})
    UNION ALL
    SELECT d.defaclobjtype, d.defaclnamespace, '', pg_get_userbyid(d.defaclrole), false, d.defaclacl::text, '', true, 1
    FROM pg_default_acl AS d{extensions if with_extensions else ""}"""
    # What is told stops with the row that makes it too much; the server holds one row at a time.
    return f"""
    SELECT letter, schema, name, owner, extension, acl, initial, is_default, number
    FROM (SELECT part.*, sum(length(coalesce(acl, initial))) OVER (ROWS UNBOUNDED PRECEDING) AS total
          FROM ({parts}) AS part(letter, schema, name, owner, extension, acl, initial, is_default, number)) AS told
    WHERE total - length(coalesce(acl, initial)) <= {MAX_ACL_CHARACTERS} LIMIT {MAX_GROUPS + 1}"""


def _acl(acl: str, kind: str, owner: str) -> str:
    """Two columns: an access control list as text, and where it is NULL, what holds then."""
    return f"{acl}::text, CASE WHEN {acl} IS NULL THEN acldefault({kind}, {owner})::text END"


def _names_query(targets: Sequence[Target]) -> str:
    """The names behind groups, by the position of each group: one scan, joined with the groups by hash.

    A join rather than a part for each group, of which 2,500 cost the server 800 MB.
    """
    columns = (
        ("text", [_LETTERS[target.kind] for target in targets]),
        ("text", [target.schema for target in targets]),
        ("text", [target.owner for target in targets]),
        ("text", [target.acl for target in targets]),
        ("bool", [str(target.extension).lower() for target in targets]),
    )
    arrays = ", ".join(
        f"ARRAY[{', '.join(Literal(value).sql() for value in values)}]::{kind}[]" for kind, values in columns
    )
    group = f"unnest({arrays}) WITH ORDINALITY AS w(letter, schema, owner, acl, extension, number)"
    matches = (
        f"w.schema = n.nspname::text AND w.owner = pg_get_userbyid(c.relowner)::text "
        f"AND w.extension = {_CLASS_IN_EXTENSION}"
    )
    relations = "pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    return f"""
    SELECT (w.number - 1)::int, c.relname, ''::name
    FROM {relations} JOIN {group} ON {matches} AND w.acl = coalesce(c.relacl::text, '')
         AND w.letter = CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END
    WHERE c.oid >= {_FIRST_OBJECT} AND (c.relkind IN {_TABLE_KINDS} OR c.relkind = 'S')
    UNION ALL
    SELECT (w.number - 1)::int, c.relname, a.attname
    FROM {relations} JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    JOIN {group} ON {matches} AND w.letter = 'c' AND w.acl = a.attacl::text
    WHERE c.oid >= {_FIRST_OBJECT}
    ORDER BY 1, 2, 3 LIMIT {MAX_NAMES + 1}"""
