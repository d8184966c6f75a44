"""pg8000 as it is used here: its connection tuned, its login by SCRAM alone; scramp spared what it did before.

The only module that knows pg8000. What it raises has a name here, so that nobody else needs to know whose it is.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections import deque
from contextlib import suppress
from functools import cache
from typing import Any

import pg8000.native
import scramp
import scramp.core
from pg8000.core import TERMINATE_MSG, Context

from provisioner.core.credentials import OWN_ROUNDS, OWN_SALT_BYTES
from provisioner.edges.sqlstates import SqlError

# The most that is hashed at anybody's word: 0.1 s of processor time.
MAX_ROUNDS = 200_000

# What the driver raises: the server's own refusal, and a connection that is not there any more.
ServerError: type[Exception] = pg8000.native.DatabaseError
LostConnection: type[Exception] = pg8000.native.InterfaceError
ScramError: type[Exception] = scramp.ScramException

# A password is hashed 4096 times with the salt of its role, a third of the processor time of a login. The administrator
# has one salt for all its connections, and a verifier made here has the salt that its first login will be told.
_cached_hash = cache(scramp.core.hi)
scramp.core.hi = lambda function, password, salt, count: _cached_hash(function, password, salt, int(count))
# A function that stays warm keeps nothing of passwords.
clear_scram_cache = _cached_hash.cache_clear
# SASLprep (RFC 4013) leaves printable ASCII as it is, after looking each character up in a dozen tables for 0.25 ms.
_prepare = scramp.core.saslprep
scramp.core.saslprep = lambda text: text if text.isascii() and text.isprintable() else _prepare(text)


class VerifierRefused(SqlError):
    """What the server keeps of a password is nothing to log in with: too few or too many rounds, a short salt, MD5.

    Every role may set itself such a verifier, so for a role it is a password that has to be set again.
    """

    def __init__(self, kept_as: str) -> None:
        self.kept_as = kept_as
        super().__init__("28P01", f"the server keeps the password as {kept_as}")

    @property
    def next_step(self) -> str:
        """What brings the usual verifier back; the administrator cannot log in to do it itself."""
        return (
            "set the same password again where password_encryption is scram-sha-256 and scram_iterations is "
            f"{OWN_ROUNDS} to {MAX_ROUNDS}"
        )


class PasswordProved(Exception):
    """The server has proved that it keeps the password."""


# AuthenticationSASLFinal: the server's signature, by which it proves that it knows the password's verifier.
_SASL_FINAL = (12).to_bytes(4, "big")


class Unproved(pg8000.native.InterfaceError):  # type: ignore[misc]
    """The server asked for, or claimed, something that does not prove that it knows the password too."""


# pg8000 decodes by the name of a codec, and none of Python's is so by itself.
_TOLERANT = "utf_8_tolerant"


def _decode_any(data: Any, _errors: str = "") -> tuple[str, int]:
    return codecs.utf_8_decode(data, "replace", True)  # noqa: FBT003 - it takes nothing by name


codecs.register({_TOLERANT: codecs.CodecInfo(codecs.utf_8_encode, _decode_any, name=_TOLERANT)}.get)


class TunedConnection(pg8000.native.Connection):  # type: ignore[misc]
    """pg8000's connection, which waits as long as it is told, and by SCRAM only, both sides proved."""

    _sock: Any
    _usock: Any
    _client_encoding: str
    _backend_key_data: bytes

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # pg8000 keeps the last hundred notices; a run that grants to more objects must not lose a warning.
        self.notices: deque[Any] = deque(maxlen=10_000)

    def set_timeout(self, seconds: float) -> None:
        if self._usock is None:
            raise pg8000.native.InterfaceError("the connection is closed")
        self._usock.settimeout(seconds)

    def take_any_bytes(self) -> None:
        """Read what is no UTF-8 as U+FFFD; otherwise it is a `UnicodeError`, after which nothing can be asked."""
        self._client_encoding = _TOLERANT

    @property
    def pid(self) -> int:
        """The process of the server's that serves it."""
        return int.from_bytes(self._backend_key_data[:4], "big")

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

        Raises VerifierRefused: the challenge is of a verifier that is not worth an answer.
        """
        code = int.from_bytes(data[:4], "big")
        if code == 3:
            raise Unproved("it asks for the password in clear text")
        if code == 5:
            raise VerifierRefused("an MD5 hash")
        if code == 0 and not self._proved:
            raise Unproved("it lets in without having proved itself by SCRAM")
        if code == 11:
            self._check_challenge(data[4:])
        super().handle_AUTHENTICATION_REQUEST(data, context)
        # By then scramp has compared the server's signature.
        self._proved = self._proved or data[:4] == _SASL_FINAL

    def handle_READY_FOR_QUERY(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Refuse a server that is ready for statements without having proved itself."""
        if not self._proved:
            raise Unproved("it lets in without having proved itself by SCRAM")
        super().handle_READY_FOR_QUERY(data, context)

    def _check_challenge(self, message: bytes) -> None:
        """Judge rounds and salt before they cost anything (RFC 5802, server-first-message: r=, s=, i=)."""
        rounds = re.search(rb"(?:^|,)i=([0-9]{1,10})(?:,|$)", message)
        salt = re.search(rb"(?:^|,)s=([A-Za-z0-9+/=]+)(?:,|$)", message)
        if not rounds or not salt:
            raise Unproved("its SCRAM challenge cannot be read")
        count, size = int(rounds[1]), len(base64.b64decode(salt[1] + b"==="))
        if not self._least_rounds <= count <= self._most_rounds:
            raise VerifierRefused(f"a SCRAM verifier of {count} rounds")
        if size not in self._salt_sizes:
            raise VerifierRefused(f"a SCRAM verifier with {size} bytes of salt")


class ProbeConnection(TunedConnection):
    """For a login that only asks whether a password is kept as we would keep it; it ends with `PasswordProved`."""

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
            raise PasswordProved


def sql_error(error: Exception, *, secret: bool, pid: int = 0) -> SqlError:
    """The server's refusal, in the session `pid`; nothing of its text where the statement carried a `secret`."""
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    sqlstate, routine = str(fields.get("C", "")), str(fields.get("R", ""))
    message = "the server refused a statement about a role" if secret else str(fields.get("M", "refused"))
    return SqlError(sqlstate, message, routine, pid)
