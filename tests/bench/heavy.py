"""What a tenant can make large in, what a look at it costs out: the function's memory, a backend's, and seconds."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.field import Field, Figures

if TYPE_CHECKING:
    from stack.aws import Aws
    from stack.postgres import Server

STEPS = (("drift", "drift"), ("apply", "apply"), ("second run", "apply"))
DATABASE = "app0000"


@dataclass(frozen=True)
class Case:
    """Something large in the one database, or on its server; each statement of `sql` is a transaction.

    Where it does not `heal` with an apply, only drift is asked.
    """

    name: str
    sql: tuple[str, ...]
    heals: bool = True


def _in_steps(count: int, statement: str, step: int = 500) -> tuple[str, ...]:
    """A statement for each number `n` of many, few in a transaction, which holds a lock for each object it makes."""
    return tuple(
        f"DO $$ BEGIN FOR n IN {start + 1}..{min(start + step, count)} LOOP {statement}; END LOOP; END $$"
        for start in range(0, count, step)
    )


def roles(count: int) -> tuple[str, ...]:
    """That many roles that nobody declares."""
    return _in_steps(count, "EXECUTE format('CREATE ROLE other%s LOGIN', n)")


def schemas(count: int) -> tuple[str, ...]:
    """That many schemas with a table each, on which neither the editor nor the reader has what is declared."""
    make = (
        f"EXECUTE format('CREATE SCHEMA s%1$s AUTHORIZATION {DATABASE}', n);"
        f" EXECUTE format('CREATE TABLE s%1$s.t (id int); ALTER TABLE s%1$s.t OWNER TO {DATABASE}', n)"
    )
    return _in_steps(count, make)


def access_lists(count: int, of_roles: int) -> tuple[str, ...]:
    """That many tables, no two of which have the same access control list."""
    make = (
        "EXECUTE format('CREATE TABLE t%1$s (id int); ALTER TABLE t%1$s OWNER TO " + DATABASE + ";"
        " GRANT %2$s ON t%1$s TO other%3$s', n, CASE WHEN n > {0} THEN 'UPDATE' ELSE 'SELECT' END, 1 + n % {0})"
    ).format(of_roles)
    return (*roles(of_roles), *_in_steps(count, make))


# Of what does not shrink when it is stored; written into the catalog, since as a statement it would take a gigabyte.
_COMMENT = (
    "INSERT INTO pg_shdescription SELECT oid, 'pg_database'::regclass, "
    "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 6250000) AS n) "
    f"FROM pg_database WHERE datname = '{DATABASE}'"
)
_SETTING = (
    f"DO $$ BEGIN EXECUTE 'ALTER DATABASE {DATABASE} SET default_text_search_config = '"
    " || quote_literal(repeat('a', 100000000)); END $$"
)
CASES = (
    Case("nothing large", ()),
    Case("a setting of 100 MB", (_SETTING,), heals=False),
    Case("a comment of 200 MB", ("DELETE FROM pg_shdescription", _COMMENT), heals=False),
    Case("10,000 roles", roles(10_000)),
    Case("19,900 access lists, 10,000 roles", access_lists(19_900, 10_000)),
    *(Case(f"{count:,} schemas that differ", schemas(count)) for count in (1250, 2500, 5000)),
)
QUICK = (Case("100 schemas that differ", schemas(100)), Case("500 access lists, 250 roles", access_lists(500, 250)))


@dataclass
class Backends:
    """The most memory of its own that any process of a server had since it was started, in MB."""

    server: Server
    most_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Begin to look, fifty times a second."""
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        assert self.server._process
        parent = self.server._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        while not self._stop.wait(0.02):
            for child in children.read_text().split():
                with contextlib.suppress(OSError):
                    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{child}/status").read_text())
                    self.most_mb = max(self.most_mb, int(found[1]) / 1024 if found else 0.0)


def measure(server: Server, aws: Aws, cases: tuple[Case, ...]) -> Iterator[Figures]:
    """Drift of each case and then, where it heals, the apply and a second run."""
    for case in cases:
        with Field(server, aws) as bench:
            bench.declare(1)
            bench.call()
            for statement in case.sql:
                server.run_as_superuser(statement, DATABASE)
            for step, mode in STEPS if case.heals else STEPS[:1]:
                with Backends(server) as backends:
                    figures = bench.call(mode=mode)
                yield {"case": case.name, "step": step, **figures, "backend_mb": backends.most_mb}
