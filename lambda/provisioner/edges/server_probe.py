"""The way to a server, or a session there, in; what preflight wants to know of it out. What writes is rolled back.

Every query here is asked once, by hand or before a deployment, so none of it is tuned.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from contextlib import closing, suppress
from functools import partial

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.credentials import scram_verifier
from provisioner.core.errors import OutOfTime, ProvisioningError
from provisioner.core.kinds import ObjectKind
from provisioner.core.preflight import (
    Check,
    PublicSchema,
    ServerFacts,
    explain_password_refusal,
    failed,
    failed_by,
    ok,
    unknown,
)
from provisioner.core.quoting import Statement
from provisioner.core.state import PUBLIC, Target
from provisioner.edges.clock import Deadline
from provisioner.edges.postgres import Connection, tls_context
from provisioner.edges.sqlstates import SqlError
from provisioner.edges.transaction import refuse_empty_grants

# What a client says first where it wants TLS: its length, and a number that is no version of the protocol.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_SALT_BYTES = 16
# What an apply does that a server may refuse, as it is said where it worked.
CHANGES = {
    "verifiers": "a role is created with a SCRAM verifier",
    "temporary_membership": "the administrator makes itself a member of a role and takes that back",
    "default_privileges": "default privileges of a role are set by a member of it",
}
# Each step to the server, and what is done where it leads no further.
_WAY = {
    "dns": "correct the host in the administrator's secret or DB_HOST; see the DNS settings of the VPC",
    "route": "see the security groups of function and instance, the port, and whether the instance is available",
    "tls": "check that the host is the instance's own name, and that the certificate bundle is current",
}

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


def walk(host: str, port: int, ca_bundle: str, deadline: Deadline) -> list[Check]:
    """The steps to the server before anybody logs in, as far as they lead: each stands on the one before."""
    steps: list[tuple[str, Callable[[str, int, Deadline], str]]] = [
        ("dns", _resolve),
        ("route", _reach),
        ("tls", partial(_shake_hands, ca_bundle)),
    ]
    checks: list[Check] = []
    for name, step in steps:
        try:
            checks.append(ok(name, step(host, port, deadline)))
        except ProvisioningError as error:
            return [*checks, failed_by(name, error.findings)]
        except (OSError, UnicodeError, WaitedTooLong) as error:
            why = "no password was sent" if name == "tls" else ""
            return [*checks, failed(name, f"{host}:{port}: {_explain(error)}", why, _WAY[name])]
    return checks


def _resolve(host: str, port: int, deadline: Deadline) -> str:
    # The resolver has no timeout of its own.
    pool = ThreadPoolExecutor(1)
    try:
        asked = pool.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = asked.result(timeout=deadline.seconds_left())
    finally:
        pool.shutdown(wait=False)
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    return f"{host} is {', '.join(list(addresses)[:5])}"


def _reach(host: str, port: int, deadline: Deadline) -> str:
    socket.create_connection((host, port), deadline.seconds_left()).close()
    return f"{host}:{port} takes connections"


def _shake_hands(ca_bundle: str, host: str, port: int, deadline: Deadline) -> str:
    """Ask for TLS as PostgreSQL's clients do, and verify certificate and name."""
    tls = tls_context(ca_bundle)
    with closing(socket.create_connection((host, port), deadline.seconds_left())) as sock:
        sock.settimeout(deadline.seconds_left())
        sock.sendall(_SSL_REQUEST)
        if sock.recv(1) != b"S":
            raise ConnectionError("the server offers no TLS")
        with tls.wrap_socket(sock, server_hostname=host) as wrapped:
            until = (wrapped.getpeercert() or {}).get("notAfter", "?")
            return f"{host}:{port} shows a certificate for its name: {wrapped.version()}, good until {until}"


def _explain(error: Exception) -> str:
    """What kept a connection from coming about, in a person's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the name does not resolve"
    return str(error) if isinstance(error, ConnectionError) and error.errno is None else type(error).__name__


def read_facts(connection: Connection) -> ServerFacts:
    """Ask what the server is and what the administrator may. Raises SqlError."""
    found = json.loads(connection.run(*connection.late_settings, _FACTS)[-1][0])
    return ServerFacts(**{**found, "entering": tuple(found["entering"])})


def read_public_schema(connection: Connection) -> PublicSchema | None:
    """Ask whom `public` belongs to in the database of this connection; None where there is no such schema."""
    rows = connection.run(_PUBLIC_SCHEMA)
    return PublicSchema(*rows[0]) if rows else None


def try_changes(connection: Connection, facts: ServerFacts) -> list[Check]:
    """Do what an apply does, to a role that nobody ever sees: the transaction is rolled back. Raises OutOfTime."""
    tried = _try_changes(connection)
    checks = []
    for name, what in CHANGES.items():
        error = tried.get(name)
        if name not in tried:
            why = "what it stands on was refused before, or the connection was lost"
            checks.append(unknown(name, "not tried", why))
        elif error is None:
            checks.append(ok(name, f"{what}; it was rolled back"))
        else:
            next_step = explain_password_refusal(facts) if name == "verifiers" else error.next_step
            checks.append(failed(name, f"the server refused it: {error}", f"an apply needs that {what}", next_step))
    return checks


def _try_changes(connection: Connection) -> dict[str, SqlError | None]:
    """Each step with its refusal, None where it worked; what stands on a step that was refused is left out."""
    role = f"rds-provisioner preflight {secrets.token_hex(8)}"
    create = Change(ChangeKind.CREATE_ROLE, username=role)
    verifier = scram_verifier(secrets.token_urlsafe(32), os.urandom(_SALT_BYTES))
    tried: dict[str, SqlError | None] = {}
    # Where the connection is lost the transaction goes with it; where this is not heard, as the session ends.
    with suppress(SqlError):
        try:
            connection.run("BEGIN")
            tried["verifiers"] = _try(connection, [ddl.create_role(create).complete(verifier)], secret=True)
            # Without the password the rest can be tried all the same; without the role, or its membership, it cannot.
            if tried["verifiers"] and _try(connection, [ddl.create_role(create).text]):
                return tried
            membership = [ddl.grant_self(role, with_options=connection.version >= 16)]
            tried["temporary_membership"] = _try(connection, membership)
            if tried["temporary_membership"]:
                return tried
            tried["default_privileges"] = _try(connection, ddl.grant_or_revoke([_defaults_of(role)]))
            if not tried["default_privileges"]:
                tried["temporary_membership"] = _try(connection, [ddl.revoke_self(role)])
        finally:
            with suppress(SqlError, OutOfTime):
                connection.run("ROLLBACK")
    return tried


def _defaults_of(role: str) -> Change:
    return Change(
        ChangeKind.GRANT_DEFAULT,
        username=PUBLIC,
        owner=role,
        grantor=role,
        privileges=("SELECT",),
        targets=(Target(ObjectKind.TABLE, owner=role, creator=role),),
    )


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
