"""Generated servers for the theorem of effective access: roles, memberships, objects and grants at random."""

import contextlib
from dataclasses import dataclass, field
from random import Random

import pg8000.native

from stack.world import World

PASSWORD = "a password for trying"
# Whom nobody knows: what is passed on is passed on to it.
STRANGER = "stranger"
# A schema in which everybody may create, so that default privileges are tried by what comes into it.
LATER = "later"
PRIVILEGES = {
    "TABLE": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"],
    "SEQUENCE": ["SELECT", "USAGE", "UPDATE"],
    "SCHEMA": ["USAGE", "USAGE", "CREATE"],
    "DATABASE": ["CONNECT", "CONNECT", "TEMPORARY", "CREATE"],
    "FUNCTION": ["EXECUTE"],
    "LARGE OBJECT": ["SELECT", "UPDATE"],
}
KINDS = (
    "table", "foreign table", "view", "materialized view", "sequence", "SECURITY DEFINER routine", "routine", "schema",
    "database", "large object",
)  # fmt: skip
_FUNCTION = "CREATE FUNCTION {}() RETURNS int LANGUAGE sql %s AS 'SELECT 1'"
_FOREIGN = "CREATE FOREIGN TABLE {} (name text) SERVER files OPTIONS (filename '/dev/null')"
# Kind, name, how it is made in `schema`, and what ALTER calls it.
_MADE = (
    ("table", "t0", "CREATE TABLE {} (id int, name text)", "TABLE"),
    ("table", "t1", "CREATE TABLE {} (id int, name text)", "TABLE"),
    ("table", "p0", "CREATE TABLE {} (id int, name text) PARTITION BY LIST (id)", "TABLE"),
    ("table", "p1", "CREATE TABLE {} PARTITION OF {schema}.p0 DEFAULT", "TABLE"),
    ("foreign table", "x0", _FOREIGN, "FOREIGN TABLE"),
    ("sequence", "q0", "CREATE SEQUENCE {}", "SEQUENCE"),
    ("SECURITY DEFINER routine", "f0", _FUNCTION % "SECURITY DEFINER", "FUNCTION"),
    ("routine", "h0", _FUNCTION % "", "FUNCTION"),
    ("view", "v0", "CREATE VIEW {} AS SELECT * FROM {schema}.t0", "VIEW"),
    ("view", "w0", "CREATE VIEW {} AS SELECT * FROM {schema}.v0", "VIEW"),
    ("view", "c0", "CREATE VIEW {} AS SELECT {schema}.h0() AS id, NULL AS name", "VIEW"),
    ("view", "k0", "CREATE VIEW {} AS SELECT * FROM {schema}.t1 FOR UPDATE", "VIEW"),
    ("view", "d0", "CREATE VIEW {} AS SELECT 1 AS id, NULL::text AS name FROM {schema}.t1", "VIEW"),
    ("materialized view", "m0", "CREATE MATERIALIZED VIEW {} AS SELECT * FROM {schema}.t1", "MATERIALIZED VIEW"),
)  # fmt: skip
# What reaches beyond a database, and is named with the role alone.
BEYOND_DATABASE = (
    "pg_monitor",
    "pg_write_server_files",
    "pg_signal_backend",
    "pg_checkpoint",
    "pg_create_subscription",
)


