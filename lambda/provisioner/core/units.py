"""The units of a plan come in as changes and blockers; a digest of each goes out, and one over all that they hold for.

A unit is a role, or a database with its grants. A digest is over effects, so it is the same on every run that would do
the same, and what a tenant changes in its own unit changes no other's.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from provisioner.core.changes import Change, PlannedChange
from provisioner.core.errors import Finding


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """A role or a database by its name; what stands against the whole plan has neither kind nor name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Validity:
    """What the digest of a plan holds for; a restored server keeps its identifier, so the address counts too."""

    environment: str
    host: str = ""
    port: int = 0
    system_identifier: str = ""
    administrator: str = ""


@dataclass(frozen=True, slots=True)
class UnitEffects:
    """What is done to one unit: the identities of its changes, and the codes of what stands against it."""

    effects: tuple[tuple[str, ...], ...] = ()
    blockers: tuple[str, ...] = ()


def unit_of(item: Change | PlannedChange | Finding) -> Unit:
    return name_unit(item.database, item.username if isinstance(item, Finding) else item.unit_role)


def name_unit(database: str, username: str) -> Unit:
    """The unit that is named by a database, or else by a role."""
    return Unit("database", database) if database else Unit("role" if username else "", username)


def collect_units(changes: Iterable[Change], blockers: Iterable[Finding]) -> dict[Unit, UnitEffects]:
    """The effects of each unit that has any, or that is blocked, in order.

    What only ends what an interrupted run had started is no effect: nobody gains or loses anything by it.
    """
    effects, codes = defaultdict(set), defaultdict(set)
    for change in changes:
        if not change.is_housekeeping:
            effects[unit_of(change)].add(change.identity)
    for blocker in blockers:
        codes[unit_of(blocker)].add(blocker.code)
    units = sorted(effects.keys() | codes.keys())
    return {unit: UnitEffects(tuple(sorted(effects[unit])), tuple(sorted(codes[unit]))) for unit in units}


def digest_unit(unit: Unit, effects: UnitEffects) -> str:
    """`sha256:` and the hash of one unit's effects."""
    return _digest([unit.kind, unit.name, effects.effects, effects.blockers])


def digest_plan(validity: Validity, unit_digests: Iterable[str]) -> str:
    """`sha256:` and the hash of the units' digests and of what they hold for."""
    return _digest([asdict(validity), sorted(unit_digests)])


def units_to_json(units: Mapping[Unit, UnitEffects]) -> list[dict[str, object]]:
    """The units as the stored plan holds them, so that it can be checked against its digest."""
    return [
        {**asdict(unit), "digest": digest_unit(unit, effects), "effects": effects.effects, "blockers": effects.blockers}
        for unit, effects in units.items()
    ]


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
