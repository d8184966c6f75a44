"""Proves what roles may do by logging in as them and doing it; each attempt is undone again.

What a level should allow is written out here once more, by hand, from the promise and not from the product's table.
"""

import contextlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pg8000.native

from stack.postgres import Login, Server
from stack.reading import once_until_written

# The attempts on each kind of thing; `{}` is its name. The first word of an attempt names it in what comes back.
ON_DATABASE = {"temporary": "CREATE TEMPORARY TABLE probe ()", "schema": "CREATE SCHEMA probe"}
ON_SCHEMA = {"create in": "CREATE TABLE {}.probe (id int)"}
ON_TABLE = {
    "select": "SELECT FROM {}",
    "insert": "INSERT INTO {} DEFAULT VALUES",
    "update": "UPDATE {} SET id = NULL",
    "delete": "DELETE FROM {}",
    "truncate": "TRUNCATE {}",
}
ON_VIEW = {"select": "SELECT FROM {}"}
ON_SEQUENCE = {
    "read": "SELECT last_value FROM {}",
    "nextval": "SELECT nextval('{}'), currval('{}')",
    "setval": "SELECT setval('{}', 7)",
}

ALLOWED = {
    "owner": {"temporary", "schema", "create in", *ON_TABLE, *ON_SEQUENCE},
    "editor": {"temporary", "select", "insert", "update", "delete", "read", "nextval", "setval"},
    "reader": {"select", "read"},
}


@dataclass(frozen=True)
class Attempt:
    """One thing to try: what the access level speaks of, on what, and the SQL."""

    verb: str
    subject: str
    sql: str

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}".strip()


def attempts_in(server: Server, database: str) -> list[Attempt]:
    """Everything worth trying in a database: its owner's schemas and `public`, and what the owner has in them."""
    query = """
        WITH rooms AS (
            SELECT n.* FROM pg_namespace AS n, pg_database AS d WHERE d.datname = current_database()
            AND (n.nspname = 'public' OR n.nspowner = d.datdba OR pg_get_userbyid(n.nspowner) = 'pg_database_owner')
        )
        SELECT 'n', quote_ident(nspname) FROM rooms
        UNION ALL
        SELECT c.relkind::text, quote_ident(r.nspname) || '.' || quote_ident(c.relname)
        FROM rooms AS r JOIN pg_class AS c ON c.relnamespace = r.oid, pg_database AS d
        WHERE d.datname = current_database() AND c.relowner = d.datdba
          AND NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.objid = c.oid AND e.deptype = 'e')
        ORDER BY 1, 2"""
    kinds = {"n": ON_SCHEMA, "r": ON_TABLE, "p": ON_TABLE, "v": ON_VIEW, "m": ON_VIEW, "S": ON_SEQUENCE}
    found = [Attempt(verb, "", sql) for verb, sql in ON_DATABASE.items()]
    for kind, name in server.run_as_superuser(query, database):
        found += [Attempt(verb, name, sql.replace("{}", name)) for verb, sql in kinds.get(kind, {}).items()]
    return found


def try_all(server: Server, login: Login, database: str, attempts: Iterable[Attempt]) -> set[str]:
    """Log in and try: what was not refused for want of a privilege. Nothing at all where the login is refused."""
    try:
        connection = server.connect(*login, database)
    except pg8000.native.DatabaseError as error:
        # No CONNECT, NOLOGIN, or an expired password.
        if error.args[0]["C"] in {"42501", "28000", "28P01"}:
            return set()
        raise
    with contextlib.closing(connection):
        connection.notices = deque(maxlen=10_000)
        connection.run(block((str(each), each.sql) for each in attempts))
        said = (notice[b"M"].decode() for notice in connection.notices)
        return {"connect", *(text.removeprefix("may ") for text in said if text.startswith("may "))}


def expected(level: str, attempts: Iterable[Attempt]) -> set[str]:
    """What a role of a level may do of some attempts; of no level (an empty text) nothing, not even connect."""
    if not level:
        return set()
    return {"connect", *(str(each) for each in attempts if each.verb in ALLOWED[level])}


@once_until_written
def written_rows(server: Server) -> dict[str, Any]:
    """How many rows each catalog has that a run could write, and which of them is newest, by database and catalog.

    A row that is written is a new version, of a transaction that is newer than all before; one that is deleted is gone.
    """
    shared = ("pg_authid", "pg_auth_members", "pg_database", "pg_shdescription", "pg_db_role_setting")
    inside = ("pg_namespace", "pg_class", "pg_attribute", "pg_default_acl", "pg_extension", "pg_proc", "pg_type")
    rows = {f" {name}": facts for name, *facts in server.run_as_superuser(_versions(shared))}
    for (database,) in server.run_as_superuser("SELECT datname FROM pg_database WHERE datallowconn"):
        rows |= {f"{database} {name}": facts for name, *facts in server.run_as_superuser(_versions(inside), database)}
    return rows


def _versions(catalogs: Iterable[str]) -> str:
    return " UNION ALL ".join(f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name}" for name in catalogs)


def block(
    attempts: Iterable[tuple[str, str]],
    refusals: str = "insufficient_privilege",
    begun: str = "integrity_constraint_violation",
) -> str:
    """One message that tries everything, undoes each by an error of its own, and says what came as far as that.

    Attempts are a label and the SQL; `refusals` are the conditions that mean no, `begun` those that mean that it was
    not for want of a privilege.
    """
    pairs = ", ".join(f"[{literal(label)}, {literal(sql)}]" for label, sql in attempts)
    return f"""
        DO $probe$
        DECLARE attempt text[];
        BEGIN
            FOREACH attempt SLICE 1 IN ARRAY ARRAY[{pairs}] LOOP
                BEGIN
                    EXECUTE attempt[2];
                    RAISE SQLSTATE 'UNDO1';
                EXCEPTION
                    WHEN {refusals} THEN NULL;
                    WHEN SQLSTATE 'UNDO1' OR {begun} THEN RAISE NOTICE 'may %', attempt[1];
                END;
            END LOOP;
        END $probe$"""


def literal(text: str) -> str:
    """The text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
