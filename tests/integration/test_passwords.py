"""Passwords are compared by logging in, healed where they differ, left alone where a rotation is at work."""

import json
from typing import Any

import pytest

from provisioner.core.errors import SecretUnavailable
from stack.aws import Aws
from stack.postgres import Login, Server, make_verifier
from stack.world import World

ENTRY = {"shop": {"database_name": "shop", "username": "shop_owner"}}
SECRET = "goldenpath/dev/shop/postgres"


@pytest.fixture
def applied(world: World) -> World:
    world.declare_entries(ENTRY)
    assert world.apply()["status"] == "applied"
    return world


def actions(answer: dict[str, Any]) -> list[str]:
    return [change["action"] for change in answer["changes"]]


def codes(answer: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in answer["warnings"]]


def rotate(world: World, password: str, stages: list[str]) -> str:
    value = json.dumps({"username": "shop_owner", "password": password})
    client = world.aws.client("secretsmanager")
    return str(client.put_secret_value(SecretId=SECRET, SecretString=value, VersionStages=stages)["VersionId"])


def secret_checks(world: World) -> dict[str, str]:
    checks = world.call(mode="preflight")["checks"]
    return {check["name"]: check["status"] for check in checks if check["name"].startswith("secret:")}


# --- a role's life ----------------------------------------------------------------------------------------------------


def test_a_password_changed_by_hand_is_found_and_healed(applied: World) -> None:
    applied.server.run_as_superuser("ALTER ROLE shop_owner PASSWORD 'by hand'")
    assert actions(applied.drift()) == ["set_password"]
    assert actions(applied.apply()) == ["set_password"]
    applied.login("shop_owner", "shop").close()
    assert applied.apply()["status"] == "no_change"


def test_a_new_password_in_the_secret_is_set(applied: World) -> None:
    applied.put_secret("shop", "shop_owner", "shop")
    assert actions(applied.apply()) == ["set_password"]
    applied.login("shop_owner", "shop").close()


def test_a_rotation_under_way_is_left_alone_and_said(applied: World) -> None:
    before = applied.server.run_as_superuser("SELECT rolpassword FROM pg_authid WHERE rolname = 'shop_owner'")
    pending = rotate(applied, "of the rotation", ["AWSPENDING"])
    answer = applied.apply()
    assert (answer["status"], codes(answer)) == ("no_change", ["rotation"])
    # As a rotation does it: first the server, then the stage.
    applied.server.run_as_superuser(f"ALTER ROLE shop_owner PASSWORD '{make_verifier('of the rotation')}'")
    answer = applied.apply()
    assert (answer["status"], codes(answer)) == ("no_change", ["rotation"])
    assert applied.server.run_as_superuser("SELECT rolpassword FROM pg_authid WHERE rolname = 'shop_owner'") != before
    rotate(applied, "of the rotation", ["AWSCURRENT"])
    # A rotation that has ended leaves no other version pending.
    applied.aws.client("secretsmanager").update_secret_version_stage(
        SecretId=SECRET, VersionStage="AWSPENDING", RemoveFromVersionId=pending
    )
    answer = applied.apply()
    assert (answer["status"], codes(answer)) == ("no_change", [])


def test_a_secret_of_another_name_is_used(world: World) -> None:
    world.aws.put_secret("elsewhere", {"username": "shop_owner", "password": "from elsewhere"})
    world.declare_entries({"shop": {**ENTRY["shop"], "secret_name": "elsewhere"}}, with_secrets=False)
    world.apply()
    world.server.connect("shop_owner", "from elsewhere", "shop").close()


TWICE = {"shop": ENTRY["shop"], "more": {**ENTRY["shop"], "database_name": "more"}}


@pytest.mark.parametrize("arn", ["{arn}", "{partial}"])
def test_a_secret_named_by_its_name_and_by_its_arn_is_one_secret(world: World, arn: str) -> None:
    password = world.put_secret("shop", "shop_owner", "shop")
    full = world.aws.client("secretsmanager").describe_secret(SecretId=SECRET)["ARN"]
    name = arn.format(arn=full, partial=full.rpartition("-")[0])
    world.declare_entries({**TWICE, "more": {**TWICE["more"], "secret_name": name}}, with_secrets=False)
    assert secret_checks(world) == {"secret:more": "ok", "secret:shop": "ok"}
    assert world.apply()["status"] == "applied"
    assert world.apply()["status"] == "no_change"
    for database in ("shop", "more"):
        world.server.connect("shop_owner", password, database).close()


