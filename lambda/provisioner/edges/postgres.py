"""A verified, bounded connection to PostgreSQL: an address and credentials in, a connection out, errors classified.

The only module that knows pg8000. All that makes a connection safe or fast stands here, once, with its reason.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pg8000.native
import scramp
import scramp.core
from pg8000.core import TERMINATE_MSG, Context

from provisioner.core.errors import DatabaseUnavailable, Finding
from provisioner.edges.server_findings import out_of_time, unproved, unreachable, untrusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from provisioner.core.quoting import Statement

CONNECT_TIMEOUT_SECONDS = 10.0
LOGIN_TIMEOUT_SECONDS = 20.0
# The server gives up before the socket does: a statement that outlives its socket runs on unseen.
STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 5_000
IDLE_TIMEOUT_MS = 60_000
READ_TIMEOUT_SECONDS = 75.0

# Settings that a database's owner could have set for it (ALTER DATABASE ... SET) and that would change what our
# statements mean, or end them. The start-up packet outranks what is stored for a database or a role.
_CONNECTION_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "role": "none",
    "standard_conforming_strings": "on",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # A warning about a setting that is stored for a database quotes it, and that may be hundreds of megabytes long.
    # What a GRANT warns of is asked for in its transaction.
    "client_min_messages": "error",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    "local_preload_libraries": "",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "jit": "off",
    # A function whose host vanished says no Terminate: the server notices in twenty seconds, waiting or answering, and
    # lets go of the run lock.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}


# A password is hashed 4096 times with the salt of its role, a third of the processor time of a login. The administrator
# has one salt for all its connections, and a verifier made here has the salt that its first login will be told.
_cached_hash = cache(scramp.core.hi)


def tune_scramp() -> None:
    """Spare what every login and every verifier would do anew.

    Beside the hash it is SASLprep (RFC 4013): it leaves printable ASCII as it is, after looking each character up in a
    dozen tables for 0.25 ms.
    """
    prepare = scramp.core.saslprep
    scramp.core.hi = lambda function, password, salt, count: _cached_hash(function, password, salt, int(count))
    scramp.core.saslprep = lambda text: text if text.isascii() and text.isprintable() else prepare(text)


tune_scramp()


def clear_scram_cache() -> None:
    """Drop what was remembered of passwords: a function that stays warm keeps none of them."""
    _cached_hash.cache_clear()


# Those that came later, by the version that knows them: an older server refuses a start-up packet that names them.
_NEWER_SETTINGS = {
    14: {"idle_session_timeout": "0", "client_connection_check_interval": "5000"},
    # Whatever somebody set for the administrator, it does not become a usable member of each role that it creates.
    16: {"createrole_self_grant": ""},
    17: {"transaction_timeout": "0"},
}


def _newer_settings(version: int) -> dict[str, str]:
    return {key: value for since, items in _NEWER_SETTINGS.items() if since <= version for key, value in items.items()}


# What we make ourselves (RFC 7677's least), and the most that is hashed at anybody's word: 0.1 s of processor time.
OWN_ROUNDS, OWN_SALT_BYTES = 4096, 16
MAX_ROUNDS = 200_000


class Remedy(StrEnum):
    """What a failure of PostgreSQL asks for."""

    RETRY = "retry"  # the same transaction again, now: it may go through a moment later
    LOOK = "look"  # another look and another script, then as LATER: what was seen is not there any more
    LATER = "later"  # another run: nothing is broken that time does not mend
    MANUAL = "person"  # somebody has to change something first


# A connection that died under us says no SQLSTATE; it gets PostgreSQL's own code for that.
CONNECTION_LOST = "08006"
# What `edges.lock.fence` fails with: a division by zero, of which no statement of ours has another.
LOCK_LOST = "22012"

_RETRY_LATER = "call again in a few minutes: the next run continues where this one ended"
# The one place that says what is to be done about which SQLSTATE; any other asks for a person.
_REMEDIES: dict[str, tuple[Remedy, str]] = {
    # Somebody else was at the same rows: PostgreSQL says XX000 for "tuple concurrently updated".
    "40001": (Remedy.RETRY, _RETRY_LATER),
    "40P01": (Remedy.RETRY, _RETRY_LATER),
    "XX000": (Remedy.RETRY, _RETRY_LATER),
    "23505": (Remedy.RETRY, _RETRY_LATER),
    "55006": (Remedy.RETRY, _RETRY_LATER),
    # A schema, a table, a column, a function or a role went away since it was looked at.
    "3F000": (Remedy.LOOK, _RETRY_LATER),
    "42P01": (Remedy.LOOK, _RETRY_LATER),
    "42703": (Remedy.LOOK, _RETRY_LATER),
    "42883": (Remedy.LOOK, _RETRY_LATER),
    "42704": (Remedy.LOOK, _RETRY_LATER),
    # It has waited for `lock_timeout` already.
    "55P03": (
        Remedy.LATER,
        "somebody holds a lock there (an open ALTER TABLE or ALTER ROLE?): wait for it and call again",
    ),
    # It exists already, so somebody made it since it was looked for: only another look helps.
    "42710": (Remedy.LATER, _RETRY_LATER),
    "42P04": (Remedy.LATER, _RETRY_LATER),
    # The server starts, stops, fails over or is full; the statement took too long.
    "57P01": (Remedy.LATER, _RETRY_LATER),
    "57P02": (Remedy.LATER, _RETRY_LATER),
    "57P03": (Remedy.LATER, _RETRY_LATER),
    "57014": (Remedy.LATER, "the server was slow: " + _RETRY_LATER),
    "25006": (Remedy.LATER, "the server has become a standby (a failover?): " + _RETRY_LATER),
    "53300": (Remedy.LATER, "the server has no connection left: end some, or raise max_connections, and call again"),
    "53200": (
        Remedy.LATER,
        "the server has no memory left, or a session holds thousands of locks (count them by pid in pg_locks) and has "
        "to be ended: " + _RETRY_LATER,
    ),
    "08000": (Remedy.LATER, _RETRY_LATER),
    "08003": (Remedy.LATER, _RETRY_LATER),
    CONNECTION_LOST: (Remedy.LATER, _RETRY_LATER),
    LOCK_LOST: (Remedy.LATER, "the run has lost its lock, so that another may be at work: " + _RETRY_LATER),
    # No refusal of the server but a judgement of ours about what it shows.
    "": (Remedy.LOOK, "somebody changes the same things: call again when it is quieter"),
    "53100": (Remedy.MANUAL, "the server's storage is full: add storage, then call again"),
    "58030": (Remedy.MANUAL, "the server cannot read or write its storage: see its own log, then call again"),
    "42501": (Remedy.MANUAL, "the administrator lacks the right: see the runbook, then call again"),
}
_UNKNOWN = (Remedy.MANUAL, "see the runbook for this SQLSTATE; the next run tries it again")
# Codes of a whole server that is not there, and not of one database that refuses.
_UNAVAILABLE = frozenset(
    {"57P01", "57P02", "57P03", "53300", "53100", "53200", "08000", "08003", CONNECTION_LOST, "58030", "25006"}
)


class SqlError(Exception):
    """A statement was refused, or the connection died (`CONNECTION_LOST`).

    `message` is the server's, with no statement text in it; it is empty for statements that carry a password.
    """

    def __init__(self, sqlstate: str, message: str, routine: str = "") -> None:
        """Keep the code, the text and the server's routine, which no locale translates."""
        self.sqlstate = sqlstate
        self.message = message
        self.routine = routine
        super().__init__(f"{message} (SQLSTATE {sqlstate})" if sqlstate else message)

    @property
    def remedy(self) -> Remedy:
        """What is to be done about it."""
        return _REMEDIES.get(self.sqlstate, _UNKNOWN)[0]

    @property
    def next_step(self) -> str:
        """The remedy in a person's words."""
        return _REMEDIES.get(self.sqlstate, _UNKNOWN)[1]

    @property
    def is_transient(self) -> bool:
        """Whether another try, soon, may go through: a lock, a deadlock, a row that somebody else was writing."""
        return self.remedy is Remedy.RETRY

    @property
    def is_connection_lost(self) -> bool:
        """Whether the server as a whole is not to be had, so that asking about another database is idle.

        A connection limit of one database or role (CheckMyDatabase, InitializeSessionUserId) is set by its owner and
        says nothing about the server.
        """
        own_limit = self.sqlstate == "53300" and self.routine in {"CheckMyDatabase", "InitializeSessionUserId"}
        return self.sqlstate in _UNAVAILABLE and not own_limit


