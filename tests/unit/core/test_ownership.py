"""What is ours."""

from dataclasses import replace

from provisioner.core.state import Marker
from unit.core.shop import ownership_over


def test_a_database_left_by_a_run_that_was_cut_off_is_ours_by_its_owners_mark() -> None:
    ownership = ownership_over()
    owner = replace(ownership.server.roles["owner"], marker=Marker("dev", creating=("shop",)))
    server = replace(ownership.server, roles={**ownership.server.roles, "owner": owner})
    unmarked = replace(ownership.server.databases["shop"], marker=Marker())
    assert replace(ownership, server=replace(server, databases={"shop": unmarked})).may_change(unmarked)
