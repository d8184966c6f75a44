"""Why a server cannot be asked, as the error to raise: an address and a reason in, a finding with a next step out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.core.errors import DatabaseUnavailable, Finding, OutOfTime

if TYPE_CHECKING:
    from provisioner.edges.postgres import ServerAddress


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


def unreachable(address: ServerAddress, reason: str) -> DatabaseUnavailable:
    """Nothing at the address speaks to us."""
    return DatabaseUnavailable(
        Finding(
            "unreachable",
            f"the server {address.host}:{address.port} cannot be reached: {reason}",
            "check that the instance is available, the security group, and DB_HOST and DB_PORT or the administrator's "
            "secret",
        )
    )


def unproved(address: ServerAddress, reason: str) -> DatabaseUnavailable:
    """It lets in, or would, without having proved itself."""
    return DatabaseUnavailable(
        Finding(
            "server_unproved",
            f"the server {address.host}:{address.port} does not prove that it knows the password too: {reason}",
            "make sure that it is PostgreSQL itself, reached directly, with scram-sha-256, and that the role is no "
            "member of rds_iam (RDS asks its members for a token: see the runbook); nothing was asked of it",
        )
    )


def untrusted(address: ServerAddress, reason: str) -> DatabaseUnavailable:
    """Its certificate is none that the bundle vouches for."""
    return DatabaseUnavailable(
        Finding(
            "untrusted",
            f"the certificate of the server {address.host}:{address.port} is not trusted: {reason}",
            "check that DB_HOST is the instance's own name and that the certificate bundle is current; no password "
            "was sent",
        )
    )
