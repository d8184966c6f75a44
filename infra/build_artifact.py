"""Fills a folder with what the Lambda runtime unpacks to /var/task: the product, its dependencies, the certificates.

The content is the same for the same commit, wherever it is built, and pure Python: what was tested on one processor is
what runs on another. Called by lambda/Makefile, which `sam build` calls; fails rather than leave half an artifact.

    python3 infra/build_artifact.py --source lambda --artifact .aws-sam/build/ProvisionerFunction
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fetch_certificates import PATH_VARIABLE, CertificatesError, ship_certificates

RUNTIME = "3.13"
BUNDLE = "rds-ca-bundle.pem"

# Installed as dependencies of dependencies, never reached by the product:
# - bin, cli: command lines;
# - markupsafe/_speedups: the compiled half of what jinja2 escapes with; without it the Python half answers;
# - regex: a compiled module that python-hcl2 imports for writing HCL, while the product only reads it. Something has
#   to answer the import, see STAND_INS.
LEFT_OUT = ("bin", "cli", "markupsafe/_speedups*", "regex", "regex-*.dist-info")
# The record of an installation names the tool and the files that were there before the pruning.
LEFT_OUT_OF_METADATA = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", "uv_cache.json")

STAND_INS = {
    "regex/__init__.py": (
        '"""Stands in for the compiled package of this name, which python-hcl2 needs only to write HCL."""\n\n'
        "from types import ModuleType\n\n\n"
        "def compile(*_pattern: object, **_options: object) -> object:\n"
        '    """Refuse: this artifact reads HCL and does not write it."""\n'
        '    raise NotImplementedError("the compiled package regex is not shipped: this artifact only reads HCL")\n\n\n'
        'regex = ModuleType("regex.regex")\n'
        "regex.compile = compile  # type: ignore[attr-defined]\n"
    ),
}

COMPILED_SUFFIXES = {".so", ".pyd", ".dylib"}
# Imported from the finished artifact alone, to see that nothing that was left out is missed.
MUST_IMPORT = (
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.metrics",
    "hcl2",
    "jinja2",
    "pg8000.native",
    "scramp",
)
# Any moment would do, as long as it is the same one; a zip cannot say anything before 1980.
MODIFIED = 315_619_200.0


class BuildError(Exception):
    """What stands in the folder must not be shipped."""


def build(source: Path, artifact: Path) -> list[str]:
    """Fill `artifact` from the product in `source` and return the lines that say what it is made of.

    Raises BuildError and CertificatesError.
    """
    shutil.rmtree(artifact, ignore_errors=True)
    artifact.mkdir(parents=True)
    lines = ship_certificates(artifact / BUNDLE, os.environ.get(PATH_VARIABLE), time.time())
    install_dependencies(source, artifact)
    copy_product(source, artifact)
    leave_out_the_unused(artifact)
    refuse_compiled_modules(artifact)
    refuse_missing_imports(artifact)
    lines.append(compile_ahead(artifact))
    make_uniform(artifact)
    return lines + describe(artifact)


def install_dependencies(source: Path, artifact: Path) -> None:
    """Install the pinned dependencies for the Lambda runtime, with pip where this Python has it, else with uv.

    In this order because pip's configuration is where a company says which index is its own.
    """
    pins = ["--require-hashes", "--requirement", str(source / "requirements.lock")]
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--python-version", RUNTIME]
        command += ["--platform", "manylinux2014_aarch64", "--implementation", "cp"]
    else:
        command = ["uv", "pip", "install", "--quiet", "--link-mode", "copy", "--python-version", RUNTIME]
        command += ["--python-platform", "aarch64-manylinux2014"]
    _run([*command, "--only-binary", ":all:", *pins, "--target", str(artifact)], "the dependencies cannot be installed")


def copy_product(source: Path, artifact: Path) -> None:
    """Copy the package, without what an interpreter left in it."""
    leftovers = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(source / "provisioner", artifact / "provisioner", ignore=leftovers)


def leave_out_the_unused(artifact: Path) -> None:
    """Remove what the product never reaches, and answer for the one module whose import must succeed."""
    for pattern in LEFT_OUT:
        for path in artifact.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder in list(artifact.rglob("__pycache__")):
        shutil.rmtree(folder)
    for metadata in artifact.glob("*.dist-info"):
        for name in LEFT_OUT_OF_METADATA:
            (metadata / name).unlink(missing_ok=True)
    for name in (".lock", "uv_cache.json"):
        (artifact / name).unlink(missing_ok=True)
    for relative, text in STAND_INS.items():
        (artifact / relative).parent.mkdir(parents=True)
        (artifact / relative).write_text(text, encoding="utf-8")


def refuse_compiled_modules(artifact: Path) -> None:
    """Raise BuildError when a file is machine code: it would fit one processor and one Python."""
    compiled = sorted(
        str(path.relative_to(artifact)) for path in artifact.rglob("*") if path.suffix in COMPILED_SUFFIXES
    )
    if compiled:
        raise BuildError(f"the artifact must be pure Python, but holds {', '.join(compiled)}")


def refuse_missing_imports(artifact: Path) -> None:
    """Raise BuildError when a dependency does not import from the artifact alone."""
    modules = "; ".join(f"import {name}" for name in MUST_IMPORT)
    program = f"import sys; sys.path.insert(0, sys.argv[1]); {modules}"
    _run([sys.executable, "-I", "-S", "-B", "-c", program, str(artifact)], "the artifact does not import")


def compile_ahead(artifact: Path) -> str:
    """Compile every module for the runtime's Python, where one stands here, and return the line that says so.

    Without this each cold start compiles all of it, since the runtime cannot write to /var/task. Unchecked: the check
    of the source's time would fail, because unpacking sets it anew.
    """
    python = find_runtime_python()
    if python is None:
        return f"compiled ahead: no, there is no Python {RUNTIME} on this machine; a cold start takes seconds longer"
    # Not -I: it would ignore the fixed seed.
    program = [python, "-P", "-s", "-S", "-B", str(Path(__file__).with_name("make_grammar_tables.py"))]
    _run([*program, str(artifact)], "the tables of the HCL grammar cannot be made")
    command = [python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    _run([*command, "-s", str(artifact), "-p", "/var/task", str(artifact)], "the artifact does not compile")
    return f"compiled ahead: yes, for Python {RUNTIME} by {python}"


def find_runtime_python() -> str | None:
    """A Python of the runtime's version: this one, one on PATH, one of pyenv's. A shim that leads nowhere is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, f"python{RUNTIME}"]
    # Another user's pyenv may be named and not be ours to look into.
    if os.access(pyenv, os.R_OK | os.X_OK):
        candidates += sorted(map(str, pyenv.glob(f"{RUNTIME}*/bin/python{RUNTIME}")))
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        try:
            answer = subprocess.run([candidate, "-I", "-c", question], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if answer.stdout.strip() == RUNTIME:
            return candidate
    return None


def make_uniform(artifact: Path) -> None:
    """Give every file the same mode and time, so that the same content makes the same zip."""
    for path in [artifact, *artifact.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (MODIFIED, MODIFIED))


def describe(artifact: Path) -> list[str]:
    """One line for each part of the artifact, the heaviest first, and the total."""
    sizes = {part.name: _size(part) for part in artifact.iterdir() if not part.name.endswith(".dist-info")}
    sizes["licences and metadata"] = sum(_size(part) for part in artifact.glob("*.dist-info"))
    parts = [f"  {size / 1024:8.0f} KiB  {name}" for name, size in sorted(sizes.items(), key=lambda item: -item[1])]
    return [f"artifact: {sum(sizes.values()) / 1024:.0f} KiB unpacked, made of", *parts]


def _size(part: Path) -> int:
    files = part.rglob("*") if part.is_dir() else [part]
    return sum(file.stat().st_size for file in files if file.is_file())


def _run(command: list[str], failure: str) -> None:
    """Run a command with a fixed seed, which the order of a pickled set depends on. Raises BuildError."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PIP_ROOT_USER_ACTION": "ignore"}
    environment.pop("PYTHONPATH", None)
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise BuildError(f"{failure}: there is no {command[0]} here (and this Python has no pip)") from error
    if answer.returncode != 0:
        raise BuildError(f"{failure}: {' '.join(command)}\n{answer.stdout}{answer.stderr}")


def main() -> int:
    """Build, say what was built, and return the exit status."""
    parser = argparse.ArgumentParser(description="Build the Lambda artifact.")
    parser.add_argument("--source", type=Path, required=True, help="the folder of the product and its pins")
    parser.add_argument("--artifact", type=Path, required=True, help="the folder to fill; what it holds is removed")
    arguments = parser.parse_args()
    try:
        lines = build(arguments.source.resolve(), arguments.artifact.resolve())
    except (BuildError, CertificatesError) as error:
        shutil.rmtree(arguments.artifact, ignore_errors=True)
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
