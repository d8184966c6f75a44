"""The text of a secret in, credentials out, and a password in, the verifier that the server is sent out."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace

from scramp import ScramException, ScramMechanism
from scramp.utils import saslprep

from provisioner.core.errors import Finding, SecretUnavailable
from provisioner.core.fields import Fields, Problems
from provisioner.core.model import Entry, Settings

# Of verifiers made here: the server's own default (scram_iterations from 16 on, fixed before), and RFC 7677's least.
OWN_ROUNDS, OWN_SALT_BYTES = 4096, 16

_MECHANISM = ScramMechanism("SCRAM-SHA-256")
# By the measure of the server (`parse_scram_secret`): a salt and two keys of 32 bytes, in base64. What only looks like
# one is a password to the server.
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$[0-9]+:(?:[A-Za-z0-9+/]{4})*[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/][A-Za-z0-9+/=])"
    r"\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}="
)
MAX_NAME_BYTES = 63


@dataclass(frozen=True, slots=True)
class Secret:
    """The current version of a secret; `text` is None where it is binary."""

    secret_id: str
    arn: str
    version_id: str
    text: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an application logs in with, and the secret that it comes from; `warnings` is what that should not say."""

    username: str
    password: str = field(repr=False)
    secret: Secret = Secret("", "", "", None)
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Administrator:
    """How the administrator reaches its server: the login, the address and the database of the run lock."""

    username: str
    password: str = field(repr=False)
    host: str
    port: int
    database: str


def parse_application_secret(found: Secret | Finding, entry: Entry, administrator_host: str) -> Credentials:
    """Read an application's secret, where it was found; raise `SecretUnavailable` with everything that is wrong.

    Only `password` is indispensable; `username` and `dbname`, where present, must be the declared ones; another host
    than the administrator's is a warning. Other fields are not read.
    """
    found, secret = _open(found, entry)
    password = _password(secret)
    for name, declared in (("username", entry.username), ("dbname", entry.database)):
        if secret.values.get(name, declared) != declared:
            what = f'has another "{name}" than the declared "{declared}"'
            _refuse(secret, f"secret_{name}", what, "correct the secret or the declaration")
    secret.problems.raise_if_any(SecretUnavailable)
    host = secret.values.get("host", administrator_host)
    if not (isinstance(host, str) and host.rstrip(".").lower() == administrator_host.rstrip(".").lower()):
        what = f'names another "host" than the server that is provisioned, {administrator_host}'
        _refuse(secret, "secret_host", what, "correct the secret if the application is to log in there")
    return Credentials(entry.username, password, found, tuple(secret.problems.findings))


def parse_administrator_secret(found: Secret | Finding, settings: Settings) -> Administrator:
    """Read the administrator's secret, where it was found; raise `SecretUnavailable` with everything that is wrong.

    A secret that RDS manages holds only `username` and `password`: `DB_HOST`, `DB_PORT` and `DB_NAME` fill in what
    the secret lacks.
    """
    _, secret = _open(found)
    given = {"host": settings.database_host, "port": settings.database_port, "dbname": settings.database_name}
    secret = replace(secret, values={**given, **secret.values})
    password = _password(secret)
    username, host, database = (_printable(secret, name) for name in ("username", "host", "dbname"))
    port = _port(secret)
    if not 0 < len(username.encode()) <= MAX_NAME_BYTES:
        _refuse(secret, "secret_username", 'has no usable "username"', "add it to the secret")
    if not host:
        next_step = "add it to the secret, or set DB_HOST"
        _refuse(secret, "secret_host", 'has no usable "host", and DB_HOST gives none', next_step)
    if not port:
        _refuse(secret, "secret_port", 'has a "port" that is none', "correct the secret")
    if not 0 < len(database.encode()) <= MAX_NAME_BYTES:
        _refuse(secret, "secret_dbname", 'has no usable "dbname"', "correct the secret")
    secret.problems.raise_if_any(SecretUnavailable)
    return Administrator(username, password, host, port, database)


def scram_verifier(password: str, salt: bytes) -> str:
    """The verifier that `PASSWORD '...'` takes in place of the password; the salt is 16 random bytes from outside.

    The password is one that `parse_application_secret` has let through; otherwise scramp raises `ScramException`.
    Format: https://www.postgresql.org/docs/current/catalog-pg-authid.html
    """
    _, stored_key, server_key, _ = _MECHANISM.make_auth_info(password, iteration_count=OWN_ROUNDS, salt=salt)
    encoded = [base64.b64encode(each).decode("ascii") for each in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${OWN_ROUNDS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _open(found: Secret | Finding, subject: Entry | None = None) -> tuple[Secret, Fields]:
    if isinstance(found, Finding):
        about = {"database": subject.database, "username": subject.username} if subject else {}
        raise SecretUnavailable(replace(found, **about))
    try:
        values = json.loads(found.text or "")
    except (ValueError, RecursionError):
        # The parser's own message quotes nothing, but its position would tell the length of a bare password.
        values = None
    secret = Fields(values, Problems(), "", prefix=f'the secret "{found.secret_id}" ', subject=subject)
    next_step = 'store it as a JSON object with at least "password"'
    if found.text is None:
        _refuse(secret, "secret_binary", "is binary", next_step)
    elif not isinstance(values, dict):
        _refuse(secret, "secret_not_json", "is not a JSON object", next_step)
    secret.problems.raise_if_any(SecretUnavailable)
    return found, secret


def _refuse(secret: Fields, code: str, what: str, next_step: str) -> None:
    """Keep a problem with a secret, said without a word of what is in it."""
    secret.refuse(code, "", f"{secret.prefix}{what}", next_step)


def _password(secret: Fields) -> str:
    password = secret.find("password", str)
    if not password:
        what = 'has no "password", or one that is empty or no text'
        _refuse(secret, "secret_without_password", what, "add it to the secret")
        return ""
    if _VERIFIER.fullmatch(password):
        what = "holds a SCRAM verifier and no password: nobody can log in with that"
        _refuse(secret, "secret_password_verifier", what, "store the password itself")
    elif not _survives_saslprep(password):
        what = "has control characters (a line break at its end?) or others in its password that no login takes"
        _refuse(secret, "secret_password_characters", what, "store the password without them, best in ASCII")
    return password


def _survives_saslprep(password: str) -> bool:
    """Whether scramp, which also logs in with it, takes the password (RFC 4013), and something of it is left."""
    # Of ASCII only controls are refused, after looking each character up in a dozen tables: 0.1 ms for every secret.
    if password.isascii():
        return password.isprintable()
    try:
        return bool(saslprep(password))
    except ScramException:
        return False


def _port(secret: Fields) -> int:
    digits = str(secret.values["port"])
    return int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) and int(digits) <= 65535 else 0


def _printable(secret: Fields, name: str) -> str:
    text = secret.find(name, str) or ""
    return text if text.isprintable() else ""
