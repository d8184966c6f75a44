"""The statements of one role: its changes in, statements and its marker out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from provisioner.core import ddl
from provisioner.core.changes import Change, ChangeKind
from provisioner.core.ownership import Ownership
from provisioner.core.quoting import PasswordStatement, Statement
from provisioner.core.state import Marker, Role


@dataclass(frozen=True, slots=True)
class RoleScript:
    name: str
    changes: tuple[Change, ...]
    statements: tuple[Statement | PasswordStatement, ...]


@dataclass(frozen=True, slots=True)
class RoleComments:
    """The markers of the roles before and while databases are created for them; `limits` are those set now."""

    ownership: Ownership
    creating: Mapping[str, list[str]]
    limits: Mapping[str, int]

    def stands(self, role: str) -> Role:
        return self.ownership.server.roles.get(role) or Role(role)

    def final(self, role: str) -> Marker:
        ownership, stands = self.ownership, self.stands(role)
        marker = replace(
            stands.marker,
            environment=ownership.environment,
            connection_limit=self.limits.get(role, stands.marker.connection_limit),
            creating=tuple(name for name in ownership.left_creating(stands) if name not in self.creating.get(role, ())),
            has_temporary_membership=False,
        )
        return replace(marker, quarantined="", login=True) if role in ownership.by_role else marker

    def during_create(self, role: str) -> Marker:
        creating, final = self.creating.get(role, ()), self.final(role)
        return replace(
            final,
            creating=tuple(sorted({*creating, *final.creating})),
            has_temporary_membership=bool(creating) and self.ownership.needs_membership(role),
        )


def write_role_script(role: str, changes: Sequence[Change], comments: RoleComments) -> RoleScript:
    """What is done to one role; where databases are created for it, up to the membership that this takes."""
    statements = [item for change in changes for item in _role_statements(change, comments.ownership)]
    of_role = {change.kind for change in changes if "role" in change.kind.aspects} - {ChangeKind.REVOKE_MEMBERSHIP}
    stands, marker = comments.stands(role).marker, comments.during_create(role)
    if (of_role or role in comments.creating) and not (stands.current and stands == marker):
        statements.append(ddl.set_role_marker(role, marker))
    if role in comments.creating and comments.ownership.needs_membership(role):
        statements.append(ddl.grant_self(role, with_options=comments.ownership.server.has_membership_options))
    return RoleScript(role, tuple(changes), tuple(statements))


def _role_statements(change: Change, ownership: Ownership) -> Iterable[Statement | PasswordStatement]:
    if change.kind is ChangeKind.REVOKE_TEMPORARY_MEMBERSHIP:
        marker = ownership.server.roles[change.username].marker
        if not (change.username in ownership.self_granted or marker.has_temporary_membership):
            return
    if change.kind is ChangeKind.RESTORE_ROLE and not change.login:
        return
    if change.kind in ddl.ROLE_STATEMENTS:
        yield ddl.ROLE_STATEMENTS[change.kind](change)
