"""`python -m demo` as a newcomer runs it: the story is told to its end, or broken off, and nothing is left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.binaries import ROOT

MARK = "DEMO_UNDER_TEST"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo writes. A short path that everybody may enter, for the server's socket and its user."""
    with tempfile.TemporaryDirectory(prefix="d-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def start_demo(folder: Path, tfvars: Path | str = "") -> subprocess.Popen[str]:
    """The demo in a process group of its own, as a shell would start it; its children inherit the marker.

    Nobody can write into its home.
    """
    environment = {"TMPDIR": str(folder), "TFVARS": str(tfvars), MARK: str(folder), "HOME": "/dev/null"}
    return subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/lambda:{ROOT}/tests", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_demo(folder: Path, tfvars: Path | str = "") -> tuple[int, str]:
    with start_demo(folder, tfvars) as demo:
        output, _ = demo.communicate(timeout=120)
    return demo.returncode, output


def read_until(demo: subprocess.Popen[str], text: str) -> None:
    assert demo.stdout
    for line in demo.stdout:
        if text in line:
            return
    raise AssertionError(f"the demo ended before it said {text!r}")


def marked_processes(folder: Path) -> list[str]:
    """Every process that was started with the marker, by its command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_the_story_is_told_to_its_end(folder: Path) -> None:
    status, output = run_demo(folder)
    assert status == 0, output
    place = 0
    readme = (ROOT / "README.md").read_text().split("<!-- shown: demo -->\n```\n")[1].split("```")[0]
    for line in readme.splitlines():
        place = output.find(line.strip(), place)
        assert place >= 0, f"README: {line}\n{output}"
    told = [
        "create_database    keycloak_user",
        "status applied: 14 changes made and proved, 0 errors",
        "keycloak_user: CREATE TABLE greetings",
        "analytics_reader: SELECT words FROM greetings\n             hello",
        "refused: permission denied for table greetings (SQLSTATE 42501)",
        "status no_change",
        'refused: password authentication failed for user "keycloak_user" (SQLSTATE 28P01)',
        "~ set_password       keycloak_user",
        'revoke             analytics_reader         INSERT on 1 table in schema "public"',
        "status drifted",
        "status applied: 3 changes made and proved, 0 errors",
        "timestamp_utc            database",
        "Looked for the passwords: there is none",
    ]
    places = [output.find(text) for text in told]
    assert -1 not in places, output
    assert places == sorted(places), output
    assert "\x1b[" not in output
    assert '"level"' not in output
    assert not list(folder.iterdir())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are told by their environment in /proc")
@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGINT, "Starting PostgreSQL"),
        (signal.SIGINT, "The apply"),
        (signal.SIGTERM, "The declaration"),
    ],
    ids=["ctrl-c at the start", "ctrl-c in the apply", "sigterm"],
)
def test_broken_off_it_leaves_no_process_and_no_file(folder: Path, number: signal.Signals, when: str) -> None:
    with start_demo(folder) as demo:
        read_until(demo, when)
        assert marked_processes(folder)
        demo.send_signal(number)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 128 + number
    assert "Traceback" not in output
    assert not marked_processes(folder)
    assert not list(folder.iterdir())


def test_the_inactive_block_of_a_coupled_file_is_told(folder: Path) -> None:
    status, output = run_demo(folder, ROOT / "tests/samples/coupled-dev.tfvars")
    assert status == 0, output
    assert "rds_config.enabled is false, so its application_databases is inactive" in output
    assert "nothing to provision: in a copy of it, set rds_config.enabled = true" in output
    assert "No changes." in output


def test_a_file_of_a_gated_environment_is_told_too(folder: Path) -> None:
    path = folder / "terraform.tfvars.json"
    entry = '{"database_name": "billing", "username": "billing_app", "secret_name": "billing/postgres"}'
    path.write_text(f'{{"environment": "prod", "application_databases": {{"billing": {entry}}}}}')
    status, output = run_demo(folder, path)
    assert status == 0, output
    assert "s3://audit/governance/prod/rds_provision_audit.csv" in output
    assert 'The file declares no reader and no editor of "billing".' in output


def test_a_reader_of_a_database_that_nobody_owns_gets_the_products_own_error(folder: Path) -> None:
    path = folder / "terraform.tfvars"
    entry = '{ database_name = "ghost", username = "ghost_reader", access_level = "reader" }'
    path.write_text(f"application_databases = {{ ghost = {entry} }}")
    status, output = run_demo(folder, path)
    assert status == 1, output
    assert "Refused: PlanBlocked" in output
    assert 'database "ghost" does not exist and no entry declares its owner' in output
    assert "Traceback" not in output


def test_a_file_that_cannot_be_provisioned_is_refused_before_anything_is_started(folder: Path) -> None:
    (path := folder / "mine.tfvars").write_text("application_databases = {\n  a = {}\n}\n")
    status, output = run_demo(folder, path)
    assert status == 1, output
    assert f"{path}:2 application_databases.a.database_name: database_name is missing" in output
    assert "Starting PostgreSQL" not in output


def test_make_takes_a_file_of_any_name(folder: Path) -> None:
    (path := folder / """q"x's.tfvars""").write_text("application_databases = {\n  a = {}\n}\n")
    here = Path(sys.prefix)
    command = ["make", "--no-print-directory", f"--assume-old={here}/.installed", "demo", f"DEMO={here}"]
    command.append(f"TFVARS={path}")
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "cannot be provisioned" in answer.stdout, answer.stdout + answer.stderr


def test_a_file_that_is_not_there_is_said_at_once(folder: Path) -> None:
    status, output = run_demo(folder, folder / "missing.tfvars")
    assert status == 2
    assert f"There is no file {folder}/missing.tfvars: make demo TFVARS=path/to/terraform.tfvars" in output
