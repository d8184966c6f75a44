"""A verified, bounded connection to PostgreSQL: an address and credentials in, a connection out, errors classified.

All that makes a connection safe stands here, once, with its reason; what makes it fast is the driver's.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime
from provisioner.core.quoting import Statement
from provisioner.edges.clock import Deadline
from provisioner.edges.driver import (
    LostConnection,
    PasswordProved,
    ProbeConnection,
    ScramError,
    ServerError,
    TunedConnection,
    Unproved,
    VerifierRefused,
    sql_error,
)
from provisioner.edges.server_findings import OUT_OF_TIME, explain, is_timeout, no_answer, unavailable
from provisioner.edges.sqlstates import CONNECTION_LOST, SqlError

CONNECT_TIMEOUT_SECONDS = 10.0
LOGIN_TIMEOUT_SECONDS = 20.0
# The server gives up before the socket does: a statement that outlives its socket runs on unseen.
STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 5_000
IDLE_TIMEOUT_MS = 60_000
READ_TIMEOUT_SECONDS = 75.0
UNHURRIED = Deadline(lambda: READ_TIMEOUT_SECONDS)

# Settings that a database's owner could have set for it (ALTER DATABASE ... SET) and that would change what our
# statements mean, or end them. The start-up packet outranks what is stored for a database or a role.
_CONNECTION_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "role": "none",
    "standard_conforming_strings": "on",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # What is told as done must stand after a crash.
    "synchronous_commit": "on",
    # A warning about a setting that is stored for a database quotes it, and that may be hundreds of megabytes long.
    # What a GRANT warns of is asked for in its transaction.
    "client_min_messages": "error",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
    "exit_on_error": "off",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    "local_preload_libraries": "",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "jit": "off",
    # Not more memory than usual, no search for a plan without end, no workers: those begin with what is stored.
    "geqo": "off",
    "work_mem": "4MB",
    "hash_mem_multiplier": "2",
    "max_parallel_workers_per_gather": "0",
    # A function whose host vanished says no Terminate: the server notices in twenty seconds, waiting or answering, and
    # lets go of the run lock.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
# Those that came later, by the version that knows them: an older server refuses a start-up packet that names them.
_NEWER_SETTINGS = {
    14: {"idle_session_timeout": "0", "client_connection_check_interval": "5000"},
    # Whatever somebody set for the administrator, it does not become a usable member of each role that it creates.
    16: {"createrole_self_grant": ""},
    17: {"transaction_timeout": "0"},
}


def _newer_settings(version: int) -> dict[str, str]:
    return {key: value for since, items in _NEWER_SETTINGS.items() if since <= version for key, value in items.items()}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is, how it is to be trusted, and until when it is waited for."""

    host: str
    port: int
    tls: ssl.SSLContext
    deadline: Deadline = UNHURRIED

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def tls_context(ca_bundle: str) -> ssl.SSLContext:
    """A TLS context that trusts the certificates of a PEM file and nothing else, and checks the host's name.

    Raises DatabaseUnavailable: the bundle is missing or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # PostgreSQL up to 17 offers only this curve; a client that guesses another pays a round trip.
    context.set_ecdh_curve("prime256v1")
    try:
        context.load_verify_locations(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        message = f"the certificate bundle {Path(ca_bundle).name} cannot be read ({type(error).__name__})"
        next_step = "build the function with the RDS bundle, or set DB_CA_BUNDLE to a PEM file in the artifact"
        raise DatabaseUnavailable(Finding("ca_bundle", message, next_step)) from None
    return context


@dataclass(frozen=True, slots=True)
class Login:
    """A way in; `session` is the application_name of its sessions, `version` the server's, where it is known."""

    address: ServerAddress
    username: str
    password: str = field(repr=False)
    database: str
    session: str = "rds-provisioner"
    version: int = 0

    def connect(self, database: str = "") -> Connection:
        return Connection(self, database)

    def can_connect(self) -> bool:
        try:
            self.connect().close()
        except (SqlError, DatabaseUnavailable):
            return False
        return True


