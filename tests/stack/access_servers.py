"""Generated servers for the theorem of effective access, and the attempts that judge what a report says of them."""

import contextlib
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pg8000.native

from stack.access import block
from stack.world import World

PASSWORD = "a password for trying"
PRIVILEGES = {
    "TABLE": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"],
    "SEQUENCE": ["SELECT", "USAGE", "UPDATE"],
    "SCHEMA": ["USAGE", "USAGE", "CREATE"],
    "DATABASE": ["CONNECT", "CONNECT", "TEMPORARY", "CREATE"],
    "FUNCTION": ["EXECUTE"],
    "LARGE OBJECT": ["SELECT", "UPDATE"],
}
# What is tried on each kind of object, by the capability that it proves; one of them is enough.
TRIED: dict[str, dict[str, list[str]]] = {
    "table": {
        "read": ["SELECT FROM {}"],
        "write": [
            "INSERT INTO {} DEFAULT VALUES",
            "INSERT INTO {} (id) VALUES (1)",
            "INSERT INTO {} (name) VALUES (NULL)",
            "UPDATE {} SET id = NULL",
            "UPDATE {} SET name = NULL",
            "DELETE FROM {}",
            "TRUNCATE {}",
        ],
        "own": ["COMMENT ON TABLE {} IS 'x'"],
        "trigger": [
            "CREATE TRIGGER p BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ],
        "maintain": ["REINDEX TABLE {}"],
    },
    "view": {"read": ["SELECT FROM {}"], "own": ["COMMENT ON VIEW {} IS 'x'"]},
    "materialized view": {"read": ["SELECT FROM {}"], "own": ["COMMENT ON MATERIALIZED VIEW {} IS 'x'"]},
    "sequence": {
        "read": ["SELECT last_value FROM {}"],
        "write": ["SELECT nextval('{}')", "SELECT setval('{}', 7)"],
        "own": ["COMMENT ON SEQUENCE {} IS 'x'"],
    },
    "SECURITY DEFINER routine": {"execute": ["SELECT {}()"], "own": ["COMMENT ON FUNCTION {} IS 'x'"]},
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


@dataclass
class Generated:
    """One generated server: what was sent, whom to try as, what to try on."""

    world: World
    database: str
    random: Random
    logins: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    objects: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in TRIED})
    sent: list[str] = field(default_factory=list)

    def send(self, *statements: str, role: str = "") -> bool:
        """Send statements as the superuser, or after SET ROLE; what the server refuses is left out."""
        with contextlib.closing(self.world.server.superuser(self.database)) as connection:
            try:
                if role:
                    connection.run(f'SET ROLE "{role}"')
                for each in statements:
                    connection.run(each)
            except pg8000.native.DatabaseError:
                return False
        self.sent += [f"-- as {role}" if role else "-- as superuser", *statements]
        return True

    def anybody(self) -> str:
        return self.random.choice([*self.logins, *self.groups])


def generate(world: World, database: str, declared: list[str], seed: int) -> Generated:
    """Make roles, memberships, objects and grants at random beside what is declared."""
    made = Generated(world, database, Random(seed))
    _make_roles(made, declared)
    _make_objects(made)
    _make_memberships(made)
    _make_grants(made)
    return made


def _make_roles(made: Generated, declared: list[str]) -> None:
    random = made.random
    for name in declared:
        made.send(f"ALTER ROLE {name} PASSWORD '{PASSWORD}'")
    made.logins = list(declared)
    for number in range(6):
        options = [random.choice(["INHERIT", "INHERIT", "NOINHERIT"])]
        options += ["CREATEROLE"] if random.random() < 0.15 else []
        options += ["SUPERUSER"] if random.random() < 0.05 else []
        name = random.choice([f"r{number}", f"R {number}", f'q"{number}'])
        quoted = '"' + name.replace('"', '""') + '"'
        if made.send(f"CREATE ROLE {quoted} LOGIN PASSWORD '{PASSWORD}' {' '.join(options)}"):
            made.logins.append(name)
    for number in range(4):
        if made.send(f"CREATE ROLE g{number} {random.choice(['INHERIT', 'NOINHERIT'])}"):
            made.groups.append(f"g{number}")


