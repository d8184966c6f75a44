"""Sizes in, what a second run costs at each out: more and more databases, more and more tables in one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.field import Field, Figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stack.aws import Aws
    from stack.postgres import Server


@dataclass(frozen=True)
class Sizes:
    """How many databases, and how many tables in one."""

    databases: tuple[int, ...]
    tables: tuple[int, ...]


FULL = Sizes(databases=(50, 200, 500, 1000, 2000), tables=(0, 1000, 3000, 10_000))
QUICK = Sizes(databases=(10, 20), tables=(0, 200))


def in_databases(server: Server, aws: Aws, sizes: Iterable[int]) -> Iterator[Figures]:
    """The first apply of what is new at each size and the second run, beside the floor: 1 ms away, on one processor."""
    with Field(server, aws, delayed=True, one_cpu=True) as field:
        before = 0
        for count in sizes:
            field.declare(count)
            added = count - before
            yield {"who": "product", "step": "apply", "count": count, "added": added, "delayed": True, **field.call()}
            yield {"who": "product", "step": "second run", "count": count, "delayed": True, **field.call()}
            yield {"who": "floor", "step": "second run", "count": count, "delayed": True, **field.floor(count)}
            before = count


def in_tables(server: Server, aws: Aws, sizes: Iterable[int]) -> Iterator[Figures]:
    """A second run over one database whose tables become more, all with grants as an application's have."""
    with Field(server, aws) as field:
        field.declare(1)
        field.call()
        made = 0
        for tables in sizes:
            for start in range(made, tables, 500):
                # One transaction holds a lock for each table that it creates.
                numbers = f"{start + 1}..{min(start + 500, tables)}"
                create = f"FOR n IN {numbers} LOOP EXECUTE 'CREATE TABLE t' || n || ' (id int)'; END LOOP"
                server.run_as_superuser(f"SET ROLE app0000; DO $$ BEGIN {create}; END $$", "app0000")
            made = tables
            yield {"who": "product", "step": "second run", "tables": tables, **field.call()}
