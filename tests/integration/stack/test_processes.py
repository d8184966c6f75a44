"""What the stack starts ends with the process that started it, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack import binaries

SCRIPT = """
import glob, sys, time
from stack.aws import Aws
from stack.postgres import Server
with Server({version}) as server, Aws() as aws:
    postmaster = (server._folder / "data" / "postmaster.pid").read_text().split()[0]
    print(postmaster, aws._process.pid, server._folder, flush=True)
    if "fall over" in sys.argv:
        raise SystemExit(3)
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "fall over"], ids=str)
def test_servers_end_and_their_files_go_when_the_process_ends(how: signal.Signals | str) -> None:
    tests = Path(__file__).resolve().parents[2]
    version = max(binaries.available())
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(version=version), str(how)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout
        postmaster, moto, folder = parent.stdout.readline().split()
        if isinstance(how, signal.Signals):
            parent.send_signal(how)
        parent.wait(20)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (is_alive(int(postmaster)) or is_alive(int(moto))):
        time.sleep(0.05)
    assert not is_alive(int(postmaster))
    assert not is_alive(int(moto))
    assert not Path(folder).exists()
