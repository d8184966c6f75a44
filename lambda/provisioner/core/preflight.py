"""What preflight was told in, checks out: one line each, and whether the function would work here.

A check is `ok`, `failed`, or `unknown` where it could not be made; only a failed one makes an environment not ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.errors import Finding
from provisioner.core.text import join_names, sanitize

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

    @property
    def text(self) -> str:
        return "; ".join(part for part in (self.what, self.why, self.next_step) if part)


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


def is_ready(checks: Sequence[Check]) -> bool:
    """Whether nothing failed; what could not be told is named and holds nobody up."""
    return all(check.status is not CheckStatus.FAILED for check in checks)


# --- what the answer has room for -----------------------------------------------------------------------------------

# Of a fleet's secrets more lines than this are counted.
MAX_CHECKS = 300
_MAX_TEXT = 300
_MAX_NAME = 64
# By how much they matter; of many checks the first are shown.
_SYMBOLS = {CheckStatus.FAILED: "!", CheckStatus.UNKNOWN: "?", CheckStatus.OK: "+"}


def count_checks(checks: Iterable[Check]) -> str:
    """The sums in one line."""
    counts = Counter(check.status for check in checks)
    return "Preflight: " + ", ".join(f"{counts[status]} {status}" for status in CheckStatus) + "."


def render_checks(checks: Sequence[Check]) -> str:
    """A line a check: `+` ok, `!` failed, `?` unknown, and the sums."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"  {_SYMBOLS[check.status]} {check.name:<{width}}  {check.text}" for check in checks]
    return "\n".join([*lines, "", count_checks(checks)])


def shorten(checks: Sequence[Check]) -> list[Check]:
    """The checks that an answer has room for, those that are not ok before the others where there are too many."""
    kept = list(checks)
    if len(kept) > MAX_CHECKS:
        ranked = sorted(checks, key=lambda check: list(_SYMBOLS).index(check.status))
        kept, left = ranked[:MAX_CHECKS], ranked[MAX_CHECKS:]
        more = f"{len(left)} more checks"
        kept.append(Check("more", left[0].status, more, "the CSV of the run has every one of them"))
    return [
        Check(
            sanitize(check.name, _MAX_NAME),
            check.status,
            *(sanitize(text, _MAX_TEXT) for text in (check.what, check.why, check.next_step)),
        )
        for check in kept
    ]


# --- what the server says of itself ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the administrator's session is told.

    `entering` are login roles that may enter `database`, `public_enters` says that every role may.
    """

    version: int
    is_standby: bool
    administrator: str
    may_create_roles: bool
    may_create_databases: bool
    database: str
    public_enters: bool
    entering: tuple[str, ...]
    is_iam_member: bool


@dataclass(frozen=True, slots=True)
class PublicSchema:
    """The schema `public` of template1: its owner, whether we may act as that, whether PUBLIC may create in it."""

    owner: str
    is_ours: bool
    public_creates: bool


def check_facts(facts: ServerFacts) -> Iterator[Check]:
    """What the session was told, judged."""
    who = f'"{facts.administrator}"'
    yield check_version(facts.version)
    if facts.is_standby:
        next_step = "point DB_HOST at the writer"
        yield failed("writer", "the server is a standby and cannot be written", next_step=next_step)
    else:
        yield ok("writer", "the server is a writer")
    has = {"CREATEROLE": facts.may_create_roles, "CREATEDB": facts.may_create_databases}
    if missing := [word for word, is_there in has.items() if not is_there]:
        next_step = "let the master run infra/admin-role.sql, or ALTER ROLE ... " + " ".join(missing)
        yield failed("rights", f"{who} lacks {' and '.join(missing)}", "no role or database could be made", next_step)
    else:
        yield ok("rights", f"{who} has CREATEROLE and CREATEDB")
    yield _check_administrator_database(facts)
    if facts.is_iam_member:
        why = "RDS then asks it for a token, and its password lets nobody in"
        next_step = "take rds_iam from the administrator and from every role that it is a member of"
        yield failed("rds_iam", f"{who} is a member of rds_iam", why, next_step)
    else:
        yield ok("rds_iam", f"{who} is no member of rds_iam")


def check_version(version: int) -> Check:
    """13 to 18 is what is tested."""
    what = f"PostgreSQL {version}"
    if version in SUPPORTED_VERSIONS:
        return ok("version", what)
    if version < SUPPORTED_VERSIONS.start:
        return failed("version", what, "13 is the oldest that is supported", "upgrade the instance")
    return unknown("version", what, "18 is the newest that was tried", "look for a newer release of rds-provisioner")


def _check_administrator_database(facts: ServerFacts) -> Check:
    """Who else may enter the database in which the administrator works."""
    who = f'"{facts.database}"'
    if facts.public_enters:
        why = "no tenant can take or fake the run lock there, but each may open sessions in it"
        next_step = "its owner may GRANT CONNECT to the administrator and REVOKE CONNECT FROM PUBLIC"
        return ok("administrator_database", f"every role may enter {who} (PUBLIC has CONNECT)", why, next_step)
    others = [name for name in facts.entering if name != facts.administrator]
    return ok("administrator_database", f"{who} lets in the administrator and: {join_names(others) or 'nobody else'}")


def check_public_schema(public: PublicSchema | None, facts: ServerFacts) -> Check:
    """Whether everybody's right to create in `public` can be taken back in a new database."""
    if public is None:
        return ok("public_schema", 'template1 has no schema "public"')
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
