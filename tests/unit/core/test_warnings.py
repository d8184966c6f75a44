"""What somebody else did or decided is told, and left alone."""

import pytest

from provisioner.core.state import PasswordCheck, Role
from unit.core.shop import OWNER, ours, ownership_of, plan_of


@pytest.mark.parametrize(
    ("role", "check", "code"),
    [
        (ours("owner", can_login=False), PasswordCheck.CURRENT, "nologin"),
        (ours("owner", valid_until="2099-01-01"), PasswordCheck.CURRENT, "expiry"),
        (ours("owner", connection_limit=3), PasswordCheck.CURRENT, "connection_limit"),
        (ours("owner"), PasswordCheck.ROTATING, "rotation"),
        (ours("owner"), PasswordCheck.UNKNOWN, "password_unknown"),
    ],
)
def test_an_operators_decision_is_a_warning_and_no_change(role: Role, check: PasswordCheck, code: str) -> None:
    plan = plan_of(ownership_of(OWNER, roles=(role,), passwords={"owner": check}))
    assert [finding.code for finding in plan.warnings] == [code]
    assert [change.action for change in plan.changes if not change.database] == []


def test_what_is_no_longer_declared_is_an_orphan() -> None:
    plan = plan_of(ownership_of(roles=(ours("owner"),), owned="owner"))
    assert plan.changes == ()
    assert [finding.code for finding in plan.warnings] == ["orphaned_database", "orphaned_role"]
