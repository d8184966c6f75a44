"""A role sets itself a verifier that no client would answer: it costs nobody else anything and is healed."""

import json
from collections.abc import Iterator

import pytest

from provisioner.core.credentials import scram_verifier
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

ENTRIES = {
    "shop": {"database_name": "shop", "username": "shop_user"},
    "reports": {"database_name": "shop", "username": "shop_reader", "access_level": "reader"},
}
BANK = {"bank": {"database_name": "bank", "username": "bank_user"}}
_KEYS = "dcqUY3WqqDp3jB3jBiVYqsmLMGWLqVUIRnrfsmuAlkg=:ZJH1YIlHGDDY57qNrBQ8kDbJ7cPxvJQp6S4Xq6kVQ9M="
_SALT = "QUFBQUFBQUFBQUFBQUFBQQ=="
VERIFIERS = {
    "one round": f"SCRAM-SHA-256$1:{_SALT}${_KEYS}",
    # More would do too, but the server itself runs through them once in ALTER ROLE.
    "a million rounds": f"SCRAM-SHA-256$1000000:{_SALT}${_KEYS}",
    "as many rounds as an administrator may have": f"SCRAM-SHA-256$200000:{_SALT}${_KEYS}",
    "a salt of four bytes": f"SCRAM-SHA-256$4096:QUFBQQ==${_KEYS}",
}


@pytest.fixture
def world(pg_server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    with World(pg_server, aws, admin) as world:
        world.declare_entries(ENTRIES)
        assert world.apply()["status"] == "applied"
        yield world


def test_a_verifier_that_is_not_ours_is_a_drift_of_its_role_and_healed(world: World) -> None:
    world.declare_entries(ENTRIES | BANK)
    for verifier in VERIFIERS.values():
        with world.server.connect("shop_reader", world.passwords["shop_reader"], "shop") as reader:
            reader.run(f"ALTER ROLE CURRENT_USER PASSWORD '{verifier}'")
        drift = world.drift()
        assert drift["status"] == "drifted"
        assert [item for item in drift["changes"] if item["username"] == "shop_reader"] == [
            {
                "action": "set_password",
                "database": "",
                "username": "shop_reader",
                "detail": "the server keeps the password in another form than a SCRAM verifier of 4096 rounds",
                "destructive": False,
                "status": "dry_run",
            }
        ]
        assert world.apply()["status"] == "applied"
        world.login("shop_reader", "shop").close()
        assert world.apply()["status"] == "no_change"
    world.login("bank_user", "bank").close()


def test_a_verifier_that_lets_its_role_in_and_does_not_prove_the_server_is_healed(world: World) -> None:
    password = world.passwords["shop_reader"]
    ours, of_another = (scram_verifier(each, b"0123456789abcdef") for each in (password, "another"))
    of_two = f"{ours.rpartition(':')[0]}:{of_another.rpartition(':')[2]}"
    world.server.run_as_superuser(f"ALTER ROLE shop_reader PASSWORD '{of_two}'")
    assert [item["action"] for item in world.apply()["changes"]] == ["set_password"]
    assert world.apply()["status"] == "no_change"


def test_a_server_that_makes_verifiers_of_few_rounds_is_served(world: World) -> None:
    if world.server.version < 16:
        pytest.skip("scram_iterations came with PostgreSQL 16")
    with world.server.connect("shop_reader", world.passwords["shop_reader"], "shop") as reader:
        reader.run("SET scram_iterations = 1024")
        reader.run(f"ALTER ROLE CURRENT_USER PASSWORD '{world.passwords['shop_reader']}'")
    answer = world.apply()
    assert [item["action"] for item in answer["changes"]] == ["set_password"]
    assert "another password" not in json.dumps(answer)
    assert world.apply()["status"] == "no_change"


def test_an_administrator_whose_verifier_proves_too_little_is_told_its_rounds(world: World) -> None:
    from provisioner.core.errors import DatabaseUnavailable

    world.server.run_as_superuser(f"ALTER ROLE {world.admin.username} PASSWORD '{VERIFIERS['one round']}'")
    with pytest.raises(DatabaseUnavailable, match="keeps the password as a SCRAM verifier of 1 rounds"):
        world.drift()


def test_nobody_can_occupy_the_database_that_logins_name(world: World) -> None:
    # Its roles have no database that is open, so they log in without one.
    world.server.run_as_superuser("ALTER DATABASE shop ALLOW_CONNECTIONS false")
    world.server.run_as_superuser('CREATE DATABASE "rds-provisioner/probe"')
    world.server.run_as_superuser('ALTER DATABASE "rds-provisioner/probe" ALLOW_CONNECTIONS false')
    answer = world.dry_run()
    assert "password_unknown" not in {finding["code"] for finding in answer["warnings"]}
    assert [item for item in answer["changes"] if item["action"] == "set_password"] == []
