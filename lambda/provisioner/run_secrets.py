"""The secrets of a run: a declaration in, the credentials of every role and the administrator out, or all problems."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.core.credentials import (
    Credentials,
    parse_administrator_secret,
    parse_application_secret,
    scram_verifier,
)
from provisioner.core.errors import Finding, SecretUnavailable
from provisioner.core.model import Declaration, Settings
from provisioner.edges.aws import AwsClients
from provisioner.edges.clock import Deadline
from provisioner.edges.postgres import Login, ServerAddress, tls_context
from provisioner.edges.secret_store import read_secrets

SALT_BYTES = 16


@dataclass(frozen=True)
class RunSecrets:
    """The secrets of a run, read before anything is touched; none of them is in a plan, a log or an answer.

    `problems` are those of the applications' secrets; a role that has one has no credentials.
    """

    login: Login
    credentials: Mapping[str, Credentials] = field(repr=False)
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def make_verifier(self, role: str) -> str:
        """A SCRAM verifier of a role's password; costs a millisecond."""
        return scram_verifier(self.credentials[role].password, os.urandom(SALT_BYTES))


def load_secrets(declaration: Declaration, settings: Settings, clients: AwsClients, deadline: Deadline) -> RunSecrets:
    """Read every secret at once: the administrator's and one for each role.

    Raises `SecretUnavailable` with all that is wrong with any of them, where the administrator's cannot be used.
    """
    names = [entry.secret_id(settings.app_secret_id) for entry in declaration.entries]
    found = read_secrets(clients, [settings.admin_secret_id, *names])
    problems: list[Finding] = []
    administrator = None
    try:
        administrator = parse_administrator_secret(found[settings.admin_secret_id], settings)
    except SecretUnavailable as error:
        problems += error.findings
    host = administrator.host if administrator else ""
    credentials: dict[str, Credentials] = {}
    for role, entries in declaration.by_role.items():
        broken: list[Finding] = []
        for entry in entries:
            secret = found[entry.secret_id(settings.app_secret_id)]
            try:
                credentials.setdefault(role, parse_application_secret(secret, entry, host))
            except SecretUnavailable as error:
                broken += error.findings
        # A role with several databases has one secret, which can name only one of them.
        problems += [] if role in credentials else broken
    if administrator is None:
        raise SecretUnavailable(problems)
    address = ServerAddress(administrator.host, administrator.port, tls_context(settings.ca_bundle), deadline)
    login = Login(address, administrator.username, administrator.password, administrator.database)
    warnings = tuple(finding for item in credentials.values() for finding in item.warnings)
    return RunSecrets(login, credentials, tuple(problems), warnings)
