"""The way to a server, or a session there, in; the line of a check out. What writes is rolled back.

Every query here is asked once, by hand or before a deployment, so none of it is tuned.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from dataclasses import replace

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.credentials import OWN_SALT_BYTES, scram_verifier
from provisioner.core.errors import OutOfTime
from provisioner.core.kinds import ObjectKind
from provisioner.core.preflight import Check, failed, ok, unknown
from provisioner.core.quoting import Statement
from provisioner.core.state import PUBLIC, Target
from provisioner.core.text import join_names
from provisioner.edges.postgres import Connection
from provisioner.edges.server_catalogs import OLDEST_VERSION
from provisioner.edges.server_findings import no_answer
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import refuse_empty_grants

# The last that was tried.
NEWEST_VERSION = 18
# What an apply does that a server may refuse.
CHANGES = {
    "verifiers": "a role is created with a SCRAM verifier",
    "temporary_membership": "the administrator makes itself a member of a role and takes that back",
    "default_privileges": "default privileges of a role are set by a member of it",
}
# What the administrator's session is asked: whether it is so, and what the words of either answer need.
QUESTIONS = {
    "writer": (
        "SELECT NOT pg_is_in_recovery()",
        ok("writer", "the server is a writer"),
        failed("writer", "the server is a standby", "it cannot be written", "point DB_HOST at the writer"),
    ),
    "rights": (
        """SELECT rolcreaterole AND rolcreatedb, rolname, concat_ws(
             ' and ', CASE WHEN NOT rolcreaterole THEN 'CREATEROLE' END, CASE WHEN NOT rolcreatedb THEN 'CREATEDB' END)
           FROM pg_roles WHERE rolname = session_user""",
        ok("rights", '"{0}" has CREATEROLE and CREATEDB'),
        failed(
            "rights",
            '"{0}" lacks {1}',
            "no role or database could be made",
            "let the master run infra/admin-role.sql, or ALTER ROLE with what it lacks",
        ),
    ),
    "administrator_database": (
        """SELECT NOT EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
                              WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
             d.datname, ARRAY(SELECT o.rolname::text FROM pg_roles AS o
                              WHERE o.rolcanlogin AND NOT o.rolsuper AND o.rolname <> session_user
                                AND has_database_privilege(o.oid, d.oid, 'CONNECT') ORDER BY 1 LIMIT 50)
           FROM pg_database AS d WHERE d.datname = current_database()""",
        ok("administrator_database", '"{0}" lets in the administrator and: {1}'),
        ok(
            "administrator_database",
            'every role may enter "{0}" (PUBLIC has CONNECT)',
            "no tenant can take or fake the run lock there, but each may open sessions in it",
            "its owner may GRANT CONNECT to the administrator and REVOKE CONNECT FROM PUBLIC",
        ),
    ),
    "rds_iam": (
        """SELECT NOT EXISTS (SELECT FROM pg_roles AS i WHERE i.rolname = 'rds_iam' AND pg_has_role(i.oid, 'MEMBER')),
             session_user""",
        ok("rds_iam", '"{0}" is no member of rds_iam'),
        failed(
            "rds_iam",
            '"{0}" is a member of rds_iam',
            "RDS then asks it for a token, and its password lets nobody in",
            "take rds_iam from the administrator and from every role that it is a member of",
        ),
    ),
}
_VERIFIER_REFUSED = (
    "where rds.restrict_password_commands is on, let the master GRANT rds_password TO the administrator; otherwise see "
    "the SQLSTATE in the runbook"
)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises DatabaseUnavailable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise no_answer(f"{host}:{port}", error) from None
    return [str(address[0]) for *_, address in found]


def ask(name: str, connection: Connection) -> Check:
    """Ask one of `QUESTIONS`. Raises SqlError."""
    query, if_so, otherwise = QUESTIONS[name]
    [[is_so, *words]] = connection.run(*connection.late_settings, query)
    words = [join_names(word) or "nobody else" if isinstance(word, list) else word for word in words]
    answer = if_so if is_so else otherwise
    return replace(answer, what=answer.what.format(*words))


def check_version(version: int) -> Check:
    """13 to 18 is what is tested."""
    what = f"PostgreSQL {version}"
    if version < OLDEST_VERSION:
        return failed("version", what, f"{OLDEST_VERSION} is the oldest that is supported", "upgrade the instance")
    if version > NEWEST_VERSION:
        next_step = "look for a newer release of rds-provisioner"
        return unknown("version", what, f"{NEWEST_VERSION} is the newest that was tried", next_step)
    return ok("version", what)


def check_public_schema(template: Connection) -> Check:
    """Whether everybody's right to create in `public` can be taken back in a new database. Raises SqlError."""
    rows = template.run(
        """SELECT o.rolname, pg_has_role(n.nspowner, 'MEMBER'),
             EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
                     WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
           FROM pg_namespace AS n JOIN pg_roles AS o ON o.oid = n.nspowner WHERE n.nspname = 'public'"""
    )
    if not rows:
        return ok("public_schema", 'template1 has no schema "public"')
    [[owner, is_ours, public_creates]] = rows
    return judge_public_schema(template.version, owner, is_ours=is_ours, public_creates=public_creates)


