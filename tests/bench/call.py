"""One call of the function in a process of its own: an event in; out, as JSON on its last line, what it took.

The product knows nothing of this: its functions are wrapped from outside, here.

    python -m bench.call '{"event": {...}, "probes": true}'
"""

from __future__ import annotations

import time

_STARTED = time.perf_counter()

import json  # noqa: E402 - the clock runs before anything is imported
import re  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

# Which functions make up a phase, by the module that calls them. One that runs inside another counts to the outer.
PHASES = {
    "snapshot": ["run_input._load_snapshot"],
    "secrets": ["run_input.load_secrets"],
    "observe": ["run_input.connect_and_lock", "observation.observe_server", "observation.observe_databases"],
    "probe": ["observation.probe_passwords"],
    "plan": ["pipeline.build_plan", "pipeline.write_script", "pipeline.render_text"],
    "apply": ["pipeline.apply_script"],
    "verify": ["pipeline.verify_after_apply"],
    "audit": [
        "pipeline._gate",
        "audit_log.AuditLog.record_applied",
        "audit_log.AuditLog.record_plan",
        "audit_log.AuditLog.store",
    ],
}
DATABASE_PHASES = ("observe", "probe", "apply", "verify")


class Watch:
    """Takes the time of phases and counts what goes to the server."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.connections = self.open = self.peak = self.statements = self.messages = 0
        self._inside = False
        self._lock = threading.Lock()

    def phase(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to a phase."""

        def timed(*arguments: Any, **options: Any) -> Any:
            if self._inside or threading.current_thread() is not threading.main_thread():
                return function(*arguments, **options)
            self._inside, started = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                self.seconds[name] += time.perf_counter() - started

        return timed

    def watch_connections(self, kind: Any) -> None:
        """Count the connections of a class, those open at once, and what is sent over them."""
        connect, close, run = kind.__init__, kind.close, kind.run

        def counted_connect(connection: Any, *arguments: Any, **options: Any) -> None:
            with self._lock:
                self.connections += 1
                self.open += 1
                self.peak = max(self.peak, self.open)
            try:
                connect(connection, *arguments, **options)
            except BaseException:
                with self._lock:
                    self.open -= 1
                raise

        def counted_close(connection: Any) -> None:
            close(connection)
            with self._lock:
                self.open -= 1

        def counted_run(connection: Any, *statements: str, **options: Any) -> Any:
            with self._lock:
                self.messages += 1
                self.statements += len(statements)
            return run(connection, *statements, **options)

        kind.__init__, kind.close, kind.run = counted_connect, counted_close, counted_run


class Context:
    """What the function asks of Lambda: its time and its id."""

    aws_request_id = "bench"

    def __init__(self) -> None:
        self.aws_request_id = f"bench-{time.time_ns()}"
        self._until = time.monotonic() + 900

    def get_remaining_time_in_millis(self) -> int:
        """What is left of a quarter of an hour."""
        return int((self._until - time.monotonic()) * 1000)


def wrap(watch: Watch, *, probes: bool) -> None:
    """Put the watch around the product's functions; without probes every password counts as current."""
    from provisioner import audit_log, observation, pipeline, run_input
    from provisioner.core.state import PasswordCheck
    from provisioner.edges import postgres

    if not probes:
        vars(observation)["probe_passwords"] = lambda _address, server, credentials, _databases, _workers: replace(
            server, passwords=dict.fromkeys(credentials, PasswordCheck.CURRENT)
        )
    modules = {"pipeline": pipeline, "run_input": run_input, "observation": observation, "audit_log": audit_log}
    for phase, places in PHASES.items():
        for place in places:
            module, *path, name = place.split(".")
            owner = modules[module]
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, name, watch.phase(phase, getattr(owner, name)))
    watch.watch_connections(postgres.Connection)


def _peak_memory_mb() -> float:
    # Not ru_maxrss: it remembers the process that started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Call once and print what was measured as JSON."""
    job = json.loads(sys.argv[1])
    watch = Watch()
    from provisioner.handler import lambda_handler

    imported = time.perf_counter()
    wrap(watch, probes=job.get("probes", True))
    started = time.perf_counter()
    answer = lambda_handler(job["event"], Context())  # type: ignore[arg-type]
    seconds = dict(watch.seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "status": answer["status"],
                "import": imported - _STARTED,
                "handler": time.perf_counter() - started,
                "database": sum(seconds.get(phase, 0.0) for phase in DATABASE_PHASES),
                "cpu": usage.ru_utime + usage.ru_stime,
                "memory_mb": _peak_memory_mb(),
                "phases": seconds,
                "connections": watch.connections,
                "peak_connections": watch.peak,
                "messages": watch.messages,
                "statements": watch.statements,
            }
        )
    )


if __name__ == "__main__":
    main()
