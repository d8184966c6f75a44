"""The secrets of a run: a declaration in, the credentials of every role and the administrator out, or all problems."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from provisioner.core.credentials import (
    OWN_SALT_BYTES,
    Credentials,
    Secret,
    parse_administrator_secret,
    parse_application_secret,
    scram_verifier,
)
from provisioner.core.declaration import ONE_FOR_ALL
from provisioner.core.errors import Finding, SecretUnavailable
from provisioner.core.model import Declaration, Entry, Settings
from provisioner.edges.aws import AwsClients
from provisioner.edges.clock import Deadline
from provisioner.edges.postgres import Login, ServerAddress, tls_context
from provisioner.edges.secret_store import read_secrets


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
        return scram_verifier(self.credentials[role].password, os.urandom(OWN_SALT_BYTES))


def load_secrets(declaration: Declaration, settings: Settings, clients: AwsClients, deadline: Deadline) -> RunSecrets:
    """Read every secret at once: the administrator's and one for each role.

    Raises `SecretUnavailable` with all that is wrong with any of them, where the administrator's cannot be used.
    """
    named = declaration.secrets(settings.app_secret_id)
    found = read_secrets(clients, [settings.admin_secret_id, *(name for _, name in named)])
    problems: list[Finding] = []
    administrator = None
    try:
        administrator = parse_administrator_secret(found[settings.admin_secret_id], settings)
    except SecretUnavailable as error:
        problems += error.findings
    credentials, unusable = parse_secrets(named, found, administrator.host if administrator else "")
    problems += unusable
    if administrator is None:
        raise SecretUnavailable(problems)
    address = ServerAddress(administrator.host, administrator.port, tls_context(settings.ca_bundle), deadline)
    login = Login(address, administrator.username, administrator.password, administrator.database)
    warnings = tuple(finding for item in credentials.values() for finding in item.warnings)
    return RunSecrets(login, credentials, tuple(problems), warnings)


def parse_secrets(
    named: Iterable[tuple[Entry, str]], found: Mapping[str, Secret | Finding], host: str
) -> tuple[dict[str, Credentials], tuple[Finding, ...]]:
    """The credentials of every role whose entries name one secret that can be used, and what is wrong with the others.

    `host` is that of the server, empty where it is not known.
    """
    credentials: dict[str, Credentials] = {}
    problems: list[Finding] = []
    for role, entries in groupby(sorted(named, key=lambda each: each[0].username), lambda each: each[0].username):
        read = [(entry, found[name]) for entry, name in entries]
        arns = {secret.arn for _, secret in read if isinstance(secret, Secret)}
        usable: list[Credentials] = []
        broken: list[Finding] = []
        for entry, secret in read:
            try:
                usable.append(parse_application_secret(secret, entry, host))
            except SecretUnavailable as error:
                broken += error.findings
        if len(arns) > 1:
            message = f'username "{role}" would have {len(arns)} passwords, one of each secret that it names'
            problems.append(Finding("two_secrets", message, ONE_FOR_ALL, username=role))
        # A role with several databases has one secret, which can name only one of them.
        elif usable and all(isinstance(secret, Secret) for _, secret in read):
            credentials[role] = usable[0]
        else:
            problems += broken
    return credentials, tuple(problems)
