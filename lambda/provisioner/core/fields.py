"""Untrusted mappings come in; values go out, and everything that is wrong with them at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provisioner.core.errors import Finding

if TYPE_CHECKING:
    from provisioner.core.errors import ProvisioningError
    from provisioner.core.model import Entry

MAX_FINDINGS = 200
"""More problems than this are counted, not listed: the answer of an invocation has a size."""


@dataclass(slots=True)
class Problems:
    """Where findings are collected while something is read; `file_name` is what their places begin with."""

    file_name: str = ""
    findings: list[Finding] = field(default_factory=list)
    suppressed: int = 0

    def refuse(self, code: str, message: str, next_step: str, where: str, subject: Entry | None = None) -> None:
        """Keep one problem; `where` comes from `location`, `subject` gives the audit row its names."""
        if len(self.findings) >= MAX_FINDINGS:
            self.suppressed += 1
            return
        database, username = (subject.database, subject.username) if subject else ("", "")
        self.findings.append(Finding(code, message, next_step, where, database, username))

    def location(self, line: int, path: str = "") -> str:
        """Return `terraform.tfvars:12 application_databases.keycloak`."""
        return f"{self.file_name}{f':{line}' if line else ''} {path}".strip()

    def raise_if_any(self, error: type[ProvisioningError]) -> None:
        """Raise `error` with everything collected, if anything was."""
        if self.suppressed:
            message = f"{self.suppressed} more problems are not listed"
            self.findings.append(Finding("too_many", message, "mend those above first", self.file_name))
        if self.findings:
            raise error(self.findings)
