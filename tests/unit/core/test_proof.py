"""What was done is not taken for done unless the server shows it."""

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.proof import verify_roles_and_markers
from unit.core.shop import OWNER, ours, ownership_of


def test_what_the_server_does_not_show_after_the_changes_is_left_over() -> None:
    changes = (
        Change(ChangeKind.CREATE_ROLE, username="owner"),
        Change(ChangeKind.CREATE_DATABASE, database="shop", username="owner"),
    )
    codes = [finding.message for finding in verify_roles_and_markers(ownership_of(OWNER), changes)]
    assert [text.split(" ")[0] for text in codes] == ["create_role", "create_database"]
    assert verify_roles_and_markers(ownership_of(OWNER, roles=(ours("owner"),), owned="owner"), changes) == ()
