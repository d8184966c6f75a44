"""Makes of what `sam build` left a folder for whoever deploys and builds nothing.

The function as a zip, templates that name it, an SBOM, the hash-pinned requirements, and the checksums of them all. The
same commit makes the same bytes.

    python3 infra/make_release.py --built .aws-sam/build --release .aws-sam/release --cyclonedx path/to/cyclonedx-py
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Installed for its import alone and replaced by a stand-in of ours: see build_artifact.py.
NOT_SHIPPED = {"regex"}
# As it lies in the repository, for who deploys.
BROUGHT_ALONG = (
    "samconfig.toml",
    "infra/fleet.asl.json",
    "infra/storage.yaml",
    "infra/admin-role.sql",
    "docs/operations.md",
    "CHANGELOG.md",
    "LICENSE",
)
TEMPLATE_CHANGES = (
    ("    Metadata:\n      BuildMethod: makefile\n", ""),
    ("      CodeUri: lambda/\n", "      CodeUri: {zip}\n"),
    ("      DefinitionUri: infra/fleet.asl.json\n", "      DefinitionUri: fleet.asl.json\n"),
)


def release(built: Path, folder: Path, cyclonedx: Path) -> list[str]:
    """Fill `folder` and return the names of what is in it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    code = folder / f"rds-provisioner-{version}.zip"
    pack(built / "ProvisionerFunction", code)
    (folder / "template.yaml").write_text(template_for(code.name), encoding="utf-8")
    for name in BROUGHT_ALONG:
        shutil.copyfile(ROOT / name, folder / Path(name).name)
    (folder / "requirements.txt").write_text(shipped_requirements(), encoding="utf-8")
    write_sbom(folder, cyclonedx)
    names = sorted(path.name for path in folder.iterdir())
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in names]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    return [*names, "SHA256SUMS"]


def pack(artifact: Path, target: Path) -> None:
    """Zip a folder so that the same content makes the same bytes: order, time and mode are fixed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in artifact.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(artifact).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def template_for(code: str) -> str:
    """The template with the zip in place of the source."""
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    for written, released in TEMPLATE_CHANGES:
        if text.count(written) != 1:
            raise ValueError(f"template.yaml has not once: {written!r}")
        text = text.replace(written, released.format(zip=code))
    return text


def shipped_requirements() -> str:
    """The pinned requirements with their hashes, of what is in the zip."""
    lock = (ROOT / "lambda/requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z0-9-]+==.*?(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
    return "".join(pin for pin in pins if pin.partition("==")[0] not in NOT_SHIPPED)


def write_sbom(folder: Path, cyclonedx: Path) -> None:
    """The SBOM of the zip as CycloneDX, by its own tool."""
    command = [
        cyclonedx,
        "requirements",
        "--pyproject",
        ROOT / "pyproject.toml",
        "--output-reproducible",
        "--of",
        "JSON",
    ]
    subprocess.run(
        [*map(str, command), "-o", str(folder / "sbom.cdx.json"), str(folder / "requirements.txt")],
        check=True,
        capture_output=True,
        text=True,
    )


def main() -> int:
    """Make the release and say what is in it."""
    parser = argparse.ArgumentParser(description="Make a release of what was built.")
    parser.add_argument("--built", type=Path, required=True, help="what sam build made")
    parser.add_argument("--release", type=Path, required=True, help="the folder to fill; what it holds is removed")
    parser.add_argument("--cyclonedx", type=Path, required=True, help="the program cyclonedx-py")
    arguments = parser.parse_args()
    try:
        names = release(arguments.built.resolve(), arguments.release.resolve(), arguments.cyclonedx.absolute())
    except subprocess.CalledProcessError as error:
        print(f"error: {error}\n{error.stderr}", file=sys.stderr)
        return 1
    print("\n".join([f"{arguments.release}:", *(f"  {name}" for name in names)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
