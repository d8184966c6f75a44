"""The server's disk is full when a database is to be created: said as it is, nothing half done, and continued later."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner.core.errors import ApplyFailed
from stack import binaries
from stack.aws import Aws
from stack.postgres import Server, give_all_away
from stack.world import World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk of its own to fill")

MEGABYTE = 2**20
Resize = Callable[[int], None]


@pytest.fixture
def server_on_a_small_disk() -> Iterator[tuple[Server, Resize]]:
    """A server whose databases lie on a disk with two megabytes left: less than a database takes."""
    with Server(max(binaries.available())) as server:
        server.stop()
        databases, disk = server._data / "base", server._folder / "disk"
        size = sum(path.stat().st_size for path in databases.rglob("*") if path.is_file()) + 2 * MEGABYTE
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
        try:
            move(databases, disk / "base")
            server.start()
            yield server, lambda more: remount(disk, size + more)
        finally:
            server.stop("immediate")
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_named_and_the_next_run_with_room_continues(
    server_on_a_small_disk: tuple[Server, Resize], aws: Aws
) -> None:
    server, resize = server_on_a_small_disk
    with World(server, aws, server.create_delegated_admin()) as world:
        world.declare_entries({"app": {"database_name": "app", "username": "app_user"}})
        with pytest.raises(ApplyFailed, match=r"SQLSTATE 53100.*storage is full: add storage"):
            world.apply()
        borrowed = (
            "SELECT FROM pg_auth_members AS m WHERE m.member = 'rds_provisioner'::regrole "
            "AND coalesce((to_jsonb(m) ->> 'set_option')::bool, true)"
        )
        assert server.run_as_superuser(borrowed) == []
        resize(64 * MEGABYTE)
        assert world.apply()["status"] == "applied"
        assert world.apply()["status"] == "no_change"


def move(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    shutil.rmtree(source)
    source.symlink_to(target)
    give_all_away(source.parents[1])


def remount(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
