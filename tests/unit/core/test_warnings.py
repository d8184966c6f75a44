"""What somebody else did or decided is told, and left alone."""

import pytest

from provisioner.core.kinds import ObjectKind
from provisioner.core.state import ObjectGroup, PasswordCheck, Role, Target
from unit.core.shop import OWNER, ours, ownership_of, ownership_over, plan_of


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


ADMINISTRATORS = Target(ObjectKind.SCHEMA, schema="tools", owner="admin")
# Whoever of ours it belongs to.
OUT_OF_REACH = (
    (ADMINISTRATORS,),
    (ADMINISTRATORS, Target(ObjectKind.TABLE, schema="tools", owner="editor")),
    (Target(ObjectKind.TABLE, schema="public", owner="editor", extension=True),),
    (Target(ObjectKind.ROUTINE, schema="public", owner="editor"),),
)


@pytest.mark.parametrize("targets", OUT_OF_REACH)
def test_what_no_level_covers_is_not_said_to_be_covered(targets: tuple[Target, ...]) -> None:
    plan = plan_of(ownership_over(*(ObjectGroup(target, ()) for target in targets)))
    told = [each.message for each in plan.warnings if "and not to its owner" in each.message]
    assert len(told) == len(targets)
    assert all("no level covers" in message for message in told)
    assert not {change.target for change in plan.changes if change.kind.is_grant}.intersection(targets)
