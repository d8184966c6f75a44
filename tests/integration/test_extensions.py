"""Extensions that need another: each is created after what it needs, and what is not to be had so blocks."""

import tempfile
from pathlib import Path

import pytest

from stack.aws import Aws
from stack.binaries import available
from stack.postgres import Login, Server
from stack.world import World


def declare(world: World, *extensions: str) -> None:
    world.declare_entries({"app": {"database_name": "app", "username": "app_user", "extensions": list(extensions)}})


@pytest.mark.skipif(max(available(), default=0) < 18, reason="before 18 extensions stand in the server's own folder")
def test_an_extension_is_created_after_those_that_it_needs(aws: Aws) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        files = Path(folder, "extension")
        files.mkdir(mode=0o755)
        for name, needs in {"first": "then, last", "then": "last", "last": ""}.items():
            (files / f"{name}.control").write_text(f"default_version = '1'\ntrusted = true\nrequires = '{needs}'\n")
            (files / f"{name}--1.sql").write_text(f"CREATE TABLE of_{name} ();\n")
        with (
            Server(max(available()), parameters={"extension_control_path": f"$system:{folder}"}) as server,
            World(server, aws, server.create_delegated_admin()) as world,
        ):
            declare(world, "last")
            world.apply()
            declare(world, "first", "then", "last")
            assert world.apply()["status"] == "applied"
            assert world.apply()["status"] == "no_change"


def test_an_extension_whose_need_is_neither_there_nor_declared_blocks(
    pg_server: Server, admin: Login, aws: Aws
) -> None:
    with World(pg_server, aws, admin) as world:
        declare(world)
        world.apply()
        declare(world, "earthdistance")
        steps = {item["code"]: item["next_step"] for item in world.dry_run()["blockers"]}
        assert steps.keys() == {"extension_not_trusted", "extension_requirement"}
        assert steps["extension_requirement"] == 'add "cube" to the extensions of the entry'
        declare(world, "cube", "earthdistance")
        assert [item["code"] for item in world.dry_run()["blockers"]] == ["extension_not_trusted"]
