"""What a run would do as a value: changes in, a printable, hashable plan out, with blockers and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

from provisioner.core import leaving
from provisioner.core.access_levels import AccessLevel
from provisioner.core.changes import Change, ChangeKind, PlannedChange
from provisioner.core.checks import find_blockers
from provisioner.core.difference import Difference
from provisioner.core.errors import Finding, shorten_alike
from provisioner.core.model import Entry
from provisioner.core.ownership import Ownership
from provisioner.core.roles import role_changes
from provisioner.core.units import Unit, UnitEffects, Validity, collect_units, digest_plan, digest_unit, unit_of
from provisioner.core.warnings import find_warnings

# What of an entry is its role's own, in whatever database.
_OF_A_ROLE = frozenset({"role", "password"})


@dataclass(frozen=True)
class Plan:
    """What a run would do, what keeps it from doing so, and what it noticed."""

    environment: str
    changes: tuple[Change, ...] = ()
    blockers: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    unchanged: tuple[PlannedChange, ...] = ()
    # What is declared and could not be planned, with the blocker that stands before it.
    unknown: tuple[PlannedChange, ...] = ()
    validity: Validity | None = None
    # Against units that nobody approved as they are (`core.approval`); no part of the digest, as they follow from it.
    unapproved: tuple[Finding, ...] = ()
    # What differs too and is not this run's to change: of a secret that changed the password alone is.
    left: tuple[Change, ...] = ()
    # Whether it is approved by an object of its digest, and not by a word in the event.
    is_approved_by_object: bool = False

    @cached_property
    def unblocked_changes(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if self.blocker_of(change) is None)

    def blocker_of(self, change: Change) -> Finding | None:
        """The blocker that stands against a change; None where it may be made.

        A blocker that names a database stands against that database; one that names a role alone against that role, and
        in databases against what is granted to it or made in its place, which is everything where it owns one, but not
        against what is taken from it. One that names neither stands against everything.
        """
        units = self._blocked_units
        if change.database and unit_of(change) in units:
            return units[unit_of(change)]
        roles = (units.get(Unit("role", role)) for role in sorted(change.depends_on))
        return units.get(Unit("", "")) or next((blocker for blocker in roles if blocker), None)

    def why_unknown(self, item: PlannedChange, owner: str) -> str:
        """What stands against something of an entry, or against the `owner` of its database; else empty."""
        in_database = Unit("database", item.database), Unit("role", item.username), Unit("role", owner)
        units = in_database[1:2] if item.action in _OF_A_ROLE else in_database
        blocker = next(filter(None, map(self._blocked_units.get, (*units, Unit("", "")))), None)
        return f"blocked: {blocker.message}" if blocker else ""

    @property
    def blocked_roles(self) -> frozenset[str]:
        return frozenset(unit.name for unit in self._blocked_units if unit.kind == "role")

    @cached_property
    def _blocked_units(self) -> Mapping[Unit, Finding]:
        """The first blocker of each unit that has any."""
        return {unit_of(blocker): blocker for blocker in reversed((*self.blockers, *self.unapproved))}

    @cached_property
    def units(self) -> Mapping[Unit, UnitEffects]:
        return collect_units(self.changes, self.blockers)

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the hash of what the plan does: the same for the same effects, whatever the order or time."""
        unit_digests = (digest_unit(unit, effects) for unit, effects in self.units.items())
        return digest_plan(self.validity or Validity(self.environment), unit_digests)


def build_plan(ownership: Ownership, differences: Sequence[Difference]) -> Plan:
    """The whole plan of what a run is about; `differences` are those of the declared databases."""
    server = ownership.server
    of_databases = [change for difference in differences for change in difference.changes]
    changes = (
        *leaving.restorations(ownership),
        *sorted((*role_changes(ownership), *of_databases), key=attrgetter("order")),
        *leaving.departures(ownership),
    )
    blockers = (*find_blockers(ownership, changes), *leaving.blockers(ownership, changes))
    kept = [finding for difference in differences for finding in difference.findings]
    warnings = [item for item in (*kept, *find_warnings(ownership)) if not _is_accepted(item, ownership)]
    untouched = sorted(_untouched(ownership, changes))
    plan = Plan(
        environment=ownership.environment,
        changes=changes,
        blockers=tuple(sorted(set(blockers))),
        warnings=shorten_alike(warnings),
        unchanged=tuple(item for item, is_known in untouched if is_known),
        validity=Validity(
            ownership.environment, ownership.host, ownership.port, server.system_identifier, server.administrator
        ),
    )
    while held := held_back(plan):
        plan = replace(plan, blockers=tuple(sorted({*plan.blockers, *held})))
    unknown = (item for item, is_known in untouched if not is_known)
    told = [replace(item, detail=plan.why_unknown(item, ownership.declared_owner(item.database))) for item in unknown]
    return replace(plan, unknown=tuple(item for item in told if item.detail))


def held_back(plan: Plan) -> tuple[Finding, ...]:
    """What keeps back roles whose leaving could not be ended. One that is kept back may keep another: ask again."""
    # A kept database is given to a role that stays.
    kinds = leaving.DEPARTURES - {ChangeKind.GIVE_DATABASE}
    departing = [change for change in plan.changes if change.kind in kinds and plan.blocker_of(change)]
    first = {change.username: change.database for change in reversed(departing)}
    return tuple(
        Finding(
            "retire_blocked",
            f'role "{role}" cannot be retired: database "{database}" is blocked',
            "see what blocks it",
            username=role,
        )
        for role, database in sorted(first.items())
        if role not in plan.blocked_roles
    )


def _is_accepted(warning: Finding, ownership: Ownership) -> bool:
    """Whether an entry of the role or database that a warning is about accepts it."""
    of_role, of_database = ownership.by_role.get(warning.username, ()), ownership.by_database.get(warning.database, ())
    entries = of_database if warning.database else of_role
    return any(warning.code in entry.accepted_findings and (entry in of_role or not of_role) for entry in entries)


def _untouched(ownership: Ownership, changes: Iterable[Change]) -> Iterator[tuple[PlannedChange, bool]]:
    """What of each entry no change touches, and whether it is known to be as declared."""
    touched = {(aspect, change.database, change.username) for change in changes for aspect in change.kind.aspects}
    for entry in ownership.declaration.entries:
        aspects = ["role", "password", "privileges"]
        aspects.append("database" if entry.access_level is AccessLevel.OWNER else "default_privileges")
        for aspect in aspects:
            place = "" if aspect in _OF_A_ROLE else entry.database
            if (aspect, place, entry.username) not in touched:
                item = PlannedChange(aspect, entry.database, entry.username)
                yield item, _is_managed(aspect, entry, ownership)


def _is_managed(aspect: str, entry: Entry, ownership: Ownership) -> bool:
    """Whether something is as declared where nothing is changed; of what is blocked, nobody knows."""
    if aspect == "password" and entry.username not in ownership.secrets:
        return False
    if aspect in _OF_A_ROLE:
        return ownership.manages(entry.username)
    facts = ownership.server.databases.get(entry.database)
    return (
        facts is not None and facts.may_be_entered and ownership.may_change(facts) and ownership.manages(entry.username)
    )
