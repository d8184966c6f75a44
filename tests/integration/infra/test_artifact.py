"""The rules of the artifact, each on a folder that keeps or breaks it; the whole build is tested end to end."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import build_artifact
import pytest
from build_artifact import BuildError
from packaging.requirements import Requirement

from integration.infra.deployed_template import REPOSITORY

SDK = ("boto3", "botocore", "s3transfer")


def read_pins(name: str) -> set[str]:
    lines = (REPOSITORY / "lambda" / name).read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_what_is_shipped_is_what_the_project_declares_without_the_sdk_that_lambda_brings() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {pin for pin in project["optional-dependencies"]["function"] if not pin.startswith("boto3==")}
    assert read_pins("requirements.txt") == declared


def test_every_pin_is_exact() -> None:
    pins = read_pins("requirements.txt") | read_pins("constraints.txt")
    assert all(pin.count("==") == 1 for pin in pins)


def test_what_is_installed_are_those_pins_each_with_the_hashes_of_its_files() -> None:
    lock = (REPOSITORY / "lambda/requirements.lock").read_text(encoding="utf-8")
    locked = re.findall(r"^(\S+==\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock, re.MULTILINE)
    assert {pin for pin, _ in locked} == read_pins("requirements.txt") | read_pins("constraints.txt")
    assert lock.count("==") == len(locked)


def test_the_pins_are_within_what_the_packages_that_need_them_declare() -> None:
    """The SDK comes from Lambda, and meets what is shipped before what Lambda has beside it."""
    pins = dict(pin.split("==") for pin in read_pins("requirements.txt") | read_pins("constraints.txt"))
    needs = [(name, Requirement(text)) for name in (*SDK, *pins) for text in metadata.requires(name) or ()]
    needs = [(name, need) for name, need in needs if need.name in pins and not need.marker]
    assert {"botocore", "pg8000"} <= {name for name, need in needs if need.name == "python-dateutil"}
    assert [(name, str(need)) for name, need in needs if pins[need.name] not in need.specifier] == []


def test_a_compiled_module_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "regex").mkdir()
    (tmp_path / "regex/_regex.cpython-313-aarch64-linux-gnu.so").touch()
    with pytest.raises(BuildError, match=r"must be pure Python, but holds regex/_regex\.cpython"):
        build_artifact.refuse_compiled_modules(tmp_path)


def test_a_dependency_that_does_not_import_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="No module named 'aws_lambda_powertools'"):
        build_artifact.refuse_missing_imports(tmp_path)


def test_the_stand_in_answers_the_import_and_refuses_the_use(tmp_path: Path) -> None:
    (tmp_path / "regex").mkdir()
    (tmp_path / "regex/_regex.so").touch()
    build_artifact.leave_out_the_unused(tmp_path)
    program = "from regex import regex; import regex as package; regex.compile('a')"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stderr.endswith("the compiled package regex is not shipped: this artifact only reads HCL\n")
    assert not (tmp_path / "regex/_regex.so").exists()


def test_what_an_interpreter_left_in_the_source_is_not_shipped(tmp_path: Path) -> None:
    package = tmp_path / "lambda/provisioner"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__/handler.cpython-311.pyc").touch()
    (package / "handler.py").touch()
    build_artifact.copy_product(tmp_path / "lambda", tmp_path / "artifact")
    assert [path.name for path in (tmp_path / "artifact").rglob("*")] == ["provisioner", "handler.py"]


def test_every_file_has_the_same_time_and_mode(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir(mode=0o700)
    (tmp_path / "package/module.py").touch(mode=0o600)
    build_artifact.make_uniform(tmp_path)
    assert (tmp_path / "package/module.py").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "package").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "package/module.py").stat().st_mtime == build_artifact.MODIFIED


def test_a_shim_that_leads_nowhere_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python9.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(build_artifact, "RUNTIME", "9.99")
    assert build_artifact.find_runtime_python() is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_pyenv_that_may_not_be_looked_into_has_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(build_artifact, "RUNTIME", "9.99")
    (tmp_path / "versions").mkdir(mode=0o000)
    assert build_artifact.find_runtime_python() is None


def test_without_the_runtimes_python_the_build_says_what_that_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_artifact, "RUNTIME", "9.99")
    line = build_artifact.compile_ahead(tmp_path)
    assert line.startswith("compiled ahead: no, there is no Python 9.99 on this machine")


def test_the_build_says_what_the_artifact_is_made_of_the_heaviest_first(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_bytes(b"x" * 1024)
    (tmp_path / "large").mkdir()
    (tmp_path / "large/module.py").write_bytes(b"x" * 3072)
    assert build_artifact.describe(tmp_path) == [
        "artifact: 4 KiB unpacked, made of",
        "         3 KiB  large",
        "         1 KiB  small.py",
        "         0 KiB  licences and metadata",
    ]


def test_without_certificates_nothing_is_built(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "infra/build_artifact.py")]
    command += ["--source", str(REPOSITORY / "lambda"), "--artifact", str(tmp_path / "artifact")]
    environment = {"PATH": os.environ["PATH"], "RDS_CA_BUNDLE": str(tmp_path / "missing.pem")}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 1
    assert "RDS_CA_BUNDLE names" in answer.stderr
    assert not (tmp_path / "artifact").exists()


def test_a_relative_path_to_the_certificates_is_that_of_who_calls_make(tmp_path: Path) -> None:
    """SAM builds in a folder of its own, where it would mean another file."""
    (sam := tmp_path / "sam").write_text(f'#!/bin/sh\necho "$1 $RDS_CA_BUNDLE" >> {tmp_path}/said\n')
    sam.chmod(0o755)
    (bundle := tmp_path / "global-bundle.pem").touch()
    command = ["make", "build", f"SAM={sam}", f"RDS_CA_BUNDLE={os.path.relpath(bundle, REPOSITORY)}"]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert (tmp_path / "said").read_text().splitlines()[-1] == f"build {bundle}"
