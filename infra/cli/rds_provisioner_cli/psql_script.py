"""A stored plan in, a script for psql 15 or later out, which does what the function would, in the same transactions."""

from __future__ import annotations

import re
from typing import Any

from rds_provisioner_cli.stopped import Stopped

# What the plan says in place of a password, after the role that it is for.
_PASSWORD = re.compile(r"""^((?:CREATE|ALTER) ROLE ("(?:[^"]|"")*").*) PASSWORD '\*+'$""", re.DOTALL)

_HEAD = """\
-- rds-provisioner, environment {environment}: plan {digest},
-- made from snapshot {version}. For psql 15 or later, as the administrator that the plan was made for:
--   psql "host=... dbname=postgres user=... sslmode=verify-full sslrootcert=..." --no-psqlrc --file THIS
-- It stops at the first error and can be run until then. A warning that nothing was granted (01007) or revoked (01006)
-- is an error too. Afterwards the function itself says whether anything is left: its next plan must be no_change.
"""
_NO_CHANGE = "-- Nothing to do.\n\\echo done\n"
_SETTINGS = r"""
\set ON_ERROR_STOP on
\set QUIET on
SET search_path = pg_catalog, pg_temp;
SET standard_conforming_strings = on;
SET statement_timeout = '5min';
SET lock_timeout = '30s';
"""


def write_script(plan: dict[str, Any]) -> str:
    """The script of a stored plan; without one there is nothing to do.

    A password is no part of a plan: psql asks for it and sends a verifier, or takes a verifier from the environment.

    Raises:
        Stopped: a role is quarantined or retired in the plan; what is done then follows from what is found on the way.
    """
    if not plan:
        return _NO_CHANGE
    if leaving := plan["statements"].get("leaving"):
        names = ", ".join(sorted({step["role"] for step in leaving}))
        raise Stopped(
            f"no script is written of a plan in which roles leave ({names}): plan without --quarantine and --retire; "
            "docs/operations.md has how a role is removed by hand"
        )
    head = _HEAD.format(
        environment=_comment(plan["environment"]),
        digest=_comment(plan["plan_digest"]),
        version=_comment(plan["snapshot_version"]),
    )
    statements = plan["statements"]
    parts = [head, _explain_passwords(statements["roles"]), r"\set home :DBNAME", _SETTINGS]
    if statements["roles"]:
        parts += ["-- roles", "BEGIN;", *_roles(statements["roles"]), "COMMIT;", ""]
    for database in statements["databases"]:
        parts += _database(database)
    return "\n".join([*parts, r"\echo done", ""])


def _database(database: dict[str, Any]) -> list[str]:
    name = '"' + database["database"].replace('"', '""') + '"'
    lines = [f"-- database {_comment(database['database'])}"]
    if database["create"]:
        lines.append(f"{database['create']};")
    # What everybody loses on a new database, which lets nobody in until then.
    if database.get("open"):
        lines += ["BEGIN;", *(f"{sql};" for sql in database["open"]), "COMMIT;"]
    lines += [rf"\connect {name}", _SETTINGS.strip()]
    for statements in (*database.get("before", ()), database["statements"]):
        lines += ["BEGIN;", *(f"{sql};" for sql in statements), "COMMIT;"]
    return [*lines, r"\connect :home", _SETTINGS.strip(), ""]


def _roles(statements: list[str]) -> list[str]:
    lines: list[str] = []
    for number, sql in enumerate(statements, start=1):
        found = _PASSWORD.match(sql)
        if not found:
            lines.append(f"{sql};")
            continue
        variable = f"verifier_{number}"
        lines += [rf"\getenv {variable} {_variable(found[2])}", rf"\if :{{?{variable}}}"]
        lines += [f"{found[1]} PASSWORD :'{variable}';", r"\else"]
        # Of an existing role the password alone is set; \password asks twice, and says so to the server once.
        lines += [f"{found[1]};"] if found[1].startswith("CREATE") else []
        lines += [rf"\echo password of {found[2]}:", rf"\password {found[2]}", r"\endif"]
    return lines


def _explain_passwords(statements: list[str]) -> str:
    roles = [found[2] for sql in statements if (found := _PASSWORD.match(sql))]
    if not roles:
        return ""
    lines = ["-- Passwords are those of the applications' secrets. psql asks for each and sends a verifier, or takes"]
    lines += ["-- the verifiers, which `rds-provisioner verifier` makes, from these variables of its environment:"]
    return "\n".join([*lines, *(f"--   {_variable(role)}" for role in roles), ""])


def _variable(quoted_role: str) -> str:
    name = quoted_role[1:-1]
    return "VERIFIER_" + re.sub("[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_" if found[0] != "_" else "_", name)


def _comment(text: str) -> str:
    """The text as part of a comment, which it must not leave."""
    return "".join(each if each.isprintable() else " " for each in text)