class VerifierRefused(SqlError):
    """What the server keeps of a password is nothing to log in with: too few or too many rounds, a short salt, MD5.

    Every role may set itself such a verifier, so for a role it is a password that has to be set again.
    """

    def __init__(self, kept_as: str) -> None:
        """Say how the password is kept; the answer to such a challenge was never sent."""
        self.kept_as = kept_as
        super().__init__("28P01", f"the server keeps the password as {kept_as}")

    @property
    def next_step(self) -> str:
        """What brings the usual verifier back; the administrator cannot log in to do it itself."""
        return (
            "set the same password again where password_encryption is scram-sha-256 and scram_iterations is "
            f"{OWN_ROUNDS} to {MAX_ROUNDS}"
        )


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is, how it is to be trusted, and how many seconds may be waited for it at the moment."""

    host: str
    port: int
    tls: ssl.SSLContext
    patience: Callable[[], float] = lambda: READ_TIMEOUT_SECONDS


def tls_context(ca_bundle: str) -> ssl.SSLContext:
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
        OutOfTime: of `__init__` and `run`, there is no time left for an answer, whether or not one was asked for.
    """

    def __init__(
        self,
        address: ServerAddress,
        username: str,
        password: str,
        database: str,
        *,
        name: str = "rds-provisioner",
        version: int = 0,
    ) -> None:
        """Connect over verified TLS; `name` is the session's application_name, `version` the server's, where known."""
        self._patience, self._is_late = address.patience, False
        self._newer = _newer_settings(version)
        settings = _CONNECTION_SETTINGS | self._newer
        self._inner = _connect(TunedConnection, address, (username, password, database), name, settings)
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

    @property
    def late_settings(self) -> tuple[str, ...]:
        """Statements for settings that the start-up packet left out, as the server's version was not known.

        They have no row, so that the rows of their message are those of the query in it.
        """
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
        """Close, whatever state it is in."""
        self._inner.close()

    def run(self, *statements: Statement | str, secret: bool = False, leave: bool = False) -> list[list[Any]]:
        """Send statements as one message and give the rows of all of them.

        Without parameters, so that pg8000 uses the simple protocol: one round trip however many statements.

        Args:
            statements: finished SQL; a message of several is one transaction unless it says otherwise.
            secret: the statements carry a verifier, so no text of the server's about them is to be shown.
            leave: they are the last; Terminate goes with them, and whatever comes of them, the connection is closed.

        Raises:
            SqlError: a statement failed, or the connection was lost.
        """
        self._inner.notices.clear()
        seconds = self._patience()
        if seconds <= 0 or self._is_late:
            self.close()
            raise out_of_time()
        try:
            self._inner.set_timeout(seconds)
            send = self._inner.run_and_close if leave else self._inner.run
            return send(";\n".join(statements)) or []
        except pg8000.native.DatabaseError as error:
            raise _sql_error(error, secret=secret) from None
        except UnicodeError:
            # A database in SQL_ASCII may hold names that are no text in any encoding.
            self.close()
            raise SqlError("22021", "the answer is no text: names in the database are not UTF-8") from None
        except (pg8000.native.InterfaceError, OSError, ssl.SSLError) as error:
            self.close()
            self._is_late = _is_timeout(error) and seconds < READ_TIMEOUT_SECONDS
            if self._is_late:
                raise out_of_time() from None
            raise SqlError(CONNECTION_LOST, f"the connection was lost ({_reason(error)})") from None

    def warnings(self) -> tuple[str, ...]:
        """The SQLSTATEs of the warnings that the last `run` caused."""
        return tuple(notice.get(b"C", b"").decode() for notice in self._inner.notices)


