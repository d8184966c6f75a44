"""How a role leaves: quarantined, given back, retired. Nothing of an application is ever dropped."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from provisioner.core.errors import InvalidRequest, PlanBlocked
from stack.aws import Aws
from stack.postgres import Login, Server, make_verifier
from stack.world import AUDIT, World

SHOP = {"database_name": "shop", "username": "shop_user"}
READER = {"database_name": "shop", "username": "reporter", "access_level": "reader"}


def marker_of(world: World, role: str) -> dict[str, Any]:
    [[text]] = world.server.run_as_superuser(
        f"SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{role}'"
    )
    return dict(json.loads(text))


def changes(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(item["action"], item["database"], item["username"]) for item in answer["changes"]]


def codes(findings: list[dict[str, Any]]) -> list[str]:
    """Of what is said of roles: that a role which is not declared still holds what it held is told in its database."""
    return [item["code"] for item in findings if not item["database"]]


def is_alive(connection: pg8000.native.Connection) -> bool:
    try:
        connection.run("SELECT 1")
    except (pg8000.native.InterfaceError, pg8000.native.DatabaseError):
        return False
    return True


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        yield world


@pytest.fixture
def orphan(world: World) -> World:
    """A reader that was declared and is no more."""
    world.declare_entries({"shop": SHOP, "report": READER})
    world.apply()
    with contextlib.closing(world.login("shop_user", "shop")) as shop:
        shop.run("CREATE TABLE customer (id int)")
    world.declare_entries({"shop": SHOP})
    return world


# --- quarantine -----------------------------------------------------------------------------------------------------


def test_a_quarantined_role_may_not_log_in_and_keeps_all_else(orphan: World) -> None:
    world = orphan
    session = world.login("reporter", "shop")
    planned = world.dry_run(quarantine=["reporter"])
    assert (planned["status"], changes(planned)) == ("planned", [("quarantine_role", "", "reporter")])
    assert planned["changes"][0]["destructive"]
    assert "1 session of it ends" in planned["plan_text"]
    assert is_alive(session)
    answer = world.apply(quarantine=["reporter"])
    assert (answer["status"], answer["plan_digest"]) == ("applied", planned["plan_digest"])
    assert not is_alive(session)
    with pytest.raises(pg8000.native.DatabaseError) as refused:
        world.login("reporter", "shop")
    assert refused.value.args[0]["C"] == "28000"
    grants = "SELECT has_table_privilege('reporter', 'customer', 'SELECT')"
    assert world.server.run_as_superuser(grants, "shop") == [[True]]
    assert marker_of(world, "reporter")["quarantined"].endswith("Z")
    memberships = "SELECT count(*) FROM pg_auth_members WHERE roleid = 'reporter'::regrole AND NOT admin_option"
    assert world.server.run_as_superuser(memberships) == [[0]]
    again = world.apply(quarantine=["reporter"])
    assert (again["status"], again["changes"]) == ("no_change", [])


def test_drift_and_answers_tell_an_orphan_from_a_quarantined_role(orphan: World) -> None:
    world = orphan
    assert codes(world.drift()["warnings"]) == ["orphaned_role"]
    world.apply(quarantine=["reporter"])
    answer = world.drift()
    assert (answer["status"], codes(answer["warnings"])) == ("in_sync", ["quarantined_role"])
    assert marker_of(world, "reporter")["quarantined"] in answer["plan_text"]


def test_declared_again_a_quarantined_role_is_given_back(orphan: World) -> None:
    world = orphan
    world.apply(quarantine=["reporter"])
    world.declare_entries({"shop": SHOP, "report": READER})
    planned = world.dry_run()
    assert changes(planned) == [("restore_role", "", "reporter")]
    assert not planned["changes"][0]["destructive"]
    assert world.apply()["status"] == "applied"
    assert "quarantined" not in marker_of(world, "reporter")
    with contextlib.closing(world.login("reporter", "shop")) as reporter:
        assert reporter.run("SELECT count(*) FROM customer") == [[0]]
    assert world.apply()["status"] == "no_change"


def test_an_operators_nologin_stands_through_a_quarantine(orphan: World) -> None:
    world = orphan
    world.server.run_as_superuser("ALTER ROLE reporter NOLOGIN")
    world.apply(quarantine=["reporter"])
    world.declare_entries({"shop": SHOP, "report": READER})
    assert world.apply()["status"] == "applied"
    marker = marker_of(world, "reporter")
    assert "quarantined" not in marker
    assert "login" not in marker
    with pytest.raises(pg8000.native.DatabaseError):
        world.login("reporter", "shop")
    answer = world.drift()
    assert (answer["status"], codes(answer["warnings"])) == ("in_sync", ["nologin"])


def test_let_in_again_by_hand_it_is_named_and_can_be_quarantined_again(orphan: World) -> None:
    world = orphan
    world.apply(quarantine=["reporter"])
    world.server.run_as_superuser("ALTER ROLE reporter LOGIN")
    assert codes(world.drift()["warnings"]) == ["quarantine_undone"]
    assert changes(world.apply(quarantine=["reporter"])) == [("quarantine_role", "", "reporter")]
    assert codes(world.drift()["warnings"]) == ["quarantined_role"]


def test_an_interrupted_quarantine_goes_on(orphan: World) -> None:
    """The role has its marker, and its sessions were not ended yet."""
    world = orphan
    world.apply(quarantine=["reporter"])
    world.server.run_as_superuser("ALTER ROLE reporter LOGIN")
    session = world.login("reporter", "shop")
    world.server.run_as_superuser("ALTER ROLE reporter NOLOGIN")
    assert world.drift()["status"] == "drifted"
    answer = world.apply()
    assert (answer["status"], changes(answer)) == ("applied", [("quarantine_role", "", "reporter")])
    assert not is_alive(session)
    assert world.apply()["status"] == "no_change"


def test_what_may_not_be_quarantined_is_refused_all_at_once_and_nothing_is_changed(orphan: World) -> None:
    world = orphan
    world.server.run_as_superuser('CREATE ROLE "somebody else\'s ""own""" LOGIN')
    names = ["shop_user", 'somebody else\'s "own"', "nobody", world.admin.username, "reporter"]
    with pytest.raises(InvalidRequest) as refused:
        world.apply(quarantine=names, retire=["reporter"])
    found = [(finding.where, finding.username) for finding in refused.value.findings]
    assert sorted(set(found)) == sorted([*(("quarantine", name) for name in names[:-1]), ("retire", "reporter")])
    assert all(finding.next_step for finding in refused.value.findings)
    assert world.login("reporter", "shop")
    trail = world.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv").decode()
    assert "nobody" in trail


