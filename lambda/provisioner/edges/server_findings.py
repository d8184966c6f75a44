"""Why a server cannot be asked, as the error to raise: its host and port and a reason in, a finding out."""

from __future__ import annotations

from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime


def out_of_time() -> OutOfTime:
    """There is no time left for an answer."""
    return OutOfTime(
        Finding(
            "out_of_time",
            "the function's time was nearly up before the server had answered",
            "call again: the next run continues; if it stays, see whether the server answers, or give the function "
            "more time or more MAX_WORKERS",
        )
    )


def unreachable(server: str, reason: str) -> DatabaseUnavailable:
    """Nothing at the address speaks to us."""
    return DatabaseUnavailable(
        Finding(
            "unreachable",
            f"the server {server} cannot be reached: {reason}",
            "check that the instance is available, the security group, and DB_HOST and DB_PORT or the administrator's "
            "secret; if it takes connections and lets nobody in, a session holds a lock that no login gets past: see "
            "docs/security.md",
        )
    )


def unproved(server: str, reason: str) -> DatabaseUnavailable:
    """It lets in, or would, without having proved itself."""
    return DatabaseUnavailable(
        Finding(
            "server_unproved",
            f"the server {server} does not prove that it knows the password too: {reason}",
            "make sure that it is PostgreSQL itself, reached directly, with scram-sha-256, and that the role is no "
            "member of rds_iam (RDS asks its members for a token: see the runbook); nothing was asked of it",
        )
    )


def untrusted(server: str, reason: str) -> DatabaseUnavailable:
    """Its certificate is none that the bundle vouches for."""
    return DatabaseUnavailable(
        Finding(
            "untrusted",
            f"the certificate of the server {server} is not trusted: {reason}",
            "check that DB_HOST is the instance's own name and that the certificate bundle is current; no password "
            "was sent",
        )
    )


def locked_out(database: str, holder: str) -> Finding:
    """Nobody gets into the administrator's own database: any role may hold the lock of any database."""
    return Finding(
        "administrator_locked_out",
        f'{holder} holds a lock that lets nobody into database "{database}", where the administrator logs in',
        "as the RDS master, in another database (template1, say): pg_terminate_backend, or ROLLBACK PREPARED; then run "
        "again",
    )
