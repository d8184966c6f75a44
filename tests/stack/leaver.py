"""A role that leaves: a world in which it owns a database and is an editor in another, and what is asked of both."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

SECRET = "goldenpath/dev/old/postgres"
LEAVER = {"database_name": "old", "username": "leaver", "secret_name": SECRET}
OWNER = {"database_name": "shop", "username": "shop_user"}
READER = {"database_name": "shop", "username": "reporter", "access_level": "reader"}
EDITOR = {"database_name": "shop", "username": "leaver", "access_level": "editor", "secret_name": SECRET}
STAYING = {"shop": OWNER, "report": READER}
LONG_AGO = "2020-02-29T23:59:59Z"


@contextlib.contextmanager
def world_of_a_leaver(server: Server, admin: Login, aws: Aws) -> Iterator[World]:
    """An owner with a database of its own, which is an editor in another, with a reader there."""
    with World(server, aws, admin) as world:
        world.passwords["leaver"] = "secret of leaver"
        world.aws.put_secret(SECRET, {"username": "leaver", "password": "secret of leaver"})
        world.declare_entries({"old": LEAVER, **STAYING, "editing": EDITOR})
        assert world.apply()["status"] == "applied"
        yield world


def run(world: World, role: str, database: str, sql: str) -> Any:
    """Run as a role with its own password."""
    with contextlib.closing(world.login(role, database)) as connection:
        return connection.run(sql)


def query(world: World, sql: str, database: str = "postgres") -> list[list[Any]]:
    """Run as a superuser."""
    return world.server.run_as_superuser(sql, database)


def leave(world: World, role: str = "leaver") -> None:
    """Take its entries out, quarantine it, and let the time pass."""
    world.declare_entries(STAYING, with_secrets=False)
    assert world.apply(quarantine=[role])["status"] == "applied"
    quarantined_since(world, role, LONG_AGO)


def quarantined_since(world: World, role: str, moment: str) -> None:
    """Say in its marker that it was quarantined then."""
    [[text]] = query(world, f"SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{role}'")
    marker = json.dumps(json.loads(text) | {"quarantined": moment})
    query(world, f"COMMENT ON ROLE {role} IS '{marker}'")


def say_as_administrator(world: World, next_step: str) -> None:
    """Do what a next step tells the administrator to say; the owner itself may not log in."""
    who, statements = next_step.split("; or ", maxsplit=1)[0].split(": ")
    assert who == f'as "{world.admin.username}"'
    with contextlib.closing(world.server.connect(*world.admin)) as administrator:
        for statement in statements.split("; "):
            administrator.run(statement)


def owners(world: World, database: str) -> set[str]:
    """Who owns anything in a database."""
    sql = """
    SELECT DISTINCT pg_get_userbyid(refobjid) FROM pg_shdepend
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND deptype = 'o'"""
    return {name for (name,) in query(world, sql, database)}


def is_there(world: World, role: str = "leaver") -> bool:
    """Whether a role exists."""
    return bool(query(world, f"SELECT FROM pg_roles WHERE rolname = '{role}'"))


def retired(world: World) -> dict[str, Any]:
    answer = world.apply(retire=["leaver"])
    assert answer["status"] == "applied"
    assert not is_there(world)
    return answer


def changes(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The changes of an answer: what, in which database, of whom."""
    return [(item["action"], item["database"], item["username"]) for item in answer["changes"]]


def blocked(world: World) -> list[dict[str, Any]]:
    """The blockers of a retirement, of which nothing is done."""
    from provisioner.core.errors import PlanBlocked

    planned = world.dry_run(retire=["leaver"])
    found = [item for item in planned["blockers"] if item["code"] == "retire_blocked"]
    owner = query(world, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'old'")
    with pytest.raises(PlanBlocked):
        world.apply(retire=["leaver"])
    assert is_there(world)
    assert query(world, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'old'") == owner
    assert all(item["next_step"] for item in found)
    return found
