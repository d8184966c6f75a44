"""Every statement that changes a server: changes in, SQL out. The one module that writes DDL; see `quoting`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.holdings import PassedOn
from provisioner.core.kinds import ObjectKind
from provisioner.core.marker import render_marker
from provisioner.core.quoting import Keywords, Literal, PasswordStatement, Quoted, Statement, statement, to_sql
from provisioner.core.state import PUBLIC, Marker

# Objects named in one statement: long enough to save round trips, short enough for the server's log.
OBJECTS_PER_STATEMENT = 500

# What is filled into these are names alone.
revoke_self = partial(statement, "REVOKE {} FROM CURRENT_USER")
open_database = partial(statement, "ALTER DATABASE {} ALLOW_CONNECTIONS true")
# Of a template whoever may create databases is given a copy.
unset_template = partial(statement, "ALTER DATABASE {} IS_TEMPLATE false")
# All that a role owns in the current database, and databases and tablespaces: only where it owns none.
reassign_owned = partial(statement, "REASSIGN OWNED BY {} TO {}")
# A membership, as from 16 on who granted it has to be named; refused where the member has passed it on.
revoke_granted = partial(statement, "REVOKE {} FROM {} GRANTED BY {}")
# Memberships go with the role; the server refuses where anything else still depends on it.
drop_role = partial(statement, "DROP ROLE {}")


# --- roles ----------------------------------------------------------------------------------------------------------


def create_role(change: Change) -> PasswordStatement:
    create = statement("CREATE ROLE {} LOGIN" + _attributes(change), change.username)
    return PasswordStatement(create, change.username)


def alter_role(change: Change) -> Statement:
    return statement("ALTER ROLE {}" + _attributes(change), change.username)


def _attributes(change: Change) -> str:
    """Only the attributes that differ: naming some others is refused to a non-superuser, even unchanged."""
    rights = {"CREATEDB": change.createdb, "CREATEROLE": change.createrole}
    text = "".join(f" {'' if may else 'NO'}{name}" for name, may in rights.items() if may is not None)
    return text if change.connection_limit is None else f"{text} CONNECTION LIMIT {change.connection_limit:d}"


def set_login(role: str, *, login: bool) -> Statement:
    return statement("ALTER ROLE {} {}", role, Keywords("LOGIN" if login else "NOLOGIN"))


def set_password(change: Change) -> PasswordStatement:
    return PasswordStatement(statement("ALTER ROLE {}", change.username), change.username)


def set_role_marker(role: str, marker: Marker) -> Statement:
    return statement("COMMENT ON ROLE {} IS {}", role, Literal(render_marker(marker)))


def grant_self(role: str, *, with_options: bool) -> Statement:
    """Make ourselves a member of a role, to act with its privileges; always given back by `revoke_self`."""
    options = " WITH INHERIT TRUE, SET TRUE" if with_options else ""
    return statement("GRANT {} TO CURRENT_USER" + options, role)


def as_member(roles: Iterable[str], texts: Iterable[Statement], *, with_options: bool) -> tuple[Statement, ...]:
    """Statements for which we are a member of roles, and no longer."""
    borrowed = tuple(roles)
    return (
        *(grant_self(role, with_options=with_options) for role in borrowed),
        *texts,
        *(revoke_self(role) for role in borrowed),
    )


# The statement of each kind of change that is said of a role by one; adopting a role is its marker and nothing more.
ROLE_STATEMENTS: dict[ChangeKind, Callable[[Change], Statement | PasswordStatement]] = {
    ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP: lambda change: revoke_self(change.username),
    ChangeKind.RESTORE_ROLE: lambda change: set_login(change.username, login=True),
    ChangeKind.CREATE_ROLE: create_role,
    ChangeKind.ALTER_ROLE: alter_role,
    ChangeKind.SET_PASSWORD: set_password,
    ChangeKind.REVOKE_MEMBERSHIP: lambda change: statement("REVOKE {} FROM {}", change.subject, change.username),
}


# --- databases ------------------------------------------------------------------------------------------------------


def create_database(change: Change) -> Statement:
    """From template0: copying template1 fails while anybody is connected to it.

    Closed to everybody, since PUBLIC may connect to what has just been created, and up to 14 create in it.
    """
    template = "CREATE DATABASE {} OWNER {} TEMPLATE template0 ALLOW_CONNECTIONS false"
    return statement(template, change.database, change.username)


def set_database_marker(name: str, marker: Marker) -> Statement:
    return statement("COMMENT ON DATABASE {} IS {}", name, Literal(render_marker(marker)))


def create_extension(change: Change) -> list[Statement]:
    """As the owner of the database, whom a trusted extension is to belong to, and in `public` where it has a choice.

    By the search path, since SCHEMA is refused for an extension that has a schema of its own (plperl, for one).
    """
    create = statement("CREATE EXTENSION IF NOT EXISTS {}", change.subject)
    search_path = Statement('SET LOCAL search_path TO "public"')
    return as_role(change.username, [search_path, create, Statement("RESET search_path")])


# --- grants ---------------------------------------------------------------------------------------------------------


def grant_or_revoke(
    changes: Sequence[Change], objects: Sequence[tuple[str, ...]] = (), *, act_as: str = ""
) -> list[Statement]:
    """Grants that differ in nothing but the grantee, as few statements.

    `objects` names the objects of the targets where the changes do not cover the schema: (name,) of a table or
    sequence, (table, column) of a column; without any there is nothing to say. `act_as` names the role to say it as,
    where that has to be settled: of several roles that may, the server picks one, and a REVOKE finds only what that one
    granted.
    """
    change = changes[0]
    grantees = _join(_grantee(item.username) for item in changes)
    return as_role(act_as, [_one_grant(change, what, grantees) for what in _granted(change, objects)])


def _one_grant(change: Change, what: Statement, grantees: Statement) -> Statement:
    revoke = change.kind in {ChangeKind.REVOKE, ChangeKind.REVOKE_DEFAULT}
    verb = ("REVOKE GRANT OPTION FOR" if change.grant_option else "REVOKE") if revoke else "GRANT"
    text = statement("{} {} {} {}", Keywords(verb), what, Keywords("FROM" if revoke else "TO"), grantees)
    if not change.target.creator:
        return text
    return statement("{} {}", _default_privileges(change.target.creator, change.target.schema), text)


def _default_privileges(creator: str, schema: str) -> Statement:
    prefix = statement("ALTER DEFAULT PRIVILEGES FOR ROLE {}", creator)
    return statement("{} IN SCHEMA {}", prefix, schema) if schema else prefix


def _granted(change: Change, objects: Sequence[tuple[str, ...]]) -> Iterable[Statement]:
    """The privileges and what they are on; those of a column are written `SELECT (column)`."""
    if change.target.kind is not ObjectKind.COLUMN:
        privileges = Keywords(", ".join(change.privileges))
        yield from (statement("{} ON {}", privileges, target) for target in _grant_targets(change, objects))
        return
    for table, column in objects:
        on_column = _join(_of_column(Keywords(name), column) for name in change.privileges)
        yield statement("{} ON {}.{}", on_column, change.target.schema, table)


def _grant_targets(change: Change, objects: Sequence[tuple[str, ...]]) -> Iterable[Statement]:
    kind, schema = change.target.kind, change.target.schema
    if change.target.creator:
        yield Keywords(kind.keyword + "S")
    elif kind is ObjectKind.DATABASE:
        yield statement("DATABASE {}", change.database)
    elif kind is ObjectKind.SCHEMA:
        yield statement("SCHEMA {}", schema)
    elif change.covers_schema:
        yield statement("ALL {} IN SCHEMA {}", Keywords(kind.keyword + "S"), schema)
    else:
        names = [statement("{}.{}", schema, name) for (name,) in objects]
        for chunk in _chunks(names):
            yield statement("{} {}", Keywords(kind.keyword), chunk)


def _chunks(names: Sequence[str]) -> Iterable[Statement]:
    """Names with commas between, as many together as one statement takes."""
    for start in range(0, len(names), OBJECTS_PER_STATEMENT):
        yield _join(names[start : start + OBJECTS_PER_STATEMENT])


def _join(items: Iterable[str]) -> Statement:
    return Statement(", ".join(map(to_sql, items)))


def _of_column(privilege: Keywords, column: str | None) -> Statement:
    return privilege if column is None else statement("{} ({})", privilege, column)


def _grantee(name: str) -> str:
    return Keywords("PUBLIC") if name == PUBLIC else name


def as_role(role: str, texts: Sequence[Statement]) -> list[Statement]:
    """Statements in the place of a role; as they are where there is none, or nothing to say."""
    if not role or not texts:
        return list(texts)
    return [statement("SET LOCAL ROLE {}", role), *texts, Statement("RESET ROLE")]


# --- roles that leave -----------------------------------------------------------------------------------------------


def set_owner(kind: str, name: str, owner: str) -> Statement:
    return statement("ALTER {} {} OWNER TO {}", Keywords(kind), name, owner)


def grant_database(privilege: str, database: str) -> Statement:
    """What we need ourselves on a database that we take or give away."""
    return statement("GRANT {} ON DATABASE {} TO CURRENT_USER", Keywords(privilege), database)


def grant_again(kind: str, name: str, passed_on: PassedOn, column: Quoted | None = None) -> Statement:
    """What a role has passed on, granted to whom has it by who granted it to the role."""
    what = _of_column(Keywords(passed_on.privilege), column)
    text = statement("GRANT {} ON {} {} TO {}", what, Keywords(kind), name, _grantee(passed_on.grantee))
    return statement("{} WITH GRANT OPTION", text) if passed_on.grantable else text


def revoke_from(
    kind: str,
    names: Sequence[str],
    grantee: str,
    *,
    act_as: str = "",
    column: Quoted | None = None,
    first: Sequence[Statement] = (),
) -> list[Statement]:
    """All that one grantee has on objects of one kind, or on a column of tables, and what it passed on.

    What is done `first` is done by the same grantor.
    """
    what = statement("{} ON {}", _of_column(Keywords("ALL"), column), Keywords(kind))
    texts = [statement("REVOKE {} {} FROM {} CASCADE", what, chunk, _grantee(grantee)) for chunk in _chunks(names)]
    return as_role(act_as, [*first, *texts])


def forget_defaults(creator: str, schema: str, letter: str, grantees: Iterable[str], role: str) -> list[Statement]:
    """A default privilege that no longer names a role; one that is its own is as the server has it, which is none."""
    prefix = _default_privileges(creator, schema)
    kind = ObjectKind.of_letter(letter)
    plural = Keywords(kind.keyword + "S")
    every = [role] if creator != role else [name for name in grantees if schema or name != creator]
    texts = [statement("{} REVOKE ALL ON {} FROM {}", prefix, plural, _grantee(name)) for name in every]
    if creator == role and not schema:
        # What the server has: all for the creator, and for everybody what is everybody's by default.
        texts.append(statement("{} GRANT ALL ON {} TO {}", prefix, plural, creator))
        if kind.public_by_default:
            texts.append(statement("{} GRANT ALL ON {} TO PUBLIC", prefix, plural))
    return texts
