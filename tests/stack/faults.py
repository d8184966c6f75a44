"""Every statement and login of a run, each with the unit that it is for; one of them can be made to fail."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner.core.errors import DatabaseUnavailable, Finding
from provisioner.edges import postgres, probe
from provisioner.edges.postgres import Connection
from provisioner.edges.sqlstates import SqlError

if TYPE_CHECKING:
    import pytest

_OF_A_ROLE = re.compile(r'^(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE|GRANT|REVOKE) "([a-z_]+)"(?! ON)')
_ABOUT_A_ROLE = re.compile(r"\b(?:rolname|usename) = '([a-z_]+)'")
_OF_A_DATABASE = re.compile(r'\bDATABASE "([a-z_]+)"')
# What is different in each run: verifiers, names drawn at random, the id of the run, moments.
_CHANGING = re.compile(r"SCRAM-SHA-256\$[^']*|probe/[0-9a-f]+|'\d+ \d{20}'|20\d\d-\d\d-\d\dT[\d:]+Z")
REFUSAL = "DO $$ BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '{}'; END $$"


@dataclass(frozen=True, order=True)
class Unit:
    """A role or a database."""

    kind: str
    name: str


@dataclass(frozen=True)
class Step:
    """The `number`th time that a run says the same for a unit; without a unit it is for all of them.

    `is_first` says that it begins its message.
    """

    unit: Unit | None
    text: str
    number: int = 1
    is_first: bool = True

    @property
    def is_login(self) -> bool:
        """Whether it is a login and no statement."""
        return self.text.startswith("login ")


class Faults:
    """Watches the connections of all runs in this process, and spoils from one step on all that are the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, units: set[Unit]) -> None:
        self.steps: list[Step] = []
        self._units, self._lock = units, threading.Lock()
        self._counts: Counter[tuple[Unit | None, str]] = Counter()
        self._spoilt: Step | None = None
        self._kind = ""
        log_in, run = Connection.__init__, Connection.run

        def watched_login(connection: Any, login: Any, database: str = "") -> None:
            connection.place = (login.username, database or login.database)
            self._watch_login(connection.place)
            log_in(connection, login, database)

        def watched_run(connection: Any, *statements: str, **options: Any) -> Any:
            return run(connection, *self._spoil(connection, statements), **options)

        prove = postgres.prove_password

        def watched_probe(login: Any) -> None:
            self._watch_login((login.username, login.database))
            prove(login)

        monkeypatch.setattr(probe, "prove_password", watched_probe)
        monkeypatch.setattr(Connection, "__init__", watched_login)
        monkeypatch.setattr(Connection, "run", watched_run)

    def begin(self, spoilt: Step | None = None, kind: str = "") -> None:
        """Count from the start of a run; `kind` is an SQLSTATE, `lost` for a lost connection, or `mistake`."""
        self.steps, self._counts, self._spoilt, self._kind = [], Counter(), spoilt, kind

    def _watch_login(self, place: tuple[str, str]) -> None:
        unit = self._unit_of_place(place)
        self._refuse_login(self._count(unit, f"login {place[0] if unit is None else ''} {place[1]}"))

    def _count(self, unit: Unit | None, text: str, *, is_first: bool = True) -> Step:
        text = _CHANGING.sub("...", text)
        with self._lock:
            self._counts[unit, text] += 1
            step = Step(unit, text, self._counts[unit, text], is_first)
            self.steps.append(step)
        return step

    def _is_spoilt(self, step: Step) -> bool:
        """From that time on: what a tenant is in the way of, it stays in the way of."""
        first = self._spoilt
        return first is not None and (step.unit, step.text) == (first.unit, first.text) and step.number >= first.number

    def _refuse_login(self, step: Step) -> None:
        if not self._is_spoilt(step):
            return
        if self._kind == "lost":
            raise DatabaseUnavailable(Finding("unreachable", "made to fail"))
        raise SqlError("28000", "made to fail")

    def _spoil(self, connection: Any, statements: tuple[str, ...]) -> list[str]:
        here = self._unit_of_place(connection.place)
        units = [here or self._unit_of_statement(text) for text in statements]
        named = {unit for unit in units if unit}
        # BEGIN and COMMIT around what is said for one database alone are for it, too.
        alone = next(iter(named)) if len(named) == 1 and next(iter(named)).kind == "database" else None
        sent = []
        for place, (unit, text) in enumerate(zip(units, statements, strict=True)):
            step = self._count(unit or alone, text, is_first=place == 0)
            if self._is_spoilt(step):
                sent.append(self._fail(connection))
                break
            sent.append(text)
        return sent

    def _fail(self, connection: Any) -> str:
        if self._kind == "mistake":
            raise KeyError("made to fail")
        if self._kind == "lost":
            connection.close()
        return REFUSAL.format(self._kind)

    def _unit_of_place(self, place: tuple[str, str]) -> Unit | None:
        username, database = place
        for unit in (Unit("role", username), Unit("database", database)):
            if unit in self._units:
                return unit
        return None

    def _unit_of_statement(self, text: str) -> Unit | None:
        for kind, pattern in (("database", _OF_A_DATABASE), ("role", _OF_A_ROLE), ("role", _ABOUT_A_ROLE)):
            if found := pattern.search(text):
                unit = Unit(kind, found[1])
                return unit if unit in self._units else None
        return None
