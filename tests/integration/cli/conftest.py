"""A Lambda service that answers what a test tells it to; what it is asked, and over which connections, is kept."""

import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from rds_provisioner_cli import aws
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.target import Target


@dataclass
class Lambda:
    """`answers` are payloads, and names of errors; the last one stays."""

    answers: list[Any] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    endpoint_url: str = ""


@pytest.fixture(autouse=True)
def _credentials_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # A command keeps its session as long as its process lives, and here many of them share one.
    aws.session.cache_clear()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "eu-west-2",
        "AWS_CONFIG_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    told = Lambda()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null"))
            answer = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            error = {"errorType": answer, "errorMessage": "as the test says"}
            body = json.dumps(error if isinstance(answer, str) else answer).encode()
            self.send_response(200)
            if isinstance(answer, str):
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        told.endpoint_url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", told.endpoint_url)
        yield told
        server.shutdown()
        thread.join()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def target() -> Target:
    """A gated environment that asks for no digest."""
    return Target("test", "rds-provisioner-test", "acme-tfvars", "test/terraform.tfvars", frozenset(), frozenset())