@dataclass
class Generated:
    """One generated server: what was sent, whom to try as, what to try on."""

    world: World
    database: str
    random: Random
    logins: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    objects: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    # Who has default privileges, with a table of it in the schema of what comes later.
    creators: list[tuple[str, str]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def send(self, *statements: str, role: str = "") -> bool:
        """Send statements as the superuser, or after SET ROLE; what the server refuses is left out."""
        return not self.refusal(*statements, role=role)

    def refusal(self, *statements: str, role: str = "") -> str:
        """The same, with the code of the server's refusal; empty where there was none."""
        with contextlib.closing(self.world.server.superuser(self.database)) as connection:
            try:
                if role:
                    connection.run(f"SET ROLE {quote(role)}")
                for each in statements:
                    connection.run(each)
            except pg8000.native.DatabaseError as error:
                return str(error.args[0]["C"])
        self.sent += [f"-- as {role}" if role else "-- as superuser", *statements]
        return ""

    def anybody(self) -> str:
        return self.random.choice([*self.logins, *self.groups])

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability


def generate(world: World, database: str, declared: list[str], seed: int) -> Generated:
    """Make roles, memberships, objects and grants at random beside what is declared."""
    made = Generated(world, database, Random(seed))
    _make_roles(made, declared)
    _make_objects(made)
    _make_memberships(made)
    _make_grants(made)
    _make_default_privileges(made)
    return made


def _make_roles(made: Generated, declared: list[str]) -> None:
    made.send(f"CREATE ROLE {STRANGER}")
    for name in declared:
        made.send(f"ALTER ROLE {name} PASSWORD '{PASSWORD}' {'NOINHERIT' if made.happens(0.1) else ''}")
    made.logins = list(declared)
    for number in range(6):
        options = [made.random.choice(["INHERIT", "INHERIT", "NOINHERIT"])]
        chances = {"CREATEROLE": 0.15, "SUPERUSER": 0.05, "BYPASSRLS": 0.1, "CREATEDB": 0.1, "REPLICATION": 0.1}
        chances |= {"NOLOGIN": 0.08, "CONNECTION LIMIT 0": 0.05, "VALID UNTIL '2020-01-01'": 0.05}
        options += [option for option, chance in chances.items() if made.happens(chance)]
        name = made.random.choice([f"r{number}", f"R {number}", f'q"{number}'])
        options += [] if "NOLOGIN" in options else ["LOGIN"]
        if made.send(f"CREATE ROLE {quote(name)} PASSWORD '{PASSWORD}' {' '.join(options)}"):
            made.logins.append(name)
    for number in range(4):
        if made.send(f"CREATE ROLE g{number} {made.random.choice(['INHERIT', 'NOINHERIT'])}"):
            made.groups.append(f"g{number}")


def _make_objects(made: Generated) -> None:
    made.objects["database"] = [made.database]
    made.send("CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    for schema in ("public", "s0", "s1", "s2"):
        if schema == "public" or made.send(f"CREATE SCHEMA {schema} AUTHORIZATION {quote(made.anybody())}"):
            made.objects["schema"].append(schema)
        if schema == "public" and made.happens(0.1):
            made.send(f"ALTER SCHEMA public OWNER TO {quote(made.anybody())}")
        for kind, name, sql, alter in _MADE:
            place = f"{schema}.{name}"
            if not made.happens(0.7) or not made.send(sql.replace("{}", place).replace("{schema}", schema)):
                continue
            made.objects[kind].append(place)
            made.send(f"ALTER {alter} {place} OWNER TO {quote(made.anybody())}")
            if kind == "table" and made.happens(0.2):
                _secure_rows(made, place)
            if kind == "view" and made.world.server.version >= 15 and made.happens(0.2):
                made.send(f"ALTER VIEW {place} SET (security_invoker = true)")
            if kind in {"table", "view", "sequence"} and made.happens(0.05):
                made.send(f"ALTER EXTENSION plpgsql ADD {alter} {place}")
    for number in (777001, 777002):
        made.send(
            f"SELECT lo_from_bytea({number}, 'x')", f"ALTER LARGE OBJECT {number} OWNER TO {quote(made.anybody())}"
        )
        made.objects["large object"].append(str(number))


def _secure_rows(made: Generated, table: str) -> None:
    made.send(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    if made.happens(0.3):
        made.send(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    if made.happens(0.3):
        made.send(f"CREATE POLICY everything ON {table} USING (true)")
    elif table != "public.t1" and made.happens(0.3):
        made.send(f"CREATE POLICY looks_elsewhere ON {table} USING (EXISTS (SELECT FROM public.t1))")
    elif made.happens(0.3):
        made.send(f"CREATE POLICY asks ON {table} USING (public.h0() = 1)")


def _make_memberships(made: Generated) -> None:
    for _ in range(10):
        role, member = made.anybody(), made.anybody()
        options = ["ADMIN OPTION"] if made.happens(0.2) else []
        if made.world.server.version >= 16:
            options = [f"{name} {made.random.choice(['TRUE', 'FALSE'])}" for name in ("INHERIT", "SET")]
            options += ["ADMIN TRUE"] if made.happens(0.3) else []
        statement = f"GRANT {quote(role)} TO {quote(member)}{' WITH ' if options else ''}{', '.join(options)}"
        # Now and then by who may administer it, as another grantor.
        made.send(statement, role=made.anybody() if made.happens(0.3) else "")
    for role in ("pg_read_all_data", "pg_write_all_data", "pg_maintain", *BEYOND_DATABASE):
        if made.happens(0.25):
            made.send(f"GRANT {role} TO {quote(made.anybody())}")


def _make_grants(made: Generated) -> None:
    random = made.random
    places = {
        "TABLE": [
            place for kind in ("table", "foreign table", "view", "materialized view") for place in made.objects[kind]
        ],
        "SEQUENCE": made.objects["sequence"],
        "SCHEMA": made.objects["schema"],
        "DATABASE": made.objects["database"],
        "FUNCTION": [*made.objects["SECURITY DEFINER routine"], *made.objects["routine"]],
        "LARGE OBJECT": made.objects["large object"],
    }
    for name in made.logins:
        if made.happens(0.6):
            made.send(f"GRANT CONNECT ON DATABASE {made.database} TO {quote(name)}")
    if made.happens(0.2):
        made.send(f"GRANT CONNECT ON DATABASE {made.database} TO PUBLIC")
    for _ in range(80):
        kind = random.choice([*PRIVILEGES, "TABLE", "SCHEMA"])
        if not places[kind]:
            continue
        place, privilege = random.choice(places[kind]), random.choice(PRIVILEGES[kind])
        if kind == "TABLE" and made.world.server.version >= 17 and made.happens(0.1):
            privilege = "MAINTAIN"
        if kind == "TABLE" and made.happens(0.2):
            privilege = f"{random.choice(['SELECT', 'INSERT', 'UPDATE'])} ({random.choice(['id', 'name'])})"
        grantee = "PUBLIC" if made.happens(0.15) else quote(made.anybody())
        option = " WITH GRANT OPTION" if made.happens(0.3) and grantee != "PUBLIC" else ""
        made.send(f"GRANT {privilege} ON {kind} {place} TO {grantee}{option}")
        # Handed on by whoever may; and now and then an owner takes its own away.
        made.send(f"GRANT {privilege} ON {kind} {place} TO {quote(made.anybody())}", role=made.anybody())
        if made.happens(0.1):
            made.send(f"REVOKE {privilege} ON {kind} {place} FROM {quote(made.anybody())}")
        if kind == "FUNCTION" and made.happens(0.5):
            made.send(f"REVOKE EXECUTE ON FUNCTION {place} FROM PUBLIC")


def _make_default_privileges(made: Generated) -> None:
    """For some creators, each with a table that stands already in the schema of what comes later."""
    made.send(f"CREATE SCHEMA {LATER} AUTHORIZATION shop_user", f"GRANT USAGE, CREATE ON SCHEMA {LATER} TO PUBLIC")
    made.objects["schema"].append(LATER)
    for number in range(3):
        creator, table = made.anybody(), f"{LATER}.base{number}"
        if made.send(f"CREATE TABLE {table} (id int, name text)", role=creator):
            made.creators.append((creator, table))
            made.objects["table"].append(table)
        for _ in range(3):
            where = made.random.choice(["", f" IN SCHEMA {LATER}", " IN SCHEMA public"])
            privilege = made.random.choice(["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"])
            grantee = "PUBLIC" if made.happens(0.3) else quote(made.anybody())
            start = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote(creator)}{where}"
            made.send(f"{start} GRANT {privilege} ON TABLES TO {grantee}")
            if made.happens(0.3):
                made.send(f"{start} GRANT EXECUTE ON FUNCTIONS TO {grantee}")


def make_what_comes(made: Generated) -> dict[str, tuple[str, str]]:
    """Let each creator make a table; who made it and that creator's table from before, by the name of the new one."""
    tables = {f"{LATER}.came{number}": each for number, each in enumerate(made.creators)}
    return {
        table: each
        for table, each in tables.items()
        if made.send(f"CREATE TABLE {table} (id int, name text)", role=each[0])
    }


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