def test_a_drift_check_takes_no_role_to_quarantine(orphan: World) -> None:
    with pytest.raises(InvalidRequest, match="drift"):
        orphan.drift(quarantine=["reporter"])


def test_a_role_with_a_name_full_of_quotes_is_quarantined(world: World) -> None:
    """Such a name cannot be declared; it was marked by hand."""
    name = """it's "quoted" \\ and long"""
    quoted = '"' + name.replace('"', '""') + '"'
    marker = '{"managed_by": "rds-provisioner", "environment": "dev"}'
    with contextlib.closing(world.server.connect(*world.admin)) as admin:
        admin.run(f"CREATE ROLE {quoted} LOGIN PASSWORD '{make_verifier('pw')}'")
        admin.run(f"COMMENT ON ROLE {quoted} IS '{marker}'")
    session = world.server.connect(name, "pw")
    world.declare("application_databases = {}")
    assert world.apply(quarantine=[name])["status"] == "applied"
    assert not is_alive(session)


def test_one_that_the_administrator_may_not_alter_blocks_itself_only(orphan: World) -> None:
    world = orphan
    if world.server.version < 16:
        pytest.skip("CREATEROLE was enough")
    marker = '{"managed_by": "rds-provisioner", "environment": "dev"}'
    world.server.run_as_superuser(f"CREATE ROLE theirs LOGIN; COMMENT ON ROLE theirs IS '{marker}'")
    with pytest.raises(PlanBlocked, match="theirs"):
        world.apply(quarantine=["theirs", "reporter"])
    assert "quarantined" in marker_of(world, "reporter")
    planned = world.dry_run(quarantine=["theirs"])
    assert codes(planned["blockers"]) == ["administrator_lacks_admin"]
    world.server.run_as_superuser(f'GRANT theirs TO "{world.admin.username}" WITH ADMIN OPTION')
    assert world.apply(quarantine=["theirs"])["status"] == "applied"


@pytest.mark.both_administrators
def test_who_logs_in_by_iam_takes_a_right_that_is_named(orphan: World) -> None:
    """Of such a role the administrator does not make itself a member: it would log in by IAM too."""
    world = orphan
    world.server.run_as_superuser("GRANT rds_iam TO reporter")
    session = world.login("reporter", "shop")
    [[may_signal]] = world.server.run_as_superuser(
        f"SELECT pg_has_role('{world.admin.username}', 'pg_signal_backend', 'USAGE')"
    )
    planned = world.dry_run(quarantine=["reporter"])
    assert codes(planned["blockers"]) == ([] if may_signal else ["leaving_right"])
    for blocker in planned["blockers"]:
        assert is_alive(session)
        world.server.run_as_superuser(blocker["next_step"].removeprefix("as the master: "))
    assert world.apply(quarantine=["reporter"])["status"] == "applied"
    assert not is_alive(session)


def test_a_subscription_of_its_own_is_disabled_first(orphan: World) -> None:
    """Its worker is a session that comes back whenever it is ended."""
    world = orphan
    try:
        world.server.run_as_superuser(
            "CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 password=x' PUBLICATION p"
            " WITH (connect = false, enabled = false, create_slot = false, slot_name = NONE);"
            " ALTER SUBSCRIPTION sub SET (slot_name = 'nowhere'); ALTER ROLE reporter SUPERUSER;"
            " ALTER SUBSCRIPTION sub OWNER TO reporter; ALTER ROLE reporter NOSUPERUSER",
            "shop",
        )
        world.server.run_as_superuser("ALTER SUBSCRIPTION sub ENABLE", "shop")
        planned = world.dry_run(quarantine=["reporter"])
        [blocker] = [item for item in planned["blockers"] if item["code"] == "leaving_subscription"]
        world.server.run_as_superuser(blocker["next_step"].partition(": ")[2], "shop")
        assert world.apply(quarantine=["reporter"])["status"] == "applied"
    finally:
        world.server.run_as_superuser(
            "ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE)", "shop"
        )
        world.server.run_as_superuser("DROP SUBSCRIPTION sub", "shop")


def test_the_access_report_and_the_plan_tell_who_is_quarantined_and_who_acts_in_its_place(orphan: World) -> None:
    world = orphan
    world.server.run_as_superuser("CREATE ROLE friend; GRANT reporter TO friend")
    assert "its members friend may act in its place still" in world.dry_run(quarantine=["reporter"])["plan_text"]
    world.apply(quarantine=["reporter"])
    key = world.call(mode="access")["audit"]["access_json"].split("/", 3)[3]
    report = json.load(world.aws.client("s3").get_object(Bucket=AUDIT, Key=key)["Body"])
    [role] = [item for item in report["roles"] if item["name"] == "reporter"]
    assert any(word.startswith("quarantined since") for word in role["attributes"])
