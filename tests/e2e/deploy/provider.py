"""Terraform's AWS provider, kept running for the commands of one test.

Each command would look whether its 700 MB are those of the lock file and start it several times, which is most of what
a command takes. `terraform init` is never told of it: what it installs, and for which versions, stays with it.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from stack import processes

_TOLD = re.compile(r"TF_REATTACH_PROVIDERS='(.*)'")


class Provider:
    """Started when it is first asked for, with the surroundings of the test: the way to AWS and who calls."""

    def __init__(self, mirror: Path | None, environment: Mapping[str, str]) -> None:
        # The way to AWS is in clear here, and with authorities of one's own a provider lets itself be configured once.
        self._environment = {name: value for name, value in environment.items() if name != "AWS_CA_BUNDLE"}
        self._mirror = mirror
        self._process: subprocess.Popen[bytes] | None = None
        self._told = ""

    def variables(self) -> dict[str, str]:
        """By which Terraform finds it; none without a mirror."""
        if self._mirror and not self._process:
            self._start(next(self._mirror.glob("*/hashicorp/aws/*/*/terraform-provider-aws*")))
        return {"TF_REATTACH_PROVIDERS": self._told} if self._told else {}

    def end(self) -> None:
        """End it, where it was started."""
        if self._process:
            processes.end(self._process)

    def _start(self, program: Path) -> None:
        with tempfile.TemporaryFile() as said:
            self._process = processes.start(
                [program, "-debug"], stdout=said, stderr=subprocess.DEVNULL, env=self._environment
            )
            deadline = time.monotonic() + 60
            while not (found := _TOLD.search(_content(said.fileno()))):
                assert self._process.poll() is None, "the provider ended before it said how to find it"
                assert time.monotonic() < deadline, "the provider did not say how to find it"
                time.sleep(0.05)
        self._told = found[1]


def _content(number: int) -> str:
    return os.pread(number, 65536, 0).decode()
