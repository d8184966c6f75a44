"""An environment in, who can do what out: the function looks, the matrix is shown, the three files are saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from provisioner.core.access_report import build_matrices, describe, parse_report
from provisioner.core.state import PUBLIC
from rds_provisioner_cli.aws import read_object
from rds_provisioner_cli.function import call
from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Given, find_target

if TYPE_CHECKING:
    from pathlib import Path

    from provisioner.core.access_rows import AccessRow
    from rds_provisioner_cli.screen import Screen

FILES = ("html", "csv", "json")
# Databases side by side; what fits a terminal.
MATRIX_WIDTH = 4


def tell(given: Given, event: dict[str, Any], screen: Screen, *, save: Path | None, as_json: bool) -> Exit:
    """Call the function and show what it found. Raises Stopped."""
    answer = call(find_target(given, with_bucket=False), {**event, "mode": "access"}, screen)
    stored = {name: read_object(answer["audit"][f"access_{name}"]) for name in (FILES if save else ("json",))}
    try:
        _, rows = parse_report(stored["json"], given.environment)
        names = [each["name"] for each in json.loads(stored["json"])["databases"]]
    except (ValueError, KeyError, TypeError):
        raise Stopped(f"{answer['audit']['access_json']} is not a report of {given.environment}") from None
    _show(rows, names, screen)
    screen.say(answer["plan_text"].partition("\n")[0], "bold")
    for warning in answer["warnings"]:
        screen.say(f"? {warning['message']}; {warning['next_step']}", "magenta")
    for name in FILES:
        screen.say(f"  {name}: {answer['audit'][f'access_{name}']}")
    if save:
        _save(save, stored, answer, screen)
    if as_json:
        screen.document(json.dumps(answer, indent=2))
    return Exit.DONE


def _show(rows: tuple[AccessRow, ...], names: list[str], screen: Screen) -> None:
    """Roles by databases, a few databases each; roles that are beyond a level first."""
    for databases, lines in build_matrices(rows, names, MATRIX_WIDTH):
        cells = [
            ["PUBLIC" if role == PUBLIC else role, *(describe(found) if found else "-" for found in each)]
            for role, each in lines
        ]
        screen.table(["role", *databases], cells)


def _save(folder: Path, stored: dict[str, bytes], answer: dict[str, Any], screen: Screen) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in stored.items():
            path = folder / answer["audit"][f"access_{name}"].rpartition("/")[2]
            path.write_bytes(content)
            screen.note(f"wrote {path}")
    except OSError as error:
        raise Stopped(f"{folder} cannot be written: {error.strerror}", Exit.USAGE) from None