def _make_objects(made: Generated) -> None:
    random = made.random
    made.objects["database"] = [made.database]
    for schema in ("public", "s0", "s1", "s2"):
        if schema == "public" or made.send(f"CREATE SCHEMA {schema} AUTHORIZATION {quote(made.anybody())}"):
            made.objects["schema"].append(schema)
        for kind, name, sql in (
            ("table", "t0", "CREATE TABLE {} (id int, name text)"),
            ("table", "t1", "CREATE TABLE {} (id int, name text)"),
            ("sequence", "q0", "CREATE SEQUENCE {}"),
            (
                "SECURITY DEFINER routine",
                "f0",
                "CREATE FUNCTION {}() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            ),
            ("view", "v0", f"CREATE VIEW {{}} AS SELECT * FROM {schema}.t0"),
            ("materialized view", "m0", f"CREATE MATERIALIZED VIEW {{}} AS SELECT * FROM {schema}.t1"),
        ):
            place = f"{schema}.{name}"
            alter = {"view": "TABLE", "materialized view": "TABLE", "SECURITY DEFINER routine": "FUNCTION"}
            if random.random() < 0.8 and made.send(sql.replace("{}", place)):
                made.objects[kind].append(place)
                owner = quote(made.anybody())
                made.send(f"ALTER {alter.get(kind, kind).upper()} {place} OWNER TO {owner}")
                if kind == "table" and random.random() < 0.2:
                    made.send(f"ALTER TABLE {place} ENABLE ROW LEVEL SECURITY")
    for number in (777001, 777002):
        made.send(
            f"SELECT lo_from_bytea({number}, 'x')", f"ALTER LARGE OBJECT {number} OWNER TO {quote(made.anybody())}"
        )
        made.objects["large object"].append(str(number))


def _make_memberships(made: Generated) -> None:
    random = made.random
    for _ in range(10):
        role, member = made.anybody(), made.anybody()
        options = ["ADMIN OPTION"] if random.random() < 0.2 else []
        if made.world.server.version >= 16:
            options = [f"{name} {random.choice(['TRUE', 'FALSE'])}" for name in ("INHERIT", "SET")]
            options += ["ADMIN TRUE"] if random.random() < 0.3 else []
        made.send(f"GRANT {quote(role)} TO {quote(member)}{' WITH ' if options else ''}{', '.join(options)}")
    for role in ("pg_read_all_data", "pg_write_all_data", "pg_maintain", "pg_monitor"):
        if random.random() < 0.3:
            made.send(f"GRANT {role} TO {quote(made.anybody())}")


def _make_grants(made: Generated) -> None:
    random = made.random
    places = {
        "TABLE": [*made.objects["table"], *made.objects["view"], *made.objects["materialized view"]],
        "SEQUENCE": made.objects["sequence"],
        "SCHEMA": made.objects["schema"],
        "DATABASE": made.objects["database"],
        "FUNCTION": made.objects["SECURITY DEFINER routine"],
        "LARGE OBJECT": made.objects["large object"],
    }
    for name in made.logins:
        if random.random() < 0.6:
            made.send(f"GRANT CONNECT ON DATABASE {made.database} TO {quote(name)}")
    if random.random() < 0.2:
        made.send(f"GRANT CONNECT ON DATABASE {made.database} TO PUBLIC")
    for _ in range(70):
        kind = random.choice([*PRIVILEGES, "TABLE", "SCHEMA"])
        if not places[kind]:
            continue
        place, privilege = random.choice(places[kind]), random.choice(PRIVILEGES[kind])
        if kind == "TABLE" and made.world.server.version >= 17 and random.random() < 0.1:
            privilege = "MAINTAIN"
        if kind == "TABLE" and random.random() < 0.2:
            privilege = f"{random.choice(['SELECT', 'INSERT', 'UPDATE'])} ({random.choice(['id', 'name'])})"
        grantee = "PUBLIC" if random.random() < 0.15 else quote(made.anybody())
        option = " WITH GRANT OPTION" if random.random() < 0.3 and grantee != "PUBLIC" else ""
        made.send(f"GRANT {privilege} ON {kind} {place} TO {grantee}{option}")
        # Handed on by whoever may; and now and then an owner takes its own away.
        made.send(f"GRANT {privilege} ON {kind} {place} TO {quote(made.anybody())}", role=made.anybody())
        if random.random() < 0.1:
            made.send(f"REVOKE {privilege} ON {kind} {place} FROM {quote(made.anybody())}")
        if kind == "FUNCTION" and random.random() < 0.5:
            made.send(f"REVOKE EXECUTE ON FUNCTION {place} FROM PUBLIC")


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def possible(made: Generated, role: str) -> set[Fact]:
    """Everything that is tried as a role, but for what it administers."""
    found: set[Fact] = {(role, "connect", "database", made.database)}
    for kind, capabilities in TRIED.items():
        found |= {(role, capability, kind, name) for capability in capabilities for name in made.objects[kind]}
    return found


# --- what the report says ---------------------------------------------------------------------------------------------

_OBJECTS = re.compile(
    r"\d+ (?P<kind>[A-Za-z ]+?)s?(?: of \".*?\"(?= in schema))?(?: in schema \"(?P<schema>[^\"]*)\")?: "
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
            found.add((row["role"], row["capability"], kind, name))
    return found


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
        match = _OBJECTS.match(scope.replace("definers", "definer"))
        assert match, scope
        assert " more" not in match["names"], scope
        prefix = f"{match['schema']}." if match["schema"] else ""
        for name in match["names"].split(", "):
            plain = name.partition("(")[0].strip()
            whole = prefix + plain
            is_column = match["kind"] in {"column", "materialized view column"}
            kinds = [kind for kind, names in made.objects.items() if whole in names] if is_column else [match["kind"]]
            yield from ((kind, whole) for kind in kinds)


# --- what an attempt says ---------------------------------------------------------------------------------------------


def tried(made: Generated, role: str) -> tuple[set[Fact], int]:
    """Log in and try everything, as oneself and after SET ROLE; what was not refused, and how many attempts it were."""
    try:
        connection = made.world.server.connect(role, PASSWORD, made.database)
    except pg8000.native.DatabaseError as error:
        if error.args[0]["C"] not in {"42501", "28000"}:
            raise
        return set(), 1
    attempts = _attempts(made, role)
    with contextlib.closing(connection):
        connection.notices = deque(maxlen=50_000)
        connection.run(block(attempts, REFUSALS))
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


# What a server says to an attempt that is not allowed, or not possible for what it is tried on.
REFUSALS = (
    "insufficient_privilege OR invalid_parameter_value OR invalid_grant_operation OR undefined_object"
    " OR object_not_in_prerequisite_state OR internal_error OR reserved_name"
)


def _attempts(made: Generated, role: str) -> list[tuple[str, str]]:
    """What is tried as a role: the fact that it proves, and the SQL."""
    attempts: list[tuple[str, str]] = []
    predefined = ["pg_database_owner", "pg_read_all_data", "pg_write_all_data", "pg_maintain"]
    for acting in ["", *made.logins, *made.groups, *predefined]:
        before = f"SET ROLE {quote(acting)}; " if acting else ""
        for _, capability, kind, name in possible(made, role):
            statements = TRIED.get(kind, {}).get(capability, [])
            if capability != "maintain" or made.world.server.version >= 17:
                label = f"{capability}|{kind}|{name}"
                attempts += [(label, before + sql.replace("{}", name)) for sql in statements]
        targets = {*made.logins, *made.groups, *predefined, made.world.admin.username} - {role, "pg_database_owner"}
        for target in sorted(targets):
            label, name = f"administer|role|{target}", quote(target)
            attempts += [
                (label, f"{before}{sql}")
                for sql in (f"GRANT {name} TO {quote(role)}", f"ALTER ROLE {name} PASSWORD 'x'")
            ]
            attempts.append((f"set|role|{target}", f"SET ROLE {name}"))
    return attempts


def explain(made: Generated, rows: list[dict[str, Any]], facts: set[Fact], done: set[Fact]) -> str:
    """What a person needs to see why report and attempt differ: the facts, the rows of those roles, what was sent."""
    roles = {fact[0] for fact in facts}
    told = [f"  {row}" for row in rows if row["role"] in roles]
    wrong = [f"{'not told' if fact in done else 'told, but refused'}: {fact}" for fact in sorted(facts)]
    return "\n".join([*wrong, *told, *made.sent])