def prove_password(address: ServerAddress, username: str, password: str, database: str, *, version: int = 0) -> None:
    """Log in until the server has proved that it keeps this very password, as we would keep it, and leave.

    Whatever it says after that (no such database, no CONNECT, NOLOGIN, a limit) is not about the password. Where it has
    nothing to say, it finds Terminate behind its own greeting and writes no FATAL line.

    Raises:
        VerifierRefused: it keeps something else than a verifier of ours of the password; the challenge is not hashed.
        SqlError: it refused before it had proved anything.
        DatabaseUnavailable: the server could not be reached or trusted.
        OutOfTime: there is no time left.
    """
    settings = _CONNECTION_SETTINGS | _newer_settings(version)
    with suppress(_Proved):
        _connect(_ProbeWire, address, (username, password, database), "rds-provisioner", settings)


class _Proved(Exception):
    """The server has proved that it keeps the password."""


# AuthenticationSASLFinal: the server's signature, by which it proves that it knows the password's verifier.
_SASL_FINAL = (12).to_bytes(4, "big")


class _Unproved(pg8000.native.InterfaceError):  # type: ignore[misc]
    """The server asked for, or claimed, something that does not prove that it knows the password too."""


class TunedConnection(pg8000.native.Connection):  # type: ignore[misc]
    """pg8000's connection, which waits as long as it is told, and by SCRAM only, both sides proved."""

    _sock: Any
    _usock: Any

    def set_timeout(self, seconds: float) -> None:
        """Bound the next answers of the server."""
        if self._usock is None:
            raise pg8000.native.InterfaceError("the connection is closed")
        self._usock.settimeout(min(seconds, READ_TIMEOUT_SECONDS))

    def run_and_close(self, sql: str) -> Any:
        """As `run`, with the Terminate right behind the query, which the server reads once it has answered."""
        context: Any = Context(sql)
        try:
            self.send_QUERY(sql)
            self._sock.write(TERMINATE_MSG)
            self._sock.flush()
            self.handle_messages(context)
            return context.rows
        finally:
            self._usock.close()
            self._usock = self._sock = None

    def close(self) -> None:
        """Say Terminate, if anybody is there to hear it: why a login failed is told, not that nobody is."""
        with suppress(pg8000.native.InterfaceError, OSError):
            super().close()

    _proved = False
    _least_rounds, _most_rounds, _salt_sizes = OWN_ROUNDS, MAX_ROUNDS, range(12, 1025)

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Answer SCRAM alone: no request for clear text (3) or MD5 (5), and no Ok (0) before the server's proof (12).

        Raises:
            VerifierRefused: the challenge is of a verifier that is not worth an answer.
        """
        code = int.from_bytes(data[:4], "big")
        if code == 3:
            raise _Unproved("it asks for the password in clear text")
        if code == 5:
            raise VerifierRefused("an MD5 hash")
        if code == 0 and not self._proved:
            raise _Unproved("it lets in without having proved itself by SCRAM")
        if code == 11:
            self._check_challenge(data[4:])
        super().handle_AUTHENTICATION_REQUEST(data, context)
        # By then scramp has compared the server's signature.
        self._proved = self._proved or data[:4] == _SASL_FINAL

    def handle_READY_FOR_QUERY(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Refuse a server that is ready for statements without having proved itself."""
        if not self._proved:
            raise _Unproved("it lets in without having proved itself by SCRAM")
        super().handle_READY_FOR_QUERY(data, context)

    def _check_challenge(self, message: bytes) -> None:
        """Judge rounds and salt before they cost anything (RFC 5802, server-first-message: r=, s=, i=)."""
        rounds = re.search(rb"(?:^|,)i=([0-9]{1,10})(?:,|$)", message)
        salt = re.search(rb"(?:^|,)s=([A-Za-z0-9+/=]+)(?:,|$)", message)
        if not rounds or not salt:
            raise _Unproved("its SCRAM challenge cannot be read")
        count, size = int(rounds[1]), len(base64.b64decode(salt[1] + b"==="))
        if not self._least_rounds <= count <= self._most_rounds:
            raise VerifierRefused(f"a SCRAM verifier of {count} rounds")
        if size not in self._salt_sizes:
            raise VerifierRefused(f"a SCRAM verifier with {size} bytes of salt")


