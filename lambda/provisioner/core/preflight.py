"""What preflight was told in, checks out: one line each, and whether the function would work here.

A check is `ok`, `failed`, or `unknown` where it could not be made; only a failed one makes an environment not ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.errors import Finding
from provisioner.core.quoting import quote
from provisioner.core.text import join_names

SUPPORTED_VERSIONS = range(13, 19)


class CheckStatus(StrEnum):
    """What came of a check."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at and found, why that matters or came so, and what a person does now."""

    name: str
    status: CheckStatus
    what: str
    why: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        """As a person and the audit read it."""
        return "; ".join(part for part in (f"{self.name}: {self.what}", self.why, self.next_step) if part)


def ok(name: str, what: str, why: str = "", next_step: str = "") -> Check:
    """A check that passed; with a next step where something is worth knowing all the same."""
    return Check(name, CheckStatus.OK, what, why, next_step)


def failed(name: str, what: str, why: str = "", next_step: str = "") -> Check:
    """A check that did not pass: an apply would fail, or do less than it says."""
    return Check(name, CheckStatus.FAILED, what, why, next_step)


def unknown(name: str, what: str, why: str = "", next_step: str = "") -> Check:
    """A check that could not be made, or whose answer only somebody else knows."""
    return Check(name, CheckStatus.UNKNOWN, what, why, next_step)


def failed_by(name: str, findings: Sequence[Finding]) -> Check:
    """A check that met refusals: all of them in its one line."""
    return failed(name, "; ".join(finding.message for finding in findings), next_step=findings[0].next_step)


def not_made(names: Iterable[str], because: Check) -> list[Check]:
    """Checks that stand on one that did not pass."""
    return [unknown(name, "not looked at", f"{because.name} did not pass") for name in names]


def is_ready(checks: Sequence[Check]) -> bool:
    """Whether nothing failed; what could not be told is named and holds nobody up."""
    return all(check.status is not CheckStatus.FAILED for check in checks)


# --- what the server says of itself ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the administrator's session is told.

    `entering` are login roles that may enter `database`, `public_enters` says that every role may. `is_iam_member` is
    None where the server has no role rds_iam. `restricts_passwords` is the parameter rds.restrict_password_commands,
    empty where there is none.
    """

    version: int
    is_standby: bool
    administrator: str
    is_superuser: bool
    may_create_roles: bool
    may_create_databases: bool
    database: str
    public_enters: bool
    entering: tuple[str, ...]
    is_iam_member: bool | None
    restricts_passwords: str
    is_password_member: bool


@dataclass(frozen=True, slots=True)
class PublicSchema:
    """The schema `public` of template1: its owner, whether we may act as that, whether PUBLIC may create in it."""

    owner: str
    is_ours: bool
    public_creates: bool


def check_facts(facts: ServerFacts) -> list[Check]:
    """What the session was told, judged; the line of each in the order of the answer."""
    judges = (check_version, check_writer, check_rights, check_administrator_database, check_iam)
    return [judge(facts) for judge in judges]


def check_version(facts: ServerFacts) -> Check:
    """13 to 18 is what is tested."""
    what = f"PostgreSQL {facts.version}"
    if facts.version in SUPPORTED_VERSIONS:
        return ok("version", what)
    if facts.version < SUPPORTED_VERSIONS.start:
        return failed("version", what, "13 is the oldest that is supported", "upgrade the instance")
    return unknown("version", what, "18 is the newest that was tried", "look for a newer release of rds-provisioner")


def check_writer(facts: ServerFacts) -> Check:
    """A standby cannot be changed."""
    if facts.is_standby:
        return failed(
            "writer", "the server is a standby and cannot be written", next_step="point DB_HOST at the writer"
        )
    return ok("writer", "the server is a writer")


def check_rights(facts: ServerFacts) -> Check:
    """CREATEROLE and CREATEDB, and nothing more."""
    has = {"CREATEROLE": facts.may_create_roles, "CREATEDB": facts.may_create_databases}
    missing = [word for word, is_there in has.items() if not (is_there or facts.is_superuser)]
    who = f'"{facts.administrator}"'
    if missing:
        next_step = "let the master run infra/admin-role.sql, or ALTER ROLE ... " + " ".join(missing)
        return failed("rights", f"{who} lacks {' and '.join(missing)}", "no role or database could be made", next_step)
    if facts.is_superuser:
        return ok(
            "rights", f"{who} is a superuser", "it needs CREATEROLE and CREATEDB alone", "use infra/admin-role.sql"
        )
    return ok("rights", f"{who} has CREATEROLE and CREATEDB and is no superuser")


def check_administrator_database(facts: ServerFacts) -> Check:
    """Who else may enter the database in which the administrator works."""
    who = f'"{facts.database}"'
    if facts.public_enters:
        why = "no tenant can take or fake the run lock there, but each may open sessions in it"
        next_step = "its owner may GRANT CONNECT to the administrator and REVOKE CONNECT FROM PUBLIC"
        return ok("administrator_database", f"every role may enter {who} (PUBLIC has CONNECT)", why, next_step)
    others = [name for name in facts.entering if name != facts.administrator]
    return ok("administrator_database", f"{who} lets in the administrator and: {join_names(others) or 'nobody else'}")


def check_iam(facts: ServerFacts) -> Check:
    """A member of rds_iam is asked for a token and never for a password."""
    if facts.is_iam_member is None:
        return ok("rds_iam", "the server has no role rds_iam")
    if facts.is_iam_member and not facts.is_superuser:
        why = "RDS then asks it for a token, and its password lets nobody in"
        next_step = "take rds_iam from the administrator and from every role that it is a member of"
        return failed("rds_iam", f'"{facts.administrator}" is a member of rds_iam', why, next_step)
    return ok("rds_iam", f'"{facts.administrator}" is no member of rds_iam')


def check_public_schema(public: PublicSchema, facts: ServerFacts) -> Check:
    """Whether everybody's right to create in `public` can be taken back in a new database."""
    what = f'"public" of template1 belongs to "{public.owner}"'
    if not public.public_creates:
        return ok("public_schema", f"{what}, and PUBLIC may not create in it")
    if public.is_ours or public.owner == "pg_database_owner":
        return ok("public_schema", f"{what}; what PUBLIC may create there is ours to take back")
    why = "everybody may create in it, also in a new database, and only its owner can take that away"
    next_step = f'each plan warns of it and has the statements for "{public.owner}"'
    # Up to 14 that is how PostgreSQL comes; later somebody made it so.
    found = ok if facts.version < 15 else failed
    return found("public_schema", what, why, next_step)


def explain_password_refusal(facts: ServerFacts) -> str:
    """What is to be done where a verifier was refused."""
    if facts.restricts_passwords in {"on", "1"} and not facts.is_password_member:
        return (
            f"rds.restrict_password_commands is on: let the master GRANT rds_password TO {quote(facts.administrator)}"
        )
    return "see the SQLSTATE in the runbook; on RDS look at rds.restrict_password_commands"
