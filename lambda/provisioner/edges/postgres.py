"""A verified, bounded connection to PostgreSQL: an address and credentials in, a connection out, errors classified.

The only module that knows pg8000. All that makes a connection safe or fast stands here, once, with its reason.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pg8000.native

from provisioner.core.errors import DatabaseUnavailable, Finding

if TYPE_CHECKING:
    from types import TracebackType

    from provisioner.core.ddl import Statement

CONNECT_TIMEOUT_SECONDS = 10
# The server gives up before the socket does: a statement that outlives its socket runs on unseen.
STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 5_000
IDLE_TIMEOUT_MS = 60_000
READ_TIMEOUT_SECONDS = 75

# Settings that a database's owner could have set for it (ALTER DATABASE ... SET) and that would change what our
# statements mean, or end them. The start-up packet outranks what is stored for a database or a role.
_SESSION = {
    "search_path": "pg_catalog, pg_temp",
    "role": "none",
    "standard_conforming_strings": "on",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "client_min_messages": "warning",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
    "quote_all_identifiers": "off",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "jit": "off",
}

# SQLSTATEs under which the same transaction may succeed a moment later.
_PASSING = frozenset({"40001", "40P01", "55P03", "55006", "XX000", "23505", "42710"})
# SQLSTATEs of a server that is starting, stopping or full, and of connections that died.
_UNAVAILABLE = frozenset({"57P01", "57P02", "57P03", "53300", "53100", "53200", "08000", "08003", "08006", "58030"})


class SqlError(Exception):
    """A statement was refused; `sqlstate` is empty where the connection died instead.

    `message` is the server's, with no statement text in it; it is empty for statements that carry a password.
    """

    def __init__(self, sqlstate: str, message: str, routine: str = "") -> None:
        """Keep the code, the text and the server's routine, which no locale translates."""
        self.sqlstate = sqlstate
        self.message = message
        self.routine = routine
        super().__init__(f"{message} (SQLSTATE {sqlstate})" if sqlstate else message)

    @property
    def is_passing(self) -> bool:
        """Whether another try, soon, may go through: a lock, a deadlock, a row that somebody else was writing."""
        return self.sqlstate in _PASSING

    @property
    def is_connection_lost(self) -> bool:
        """Whether the connection can no longer be used."""
        return not self.sqlstate or self.sqlstate in _UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and how it is to be trusted."""

    host: str
    port: int
    tls: ssl.SSLContext


def trust(ca_bundle: str) -> ssl.SSLContext:
    """A TLS context that trusts the certificates of a PEM file and nothing else, and checks the host's name.

    Raises:
        DatabaseUnavailable: the bundle is missing or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # PostgreSQL up to 17 offers only this curve; a client that guesses another pays a round trip.
    context.set_ecdh_curve("prime256v1")
    try:
        context.load_verify_locations(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise DatabaseUnavailable(
            Finding(
                "ca_bundle",
                f"the certificate bundle {Path(ca_bundle).name} cannot be read ({type(error).__name__})",
                "build the function with the RDS bundle, or set DB_CA_BUNDLE to a PEM file in the artifact",
            )
        ) from None
    return context


class Connection:
    """One connection, used by one thread at a time.

    Raises:
        SqlError: of `__init__`, the server was reached and refused; `sqlstate` says why.
        DatabaseUnavailable: of `__init__`, the server could not be reached or trusted.
    """

    def __init__(self, address: Address, username: str, password: str, database: str) -> None:
        """Connect over verified TLS."""
        self._inner = _connect(address, username, password, database)
        # pg8000 keeps the last hundred notices; a run that grants to more objects must not lose a warning.
        self._inner.notices = deque(maxlen=10_000)

    def __enter__(self) -> Self:
        """The connection itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close, whatever state it is in."""
        with suppress(pg8000.native.InterfaceError, OSError):
            self._inner.close()

    def run(self, *statements: Statement | str, secret: bool = False) -> list[list[Any]]:
        """Send statements as one message and give the rows of all of them.

        Without parameters, so that pg8000 uses the simple protocol: one round trip however many statements.

        Args:
            statements: finished SQL; a message of several is one transaction unless it says otherwise.
            secret: the statements carry a verifier, so no text of the server's about them is to be shown.

        Raises:
            SqlError: a statement failed, or the connection was lost.
        """
        self._inner.notices.clear()
        try:
            return self._inner.run(";\n".join(statements)) or []
        except pg8000.native.DatabaseError as error:
            raise _sql_error(error, secret=secret) from None
        except (pg8000.native.InterfaceError, OSError, ssl.SSLError) as error:
            self.close()
            raise SqlError("", f"the connection was lost ({type(error).__name__})") from None

    def warnings(self) -> tuple[str, ...]:
        """The SQLSTATEs of the warnings that the last `run` caused."""
        return tuple(notice.get(b"C", b"").decode() for notice in self._inner.notices)


def _connect(address: Address, username: str, password: str, database: str) -> pg8000.native.Connection:
    try:
        sock = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_SECONDS)
    except OSError as error:
        raise _unreachable(address, _reason(error)) from None
    # Without this the start-up packet waits 40 ms for a delayed acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.settimeout(READ_TIMEOUT_SECONDS)
    try:
        return pg8000.native.Connection(
            username,
            host=address.host,
            port=address.port,
            database=database,
            password=password,
            ssl_context=address.tls,
            sock=sock,
            application_name="rds-provisioner",
            startup_params=_SESSION,
        )
    except pg8000.native.DatabaseError as error:
        sock.close()
        raise _sql_error(error, secret=False) from None
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise _untrusted(address, error.verify_message) from None
    except (pg8000.native.InterfaceError, OSError, ssl.SSLError) as error:
        sock.close()
        raise _unreachable(address, _reason(error)) from None


def _sql_error(error: pg8000.native.DatabaseError, *, secret: bool) -> SqlError:
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    sqlstate, routine = str(fields.get("C", "")), str(fields.get("R", ""))
    message = "the server refused a statement about a role" if secret else str(fields.get("M", "refused"))
    return SqlError(sqlstate, message, routine)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    text = str(error.args[0]) if error.args else ""
    return "it offers no TLS" if "refuses SSL" in text else type(error).__name__


def _unreachable(address: Address, reason: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        Finding(
            "unreachable",
            f"the server {address.host}:{address.port} cannot be reached: {reason}",
            "check that the instance is available, the security group, and DB_HOST and DB_PORT or the administrator's "
            "secret",
        )
    )


def _untrusted(address: Address, reason: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        Finding(
            "untrusted",
            f"the certificate of the server {address.host}:{address.port} is not trusted: {reason}",
            "check that DB_HOST is the instance's own name and that the certificate bundle is current; no password "
            "was sent",
        )
    )
