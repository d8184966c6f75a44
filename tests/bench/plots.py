"""The measurements of the last bench in, the pictures of docs/performance.md out; the only user of matplotlib."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "performance"
PHASES = ("snapshot", "secrets", "observe", "probe", "plan", "apply", "verify", "audit")
STEPS = ("first apply", "second run", "second run, no probes", "one added")


def main() -> None:
    """Draw what was measured; a part that was not is left as it is."""
    results = json.loads((ROOT / ".bench" / "results.json").read_text())
    TARGET.mkdir(exist_ok=True)
    if results.get("compare"):
        _draw_seconds(results["compare"])
        _draw_phases(results["compare"])
        _draw_counts(results["compare"])
    if results.get("databases"):
        _draw_growth(results["databases"])


def _draw_seconds(compared: list[dict[str, Any]]) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for panel, delayed in zip(panels, (False, True), strict=True):
        for who, style in (("product", "-o"), ("floor", "--x")):
            for number, step in enumerate(STEPS):
                points = _medians(compared, who, step, "database", delayed=delayed)
                if points:
                    panel.plot(*zip(*points, strict=True), style, color=f"C{number}", label=f"{who}: {step}")
        panel.set(xscale="log", yscale="log", xlabel="databases", title="1 ms per round trip" if delayed else "direct")
        panel.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("seconds of database work")
    panels[0].legend(fontsize=7)
    _save(figure, "seconds")


def _draw_phases(compared: list[dict[str, Any]]) -> None:
    count = 100 if any(each["count"] == 100 for each in compared) else max(each["count"] for each in compared)
    figure, panel = plt.subplots(figsize=(9, 4))
    places = [(step, delayed) for step in STEPS for delayed in (False, True)]
    labels = [f"{step}, {'1 ms' if delayed else 'direct'}" for step, delayed in places]
    left = [0.0] * len(places)
    for phase in PHASES:
        widths = [
            statistics.median(
                each["phases"].get(phase, 0.0)
                for each in compared
                if (each["who"], each["step"], each["delayed"], each["count"]) == ("product", step, delayed, count)
            )
            for step, delayed in places
        ]
        panel.barh(labels, widths, left=left, label=phase)
        left = [begin + width for begin, width in zip(left, widths, strict=True)]
    panel.invert_yaxis()
    panel.set(xlabel="seconds", title=f"{count} databases, by phase")
    panel.legend(fontsize=8)
    _save(figure, "phases")


def _draw_counts(compared: list[dict[str, Any]]) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    for panel, name in zip(panels, ("connections", "round_trips", "cpu"), strict=True):
        for who, style in (("product", "-o"), ("floor", "--x")):
            for number, step in enumerate(STEPS):
                points = _medians(compared, who, step, name, delayed=True)
                if points:
                    panel.plot(*zip(*points, strict=True), style, color=f"C{number}", label=f"{who}: {step}")
        title = {"cpu": "our CPU, seconds"}.get(name, name.replace("_", " "))
        panel.set(xscale="log", yscale="log", xlabel="databases", title=title)
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend(fontsize=7)
    _save(figure, "counts")


def _draw_growth(grown: list[dict[str, Any]]) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(14, 4))
    for who, step, style in (("product", "second run", "-o"), ("floor", "second run", "--x")):
        points = [(each["count"], each["wall"]) for each in grown if (each["who"], each["step"]) == (who, step)]
        panels[0].plot(*zip(*points, strict=True), style, label=who)
    panels[0].set(xlabel="databases", ylabel="seconds, whole process", title="second run, 1 ms per round trip")
    points = [
        (each["count"], each["memory_mb"])
        for each in grown
        if each["who"] == "product" and each["step"] == "second run"
    ]
    panels[1].plot(*zip(*points, strict=True), "-o")
    panels[1].set(xlabel="databases", ylabel="MB", title="peak memory", ylim=(0, 512))
    for name, label in (("cpu", "ours"), ("server_cpu", "the server's")):
        points = [
            (each["count"], each[name] / each["count"] * 1000)
            for each in grown
            if (each["who"], each["step"]) == ("product", "second run")
        ]
        panels[2].plot(*zip(*points, strict=True), "-o", label=label)
    panels[2].set(xlabel="databases", ylabel="ms", title="processor time for each database", ylim=(0, None))
    for panel in panels:
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend()
    panels[2].legend()
    _save(figure, "growth")


def _medians(
    compared: list[dict[str, Any]], who: str, step: str, name: str, *, delayed: bool
) -> list[tuple[int, float]]:
    found: dict[int, list[float]] = {}
    for each in compared:
        if (each["who"], each["step"], each["delayed"]) == (who, step, delayed):
            found.setdefault(each["count"], []).append(each[name])
    return [(count, statistics.median(values)) for count, values in sorted(found.items())]


def _save(figure: Any, name: str) -> None:
    figure.tight_layout()
    figure.savefig(TARGET / f"{name}.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
