"""What was measured in, the Markdown tables of docs/performance.md out."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.field import Figures

STEPS = ("first apply", "second run", "second run, no probes", "one added")
# A second run of the floor has no probes, so it is what both kinds of ours are held against.
FLOOR_STEP = {"second run, no probes": "second run", "second run against a floor that probes": "second run, probing"}
OUR_STEP = {"second run against a floor that probes": "second run"}
PHASES = ("snapshot", "secrets", "observe", "probe", "plan", "apply", "verify", "audit")


def describe_machine(version: int) -> str:
    """What the figures were measured on."""
    cores = os.cpu_count()
    python = platform.python_version()
    return f"{cores} cores ({platform.machine()}), Python {python}, PostgreSQL {version} on loopback, TLS, fsync off"


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Each table by its name; a part that was not measured has none."""
    makers: dict[str, tuple[str, Callable[[Any], str]]] = {
        "machine": ("machine", str),
        "ratios": ("compare", _ratios),
        "phases": ("compare", _phases),
        "process": ("compare", _process),
        "databases": ("databases", _databases),
        "tables": ("tables", _tables),
        "heavy": ("heavy", _heavy),
        "work": ("work", _work),
        "access": ("access", _access),
        "cold": ("cold", _cold),
        "scale": ("databases", _scale),
    }
    return {name: make(results[part]) for name, (part, make) in makers.items() if results.get(part)}


def fill(page: str, found: dict[str, str]) -> str:
    """Put tables between their marks in a page; what was not measured stays as it is."""
    for name, table in found.items():
        before, mark, rest = page.partition(f"<!-- measured: {name} -->\n")
        if mark:
            page = f"{before}{mark}{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return page


def _ratios(compared: Sequence[Figures]) -> str:
    rows = []
    for count in sorted({each["count"] for each in compared}):
        for step in (*STEPS, *OUR_STEP):
            rounds = len(_pairs(compared, count, step, delayed=False))
            row = [f"{count} ({rounds})", step]
            for delayed in (False, True):
                pairs = _pairs(compared, count, step, delayed=delayed)
                floor, ours = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
                ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
                row += [f"{floor:.2f}", f"{ours:.2f}", f"**{ratio:.2f}**"]
            rows.append(row)
    heads = ("floor, s", "ours, s", "ratio")
    return _table(["databases (rounds)", "", *heads, *(f"1 ms: {head}" for head in heads)], rows)


def _pairs(compared: Sequence[Figures], count: int, step: str, *, delayed: bool) -> list[tuple[float, float]]:
    """The seconds of floor and product of each round."""
    here = [each for each in compared if each["count"] == count and each["delayed"] == delayed]
    floor = {
        each["round"]: each for each in here if (each["who"], each["step"]) == ("floor", FLOOR_STEP.get(step, step))
    }
    ours = {
        each["round"]: each for each in here if (each["who"], each["step"]) == ("product", OUR_STEP.get(step, step))
    }
    return [(floor[number]["database"], ours[number]["database"]) for number in sorted(floor.keys() & ours.keys())]


def _phases(compared: Sequence[Figures]) -> str:
    rows = []
    for count, delayed, step, group in _groups(compared, "product"):
        seconds = [_median(each["phases"].get(phase, 0.0) for each in group) for phase in PHASES]
        rows.append([str(count), "1 ms" if delayed else "direct", step, *(f"{each:.2f}" for each in seconds)])
    return _table(["databases", "way", "", *PHASES], rows)


def _process(compared: Sequence[Figures]) -> str:
    rows = []
    for who in ("product", "floor"):
        for count, delayed, step, group in _groups(compared, who):
            if delayed:
                values = {
                    name: _median(each.get(name, 0) for each in group)
                    for name in ("wall", "cpu", "server_cpu", "memory_mb", "connections", "round_trips", "statements")
                }
                rows.append(
                    [
                        str(count),
                        who,
                        step,
                        f"{values['wall']:.2f}",
                        f"{values['cpu']:.2f}",
                        f"{values['server_cpu']:.2f}",
                        f"{values['memory_mb']:.0f}" if values["memory_mb"] else "",
                        f"{values['connections']:.0f}",
                        f"{values['round_trips']:.0f}",
                        f"{values['statements']:.0f}" if values["statements"] else "",
                    ]
                )
    heads = ["wall, s", "our CPU, s", "server's CPU, s", "memory, MB", "connections", "round trips", "statements"]
    return _table(["databases", "who", "", *heads], rows)


def _heavy(measured: Sequence[Figures]) -> str:
    rows = [
        [
            each["case"],
            each["step"],
            f"{each['phases'].get('observe', 0.0):.2f}",
            f"{each['cpu']:.1f}",
            f"{each['server_cpu']:.1f}",
            f"{each['memory_mb']:.0f}",
            f"{each['backend_mb']:.0f}",
        ]
        for each in measured
    ]
    heads = ["observe, s", "our CPU, s", "server's CPU, s", "the function, MB", "a backend, MB"]
    return _table(["what is large", "", *heads], rows)


def _access(measured: Sequence[Figures]) -> str:
    rows = [
        [
            str(each["count"]),
            str(each["tables"]),
            f"{each['wall']:.1f}",
            f"{each['cpu']:.1f}",
            f"{each['memory_mb']:.0f}",
            str(each["messages"]),
        ]
        for each in measured
    ]
    return _table(["databases", "tables in it", "wall, s", "our CPU, s", "MB", "messages"], rows)


