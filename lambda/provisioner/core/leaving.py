"""How a role leaves: what was asked and what stands in; changes, refusals, blockers and warnings out.

Two steps, neither of which is ever taken by itself. A quarantined role may not log in, and its marker holds the moment;
all else of it stands, and declared again it is given back. A role that has been quarantined long enough can be retired.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from operator import attrgetter

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.kept import adoptions
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.quoting import quote
from provisioner.core.retiring import members_of, retirement, retirement_blockers
from provisioner.core.state import Role
from provisioner.core.text import count

# What is done when all else is.
DEPARTURES = frozenset(kind for kind in ChangeKind if kind.rank >= ChangeKind.QUARANTINE_ROLE.rank)


def is_quarantined(role: Role) -> bool:
    """Whether a role was quarantined and still may not log in."""
    return bool(role.marker.quarantined) and not role.can_login


def restorations(ownership: Ownership) -> Iterable[Change]:
    """The declared roles that are given back, in order."""
    for name in sorted(ownership.by_role):
        role = ownership.server.roles.get(name)
        if role and role.marker.quarantined and ownership.manages(name):
            login = role.marker.login or role.can_login
            reason = "may log in" if login else "NOLOGIN as before it was quarantined"
            yield Change(ChangeKind.RESTORE_ROLE, username=name, login=login, reason=reason)


def departures(ownership: Ownership) -> tuple[Change, ...]:
    """The changes by which roles leave, in order: whoever is quarantined before anybody is gone and cannot be named."""
    return tuple(sorted((*_departures(ownership), *adoptions(ownership)), key=attrgetter("order")))


def _departures(ownership: Ownership) -> Iterable[Change]:
    """A quarantine that was interrupted goes on without being asked for."""
    leaving = ownership.leaving
    refused = {finding.username for finding in refusals(ownership)}
    for name, role in sorted(ownership.server.roles.items()):
        if name in ownership.by_role or name in refused or not has_marker(role, ownership.environment):
            continue
        if is_quarantined(role):
            if name in leaving.sessions:
                yield _quarantine(role, ownership)
            if name in leaving.retire:
                yield from retirement(name, ownership)
        elif name in leaving.quarantine:
            yield _quarantine(role, ownership)


def _quarantine(role: Role, ownership: Ownership) -> Change:
    """A quarantine, or what is left of one: sessions that were not ended."""
    sessions = ownership.leaving.sessions.get(role.name, 0)
    ended = f"{count(sessions, 'session')} of it {'ends' if sessions == 1 else 'end'}"
    reason = f"quarantined since {role.marker.quarantined}; {ended}"
    if not is_quarantined(role):
        reason = f"may not log in; {ended}; its objects, grants and memberships stand"
        if members := members_of(role.name, ownership):
            reason += f"; its members {members} may act in its place still"
    return Change(ChangeKind.QUARANTINE_ROLE, username=role.name, reason=reason)


# --- refusals -------------------------------------------------------------------------------------------------------


def refusals(ownership: Ownership) -> tuple[Finding, ...]:
    """Why roles that the event names are not to be named there, all at once."""
    leaving = ownership.leaving
    found = [finding for name in sorted(leaving.quarantine) for finding in _refuse_name(name, "quarantine", ownership)]
    found += [finding for name in sorted(leaving.retire) for finding in _refuse_name(name, "retire", ownership)]
    for name in sorted(leaving.quarantine & leaving.retire):
        message = f'role "{name}" is to be quarantined and to be retired'
        next_step = f"quarantine it now, and retire it {count(leaving.retire_after_days, 'day')} later"
        found.append(Finding("retire", message, next_step, where="retire", username=name))
    return tuple(found)


def _refuse_name(name: str, key: str, ownership: Ownership) -> Iterable[Finding]:
    role = ownership.server.roles.get(name)
    message = next_step = ""
    if name in {ownership.server.administrator, ownership.server.bootstrap}:
        message, next_step = f'role "{name}" is the administrator\'s own login', f"take it out of {key}"
    elif role is None:
        message, next_step = f'there is no role "{name}"', f"correct it, or take it out of {key}: it may be gone"
    elif name in ownership.by_role:
        applications = ", ".join(entry.application for entry in ownership.by_role[name])
        message = f'role "{name}" is declared ({applications})'
        next_step = f"take its entries out of the snapshot first, or it out of {key}"
    elif not has_marker(role, ownership.environment):
        message = f'role "{name}" is not managed here'
        next_step = f"take it out of {key}; the runbook tells how a role is removed by hand"
    elif key == "retire" and name not in ownership.leaving.quarantine:
        message, next_step = _too_early(role, ownership)
    if message:
        yield Finding(key, message, next_step, where=key, username=name)


def _too_early(role: Role, ownership: Ownership) -> tuple[str, str]:
    """Why a role may not be retired yet, and what to do; both empty where it may."""
    since, leaving = role.marker.quarantined, ownership.leaving
    if not is_quarantined(role):
        return f'role "{role.name}" is not quarantined', f'quarantine it first: quarantine: ["{role.name}"]'
    try:
        free = datetime.fromisoformat(since) + timedelta(days=leaving.retire_after_days)
        if datetime.fromisoformat(leaving.now) >= free:
            return "", ""
    except (ValueError, TypeError, OverflowError):
        return f'the marker of role "{role.name}" names no moment of its quarantine', "declare it, and begin anew"
    days = count(leaving.retire_after_days, "day")
    message = f'role "{role.name}" is quarantined since {since}, and has to be for {days} (RETIRE_AFTER_DAYS)'
    return message, f"retire it from {free.isoformat().replace('+00:00', 'Z')} on"


# --- blockers and warnings ------------------------------------------------------------------------------------------


def blockers(ownership: Ownership, changes: Iterable[Change]) -> Iterable[Finding]:
    """What keeps a role from leaving that the event may name."""
    leaving = ownership.leaving
    for change in changes:
        name = change.username
        if change.kind is ChangeKind.DROP_ROLE:
            yield from retirement_blockers(name, ownership)
        if change.kind is not ChangeKind.QUARANTINE_ROLE:
            continue
        role = ownership.server.roles[name]
        if name in ownership.iam_ways and not (leaving.may_signal or role.administrator_inherits):
            message = f'only a member of pg_signal_backend can end sessions of role "{name}", which logs in by IAM'
            remedy = f"GRANT pg_signal_backend TO {quote(ownership.server.administrator)}"
            yield Finding("leaving_right", message, f"as the master: {remedy}", username=name)
        for subscription in leaving.subscriptions.get(name, ()):
            message = f'role "{name}" owns the subscription "{subscription}", whose worker is a session that comes back'
            remedy = f"in its database: ALTER SUBSCRIPTION {quote(subscription)} DISABLE"
            yield Finding("leaving_subscription", message, f"as its owner, {remedy}", username=name)


def warning(role: Role) -> Finding | None:
    """What is said of a managed role that is not declared any more, instead of that it is an orphan."""
    since = role.marker.quarantined
    if not since:
        return None
    if role.can_login:
        message = f'role "{role.name}" was quarantined at {since}, and somebody has let it log in again'
        return Finding("quarantine_undone", message, "quarantine it again, or declare it again", username=role.name)
    message = f'role "{role.name}" is quarantined since {since}'
    next_step = "declare it again to give it back, or retire it when its time has come"
    return Finding("quarantined_role", message, next_step, username=role.name)
