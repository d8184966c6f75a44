"""What a declared role should be, and what leads there: what is declared and what stands in, changes out."""

from __future__ import annotations

from dataclasses import replace

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.errors import Finding
from provisioner.core.ownership import Ownership, has_marker
from provisioner.core.state import IAM_ROLE, NO_LIMIT, Membership, PasswordCheck, Role, RoleFacts


def observed_roles(ownership: Ownership) -> dict[str, Role]:
    """The compared part of the declared roles that exist."""
    return {
        name: _observed_role(facts, ownership)
        for name in ownership.by_role
        if (facts := ownership.server.roles.get(name)) is not None
    }


def desired_roles(ownership: Ownership, findings: list[Finding]) -> dict[str, Role]:
    """The state that the declared roles should have; findings are added to the list."""
    observed = observed_roles(ownership)
    return {name: _desired_role(name, ownership, observed.get(name), findings) for name in ownership.by_role}


def _observed_role(facts: RoleFacts, ownership: Ownership) -> Role:
    check = ownership.server.passwords.get(facts.name, PasswordCheck.NOT_CHECKED)
    return Role(
        name=facts.name,
        createdb=facts.createdb,
        createrole=facts.createrole,
        connection_limit=facts.connection_limit,
        managed=has_marker(facts, ownership.environment),
        password_current=check is not PasswordCheck.DIFFERS,
        verifier_current=check is not PasswordCheck.OTHER_VERIFIER,
        memberships=frozenset(ownership.memberships_of.get(facts.name, ())),
        interrupted_create=bool(facts.marker and facts.marker.creating),
        marker_current=facts.marker is None or facts.marker.current,
        temporary=facts.name in ownership.self_granted,
    )


def _desired_role(name: str, ownership: Ownership, present: Role | None, findings: list[Finding]) -> Role:
    if present is not None and not ownership.manages(name):
        # Not ours to change, and a blocker says so.
        return present
    entries = ownership.by_role[name]
    declared_limit = next((entry.connection_limit for entry in entries if entry.connection_limit is not None), None)
    role = Role(name, createdb=any(entry.createdb for entry in entries), secret=ownership.secrets.get(name, ""))
    if declared_limit is not None:
        role = replace(role, connection_limit=declared_limit)
    elif present is not None and not ownership.server.roles[name].has_limit_of_ours:
        # A limit that nobody declared and that we did not set is an operator's; it stands.
        role = replace(role, connection_limit=present.connection_limit)
    if present is not None:
        kept = frozenset(item for item in present.memberships if _membership_is_kept(item, ownership, findings))
        role = replace(role, memberships=kept)
    return role


def _membership_is_kept(membership: Membership, ownership: Ownership, findings: list[Finding]) -> bool:
    """Whether a declared role keeps a membership: in a managed role it is access that nobody declared."""
    role, member = membership.role, membership.member
    if role == IAM_ROLE:
        return True
    if not ownership.manages(role):
        # With ADMIN alone the member is one statement away from it.
        if not (membership.confers_privileges or membership.admin_option):
            return True
        findings.append(
            Finding(
                "foreign_membership",
                f'role "{member}" is a member of "{role}", which is not managed here, and has what that role has',
                f'if that is not meant: REVOKE "{role}" FROM "{member}"',
                username=member,
            )
        )
        return True
    if is_revocable(membership, ownership):
        return False
    findings.append(
        Finding(
            "membership_of_another_grantor",
            f'role "{member}" is a member of "{role}", granted by "{membership.grantor}": beyond its level, and not '
            "ours to revoke",
            f'as "{membership.grantor}": REVOKE "{role}" FROM "{member}"',
            username=member,
        )
    )
    return True


def is_revocable(membership: Membership, ownership: Ownership) -> bool:
    """Whether a membership is one of a declared role in a managed one, and ours to revoke.

    From 16 a REVOKE takes back only what the named grantor granted, and only somebody with its rights can name it.
    """
    is_ours = ownership.server.version < 16 or membership.grantor == ownership.server.administrator
    return is_ours and membership.member in ownership.by_role and ownership.manages(membership.role)


def diff_role(observed: Role | None, desired: Role) -> list[Change]:
    """The changes of one role, in no order; `observed` is None where it is yet to be created."""
    name, secret = desired.name, desired.secret
    if observed is None:
        limit = None if desired.connection_limit == NO_LIMIT else desired.connection_limit
        createdb = desired.createdb or None
        kind = ChangeKind.CREATE_ROLE
        return [Change(kind, username=name, createdb=createdb, connection_limit=limit, secret=secret)]
    changes: list[Change] = []
    if observed.interrupted_create or observed.temporary or not observed.marker_current:
        reason = _why_finished(observed)
        changes.append(Change(ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP, username=name, reason=reason))
    if desired.managed and not observed.managed:
        changes.append(Change(ChangeKind.ADOPT_ROLE, username=name))
    altered = {
        attribute: getattr(desired, attribute)
        for attribute in ("createdb", "createrole", "connection_limit")
        if getattr(desired, attribute) != getattr(observed, attribute)
    }
    if altered:
        changes.append(Change(ChangeKind.ALTER_ROLE, username=name, **altered))
    if desired.password_current and not observed.password_current:
        reason = "the server has another password than the secret"
        changes.append(Change(ChangeKind.SET_PASSWORD, username=name, secret=secret, reason=reason))
    elif desired.verifier_current and not observed.verifier_current:
        reason = "the server keeps the password in another form than a SCRAM verifier of 4096 rounds"
        changes.append(Change(ChangeKind.SET_PASSWORD, username=name, secret=secret, reason=reason))
    left = {item.role for item in observed.memberships - desired.memberships}
    changes += [Change(ChangeKind.REVOKE_MEMBERSHIP, username=name, subject=role) for role in sorted(left)]
    return changes


def _why_finished(observed: Role) -> str:
    if observed.interrupted_create:
        return "a run was cut off while it created databases for this role; what it borrowed goes back"
    if observed.temporary:
        return "the administrator has made itself a member of this role, which no run needs; it gives that back"
    return "its mark is not as this version writes it; what is too much in it goes"
