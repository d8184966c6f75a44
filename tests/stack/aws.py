"""AWS on loopback: moto's server in a process of its own, which records the calls made to it and fails on demand.

What nearly every test puts there, buckets, secrets and objects, is told to that process in few words: a call of the SDK
costs ten times as much, and no test looks at how these came there.
"""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import boto3
from botocore.config import Config

from stack import processes

REGION = "us-east-1"
ACCOUNT = "123456789012"
# The access key says who calls: the function (and whatever else runs with `environment()`), or the test itself.
FUNCTION = "function"
OPERATOR = "operator"

ALWAYS = 1_000_000

Failure = Literal["throttling", "server_error", "access_denied", "invalid", "timeout", "drop", "lost_answer"]


class Call(NamedTuple):
    """One API call as the server saw it, e.g. `("s3", "PutObject", "function", {"Bucket": ..., "Key": ...})`."""

    service: str
    operation: str
    caller: str
    parameters: dict[str, Any]


class Aws:
    """S3, Secrets Manager, SNS, SQS, EventBridge, Step Functions and CloudFormation; empty on entering."""

    def __init__(self) -> None:
        self.endpoint_url = ""
        self._clients: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        # One for each thread, kept as the SDK keeps its own.
        self._asking = threading.local()

    def __enter__(self) -> Self:
        """Start the server on a port that the system gives and wait until it listens."""
        folder = Path(__file__).resolve().parents[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._process = processes.start(
            [sys.executable, "-m", "stack.aws_server"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "PYTHONPATH": str(folder), "MOTO_DISABLE_GLOBAL_CORS": "true"},
        )
        assert self._process.stdout
        port = processes.read_line(self._process.stdout)
        if not port:
            raise RuntimeError("moto's server did not start: run `python -m stack.aws_server` to see why")
        self.endpoint_url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        """End the server; everything in it is gone."""
        if self._process:
            processes.end(self._process)
            self._process = None

    def environment(self, endpoint_url: str = "") -> dict[str, str]:
        """What a child process needs to find this AWS, and nothing that could lead it to the real one."""
        return {
            "AWS_ACCESS_KEY_ID": FUNCTION,
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint_url or self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of the test's own: its calls are recorded as the operator's and never made to fail."""
        if service not in self._clients:
            # Making one costs more than a dozen calls.
            self._clients[service] = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self.endpoint_url,
                region_name=REGION,
                aws_access_key_id=OPERATOR,
                aws_secret_access_key="not-a-secret",
                config=Config(retries={"total_max_attempts": 1}, proxies={}),
            )
        return self._clients[service]

    def reset(self) -> None:
        """Empty everything: resources, the record of calls, failures."""
        self._ask("DELETE", "/_stack/all")

    def calls(self, caller: str | None = FUNCTION) -> list[Call]:
        """Every call since the last reset, in order; of everybody with `None`."""
        calls = [Call(**call) for call in self._ask("GET", "/_stack/calls")]
        return [call for call in calls if caller in (None, call.caller)]

    def fail(
        self,
        operation: str,
        times: int = 1,
        kind: Failure = "server_error",
        *,
        after: int = 0,
        matching: str = "",
        caller: str | None = FUNCTION,
    ) -> None:
        """Make the next calls of an operation fail.

        Args:
            operation: `PutObject`, `s3:PutObject`, or `s3:*`.
            times: how many calls fail; the SDK's own retries count. `ALWAYS` for all of them.
            kind: `throttling`, `server_error`, `access_denied` and `invalid` (an id, say) are answers as the service
                words them; `timeout` never answers; `drop` closes the connection unanswered; `lost_answer` does the
                work, then drops.
            after: how many calls are let through first.
            matching: only calls with this text in path, query or body count.
            caller: whose calls; everybody's with `None`.
        """
        fault: dict[str, Any] = {"operation": operation, "times": times, "kind": kind, "after": after}
        fault |= {"matching": matching, "caller": caller}
        self._ask("POST", "/_stack/faults", json.dumps(fault).encode())

    def heal(self) -> None:
        """Forget all failures; calls that hang in a `timeout` are dropped."""
        self._ask("DELETE", "/_stack/faults")

    def create_bucket(self, name: str, *, versioned: bool = True, eventbridge: bool = False) -> None:
        """A bucket, by default versioned; with `eventbridge` it sends its events there."""
        self._ask("POST", "/_stack/buckets", json.dumps({"name": name, "versioned": versioned}).encode())
        if eventbridge:
            configuration: dict[str, Any] = {"EventBridgeConfiguration": {}}
            self.client("s3").put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration=configuration
            )

    def put_snapshot(self, bucket: str, key: str, content: str | bytes) -> str:
        """Put a tfvars file and give back its version; `null` where the bucket has no versioning."""
        body = content.encode() if isinstance(content, str) else content
        version: str = self._ask("POST", f"/_stack/objects?{urlencode({'bucket': bucket, 'key': key})}", body)
        return version

    def read_object(self, bucket: str, key: str) -> bytes:
        """The newest version of an object."""
        return self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()

    def make_older(self, bucket: str, key: str, hours: float) -> None:
        """Let S3 say that the newest version of an object was put so many hours before it was."""
        self._ask("POST", "/_stack/age", json.dumps({"bucket": bucket, "key": key, "hours": hours}).encode())

    def list_keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys in a bucket, sorted."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def put_secret(self, name: str, value: dict[str, Any] | str | bytes) -> str:
        """Create a secret, or a new current version of it; a dictionary becomes JSON. Gives back its ARN."""
        binary = isinstance(value, bytes)
        text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        wanted = {"name": name, "value": text if isinstance(text, str) else json.dumps(text), "binary": binary}
        arn: str = self._ask("POST", "/_stack/secrets", json.dumps(wanted).encode())
        return arn

    def _ask(self, method: str, path: str, body: bytes = b"") -> Any:
        # urllib would read the machine's certificates and proxies for a call on loopback.
        if not hasattr(self._asking, "server"):
            self._asking.server = http.client.HTTPConnection(urlsplit(self.endpoint_url).netloc, timeout=30)
        server: http.client.HTTPConnection = self._asking.server
        try:
            server.request(method, path, body)
            answer = server.getresponse()
            content = answer.read()
        except BaseException:
            # Closed, it is opened anew by the next request.
            server.close()
            raise
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
        return json.loads(content or b"null")
