"""What a run says when something is wrong: findings, which are values, and the errors that end a run.

A finding is one thing about one subject: what it is, which one, why it matters and the next step. Findings are
collected and shown all at once. An error carries every finding that led to it; its class name is the `errorType`
of the failed invocation and is part of the contract.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import attrgetter

from provisioner.core.text import sanitize

# A failed invocation carries its message in 256 KiB, as JSON that may write a character in six bytes a half; the audit
# has every finding.
MAX_SHOWN = 200
_MAX_BYTES = 180_000
_MAX_FINDING = 4_000
MAX_ALIKE = 5


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One refusal, blocker or warning.

    `code` is a stable snake_case word ("foreign_role"); `message` says what, which one and why; `next_step` is what a
    person does now; `where` is a place in the input ("terraform.tfvars:12 application_databases.keycloak.username").
    No field ever holds a secret, nor a value of the snapshot that could be one.
    """

    code: str
    message: str
    next_step: str = ""
    where: str = ""
    database: str = ""
    username: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.next_step}" if self.next_step else text


def shorten_alike(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort, and cut those of one code about one subject, so that one tenant's noise does not hide the others'."""
    shortened = []
    subject = attrgetter("code", "database", "username")
    for (code, database, username), alike in groupby(sorted(set(findings), key=subject), subject):
        ordered = sorted(alike)
        shortened += ordered[:MAX_ALIKE]
        if len(ordered) > MAX_ALIKE:
            what = " ".join(f'{kind} "{name}"' for kind, name in (("role", username), ("database", database)) if name)
            message = f"{len(ordered) - MAX_ALIKE} more of {code} were found for {what}"
            shortened.append(Finding(code, message, "mend these first", database=database, username=username))
    return tuple(sorted(shortened))


class ProvisioningError(Exception):
    """The base of every error that ends a run; `findings` is never empty."""

    def __init__(self, findings: Iterable[Finding] | Finding) -> None:
        self.findings = (findings,) if isinstance(findings, Finding) else tuple(findings)
        super().__init__(_message(self.findings))


class InvalidRequest(ProvisioningError):
    """The event is not one that this function serves."""


class InvalidSnapshot(ProvisioningError):
    """The tfvars snapshot cannot be read, or does not declare something that can be provisioned."""


class StaleSnapshot(ProvisioningError):
    """The snapshot version asked for is no longer the newest one."""


class ApprovalRequired(ProvisioningError):
    """The environment is gated and the apply does not carry the approval, or the digest, that it needs."""


class PlanChanged(ProvisioningError):
    """The plan is not the one that was approved."""


class PlanBlocked(ProvisioningError):
    """The plan has blockers: what they stand against was left, everything else is done."""


class SecretUnavailable(ProvisioningError):
    """A secret is missing or cannot be used."""


class DatabaseUnavailable(ProvisioningError):
    """The server cannot be reached, trusted or used."""


class RunInProgress(ProvisioningError):
    """Another run holds the lock of this server."""


class OutOfTime(ProvisioningError):
    """The run stopped before the function's time was up; the next one continues."""


class ApplyFailed(ProvisioningError):
    """A change failed, or the server is not what was declared after it."""


class AuditUnavailable(ProvisioningError):
    """The plan or the audit could not be stored."""


def _message(findings: tuple[Finding, ...]) -> str:
    texts = [sanitize(str(finding), _MAX_FINDING) for finding in findings[:MAX_SHOWN]]
    if len(findings) == 1:
        return texts[0]
    lines = [f"{number}. {text}" for number, text in enumerate(texts, start=1)]
    sizes = accumulate(len(json.dumps(line)) for line in lines)
    shown = [line for line, size in zip(lines, sizes, strict=True) if size <= _MAX_BYTES]
    if len(findings) > len(shown):
        shown.append(f"... and {len(findings) - len(shown)} more, each a row of the audit")
    return "\n".join([f"{len(findings)} problems:", *shown])