def _databases(grown: Sequence[Figures]) -> str:
    rows = []
    for count in sorted({each["count"] for each in grown}):
        apply, second, floor = (
            next(each for each in grown if each["count"] == count and (each["who"], each["step"]) == key)
            for key in (("product", "apply"), ("product", "second run"), ("floor", "second run"))
        )
        rows.append(
            [
                str(count),
                f"{3 * count}",
                f"+{apply['added']}: {apply['wall']:.0f}",
                f"{second['wall']:.1f}",
                f"{second['wall'] / count * 1000:.1f}",
                f"{second['cpu'] / count * 1000:.1f}",
                f"{second['server_cpu'] / count * 1000:.1f}",
                f"{floor['wall']:.1f}",
                f"{max(apply['memory_mb'], second['memory_mb']):.0f}",
                f"{second['round_trips']}",
            ]
        )
    heads = [
        "apply of what is new, s",
        "second run, s",
        "for each database, ms",
        "our CPU, ms",
        "server's CPU, ms",
        "the floor's, s",
    ]
    return _table(["databases", "roles", *heads, "memory, MB", "round trips"], rows)


# List prices in US dollars of a large region; a request of Lambda, a second of a GB on arm64, a state transition, ten
# thousand calls of Secrets Manager, a secret for a month.
REQUEST, GB_SECOND, TRANSITION, SECRET_CALLS, SECRET = 0.20 / 1e6, 0.0000133334, 0.025 / 1000, 0.05, 0.40
INSTANCES, DATABASES, MEMORY_GB, AT_ONCE = 10_000, 100, 1.0, 200


def _scale(grown: Sequence[Figures]) -> str:
    """A nightly sweep over a fleet, computed from the line through the measured second runs."""
    points = [
        (each["count"], each["wall"]) for each in grown if (each["who"], each["step"]) == ("product", "second run")
    ]
    line = statistics.linear_regression([count for count, _ in points], [wall for _, wall in points])
    run = line.slope * DATABASES + max(line.intercept, 0.0)
    calls = (3 * DATABASES + 1) / 20 + 1
    rows = [
        ["one run", f"{run:.1f} s"],
        [f"all of them, {AT_ONCE} at once", f"{run * INSTANCES / AT_ONCE / 60:.0f} minutes"],
        [f"Lambda, {MEMORY_GB:.0f} GB", f"${INSTANCES * (run * MEMORY_GB * GB_SECOND + REQUEST):.2f} a night"],
        ["Step Functions, six transitions a run", f"${INSTANCES * 6 * TRANSITION:.2f} a night"],
        ["Secrets Manager, calls", f"${INSTANCES * calls / 10_000 * SECRET_CALLS:.2f} a night"],
        ["Secrets Manager, secrets", f"${INSTANCES * 3 * DATABASES * SECRET:,.0f} a month, this tool or not"],
    ]
    return _table([f"{INSTANCES:,} instances of {DATABASES} databases, one sweep", ""], rows)


def _tables(grown: Sequence[Figures]) -> str:
    rows = [
        [
            str(each["tables"]),
            f"{each['phases']['observe'] * 1000:.0f}",
            f"{each['server_cpu'] * 1000:.0f}",
            f"{each['memory_mb']:.0f}",
            f"{each['wall']:.2f}",
        ]
        for each in grown
    ]
    return _table(["tables", "observe, ms", "server's CPU, ms", "memory, MB", "whole run, s"], rows)


def _work(work: dict[str, Any]) -> str:
    names = {"alone": "alone", "beside": f"while grants on its {work['tables']} tables are repaired"}
    rows = [
        [
            words,
            str(work[name]["transactions"]),
            *(f"{work[name][each] * 1000:.2f}" for each in ("median", "percentile_99", "longest")),
        ]
        for name, words in names.items()
    ]
    return _table(["an application inserts", "transactions", "median, ms", "99th percentile, ms", "longest, ms"], rows)


def _cold(cold: dict[str, float]) -> str:
    alone = [name for name in cold if not name.startswith("product")]
    total = sum(cold[name] for name in alone)
    rows = [[name, f"{cold[name]:.0f}", ""] for name in alone]
    rows.append(["the sum of these", f"{total:.0f}", "1.00"])
    rows.append(
        ["the function, ready for a JSON snapshot", f"{cold['product']:.0f}", f"**{cold['product'] / total:.2f}**"]
    )
    whole = cold["product_with_hcl"]
    rows.append(["the function, to the end of its first HCL", f"{whole:.0f}", f"**{whole / total:.2f}**"])
    return _table(["what is imported", "ms", "of the sum"], rows)


def _groups(compared: Sequence[Figures], who: str) -> Iterable[tuple[int, bool, str, list[Figures]]]:
    for count in sorted({each["count"] for each in compared}):
        for delayed in (False, True):
            for step in STEPS:
                group = [
                    each
                    for each in compared
                    if (each["count"], each["delayed"], each["who"], each["step"]) == (count, delayed, who, step)
                ]
                if group:
                    yield count, delayed, step, group


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
