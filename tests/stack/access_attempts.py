"""What a report of access says of a generated server, and what attempts say, both as facts that can be compared."""

import contextlib
import re
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import pg8000.native

from stack.access import block
from stack.access_servers import LATER, PASSWORD, STRANGER, Generated, quote

_WRITES = [
    "INSERT INTO {} DEFAULT VALUES",
    "INSERT INTO {} (id) VALUES (1)",
    "INSERT INTO {} (name) VALUES (NULL)",
    "UPDATE {} SET id = NULL",
    "UPDATE {} SET name = NULL",
    "DELETE FROM {}",
]
_TRIGGER = "EXECUTE FUNCTION suppress_redundant_updates_trigger()"


def _pass_on(privilege: str, kind: str, catalog: str, acl: str, reg: str) -> list[str]:
    """A GRANT of what may not be passed on is no error, so the list is looked at."""
    held = f"SELECT FROM {catalog}, aclexplode({acl}) WHERE {catalog}.oid = '{{}}'::{reg}"
    held += f" AND grantee = '{STRANGER}'::regrole"
    check = f"DO $x$ BEGIN IF NOT EXISTS ({held}) THEN RAISE insufficient_privilege; END IF; END $x$"
    return [f"GRANT {privilege} ON {kind} {{}} TO {STRANGER}; {check}"]


_PASS_ON_SELECT = {"pass on SELECT": _pass_on("SELECT", "TABLE", "pg_class", "relacl", "regclass")}
# What is tried on each kind of object, by the capability that it proves; one of them is enough.
TRIED: dict[str, dict[str, list[str]]] = {
    "table": {
        "read": ["SELECT FROM {}"],
        "write": [*_WRITES, "TRUNCATE {}"],
        "own": ["COMMENT ON TABLE {} IS 'x'"],
        "trigger": [f"CREATE TRIGGER p BEFORE UPDATE ON {{}} FOR EACH STATEMENT {_TRIGGER}"],
        "maintain": ["REINDEX TABLE {}"],
        **_PASS_ON_SELECT,
    },
    "foreign table": {
        "read": ["SELECT FROM {}"],
        "own": ["COMMENT ON FOREIGN TABLE {} IS 'x'"],
        "trigger": [f"CREATE TRIGGER p BEFORE UPDATE ON {{}} FOR EACH STATEMENT {_TRIGGER}"],
    },
    "view": {
        "read": ["SELECT FROM {}"],
        "write": _WRITES,
        "own": ["COMMENT ON VIEW {} IS 'x'"],
        "trigger": [f"CREATE TRIGGER p INSTEAD OF UPDATE ON {{}} FOR EACH ROW {_TRIGGER}"],
        **_PASS_ON_SELECT,
    },
    "materialized view": {
        "read": ["SELECT FROM {}"],
        "own": ["COMMENT ON MATERIALIZED VIEW {} IS 'x'"],
        "maintain": ["REINDEX TABLE {}"],
    },
    "sequence": {
        "read": ["SELECT last_value FROM {}"],
        "write": ["SELECT nextval('{}')", "SELECT setval('{}', 7)"],
        "own": ["COMMENT ON SEQUENCE {} IS 'x'"],
    },
    "SECURITY DEFINER routine": {
        "execute": ["SELECT {}()"],
        "own": ["COMMENT ON FUNCTION {} IS 'x'"],
        "pass on EXECUTE": _pass_on("EXECUTE", "FUNCTION", "pg_proc", "proacl", "regproc"),
    },
    "routine": {"own": ["COMMENT ON FUNCTION {} IS 'x'"]},
    "schema": {"create": ["CREATE TABLE {}.probe ()"], "own": ["COMMENT ON SCHEMA {} IS 'x'"]},
    "database": {
        "create": ["CREATE SCHEMA probe"],
        "temporary": ["CREATE TEMPORARY TABLE probe ()"],
        "own": ["COMMENT ON DATABASE {} IS 'x'"],
    },
    "large object": {
        "read": ["SELECT lo_get({})"],
        "write": ["SELECT lo_put({}, 0, 'y')"],
        "own": ["COMMENT ON LARGE OBJECT {} IS 'x'"],
    },
}
Fact = tuple[str, str, str, str]  # role, capability, kind, object as in SQL