class Connection:
    """One connection, used by one thread at a time.

    Raises:
        SqlError: of `__init__`, the server was reached and refused; `sqlstate` says why.
        DatabaseUnavailable: of `__init__`, the server could not be reached or trusted.
        OutOfTime: of `__init__` and `run`, there is no time left for an answer, whether or not one was asked for.
    """

    def __init__(self, login: Login, database: str = "") -> None:
        """Connect over verified TLS to the login's own database, from which all are asked, unless another is named.

        From there bytes of an answer that are no text read as U+FFFD: the shared catalogs have names and comments from
        databases of any encoding, and nobody's may end a look at all.
        """
        self._deadline, self._is_late = login.address.deadline, False
        self._newer = _newer_settings(login.version)
        self._inner = _connect(TunedConnection, login, database or login.database)
        if not database:
            self._inner.take_any_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def late_settings(self) -> tuple[str, ...]:
        """Statements without rows for settings that start-up left out, as the server's version was not known."""
        late = _newer_settings(self.version).items() - self._newer.items()
        return tuple(
            f"SELECT FROM set_config('{key}', '{value}', false) AS now WHERE now IS NULL" for key, value in sorted(late)
        )

    @property
    def version(self) -> int:
        """The server's major version, as it said on connecting."""
        found = re.match(r"[0-9]+", self._inner.parameter_statuses.get("server_version", ""))
        return int(found[0]) if found else 0

    def close(self) -> None:
        self._inner.close()

    def run(self, *statements: Statement | str, secret: bool = False, leave: bool = False) -> list[list[Any]]:
        """Send statements as one message and give the rows of all of them.

        Without parameters, so that pg8000 uses the simple protocol: one round trip however many statements.

        Args:
            statements: finished SQL; a message of several is one transaction unless it says otherwise.
            secret: the statements carry a verifier, so no text of the server's about them is to be shown.
            leave: they are the last; Terminate goes with them, and whatever comes of them, the connection is closed.

        Raises SqlError: a statement failed, or the connection was lost.
        """
        seconds = self._deadline.seconds_left()
        if seconds <= 0 or self._is_late:
            self.close()
            raise OutOfTime(OUT_OF_TIME)
        try:
            self._inner.set_timeout(min(seconds, READ_TIMEOUT_SECONDS))
            send = self._inner.run_and_close if leave else self._inner.run
            return send(";\n".join(statements)) or []
        except ServerError as error:
            raise sql_error(error, secret=secret, pid=self._inner.pid) from None
        except UnicodeError:
            # A database in SQL_ASCII may hold names that are no text in any encoding.
            self.close()
            raise SqlError("22021", "the answer is no text: names in the database are not UTF-8") from None
        except (LostConnection, OSError) as error:
            self.close()
            self._is_late = is_timeout(error) and seconds < READ_TIMEOUT_SECONDS
            if self._is_late:
                raise OutOfTime(OUT_OF_TIME) from None
            raise SqlError(CONNECTION_LOST, f"the connection was lost ({explain(error)})") from None

    def warnings(self) -> tuple[str, ...]:
        """The SQLSTATEs of the warnings since they were last asked for."""
        codes = tuple(notice.get(b"C", b"").decode() for notice in self._inner.notices)
        self._inner.notices.clear()
        return codes


def prove_password(login: Login) -> None:
    """Log in until the server has proved that it keeps this very password, as we would keep it, and leave.

    Whatever it says after that (no such database, no CONNECT, NOLOGIN, a limit) is not about the password. Where it has
    nothing to say, it finds Terminate behind its own greeting and writes no FATAL line.

    Raises:
        VerifierRefused: it keeps something else than a verifier of ours of the password; the challenge is not hashed.
        SqlError: it refused before it had proved anything.
        DatabaseUnavailable: the server could not be reached or trusted.
        OutOfTime: there is no time left.
    """
    with suppress(PasswordProved):
        _connect(ProbeConnection, login, login.database)


def _connect(wire: type[TunedConnection], login: Login, database: str) -> TunedConnection:
    address = login.address
    sock = reach(address.host, address.port, address.deadline)
    # Logging in asks nothing that takes long.
    seconds = max(address.deadline.seconds_left(), 0.1)
    sock.settimeout(min(seconds, LOGIN_TIMEOUT_SECONDS))
    try:
        return wire(
            login.username,
            host=address.host,
            port=address.port,
            database=database,
            password=login.password,
            ssl_context=address.tls,
            sock=sock,
            application_name=login.session,
            startup_params=_CONNECTION_SETTINGS | _newer_settings(login.version),
        )
    except Exception as error:  # noqa: BLE001 - whatever a peer says, it ends one login and not the run
        sock.close()
        raise _login_error(error, str(address), is_late=seconds < LOGIN_TIMEOUT_SECONDS) from None


def reach(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to whatever takes connections there.

    Raises:
        DatabaseUnavailable: nothing does.
        OutOfTime: there is no time left.
    """
    seconds = deadline.seconds_left()
    if seconds <= 0:
        raise OutOfTime(OUT_OF_TIME)
    try:
        sock = socket.create_connection((host, port), min(seconds, CONNECT_TIMEOUT_SECONDS))
    except (OSError, UnicodeError) as error:
        raise no_answer(f"{host}:{port}", error, is_late=seconds < CONNECT_TIMEOUT_SECONDS) from None
    # Without this the start-up packet waits 40 ms for a delayed acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def _login_error(error: Exception, server: str, *, is_late: bool) -> Exception:
    """What is raised where a login did not come to its end."""
    if isinstance(error, (VerifierRefused, PasswordProved)):
        return error
    if isinstance(error, ServerError):
        return sql_error(error, secret=False)
    if isinstance(error, ssl.SSLCertVerificationError):
        return unavailable("untrusted", server, error.verify_message)
    if isinstance(error, (Unproved, ScramError)):
        # A server's signature that is not the password's is all that scramp has left to refuse.
        reason = str(error) if isinstance(error, Unproved) else "its proof is wrong"
        return unavailable("server_unproved", server, reason)
    return no_answer(server, error, is_late=is_late)