def judge_public_schema(version: int, owner: str, *, is_ours: bool, public_creates: bool) -> Check:
    name, what = "public_schema", f'"public" of template1 belongs to "{owner}"'
    if not public_creates:
        return ok(name, f"{what}, and PUBLIC may not create in it")
    if is_ours or owner == "pg_database_owner":
        return ok(name, f"{what}; what PUBLIC may create there is ours to take back")
    why = "everybody may create in it, also in a new database, and only its owner can take that away"
    next_step = f'each plan warns of it and has the statements for "{owner}"'
    # Up to 14 that is how PostgreSQL comes; later somebody made it so.
    return (ok if version < 15 else failed)(name, what, why, next_step)


def try_change(name: str, connection: Connection) -> Check:
    """Do one of `CHANGES` to a role that nobody ever sees. Raises OutOfTime, or SqlError if the connection is lost."""
    role = f"rds-provisioner preflight {secrets.token_hex(8)}"
    create = ddl.create_role(Change(ChangeKind.CREATE_ROLE, username=role))
    verifier = scram_verifier(secrets.token_urlsafe(32), os.urandom(OWN_SALT_BYTES))
    become = [create.text, ddl.grant_self(role, with_options=connection.version >= 16)]
    statements = {
        "verifiers": [create.complete(verifier)],
        "temporary_membership": [*become, ddl.revoke_self(role)],
        "default_privileges": [*become, *ddl.grant_or_revoke([_defaults_of(role)])],
    }
    error, what = _refusal(connection, statements[name]), CHANGES[name]
    if error is None:
        return ok(name, f"{what}; it was rolled back")
    next_step = _VERIFIER_REFUSED if name == "verifiers" else error.next_step
    return failed(name, f"the server refused it: {error}", f"an apply needs that {what}", next_step)


def _defaults_of(role: str) -> Change:
    return Change(
        ChangeKind.GRANT_DEFAULT,
        username=PUBLIC,
        owner=role,
        grantor=role,
        privileges=("SELECT",),
        targets=(Target(ObjectKind.TABLE, owner=role, creator=role),),
    )


def _refusal(connection: Connection, statements: list[Statement]) -> SqlError | None:
    """What the server has against statements, which are rolled back; a connection that is lost takes them with it."""
    try:
        connection.run("BEGIN", "SET LOCAL client_min_messages = warning", *statements, secret=True)
        refuse_empty_grants(connection)
    except SqlError as error:
        if error.is_connection_lost:
            raise
        return error
    finally:
        with suppress(SqlError, OutOfTime):
            connection.run("ROLLBACK")
    return None