def possible(made: Generated, role: str) -> set[Fact]:
    """Everything that is tried as a role, but for what it administers."""
    found: set[Fact] = {(role, "connect", "database", made.database)}
    for kind, capabilities in TRIED.items():
        found |= {(role, capability, kind, name) for capability in capabilities for name in made.objects[kind]}
    return found


# --- what the report says ---------------------------------------------------------------------------------------------

_OBJECTS = re.compile(
    r"\d+ (?P<kind>[A-Za-z -]+?)s?(?: of \".*?\"(?= in schema))?(?: in schema \"(?P<schema>[^\"]*)\")?: "
    r"(?P<names>[^(]*(?:\([^ )]*\)[^(]*)*)"
)


def said(made: Generated, rows: list[dict[str, str]], expected: tuple[str, ...] = ("yes", "no")) -> set[Fact]:
    """Every (role, capability, kind, object) that the report claims, with such a verdict."""
    found: set[Fact] = set()
    for row in rows:
        if (
            row["database"] != made.database
            or row["expected"] not in expected
            or row["capability"].startswith("future")
        ):
            continue
        for kind, name in _objects(made, row["scope"], row["capability"]):
            for capability in (row["capability"], *_passed_on(row, kind)):
                found.add((row["role"], capability, kind, name))
    return found


def _passed_on(row: dict[str, str], kind: str) -> list[str]:
    """What the row says may be passed on as well: whatever is owned, and a privilege with grant option."""
    may = [name for name in TRIED.get(kind, {}) if name.startswith("pass on ")]
    if row["capability"] == "own":
        return may
    is_column = "column" in row["scope"].partition(" in schema")[0]
    return [
        name for name in may if f"{name.removeprefix('pass on ')} with grant option" in row["path"] and not is_column
    ]


def said_of_what_comes(made: Generated, rows: list[dict[str, str]], tables: dict[str, tuple[str, str]]) -> set[Fact]:
    """What the report claims of tables that were made after it: as of their creator's other table, or by default."""
    now = {fact for fact in said(made, rows) if fact[1] in {"read", "write"}}
    found = {
        (role, what, kind, new) for new, (_, old) in tables.items() for role, what, kind, name in now if name == old
    }
    for row in rows:
        match = _COMING.match(row["scope"])
        if match and match["schema"] in {None, LATER} and row["capability"] in {"future_read", "future_write"}:
            what = row["capability"].removeprefix("future_")
            found |= {(row["role"], what, "table", new) for new, (who, _) in tables.items() if who == match["creator"]}
    return found


_COMING = re.compile(r'tables that "(?P<creator>.*)" creates from now on(?: in schema "(?P<schema>.*)")?$')


def _objects(made: Generated, scope: str, capability: str) -> Iterator[tuple[str, str]]:
    if scope == "everything in the database":
        yield from ((kind, name) for kind, names in made.objects.items() for name in names)
    elif scope == "the database":
        yield "database", made.database
    elif scope.startswith("schema "):
        yield "schema", scope.removeprefix("schema ").strip('"')
    elif capability == "administer":
        yield "role", scope.removeprefix("role ")[1:-1]
    else:
        match = _OBJECTS.match(scope)
        assert match, scope
        assert " more" not in match["names"], scope
        prefix = f"{match['schema']}." if match["schema"] else ""
        for name in match["names"].split(", "):
            whole = prefix + name.partition("(")[0].strip()
            yield from ((kind, whole) for kind, names in made.objects.items() if whole in names)


