"""The way to a server, or a session there, in; what preflight wants to know of it out. What writes is rolled back.

Every query here is asked once, by hand or before a deployment, so none of it is tuned.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.credentials import scram_verifier
from provisioner.core.errors import OutOfTime
from provisioner.core.kinds import ObjectKind
from provisioner.core.preflight import Check, PublicSchema, ServerFacts, failed, ok
from provisioner.core.quoting import Statement
from provisioner.core.state import PUBLIC, Target
from provisioner.edges.postgres import Connection
from provisioner.edges.server_findings import no_answer
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import refuse_empty_grants

_SALT_BYTES = 16
# What an apply does that a server may refuse.
CHANGES = {
    "verifiers": "a role is created with a SCRAM verifier",
    "temporary_membership": "the administrator makes itself a member of a role and takes that back",
    "default_privileges": "default privileges of a role are set by a member of it",
}
_VERIFIER_REFUSED = (
    "where rds.restrict_password_commands is on, let the master GRANT rds_password TO the administrator; otherwise see "
    "the SQLSTATE in the runbook"
)

_FACTS = """SELECT json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'is_standby', pg_is_in_recovery(),
  'administrator', r.rolname,
  'may_create_roles', r.rolcreaterole,
  'may_create_databases', r.rolcreatedb,
  'database', current_database(),
  'public_enters', EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
                           WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
  'entering', ARRAY(SELECT o.rolname FROM pg_roles AS o WHERE o.rolcanlogin AND NOT o.rolsuper
                    AND has_database_privilege(o.oid, d.oid, 'CONNECT') ORDER BY o.rolname LIMIT 50),
  'is_iam_member', EXISTS (SELECT FROM pg_roles AS i WHERE pg_has_role(r.oid, i.oid, 'MEMBER')
                           AND i.rolname = 'rds_iam')
)::text FROM pg_roles AS r, pg_database AS d WHERE r.rolname = session_user AND d.datname = current_database()"""

_PUBLIC_SCHEMA = """SELECT o.rolname, pg_has_role(n.nspowner, 'MEMBER'),
  EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
          WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
FROM pg_namespace AS n JOIN pg_roles AS o ON o.oid = n.nspowner WHERE n.nspname = 'public'"""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises DatabaseUnavailable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise no_answer(f"{host}:{port}", error) from None
    return [str(address[0]) for *_, address in found]


def read_facts(connection: Connection) -> ServerFacts:
    """Ask what the server is and what the administrator may. Raises SqlError."""
    found = json.loads(connection.run(*connection.late_settings, _FACTS)[-1][0])
    return ServerFacts(**{**found, "entering": tuple(found["entering"])})


def read_public_schema(connection: Connection) -> PublicSchema | None:
    """Ask whom `public` belongs to in the database of this connection; None where there is no such schema."""
    rows = connection.run(_PUBLIC_SCHEMA)
    return PublicSchema(*rows[0]) if rows else None


def try_changes(connection: Connection) -> Iterator[Check]:
    """Do what an apply does, each by itself, to a role that nobody ever sees. Raises OutOfTime, or SqlError if lost."""
    role = f"rds-provisioner preflight {secrets.token_hex(8)}"
    create = ddl.create_role(Change(ChangeKind.CREATE_ROLE, username=role))
    verifier = scram_verifier(secrets.token_urlsafe(32), os.urandom(_SALT_BYTES))
    become = [create.text, ddl.grant_self(role, with_options=connection.version >= 16)]
    statements = {
        "verifiers": [create.complete(verifier)],
        "temporary_membership": [*become, ddl.revoke_self(role)],
        "default_privileges": [*become, *ddl.grant_or_revoke([_defaults_of(role)])],
    }
    for name, what in CHANGES.items():
        error = _refusal(connection, statements[name])
        if error is None:
            yield ok(name, f"{what}; it was rolled back")
        else:
            next_step = _VERIFIER_REFUSED if name == "verifiers" else error.next_step
            yield failed(name, f"the server refused it: {error}", f"an apply needs that {what}", next_step)


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
