"""What `sam build` makes: pure Python, the same each time, with the certificates."""

import hashlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from build_artifact import BUNDLE, find_runtime_python
from packaging.requirements import Requirement

from stack.binaries import ROOT
from stack.certificates import session_authority


def hash_tree(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_artifact_holds_no_machine_code(built: Path) -> None:
    suffixes = {path.suffix for path in (built / "ProvisionerFunction").rglob("*")}
    assert ".py" in suffixes
    assert not suffixes & {".so", ".pyd", ".dylib", ".a"}


def test_the_artifact_holds_nothing_of_the_command_line(built: Path) -> None:
    names = {path.name for path in (built / "ProvisionerFunction").rglob("*")}
    assert not names & {"rds_provisioner_cli", "click", "rich"}


def test_the_packages_of_the_artifact_agree_with_each_other_and_with_the_sdk(built: Path) -> None:
    """Each finds what it declares to need, but for the compiled package that is left out."""
    shipped = {
        each.name.replace("_", "-"): each for each in metadata.distributions(path=[str(built / "ProvisionerFunction")])
    }
    sdk = [metadata.distribution(name) for name in ("boto3", "botocore", "s3transfer")]
    problems = [
        f"{each.name} needs {need}"
        for each in (*shipped.values(), *sdk)
        for need in map(Requirement, each.requires or ())
        if not need.marker and (need.name in shipped or each not in sdk) and need.name != "regex"
        if need.name not in shipped or shipped[need.name].version not in need.specifier
    ]
    assert {"python-dateutil", "jmespath"} <= set(shipped)
    assert problems == []


def test_the_certificates_are_those_that_were_given(built: Path) -> None:
    given = session_authority().ca_file.read_text()
    assert (built / "ProvisionerFunction" / BUNDLE).read_text().split() == given.split()


def test_the_build_says_where_the_certificates_came_from_and_what_it_weighs(built: Path) -> None:
    log = (built / "log").read_text()
    assert f"certificates: 1 from the file {session_authority().ca_file} (RDS_CA_BUNDLE)" in log
    assert "KiB unpacked, made of" in log


def test_a_build_with_uv_by_a_python_without_pip_is_the_same_to_the_byte(built: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    build = [str(tmp_path / "bare/bin/python"), str(ROOT / "infra/build_artifact.py")]
    build += ["--source", str(ROOT / "lambda"), "--artifact", str(tmp_path / "again")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "RDS_CA_BUNDLE": str(session_authority().ca_file), "PATH": path}
    subprocess.run(build, env={**environment, "PYTHONHASHSEED": "random"}, check=True)
    assert hash_tree(tmp_path / "again") == hash_tree(built / "ProvisionerFunction")


def test_every_module_is_compiled_ahead_where_the_runtimes_python_stands(built: Path) -> None:
    artifact = built / "ProvisionerFunction"
    modules = {path.relative_to(artifact) for path in artifact.rglob("*.py")}
    compiled = {
        path.parent.parent.relative_to(artifact) / f"{path.name.split('.')[0]}.py"
        for path in artifact.rglob("__pycache__/*.cpython-313.pyc")
    }
    assert compiled == (modules if find_runtime_python() else set())


def test_the_tables_of_the_grammar_are_made_for_the_place_where_they_are_read(built: Path) -> None:
    artifact = built / "ProvisionerFunction"
    tables = artifact / "hcl2/.lark_cache.bin"
    assert tables.exists() == bool(find_runtime_python())
