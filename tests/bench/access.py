"""Sizes in, what a report of who can do what costs out: through a millisecond, on one processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.field import Field, Figures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.aws import Aws
    from stack.postgres import Server

# Databases, and tables in one.
FULL, QUICK = ((10, 100, 500), (10, 10_000)), ((10,), (10, 500))


def measure(server: Server, aws: Aws, sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> Iterator[Figures]:
    """A report on each number of databases, with three roles each, and on one database of each number of tables."""
    databases, tables = sizes
    with Field(server, aws) as field:
        field.declare(1)
        field.call()
        made = 0
        for count in tables:
            for start in range(made, count, 500):
                # One transaction holds a lock for each table that it creates.
                numbers = f"{start + 1}..{min(start + 500, count)}"
                create = f"FOR n IN {numbers} LOOP EXECUTE 'CREATE TABLE t' || n || ' (id int)'; END LOOP"
                server.run_as_superuser(f"SET ROLE app0000; DO $$ BEGIN {create}; END $$", "app0000")
            made = count
            yield {"step": "access", "tables": count, "count": 1, **field.call(mode="access")}
    with Field(server, aws, delayed=True, one_cpu=True) as field:
        for count in databases:
            field.declare(count)
            field.call()
            yield {"step": "access", "count": count, "tables": 0, "delayed": True, **field.call(mode="access")}
