"""The difference of one role: what is declared and what stands in, the changes between them out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.quoting import quote
from provisioner.core.state import IAM_ROLE, NO_LIMIT, Membership, PasswordCheck, Role

_CUT_OFF = "a run was cut off while it created databases for this role; what it borrowed goes back"
_WHY_SET = {
    PasswordCheck.DIFFERS: "the server has another password than the secret",
    PasswordCheck.OTHER_VERIFIER: "the server keeps the password in another form than a SCRAM verifier of 4096 rounds",
}


def role_changes(ownership: Ownership) -> list[Change]:
    """What leads the declared roles to what they should be, in no order, and ends what was begun for others of ours."""
    changes = [change for name in ownership.by_role for change in _changes(name, ownership)]
    for name, role in ownership.server.roles.items():
        is_ours = name not in ownership.by_role and has_marker(role, ownership.environment) and role.has_admin_option
        if is_ours and ownership.was_cut_off(role):
            changes.append(Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username=name, reason=_CUT_OFF))
    return changes


def is_revocable(membership: Membership, ownership: Ownership) -> bool:
    """Whether a membership is one of a declared role in a managed one, access that nobody declared, and ours to revoke.

    From 16 a REVOKE takes back only what the named grantor granted, and only somebody with its rights can name it.
    """
    is_ours = not ownership.server.has_membership_options or membership.grantor == ownership.server.administrator
    is_managed = membership.role != IAM_ROLE and ownership.manages(membership.role)
    return is_ours and membership.member in ownership.by_role and is_managed


def iam_login(name: str, ownership: Ownership, **place: str) -> Iterable[Finding]:
    """What stands against a role that logs in by IAM."""
    way, facts = ownership.iam_ways.get(name), ownership.server.roles[name]
    if way is None:
        return
    is_member = ownership.server.has_membership_options and facts.has_admin_option
    yield Finding(
        "iam_login",
        f'role "{name}" is a member of "{IAM_ROLE}": RDS takes no password of it, nor of who is a member of it, as the '
        f"administrator {'is' if is_member else 'would have to be'}",
        f'as "{way.grantor}": REVOKE {quote(way.role)} FROM {quote(name)}; or declare another username',
        **place,
    )


def _changes(name: str, ownership: Ownership) -> Iterable[Change]:
    role, secret = ownership.server.roles.get(name) or Role(name), ownership.secrets.get(name, "")
    wanted = _wanted_attributes(role, ownership)
    different = {key: value for key, value in wanted.items() if value != getattr(role, key)}
    if name not in ownership.server.roles:
        yield Change(ChangeKind.CREATE_ROLE, username=name, secret=secret, **different)
        return
    if not ownership.manages(name):
        # Not ours to change, and a blocker says so.
        return
    if reason := _why_finished(role, ownership):
        yield Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username=name, reason=reason)
    if not has_marker(role, ownership.environment):
        yield Change(ChangeKind.ADOPT_ROLE, username=name)
    if different:
        yield Change(ChangeKind.ALTER_ROLE, username=name, **different)
    check = ownership.server.passwords.get(name)
    if check in _WHY_SET:
        yield Change(ChangeKind.SET_PASSWORD, username=name, secret=secret, reason=_WHY_SET[check])
    left = {item.role for item in ownership.memberships_of.get(name, ()) if is_revocable(item, ownership)}
    for each in sorted(left):
        yield Change(ChangeKind.REVOKE_MEMBERSHIP, username=name, subject=each)


def _wanted_attributes(role: Role, ownership: Ownership) -> dict[str, Any]:
    entries = ownership.by_role[role.name]
    # A limit that nobody declared and that we did not set is an operator's; it stands.
    undeclared = NO_LIMIT if role.has_limit_of_ours else role.connection_limit
    declared = (entry.connection_limit for entry in entries if entry.connection_limit is not None)
    return {
        "createdb": any(entry.createdb for entry in entries),
        "createrole": False,
        "connection_limit": next(declared, undeclared),
    }


def _why_finished(role: Role, ownership: Ownership) -> str:
    """Why what an interrupted run had started has to be ended; empty where it had not."""
    if ownership.was_cut_off(role):
        return _CUT_OFF
    if role.name in ownership.self_granted:
        return "the administrator has made itself a member of this role, which no run needs; it gives that back"
    if not role.marker.current:
        return "its mark is not as this version writes it; what is too much in it goes"
    return ""
