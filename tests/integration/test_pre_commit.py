"""The hook of `.pre-commit-hooks.yaml`, installed by pre-commit from a clone of this repository."""

import os
import subprocess
import sys
from pathlib import Path

from stack.binaries import ROOT

GOOD = 'application_databases = {\n  a = { database_name = "a", username = "a_user" }\n}\n'
BROKEN = 'application_databases = {\n  a = { database_name = "a", user = "a_user" }\n}\n'


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_pre_commit_runs_the_hook_on_a_changed_file_and_names_what_is_wrong_in_it(tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(ROOT), "hooks")
    revision = git(tmp_path / "hooks", "rev-parse", "HEAD").strip()
    (project := tmp_path / "project").mkdir()
    git(project, "init", "--quiet")
    hooks = f"repos:\n- repo: {tmp_path}/hooks\n  rev: {revision}\n  hooks:\n  - id: rds-provisioner-validate\n"
    (project / ".pre-commit-config.yaml").write_text(hooks)
    (project / "dev").mkdir()
    (project / "dev/terraform.tfvars").write_text(GOOD)
    (project / "network.tfvars").write_text('cidr = "10.0.0.0/16"\n')
    git(project, "add", ".")

    def run_hooks() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"]
        # What stands on the tests' own path would hide what the hook's installation lacks.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # Most of what is installed is never imported, and is not compiled for two calls.
        environment |= {"PRE_COMMIT_HOME": str(tmp_path / "environments"), "PIP_COMPILE": "no"}
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    passed = run_hooks()
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "Passed" in passed.stdout
    (project / "dev/terraform.tfvars").write_text(BROKEN)
    failed = run_hooks()
    assert failed.returncode == 1
    assert "dev/terraform.tfvars:2 application_databases.a.username" in failed.stdout
