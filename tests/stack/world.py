"""One server, one AWS and the settings that join them: what an integration test, the demo and the bench stand on.

The pipeline runs in this process, through the same front door as in Lambda, so a debugger sees all of it.
"""

import contextlib
import json
import os
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from stack.aws import Aws
from stack.postgres import Login, Server

SNAPSHOTS, AUDIT = "snapshots", "audit"


class _Context:
    """What Lambda gives the handler beside the event."""

    def __init__(self, seconds: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._milliseconds = int(seconds * 1000)

    def get_remaining_time_in_millis(self) -> int:
        """A clock that stands still: tests of the clock run in the real runtime."""
        return self._milliseconds


@dataclass
class World:
    """An environment: `apply`, `dry_run` and `drift` call the function; the rest prepares it and looks at it."""

    server: Server
    aws: Aws
    admin: Login
    environment: str = "dev"
    settings: dict[str, str] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    _clients_made_for: ClassVar[dict[str, str]] = {}

    def __enter__(self) -> Self:
        """Make the buckets, the administrator's secret and the settings."""
        self.aws.create_bucket(SNAPSHOTS)
        self.aws.create_bucket(AUDIT)
        self.aws.put_secret(f"goldenpath/{self.environment}/rds/master", self.server.admin_secret(self.admin))
        self.settings = {
            "ENVIRONMENT": self.environment,
            "SNAPSHOT_BUCKET": SNAPSHOTS,
            "AUDIT_BUCKET": AUDIT,
            "DB_CA_BUNDLE": str(self.server.ca_file),
            **self.settings,
        }
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end: the server and AWS belong to whoever started them."""

    @property
    def snapshot_key(self) -> str:
        """The configured key of the snapshot."""
        return self.settings.get("SNAPSHOT_KEY", f"{self.environment}/terraform.tfvars")

    def declare(self, tfvars: str | bytes | Path, *, key: str = "") -> str:
        """Put a snapshot and give back its version."""
        content = tfvars.read_bytes() if isinstance(tfvars, Path) else tfvars
        return self.aws.put_snapshot(SNAPSHOTS, key or self.snapshot_key, content)

    def put_secret(self, application: str, username: str, database: str, **fields: Any) -> str:
        """Make or renew an application's secret and give back its password."""
        password = fields.pop("password", None) or secrets.token_urlsafe(18)
        value = {
            "username": username,
            "password": password,
            "host": self.server.host,
            "port": self.server.port,
            "dbname": database,
            "engine": "postgres",
            **fields,
        }
        self.aws.put_secret(f"goldenpath/{self.environment}/{application}/postgres", value)
        self.passwords[username] = password
        return password

    def declare_entries(self, entries: Mapping[str, Mapping[str, Any]], *, with_secrets: bool = True) -> str:
        """Declare entries given as a mapping, with a secret for each."""
        if with_secrets:
            for application, entry in entries.items():
                if entry["username"] not in self.passwords:
                    self.put_secret(application, entry["username"], entry["database_name"])
        return self.declare(render_tfvars(self.environment, entries))

    def call(
        self, event: object = None, *, seconds: float = 900, context: object = None, **fields: Any
    ) -> dict[str, Any]:
        """Call the function with an event, or with a direct one for this environment and the given fields.

        `context` is what tells the time in place of a clock that stands still at `seconds`.
        """
        from provisioner.handler import lambda_handler

        event = {"environment": self.environment, **fields} if event is None else event
        with self._environment():
            answer: Any = lambda_handler(event, context or _Context(seconds))  # type: ignore[arg-type]
            return dict(answer)

    def apply(self, **fields: Any) -> dict[str, Any]:
        """Apply the newest snapshot."""
        return self.call(mode="apply", **fields)

    def approve(self, digest: str, approved_by: str = "bob", **fields: Any) -> str:
        """Put an approval, as its approver would; give back its key."""
        key = f"governance/{self.environment}/approvals/{digest.removeprefix('sha256:')}.json"
        body = {"plan_digest": digest, "approved_by": approved_by, "reason": "read", **fields}
        self.aws.put_snapshot(AUDIT, key, json.dumps(body))
        return key

    def dry_run(self, **fields: Any) -> dict[str, Any]:
        """Plan and change nothing."""
        return self.call(mode="dry_run", **fields)

    def drift(self, **fields: Any) -> dict[str, Any]:
        """Say what differs and change nothing."""
        return self.call(mode="drift", **fields)

    def login(self, username: str, database: str) -> Any:
        """A connection as an application, with the password of its secret."""
        return self.server.connect(username, self.passwords[username], database)

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        from provisioner.edges.aws import aws_clients

        before = dict(os.environ)
        metrics = {"POWERTOOLS_SERVICE_NAME": "rds-provisioner", "POWERTOOLS_METRICS_NAMESPACE": "RdsProvisioner"}
        environment = self.aws.environment()
        os.environ.update(environment | metrics | self.settings)
        # Clients know where AWS is from when they were made; making them anew is a good part of a call.
        if environment != World._clients_made_for:
            aws_clients.cache_clear()
            World._clients_made_for = environment
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def render_tfvars(environment: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Write standalone tfvars in HCL."""
    blocks = "\n".join(_render_entry(application, entry) for application, entry in entries.items())
    return f'environment = "{environment}"\n\napplication_databases = {{\n{blocks}\n}}\n'


def _render_entry(application: str, entry: Mapping[str, Any]) -> str:
    lines = "\n".join(f"    {name} = {_render_value(value)}" for name, value in entry.items())
    return f'  "{application}" = {{\n{lines}\n  }}'


def _render_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_render_value(item) for item in value) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'
