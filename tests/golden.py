"""What the function says in every scenario and to every bad input, written down to compare two versions of it.

    python -m golden --write before
    python -m golden --write after
    python -m golden --compare before after

It runs the tests of both on the oldest and the newest PostgreSQL, and writes for each test what was asked, answered and
raised, and what the audit bucket holds then; times, ids, ports and sizes are taken out, and digests are
numbered, since they count the server and the secrets.
"""

import argparse
import contextlib
import difflib
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import binaries
from stack.world import AUDIT, World

FOLDER = "GOLDEN_FOLDER"
TESTS = Path(__file__).parent / "integration"
# What differs from run to run, each with what stands in its place.
RUN_TO_RUN = (
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00| UTC)?", "<time>"),
    (r"\b\d{8}T\d{6}(\.\d+)?Z", "<time>"),
    (r'(localhost:|127\.0\.0\.1:|\.invalid:|\bport\\?"?:? )\d+', r"\1<port>"),
    (r'(system_identifier\\?": ?\\?")\d+', r"\1<number>"),
    (r"(:secret:[\w/.-]+-)\w{6}\b", r"\1<suffix>"),
    (r"((?:success|error|skipped|unknown|no_change|dry_run|blocked|drifted|in_sync),)\d+,", r"\1<number>,"),
    (r"/(tmp|dev/shm)/[\w./-]+", "<path>"),
    (r'("[a-z_]*(?:_ms|seconds|bytes|pid)\\?": ?)[\d.]+', r"\1<number>"),
)


class Recorder:
    """The calls of one test, and the world in which they were made."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.world: World | None = None

    def watch(self) -> None:
        """Write down every call of the function from now on."""
        call = World.call

        def recorded(world: World, event: object = None, **fields: Any) -> dict[str, Any]:
            self.world = world
            asked = {name: value for name, value in fields.items() if name != "context"}
            made: dict[str, Any] = {"event": event, "fields": asked}
            self.calls.append(made)
            try:
                made["answer"] = call(world, event, **fields)
            except Exception as error:
                made["raised"] = {"type": type(error).__name__, "message": str(error)}
                raise
            return dict(made["answer"])

        World.call = recorded  # type: ignore[method-assign]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """After each test write its file."""
        self.calls, self.world = [], None
        try:
            yield
        finally:
            self._write(item.nodeid.partition("integration/")[2])

    def _write(self, nodeid: str) -> None:
        # Some ids differ by their signs only.
        name = re.sub(r"[^\w.-]+", "_", nodeid) + f"{zlib.crc32(nodeid.encode()):08x}"
        text = json.dumps([*self.calls, self._audit()], indent=1, default=str)
        (Path(os.environ[FOLDER]) / f"{name}.json").write_text(normal(text.replace("\\n", "\n")) + "\n")

    def _audit(self) -> dict[str, str]:
        if self.world is None:
            return {}
        aws = self.world.aws
        with contextlib.suppress(Exception):  # a test may have left AWS failing
            return {key: aws.read_object(AUDIT, key).decode() for key in sorted(aws.list_keys(AUDIT, ""))}
        return {}


def normal(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, instead in RUN_TO_RUN:
        text = re.sub(pattern, instead, text)
    # A digest counts server and secrets, which are made up: only which are equal is kept, in the order of their coming.
    digests = dict.fromkeys(re.findall(r"sha256:([0-9a-f]{64})", text))
    for number, digest in enumerate(digests, 1):
        text = text.replace(digest, f"<digest {number}>").replace(digest[:12], f"<digest {number}>")
    return text


def pytest_configure(config: pytest.Config) -> None:
    """Take part in pytest, in each of its processes."""
    recorder = Recorder()
    recorder.watch()
    config.pluginmanager.register(recorder)


def write(folder: Path) -> int:
    """Run the tests and write their files."""
    folder.mkdir(parents=True)
    os.environ[FOLDER] = str(folder.resolve())
    versions = sorted({min(binaries.available()), max(binaries.available())})
    chosen = f"test_bad_input or (delegated and ({' or '.join(f'pg{version}' for version in versions)}))"
    options = ["-p", "golden", "-q", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", "-k", chosen]
    return int(pytest.main([*options, str(TESTS / "test_scenarios.py"), str(TESTS / "test_bad_input.py")]))


def compare(before: Path, after: Path) -> int:
    """Show every line that differs; 1 where there is one."""
    names = sorted({path.name for folder in (before, after) for path in folder.glob("*.json")})
    lines = [line for name in names for line in _differences(before / name, after / name)]
    sys.stdout.writelines(lines)
    print(f"{len(names)} tests compared: {'they differ' if lines else 'no difference'}")
    return bool(lines) or not names


def _differences(before: Path, after: Path) -> list[str]:
    texts = [path.read_text().splitlines(keepends=True) if path.exists() else [] for path in (before, after)]
    return list(difflib.unified_diff(*texts, str(before), str(after), n=1))


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="DIR")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="DIR")
    given = parser.parse_args()
    if given.compare:
        return compare(*given.compare)
    return write(given.write) if given.write else parser.error("either --write or --compare")


if __name__ == "__main__":
    sys.exit(main())
