"""A real Chromium, of this machine or from apt, and axe-core from npm: what of a page is wrong for poor eyes."""

import contextlib
import fcntl
import functools
import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stack.binaries import ROOT

AXE_VERSION = "4.14.1"
FOLDER = ROOT / ".cache/axe"
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_FOUND = re.compile(r'<pre id="axe">(.*?)</pre>', re.DOTALL)


def chromium() -> str:
    """The path of a Chromium, installed by apt where it is missing and that is allowed; empty where there is none."""
    if not _installed() and not os.geteuid() and shutil.which("apt-get"):
        with _alone():
            for command in (
                () if _installed() else (["update"], ["install", "-y", "--no-install-recommends", "chromium"])
            ):
                environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
                subprocess.run(
                    ["apt-get", "-q", *command], env=environment, capture_output=True, check=False, timeout=600
                )
    return _installed()


def _installed() -> str:
    return next((path for name in _NAMES if (path := shutil.which(name))), "")


def axe_source() -> str:
    """The text of axe-core, installed where it is missing; empty where it cannot be had."""
    script = FOLDER / "node_modules/axe-core/axe.min.js"
    with _alone():
        if not script.exists() and (npm := shutil.which("npm")):
            (FOLDER / "package.json").write_text('{"private": true}')
            quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
            cache = ["--cache", str(FOLDER / "cache"), "--fetch-retries", "0"]
            command = [npm, "install", *quiet, *cache, f"axe-core@{AXE_VERSION}"]
            subprocess.run(command, cwd=FOLDER, capture_output=True, check=False, timeout=120)
    return script.read_text() if script.exists() else ""


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two processes of one run of the tests may want to install at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def missing() -> str:
    """What this machine lacks to look at pages; empty where it has all."""
    if not chromium():
        return "the page of access was NOT looked at: no Chromium on PATH nor from apt (which takes root)"
    return "" if axe_source() else f"the page of access was NOT looked at: axe-core {AXE_VERSION} is not had from npm"


def violations(page: str, *, width: int, height: int) -> tuple[list[dict[str, Any]], int]:
    """What axe-core finds wrong with a page in a window of that size, and how many of its rules the page passes."""
    runner = (
        "axe.run().then(found => { const out = document.createElement('pre'); out.id = 'axe'; out.textContent = "
        "JSON.stringify({violations: found.violations, passes: found.passes.length, ran: window.wasRun === true}); "
        "document.body.append(out); })"
    )
    # The page forbids every script, which is right, and would forbid this one.
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page, count=1)
    scripts = f"<script>{axe_source()}</script><script>{runner}</script>"
    text = _run(opened.replace("</body>", f"{scripts}</body>"), "--dump-dom", width=width, height=height)
    match = _FOUND.search(text)
    if match is None:
        raise RuntimeError(f"axe-core gave no answer: {text[-500:]}")
    answer = json.loads(html.unescape(match[1]))
    return answer["violations"], answer["passes"]


def dom(page: str) -> str:
    """A page as Chromium has it after everything that would run has run."""
    return _run(page, "--dump-dom", width=1280, height=900)


def screenshot(page: str, target: Path, *, width: int, height: int) -> None:
    """A picture of a page as PNG."""
    _run(page, f"--screenshot={target}", "--hide-scrollbars", width=width, height=height)


def _run(page: str, *options: str, width: int, height: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(page)
        command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"]
        command += [f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000", *options, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
