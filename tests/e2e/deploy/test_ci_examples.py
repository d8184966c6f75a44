"""The shell parts of examples/ci, run as they stand there, against the function on loopback."""

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.deploy.deployment import COMMAND, KEYCLOAK, READER, Deployment
from stack.binaries import ROOT

EXAMPLES = ROOT / "examples/ci"


@pytest.fixture
def checkout(dev: Deployment, tmp_path: Path) -> Path:
    """A checkout of a pull request, in which dev has two entries; the function finds itself by its stack."""
    dev.publish_outputs()
    folder = tmp_path / "checkout"
    (folder / "envs/dev").mkdir(parents=True)
    dev.declare(keycloak=KEYCLOAK, readers=READER).rename(folder / "envs/dev/terraform.tfvars")
    return folder


def run_shell(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run lines as a pipeline does: the first one that fails ends it."""
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def surroundings(dev: Deployment, job: dict[str, Any], programs: Path) -> dict[str, str]:
    path = f"{programs}{os.pathsep}{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    return {**dev.command_environment(), "PATH": path, **job}


def run_workflow(dev: Deployment, checkout: Path) -> tuple[list[int], str]:
    """The exit status of each step that is a script, and what `gh` was asked to write."""
    job = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())["jobs"]["plan"]
    (programs := checkout.parent / "programs").mkdir(exist_ok=True)
    # Another program's own part: gh takes what the workflow gives it, the file included.
    (programs / "gh").write_text('#!/bin/sh\necho "$@" > ../asked\ncat "${9}" >> ../asked\n')
    (programs / "gh").chmod(0o755)
    files = {name: str(checkout.parent / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    environment = surroundings(
        dev, {**job["env"], **files, "GITHUB_REPOSITORY": "acme/databases", "NUMBER": "7"}, programs
    )
    statuses = []
    for step in job["steps"]:
        if "run" not in step or step["name"] == "Install":
            continue
        output = Path(files["GITHUB_OUTPUT"])
        told = dict(line.split("=", 1) for line in output.read_text().splitlines()) if output.exists() else {}
        answer = run_shell(step["run"], checkout, {**environment, "STATUS": told.get("status", "")})
        statuses.append(answer.returncode)
    return statuses, (checkout.parent / "asked").read_text()


def test_the_workflow_comments_the_plan_and_passes(dev: Deployment, checkout: Path) -> None:
    statuses, asked = run_workflow(dev, checkout)
    assert statuses == [0, 0, 0]
    assert asked.startswith(
        "pr comment 7 --repo acme/databases --edit-last --create-if-none --body-file plan.md\n### Plan:"
    )
    assert asked.index("keycloak\n  - revoke") < asked.index("[destructive]") < asked.index("<details>")
    assert "make rds-provision ENV=dev" in asked
    assert dev.databases() == set()


def test_the_workflow_comments_why_there_is_no_plan_and_fails(dev: Deployment, checkout: Path) -> None:
    (checkout / "envs/dev/terraform.tfvars").write_text("application_databases = {\n  a = {}\n}\n")
    statuses, asked = run_workflow(dev, checkout)
    assert statuses == [0, 0, 1]
    assert "envs/dev/terraform.tfvars:2" in asked


@pytest.fixture
def notes() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """GitLab's notes of merge requests: where they are put, and what was put."""
    put: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            put.append({"path": self.path, "token": self.headers["PRIVATE-TOKEN"], **body})
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v4", put
        server.shutdown()
        thread.join()


def test_the_job_of_gitlab_puts_the_plan_as_a_note_and_passes(
    dev: Deployment, checkout: Path, notes: tuple[str, list[dict[str, Any]]]
) -> None:
    address, put = notes
    job = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["database-plan"]
    project = {"CI_API_V4_URL": address, "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7", "NOTE_TOKEN": "a-token"}
    given = {name: value for name, value in job["variables"].items() if not name.startswith("AWS_")}
    answer = run_shell("\n".join(job["script"]), checkout, surroundings(dev, given | project, checkout))
    assert answer.returncode == 0, answer.stderr
    [note] = put
    assert (note["path"], note["token"]) == ("/api/v4/projects/3/merge_requests/7/notes", "a-token")
    assert note["body"].startswith("### Plan:")
    broken = checkout / "envs/dev/terraform.tfvars"
    broken.write_text("application_databases = 1\n")
    assert run_shell("\n".join(job["script"]), checkout, surroundings(dev, given | project, checkout)).returncode == 1
    assert "envs/dev/terraform.tfvars:1" in put[-1]["body"]
