"""An address and a login in, what preflight wants to know of the server out; what writes is rolled back.

Every query here is asked once, by hand or before a deployment, so none of it is tuned.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import OutOfTime
from provisioner.core.kinds import ObjectKind
from provisioner.core.preflight import PublicSchema, ServerFacts
from provisioner.core.state import PUBLIC, Target
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import refuse_empty_grants

if TYPE_CHECKING:
    from provisioner.core.quoting import Statement
    from provisioner.edges.postgres import Connection, ServerAddress

# What a client says first where it wants TLS: its length, and a number that is no version of the protocol.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
Tried = Mapping[str, SqlError | None]

_FACTS = """SELECT json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'is_standby', pg_is_in_recovery(),
  'administrator', r.rolname,
  'is_superuser', r.rolsuper,
  'may_create_roles', r.rolcreaterole,
  'may_create_databases', r.rolcreatedb,
  'database', current_database(),
  'public_enters', EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
                           WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
  'entering', ARRAY(SELECT o.rolname FROM pg_roles AS o WHERE o.rolcanlogin AND NOT o.rolsuper
                    AND has_database_privilege(o.oid, d.oid, 'CONNECT') ORDER BY o.rolname LIMIT 50),
  'is_iam_member', (SELECT pg_has_role(r.oid, i.oid, 'MEMBER') FROM pg_roles AS i WHERE i.rolname = 'rds_iam'),
  'restricts_passwords', coalesce(current_setting('rds.restrict_password_commands', true), ''),
  'is_password_member', coalesce((SELECT pg_has_role(r.oid, p.oid, 'MEMBER') FROM pg_roles AS p
                                  WHERE p.rolname = 'rds_password'), false)
)::text FROM pg_roles AS r, pg_database AS d WHERE r.rolname = session_user AND d.datname = current_database()"""

_PUBLIC_SCHEMA = """SELECT o.rolname, pg_has_role(n.nspowner, 'MEMBER'),
  EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
          WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
FROM pg_namespace AS n JOIN pg_roles AS o ON o.oid = n.nspowner WHERE n.nspname = 'public'"""


def resolve(host: str, port: int) -> list[str]:
    """The addresses that a name stands for. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def reach(host: str, port: int, seconds: float) -> None:
    """Open a connection to the port and close it again. Raises OSError."""
    socket.create_connection((host, port), seconds).close()


def shake_hands(address: ServerAddress) -> str:
    """Ask for TLS as PostgreSQL's clients do, verify certificate and name; give back the protocol and its end.

    Raises:
        OSError: the server speaks no TLS, or cannot be trusted (`ssl.SSLError`).
    """
    with closing(socket.create_connection((address.host, address.port), address.deadline.seconds_left())) as sock:
        sock.settimeout(address.deadline.seconds_left())
        sock.sendall(_SSL_REQUEST)
        if sock.recv(1) != b"S":
            raise ConnectionError("the server offers no TLS")
        with address.tls.wrap_socket(sock, server_hostname=address.host) as wrapped:
            certificate = wrapped.getpeercert() or {}
            return f"{wrapped.version()}, the certificate is good until {certificate.get('notAfter', '?')}"


def read_facts(connection: Connection) -> ServerFacts:
    """Ask what the server is and what the administrator may. Raises SqlError."""
    found = json.loads(connection.run(*connection.late_settings, _FACTS)[-1][0])
    return ServerFacts(**{**found, "entering": tuple(found["entering"])})


def read_public_schema(connection: Connection) -> PublicSchema | None:
    """Ask whom `public` belongs to in the database of this connection; None where there is no such schema."""
    rows = connection.run(_PUBLIC_SCHEMA)
    return PublicSchema(*rows[0]) if rows else None


def try_changes(connection: Connection, role: str, verifier: str) -> Tried:
    """Do what an apply does, to a role of this name that nobody ever sees: the transaction is rolled back.

    Gives each step with its refusal, None where it worked; what stands on a step that was refused is left out.
    """
    found: dict[str, SqlError | None] = {}
    try:
        connection.run("BEGIN")
        for step, statements in _steps(role, verifier, connection.version).items():
            found[step] = _try(connection, statements, secret=step == "verifiers")
            # Without the password the rest can be tried all the same; without the role, or its membership, it cannot.
            plain = [ddl.create_role(Change(ChangeKind.CREATE_ROLE, username=role)).text]
            if found[step] and (step != "verifiers" or _try(connection, plain)):
                break
    except SqlError:
        # The connection is gone, and the transaction with it.
        return found
    finally:
        # Whatever happened: where this is not heard the server rolls back as the session ends.
        with suppress(SqlError, OutOfTime):
            connection.run("ROLLBACK")
    return found


def _steps(role: str, verifier: str, version: int) -> dict[str, list[Statement]]:
    defaults = Change(
        ChangeKind.GRANT_DEFAULT,
        username=PUBLIC,
        owner=role,
        grantor=role,
        privileges=("SELECT",),
        targets=(Target(ObjectKind.TABLE, owner=role, creator=role),),
    )
    return {
        "verifiers": [ddl.create_role(Change(ChangeKind.CREATE_ROLE, username=role)).complete(verifier)],
        "temporary_membership": [ddl.grant_self(role, with_options=version >= 16)],
        "default_privileges": ddl.grant_or_revoke([defaults]),
        "temporary_membership_back": [ddl.revoke_self(role)],
    }


def _try(connection: Connection, statements: list[Statement], *, secret: bool = False) -> SqlError | None:
    try:
        connection.run("SAVEPOINT step", *statements, secret=secret)
        refuse_empty_grants(connection)
    except SqlError as error:
        if error.is_connection_lost:
            raise
        connection.run("ROLLBACK TO SAVEPOINT step")
        return error
    return None


def why_unreachable(error: OSError) -> str:
    """What kept a connection from coming about, in a person's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    return str(error) if isinstance(error, ConnectionError) and error.errno is None else type(error).__name__
