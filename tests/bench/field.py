"""A PostgreSQL, an AWS and the way between in, calls of product and floor with what they cost out."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import fleet
from stack.aws import Aws
from stack.postgres import Server
from stack.proxy import Proxy
from stack.world import World

ROUND_TRIP_SECONDS = 0.001
_TICKS = os.sysconf("SC_CLK_TCK")

Figures = dict[str, Any]


@dataclass
class Field:
    """A server as new and an AWS, with secrets for a fleet; `delayed` adds a millisecond to every round trip.

    With `one_cpu` product and floor have one processor, as a function of 1769 MB has; the server has them all.
    """

    server: Server
    aws: Aws
    delayed: bool = False
    workers: int = 8
    one_cpu: bool = False

    def __enter__(self) -> Self:
        """Empty both and put the proxy in between."""
        self.server.reset()
        self.aws.reset()
        self._stack = contextlib.ExitStack()
        delay = ROUND_TRIP_SECONDS if self.delayed else 0.0
        self.proxy = self._stack.enter_context(Proxy(self.server.port, delay_seconds=delay)) if self.delayed else None
        self.world = self._stack.enter_context(World(self.server, self.aws, self.server.master))
        secret = {**self.server.admin_secret(self.server.master), "port": self.port}
        self.aws.put_secret("goldenpath/dev/rds/master", secret)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the servers to whoever started them."""
        self._stack.close()

    @property
    def port(self) -> int:
        """Where the server is reached."""
        return self.proxy.port if self.proxy else self.server.port

    def declare(self, count: int) -> None:
        """Declare a fleet, with a secret for each role."""
        declared = fleet.entries(count)
        known = self.world.passwords
        for number in range(count):
            for level in fleet.LEVELS:
                name = fleet.role(number, level)
                if name not in known:
                    self.world.put_secret(
                        name, name, fleet.database(number), password=fleet.password(number, level), port=self.port
                    )
        self.world.declare_entries(declared, with_secrets=False)

    def call(self, *, mode: str = "apply", probes: bool = True) -> Figures:
        """Call the function once in a process of its own."""
        job = {"event": {"environment": "dev", "mode": mode}, "probes": probes}
        environment = {**self.aws.environment(), **self.world.settings, "MAX_WORKERS": str(self.workers)}
        environment |= {"POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner", "POWERTOOLS_SERVICE_NAME": "rds-provisioner"}
        return self._measure("bench.call", job, environment)

    def floor(self, count: int, *, probes: bool = False) -> Figures:
        """Let the floor make or look at the same; with probes it also logs in as each role."""
        job = {
            "host": self.server.host,
            "port": self.port,
            "ca_file": str(self.server.ca_file),
            "username": self.server.master.username,
            "password": self.server.master.password,
            "count": count,
            "probes": probes,
        }
        return self._measure("bench.floor", job, {})

    def _measure(self, module: str, job: dict[str, Any], environment: dict[str, str]) -> Figures:
        """Run a module that prints its figures last, and add what can only be seen from outside."""
        server_before = self._server_seconds()
        if self.proxy:
            self.proxy.reset_counts()
        started = time.perf_counter()
        with self._processors():
            done = subprocess.run(
                [sys.executable, "-m", module, json.dumps(job)],
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment},
            )
        wall = time.perf_counter() - started
        if done.returncode != 0:
            raise RuntimeError(f"{module} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        figures["wall"] = wall
        figures["server_cpu"] = self._server_seconds() - server_before
        if self.proxy:
            counts = self.proxy.counts()
            figures |= {"connections": counts.connections, "round_trips": counts.round_trips}
            figures["peak_connections"] = counts.peak_connections
        return figures

    @contextlib.contextmanager
    def _processors(self) -> Iterator[None]:
        """Leave one processor to this thread, whose child inherits it, where that is asked for."""
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)} if self.one_cpu else allowed)
        try:
            yield
        finally:
            os.sched_setaffinity(0, allowed)

    def _server_seconds(self) -> float:
        """The processor time of the server: the postmaster's, its living children's and that of those it buried."""
        assert self.server._process
        parent = self.server._process.pid
        total = 0.0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                if int(folder.name) == parent:
                    total += sum(map(int, fields[11:15]))
                elif int(fields[1]) == parent:
                    total += sum(map(int, fields[11:13]))
        return total / _TICKS


@contextlib.contextmanager
def servers(version: int) -> Iterator[tuple[Server, Aws]]:
    """A server that writes no log of statements, since a log is what an operator pays for, not the run; and an AWS."""
    quiet = {"log_statement": "none", "log_connections": "off", "log_disconnections": "off", "shared_buffers": "128MB"}
    with Server(version, parameters=quiet) as server, Aws() as aws:
        yield server, aws