# --- what an attempt says ---------------------------------------------------------------------------------------------


def tried(made: Generated, role: str, tables: Collection[str] = ()) -> tuple[set[Fact], int]:
    """Log in and try everything, as oneself and after SET ROLE; what was not refused, and how many attempts it were.

    Where `tables` are named, nothing is tried but to read and to write those.
    """
    try:
        connection = made.world.server.connect(role, PASSWORD, made.database)
    except pg8000.native.DatabaseError as error:
        if error.args[0]["C"] not in REFUSED_LOGINS:
            raise
        return set(), 1
    attempts = _attempts(made, role, tables)
    with contextlib.closing(connection):
        connection.notices = deque(maxlen=50_000)
        connection.run(block(attempts, REFUSALS, BEGUN))
        texts = {notice[b"M"].decode() for notice in connection.notices}
    done: set[Fact] = {(role, "connect", "database", made.database)}
    for text in texts:
        if text.startswith("may "):
            capability, kind, name = text.removeprefix("may ").split("|", 2)
            done.add((role, capability, kind, name))
    # Who may SET ROLE to it anyway is not told to administer it as well.
    settable = {fact[3] for fact in done if fact[1] == "set"}
    done = {fact for fact in done if fact[1] != "set" and not (fact[1] == "administer" and fact[3] in settable)}
    return done, len(attempts)


# No CONNECT, no LOGIN, an expired password, a connection limit of 0.
REFUSED_LOGINS = {"42501", "28000", "28P01", "53300"}
# What a server says once it has found that somebody may: a partitioned table is not indexed anew in a transaction.
BEGUN = "integrity_constraint_violation OR active_sql_transaction"
# What a server says to an attempt that is not allowed, or not possible for what it is tried on.
REFUSALS = (
    "insufficient_privilege OR invalid_parameter_value OR invalid_grant_operation OR undefined_object"
    " OR object_not_in_prerequisite_state OR internal_error OR reserved_name OR feature_not_supported"
)


def _attempts(made: Generated, role: str, tables: Collection[str]) -> list[tuple[str, str]]:
    """What is tried as a role: the fact that it proves, and the SQL."""
    facts = {(role, what, "table", table) for what in ("read", "write") for table in tables} or possible(made, role)
    attempts: list[tuple[str, str]] = []
    for acting in ["", *made.logins, *made.groups, *PREDEFINED]:
        before = f"SET ROLE {quote(acting)}; " if acting else ""
        for _, capability, kind, name in sorted(facts):
            label = f"{capability}|{kind}|{name}"
            statements = TRIED.get(kind, {}).get(capability, [])
            if capability != "maintain" or made.world.server.version >= 17:
                attempts += [(label, before + sql.replace("{}", name)) for sql in statements]
        targets = {*made.logins, *made.groups, *PREDEFINED, made.world.admin.username} - {role, "pg_database_owner"}
        for target in sorted(targets) if not tables else ():
            label, name = f"administer|role|{target}", quote(target)
            attempts += [
                (label, f"{before}{sql}")
                for sql in (f"GRANT {name} TO {quote(role)}", f"ALTER ROLE {name} PASSWORD 'x'")
            ]
            attempts.append((f"set|role|{target}", f"SET ROLE {name}"))
    return attempts


PREDEFINED = ("pg_database_owner", "pg_read_all_data", "pg_write_all_data", "pg_maintain")


def explain(made: Generated, rows: list[dict[str, Any]], facts: set[Fact], done: set[Fact]) -> str:
    """What a person needs to see why report and attempt differ: the facts, the rows of those roles, what was sent."""
    roles = {fact[0] for fact in facts}
    told = [f"  {row}" for row in rows if row["role"] in roles]
    wrong = [f"{'not told' if fact in done else 'told, but refused'}: {fact}" for fact in sorted(facts)]
    return "\n".join([*wrong, *told, *made.sent])
