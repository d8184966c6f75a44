"""The built artifact in, what a cold start of it costs out: each part in a Lambda runtime of its own."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stack import binaries
from stack.aws import REGION
from stack.certificates import session_authority
from stack.runtime import LambdaRuntime, bare_python

ALONE = ("boto3", "pg8000", "hcl2", "powertools")
MEASURED = (*ALONE, "product", "product_with_hcl")


def measure(rounds: int) -> dict[str, Any]:
    """Milliseconds of each part, the median of the rounds."""
    with tempfile.TemporaryDirectory(prefix="cold-") as folder:
        task = Path(folder) / "task"
        _build(task)
        found: dict[str, list[float]] = {name: [] for name in MEASURED}
        for _ in range(rounds):
            for name in MEASURED:
                found[name].append(_milliseconds(task, name))
    return {name: statistics.median(values) for name, values in found.items()}


def _build(task: Path) -> None:
    """The artifact, compiled ahead for the Python that runs it here as it is for Lambda's own."""
    program: list[str | Path] = [sys.executable, binaries.ROOT / "infra" / "build_artifact.py"]
    program += ["--source", binaries.ROOT / "lambda"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "RDS_CA_BUNDLE": str(session_authority().ca_file)}
    subprocess.run([*program, "--artifact", task], env=variables, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(Path(__file__).with_name("parts.py"), task / "parts.py")
    # The first parse makes the tables of the grammar for this Python.
    warm = "import sys; sys.path.insert(0, '.'); import hcl2; hcl2.loads('ready = true' + chr(10))"
    subprocess.run([bare_python(), "-P", "-c", warm], cwd=task, env={"PATH": os.environ["PATH"]}, check=True)
    subprocess.run([bare_python(), "-m", "compileall", "-q", task], check=True)


def _milliseconds(task: Path, part: str) -> float:
    environment = {
        "BENCH_PART": part,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "POWERTOOLS_SERVICE_NAME": "bench",
    }
    environment |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
    with LambdaRuntime(task, environment, handler="parts.handler") as runtime:
        answer = runtime.invoke({})
        if answer.function_error:
            raise RuntimeError(f"{part}: {answer.payload}")
        print(f"  cold   {part:40}{answer.payload:8.0f} ms", file=sys.stderr, flush=True)
        return float(answer.payload)