class _ProbeWire(TunedConnection):
    """The same for a login that only asks whether a password is kept as we would keep it; it ends with `_Proved`."""

    # A longer salt proves as much: other tools make them.
    _most_rounds, _salt_sizes = OWN_ROUNDS, range(OWN_SALT_BYTES, 1025)

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Leave with the server's proof, which comes together with all else that it says to a login."""
        try:
            super().handle_AUTHENTICATION_REQUEST(data, context)
        except scramp.ScramException:
            if data[:4] != _SASL_FINAL:
                raise
            # A role can write itself a verifier whose two keys are of two passwords.
            raise VerifierRefused("a SCRAM verifier that does not prove the server") from None
        if self._proved:
            raise _Proved


def _connect(
    wire: type[TunedConnection],
    address: ServerAddress,
    login: tuple[str, str, str],
    name: str,
    settings: dict[str, str],
) -> TunedConnection:
    username, password, database = login
    patience = address.patience()
    if patience <= 0:
        raise out_of_time()
    try:
        sock = socket.create_connection((address.host, address.port), min(patience, CONNECT_TIMEOUT_SECONDS))
    except OSError as error:
        if _is_timeout(error) and patience < CONNECT_TIMEOUT_SECONDS:
            raise out_of_time() from None
        raise unreachable(address, _reason(error)) from None
    # Without this the start-up packet waits 40 ms for a delayed acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Logging in asks nothing that takes long.
    sock.settimeout(min(patience, LOGIN_TIMEOUT_SECONDS))
    try:
        return wire(
            username,
            host=address.host,
            port=address.port,
            database=database,
            password=password,
            ssl_context=address.tls,
            sock=sock,
            application_name=name,
            startup_params=settings,
        )
    except pg8000.native.DatabaseError as error:
        sock.close()
        raise _sql_error(error, secret=False) from None
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise untrusted(address, error.verify_message) from None
    except (VerifierRefused, _Proved):
        sock.close()
        raise
    except (_Unproved, scramp.ScramException) as error:
        sock.close()
        # A server's signature that is not the password's is all that scramp has left to refuse.
        raise unproved(address, str(error) if isinstance(error, _Unproved) else "its proof is wrong") from None
    except Exception as error:  # noqa: BLE001 - whatever a peer says, it ends one login and not the run
        sock.close()
        if _is_timeout(error) and patience < LOGIN_TIMEOUT_SECONDS:
            raise out_of_time() from None
        raise unreachable(address, _reason(error)) from None


def _sql_error(error: pg8000.native.DatabaseError, *, secret: bool) -> SqlError:
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    sqlstate, routine = str(fields.get("C", "")), str(fields.get("R", ""))
    message = "the server refused a statement about a role" if secret else str(fields.get("M", "refused"))
    return SqlError(sqlstate, message, routine)


def _is_timeout(error: Exception) -> bool:
    # pg8000 wraps what goes wrong while it sends.
    return isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)


def _reason(error: Exception) -> str:
    if _is_timeout(error):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    text = str(error.args[0]) if error.args else ""
    return "it offers no TLS" if "refuses SSL" in text else type(error).__name__
