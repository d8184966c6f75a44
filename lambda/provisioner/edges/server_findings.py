"""Why a server cannot be asked, as the error to raise: its host and port and a reason in, a finding out."""

from __future__ import annotations

import socket

from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime, ProvisioningError

OUT_OF_TIME = Finding(
    "out_of_time",
    "the function's time was nearly up",
    "call again: the next run continues; if it stays, see whether the server answers, or raise the timeout",
)
_PROBLEMS = {
    "unreachable": (
        "cannot be reached",
        (
            "check the instance, security groups, the VPC's DNS, DB_HOST and DB_PORT or the administrator's secret; "
            "if it takes connections and lets nobody in, a session holds a lock that no login gets past: see "
            "docs/security.md"
        ),
    ),
    "server_unproved": (
        "does not prove that it knows the password too",
        "see that it is PostgreSQL itself, with scram-sha-256, and the role is not in rds_iam; nothing was asked of it",
    ),
    "untrusted": (
        "shows a certificate that is not trusted",
        "check that DB_HOST is the instance's own name, and the certificate bundle current; no password was sent",
    ),
}


def unavailable(code: str, server: str, reason: str) -> DatabaseUnavailable:
    """A server that cannot be asked, by a code of `_PROBLEMS`."""
    what, next_step = _PROBLEMS[code]
    return DatabaseUnavailable(Finding(code, f"the server {server} {what}: {reason}", next_step))


def no_answer(server: str, error: Exception, *, is_late: bool = False) -> ProvisioningError:
    """Nothing at the address speaks to us; `is_late` says that the function's own time was all that was waited."""
    if is_late and is_timeout(error):
        return OutOfTime(OUT_OF_TIME)
    return unavailable("unreachable", server, explain(error))


def is_timeout(error: Exception) -> bool:
    # pg8000 wraps what goes wrong while it sends.
    return isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)


def explain(error: Exception) -> str:
    """What went wrong with a connection, in a person's words."""
    if is_timeout(error):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return "the name does not resolve"
    text = str(error.args[0]) if error.args else ""
    return "it offers no TLS" if "refuses SSL" in text else type(error).__name__


def locked_out(database: str, holder: str) -> Finding:
    """Nobody gets into the administrator's own database: any role may hold the lock of any database."""
    return Finding(
        "administrator_locked_out",
        f'{holder} holds a lock that lets nobody into database "{database}", where the administrator logs in',
        "as the RDS master, in another database (template1, say): pg_terminate_backend, or ROLLBACK PREPARED; then run "
        "again",
    )
