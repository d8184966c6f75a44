"""The text of a secret in, credentials out, and a password in, the verifier that the server is sent out."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from dataclasses import dataclass, field

from scramp import ScramException, ScramMechanism
from scramp.utils import saslprep

from provisioner.core.errors import Finding
from provisioner.core.fields import Problems
from provisioner.core.model import Entry, Settings

# The server's own default (scram_iterations from PostgreSQL 16 on, fixed before).
ITERATIONS = 4096

_MECHANISM = ScramMechanism("SCRAM-SHA-256")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$[0-9]+:([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_KEY_BYTES = 32  # of SHA-256
_MAX_NAME_BYTES = 63


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an application logs in with; `warnings` is what its secret says that should not be so."""

    username: str
    password: str = field(repr=False)
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Administrator:
    """How the administrator reaches its server: the login, the address and the database of the run lock."""

    username: str
    password: str = field(repr=False)
    host: str
    port: int
    database: str


def parse_application_secret(
    secret_string: str | None, entry: Entry, secret_id: str, administrator_host: str
) -> Credentials | tuple[Finding, ...]:
    """Read an application's secret, or say everything that is wrong with it.

    `secret_string` is None for a binary secret. Only `password` is indispensable; `username` and `dbname`, where
    present, must be the declared ones; another host than the administrator's is a warning. Other fields are not read.
    """
    secret = _Secret(secret_id, entry)
    fields = secret.open(secret_string)
    if fields is None:
        return tuple(secret.problems.findings)
    password = secret.password(fields)
    for name, declared in (("username", entry.username), ("dbname", entry.database)):
        if fields.get(name, declared) != declared:
            what = f'has another "{name}" than the declared "{declared}"'
            secret.refuse(f"secret_{name}", what, "correct the secret or the declaration")
    if secret.problems.findings:
        return tuple(secret.problems.findings)
    host = fields.get("host", administrator_host)
    if not (isinstance(host, str) and host.rstrip(".").lower() == administrator_host.rstrip(".").lower()):
        what = f'names another "host" than the server that is provisioned, {administrator_host}'
        secret.refuse("secret_host", what, "correct the secret if the application is to log in there")
    return Credentials(entry.username, password, warnings=tuple(secret.problems.findings))


def parse_administrator_secret(
    secret_string: str | None, secret_id: str, settings: Settings
) -> Administrator | tuple[Finding, ...]:
    """Read the administrator's secret, or say everything that is wrong with it.

    A secret that RDS manages holds only `username` and `password`: `DB_HOST`, `DB_PORT` and `DB_NAME` fill in what
    the secret lacks.
    """
    secret = _Secret(secret_id)
    fields = secret.open(secret_string)
    if fields is None:
        return tuple(secret.problems.findings)
    given = {"host": settings.database_host, "port": settings.database_port, "dbname": settings.database_name, **fields}
    password = secret.password(fields)
    username, host, database = (_printable(given.get(name)) for name in ("username", "host", "dbname"))
    port = _parse_port(given["port"])
    if not 0 < len(username.encode()) <= _MAX_NAME_BYTES:
        secret.refuse("secret_username", 'has no usable "username"', "add it to the secret")
    if not host:
        next_step = "add it to the secret, or set DB_HOST"
        secret.refuse("secret_host", 'has no usable "host", and DB_HOST gives none', next_step)
    if not port:
        secret.refuse("secret_port", 'has a "port" that is none', "correct the secret")
    if not 0 < len(database.encode()) <= _MAX_NAME_BYTES:
        secret.refuse("secret_dbname", 'has no usable "dbname"', "correct the secret")
    return tuple(secret.problems.findings) or Administrator(username, password, host, port, database)


def scram_verifier(password: str, salt: bytes) -> str:
    """The verifier that `PASSWORD '...'` takes in place of the password; the salt is 16 random bytes from outside.

    The password is one that `parse_application_secret` has let through; otherwise scramp raises `ScramException`.
    Format: https://www.postgresql.org/docs/current/catalog-pg-authid.html
    """
    _, stored_key, server_key, _ = _MECHANISM.make_auth_info(password, iteration_count=ITERATIONS, salt=salt)
    encoded = [base64.b64encode(each).decode("ascii") for each in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _is_verifier(password: str) -> bool:
    """Whether the text is a SCRAM-SHA-256 verifier and no password, by the measure of the server.

    What only looks like one is a password to the server (`parse_scram_secret`), so it is one here.
    """
    match = _VERIFIER.fullmatch(password)
    try:
        salt, *keys = (base64.b64decode(each, validate=True) for each in match.groups()) if match else (b"",)
    except ValueError:
        return False
    return bool(salt) and [len(key) for key in keys] == [_KEY_BYTES, _KEY_BYTES]


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret while it is read; what is wrong with it is said without a word of what is in it."""

    secret_id: str
    subject: Entry | None = None
    problems: Problems = field(default_factory=Problems)

    def refuse(self, code: str, what: str, next_step: str) -> None:
        self.problems.refuse(code, f'the secret "{self.secret_id}" {what}', next_step, "", self.subject)

    def open(self, secret_string: str | None) -> dict[str, object] | None:
        next_step = 'store it as a JSON object with at least "password"'
        if secret_string is None:
            self.refuse("secret_binary", "is binary", next_step)
            return None
        try:
            fields = json.loads(secret_string)
        except (ValueError, RecursionError):
            # The parser's own message quotes nothing, but its position would tell the length of a bare password.
            self.refuse("secret_not_json", "is not JSON", next_step)
            return None
        if not isinstance(fields, dict):
            self.refuse("secret_not_object", "is not a JSON object", next_step)
            return None
        return fields

    def password(self, fields: dict[str, object]) -> str:
        password = fields.get("password")
        if not isinstance(password, str) or not password:
            what = 'has no "password", or one that is empty or no text'
            self.refuse("secret_without_password", what, "add it to the secret")
            return ""
        if _is_verifier(password):
            what = "holds a SCRAM verifier and no password: nobody can log in with that"
            self.refuse("secret_password_verifier", what, "store the password itself")
        elif any(unicodedata.category(each) in {"Cc", "Cs"} for each in password):
            what = "has control characters in its password (a line break at its end?)"
            self.refuse("secret_password_controls", what, "store the password without them")
        elif not _survives_saslprep(password):
            what = "has characters in its password that SASLprep (RFC 4013) refuses"
            self.refuse("secret_password_characters", what, "generate a password of ASCII characters")
        return password


def _survives_saslprep(password: str) -> bool:
    """Whether scramp, which also logs in with it, takes the password, and something of it is left."""
    # What is ASCII is left as it is, after looking each character up in a dozen tables: 0.1 ms for every secret.
    if password.isascii():
        return True
    try:
        return bool(saslprep(password))
    except ScramException:
        return False


def _parse_port(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = int(value)
    is_port = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535
    return int(str(value)) if is_port else 0


def _printable(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else ""
