"""A change in words."""

from dataclasses import replace

from provisioner.core.changes import Change, ChangeKind
from provisioner.core.kinds import ObjectKind
from provisioner.core.state import Target

TABLES = Target(ObjectKind.TABLE, schema="app", owner="o", acl="one")

GRANT = Change(
    ChangeKind.GRANT,
    database="shop",
    username="r",
    owner="o",
    grantor="o",
    privileges=("SELECT",),
    targets=(TABLES,),
    object_count=2,
)


def test_objects_of_somebody_else_are_named_as_such() -> None:
    theirs = replace(GRANT, targets=(replace(TABLES, owner="editor"),))
    assert GRANT.detail == 'SELECT on 2 tables in schema "app"'
    assert theirs.detail == 'SELECT on 2 tables of "editor" in schema "app"'