def test_a_secret_of_the_same_name_with_another_arn_is_another_secret(world: World) -> None:
    """By its looks the ARN may be that of the secret: it is of one whose name ends as an ARN does."""
    world.put_secret("shop", "shop_owner", "shop")
    other = world.aws.put_secret("goldenpath/dev/shop/postgres-AbCdEf", {"password": "of another secret"})
    more = {**TWICE["more"], "secret_name": other.rpartition("-")[0]}
    world.declare_entries({**TWICE, "more": more}, with_secrets=False)
    for mode in ("apply", "drift"):
        with pytest.raises(SecretUnavailable, match='username "shop_owner" would have 2 passwords') as error:
            world.call(mode=mode)
        assert [finding.code for finding in error.value.findings] == ["two_secrets"]
    assert [each["code"] for each in world.dry_run()["blockers"]] == ["two_secrets"]
    assert secret_checks(world) == {"secret:more": "failed", "secret:shop": "failed"}
    assert world.server.run_as_superuser("SELECT count(*) FROM pg_roles WHERE rolname = 'shop_owner'") == [[0]]


def test_a_second_name_of_a_secret_that_is_none_is_refused(world: World) -> None:
    arn = world.aws.put_secret(SECRET, {"password": "of the first"})
    more = {**TWICE["more"], "secret_name": arn[:-6] + "AbCdEf"}
    world.declare_entries({**TWICE, "more": more}, with_secrets=False)
    with pytest.raises(SecretUnavailable, match="does not exist or has no value"):
        world.apply()


def test_a_secret_that_holds_a_verifier_is_refused_before_anything_is_touched(world: World) -> None:
    world.declare_entries(ENTRY)
    world.put_secret("shop", "shop_owner", "shop", password=make_verifier("known elsewhere"))
    with pytest.raises(SecretUnavailable, match="holds a SCRAM verifier and no password"):
        world.apply()
    assert world.server.run_as_superuser("SELECT count(*) FROM pg_roles WHERE rolname = 'shop_owner'") == [[0]]


def test_in_a_dry_run_a_secret_that_cannot_be_used_is_a_blocker_beside_the_plan(applied: World) -> None:
    bank = {"bank": {"database_name": "bank", "username": "bank_user"}}
    applied.put_secret("shop", "shop_owner", "shop", password=make_verifier("known elsewhere"))
    applied.declare_entries(ENTRY | bank)
    applied.aws.client("secretsmanager").delete_secret(SecretId="goldenpath/dev/bank/postgres")
    answer = applied.dry_run()
    assert answer["status"] == "planned"
    assert {(item["code"], item["username"]) for item in answer["blockers"]} == {
        ("secret_deleted", "bank_user"),
        ("secret_password_verifier", "shop_owner"),
    }
    assert ("create_database", "bank") in {(item["action"], item["database"]) for item in answer["changes"]}
    assert not any("known elsewhere" in str(item) or "SCRAM-SHA-256$" in str(item) for item in answer.values())
    # The role, its database and its privileges; of its password nothing is known.
    assert answer["summary"]["unchanged"] == 3


def test_what_an_older_version_kept_of_a_verifier_in_a_mark_is_taken_out_once(
    pg_server: Server, admin: Login, aws: Aws
) -> None:
    old = '{"managed_by": "rds-provisioner", "environment": "dev", "verifier": "0123abcd", "comment": "ours"}'
    of_role = "SELECT shobj_description('shop_owner'::regrole, 'pg_authid')"
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRY)
        world.apply()
        pg_server.run_as_superuser(f"COMMENT ON ROLE shop_owner IS '{old}'")
        assert actions(world.drift()) == ["finish"]
        assert actions(world.apply()) == ["finish"]
        comment = pg_server.run_as_superuser(of_role)[0][0]
        assert json.loads(comment) == {"managed_by": "rds-provisioner", "environment": "dev", "comment": "ours"}
        assert world.apply()["status"] == "no_change"
