"""The bench: sizes and rounds in, measurements and the tables of docs/performance.md out.

    make bench                                  everything, about half an hour
    make bench BENCH_ARGS="--quick"             a look, about two minutes, to .bench/ only
    make bench BENCH_ARGS="--only growth"       one part again; the others keep their last figures

Product and floor take turns on one server, so a figure is worth as much as its ratio to the other's of the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench import access, cold, growth, heavy, report, work
from bench.field import Field, Figures, servers
from stack import binaries

if TYPE_CHECKING:
    from stack.aws import Aws
    from stack.postgres import Server

RESULTS = binaries.ROOT / ".bench" / "results.json"
PAGES = [binaries.ROOT / "docs" / name for name in ("performance.md", "scale.md")]
# Databases, and how often each is measured: five and more where a median is to be believed.
SIZES = {10: 5, 100: 5, 500: 3}


def compare(server: Server, aws: Aws, count: int, rounds: int) -> Iterator[Figures]:
    """First apply, second run with and without login probes, one application more: product and floor in turns."""
    turns: tuple[Callable[[Field, int], Iterator[Figures]], ...] = (_floor, _product)
    for number in range(rounds):
        for delayed in (False, True):
            for turn in turns if number % 2 == 0 else reversed(turns):
                with Field(server, aws, delayed) as field:
                    for figures in turn(field, count):
                        yield {**figures, "count": count, "delayed": delayed, "round": number}


def _floor(field: Field, count: int) -> Iterator[Figures]:
    yield {"who": "floor", "step": "first apply", **field.floor(count)}
    yield {"who": "floor", "step": "second run", **field.floor(count)}
    yield {"who": "floor", "step": "second run, probing", **field.floor(count, probes=True)}
    yield {"who": "floor", "step": "one added", **field.floor(count + 1)}


def _product(field: Field, count: int) -> Iterator[Figures]:
    field.declare(count)
    yield {"who": "product", "step": "first apply", **field.call()}
    yield {"who": "product", "step": "second run", **field.call()}
    yield {"who": "product", "step": "second run, no probes", **field.call(probes=False)}
    field.declare(count + 1)
    yield {"who": "product", "step": "one added", **field.call()}


def main() -> int:
    """Measure what was asked for and write it down."""
    parts = ("compare", "growth", "heavy", "work", "access", "cold")
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, docs untouched")
    parser.add_argument("--only", choices=parts, action="append", help="this part; may be given more than once")
    parser.add_argument("--size", type=_size, action="append", help="DATABASES:ROUNDS to compare, others as they are")
    parser.add_argument("--version", type=int, default=max(binaries.available()), help="of PostgreSQL")
    arguments = parser.parse_args()
    wanted = arguments.only or parts
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() and not arguments.quick else {}
    with servers(arguments.version) as (server, aws):
        results["machine"] = report.describe_machine(arguments.version)
        if "compare" in wanted:
            sizes = dict(arguments.size or ([(10, 1)] if arguments.quick else SIZES.items()))
            kept = [each for each in results.get("compare", []) if each["count"] not in sizes]
            results["compare"] = kept + [
                _told(figures) for count, rounds in sizes.items() for figures in compare(server, aws, count, rounds)
            ]
        if "work" in wanted:
            results["work"] = _told(work.measure(server, aws))
        if "heavy" in wanted:
            cases = heavy.QUICK if arguments.quick else heavy.CASES
            results["heavy"] = [_told(each) for each in heavy.measure(server, aws, cases)]
        if "access" in wanted:
            sizes_of_access = access.QUICK if arguments.quick else access.FULL
            results["access"] = [_told(each) for each in access.measure(server, aws, sizes_of_access)]
        if "growth" in wanted:
            sizes_of = growth.QUICK if arguments.quick else growth.FULL
            results["tables"] = [_told(each) for each in growth.in_tables(server, aws, sizes_of.tables)]
            # Last on this server: to drop thousands of databases takes longer than to start another.
            results["databases"] = [_told(each) for each in growth.in_databases(server, aws, sizes_of.databases)]
        if "cold" in wanted:
            results["cold"] = cold.measure(1 if arguments.quick else 5)
    _write(results, to_docs=not arguments.quick)
    return 0


def _size(text: str) -> tuple[int, int]:
    count, _, rounds = text.partition(":")
    return int(count), int(rounds or 1)


def _told(figures: Figures) -> Figures:
    words = [str(figures.get(name, "")) for name in ("count", "tables", "case", "who", "step")]
    way = "1 ms" if figures.get("delayed") else "direct"
    seconds = f"{figures['database']:8.2f} s" if "database" in figures else "an application at work"
    print(f"  {way:7}{' '.join(word for word in words if word):40}{seconds}", file=sys.stderr, flush=True)
    return figures


def _write(results: dict[str, Any], *, to_docs: bool) -> None:
    target = RESULTS if to_docs else RESULTS.with_name("quick.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1))
    tables = report.tables(results)
    if not to_docs:
        target.with_suffix(".md").write_text("\n\n".join(tables.values()) + "\n")
        print("\n\n".join(tables.values()))
        return
    for page in PAGES:
        page.write_text(report.fill(page.read_text(), tables))
        print(f"{page.relative_to(binaries.ROOT)} has the new figures.")


if __name__ == "__main__":
    sys.exit(main())
