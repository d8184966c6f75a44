"""Runs a function in the real Lambda runtime: AWS's own emulator, behind the Invoke API.

The emulator's binary comes with aws-sam-cli. It routes one name, answers errors as successes and dies of two calls at
once; `LambdaRuntime` calls it one at a time and `stack.invoke_api` puts names, headers and status codes right.
"""

import http.client
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Self

from stack import invoke_api, processes
from stack.aws import ACCOUNT, REGION, Aws
from stack.binaries import ROOT
from stack.ports import free_port, wait_for_port

FUNCTION_NAME = "rds-provisioner"
HANDLER = "provisioner.handler.lambda_handler"
SOURCE = ROOT / "lambda"

RESPONSE_LIMIT_BYTES = 6 * 1024 * 1024
_ATTEMPTS = 3


@dataclass(frozen=True)
class Invocation:
    """What became of one call: the answer as JSON gives it, `Unhandled` or nothing, and the function's log."""

    payload: Any
    function_error: str | None
    logs: str


class LambdaRuntime:
    """A function in the runtime, and the Invoke API in front of it at `endpoint_url`.

    Args:
        task_root: the function's code: a built artifact, or `SOURCE`.
        environment: all of the function's variables, with those of `Aws.environment()`.
        handler: module and function, separated by a dot.
        timeout_seconds: enforced: the function is killed.
        memory_mb: told to the function, not enforced.
        python: what runs it. By default the bare environment that has only what Lambda itself brings, so that an
            artifact cannot live off the tests' packages; for `SOURCE` the interpreter of the tests.
        name: the function's name in the Invoke API; its ARN is accepted too.
        forward_to: where all other requests go (moto), so that one address is the whole of AWS.
        retry_delay_seconds: between the attempts of an asynchronous call. Lambda waits one minute, then two.
        on_failure: called with Lambda's record of an asynchronous call whose three attempts failed.
    """

    def __init__(
        self,
        task_root: Path,
        environment: Mapping[str, str],
        *,
        handler: str = HANDLER,
        timeout_seconds: int = 900,
        memory_mb: int = 512,
        python: Path | None = None,
        name: str = FUNCTION_NAME,
        forward_to: str = "",
        retry_delay_seconds: float = 0.1,
        on_failure: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.name = name
        self.arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        self.forward_to = forward_to
        self.endpoint_url = ""
        self.asynchronous: list[Invocation] = []
        self._task_root = task_root.resolve()
        self._python = python or (Path(sys.executable) if self._task_root == SOURCE else bare_python())
        self._handler = handler
        self._timeout_seconds = timeout_seconds
        self._environment = self._complete(environment, memory_mb)
        self._retry_delay_seconds = retry_delay_seconds
        self._on_failure = on_failure
        self._one_at_a_time = threading.Lock()
        self._queue: Queue[tuple[str, bytes] | None] = Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        """Start the emulator and the Invoke API. The function itself is started by its first call."""
        self._log = Path(tempfile.mkstemp(prefix="lambda-")[1])
        self._start()
        self._api = invoke_api.serve(self)
        self.endpoint_url = f"http://127.0.0.1:{self._api.server_port}"
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the emulator, the function and the Invoke API."""
        self._queue.put(None)
        self._api.shutdown()
        self._api.server_close()
        if self._process:
            processes.end(self._process)
        self._worker.join(10)
        self._log.unlink(missing_ok=True)

    def invoke(self, payload: Any) -> Invocation:
        """Call the function and wait. Never raises for what the function does."""
        return self.invoke_raw(json.dumps(payload).encode())

    def invoke_raw(self, body: bytes) -> Invocation:
        """As `invoke`, with the payload as JSON text."""
        with self._one_at_a_time:
            if self._process is None or self._process.poll() is not None:
                self._start()
            mark = self._log.stat().st_size
            try:
                status, answer = self._call(body)
            except (OSError, http.client.HTTPException):
                # The emulator itself went down with the call.
                status, answer = 502, _error("Runtime.ExitError", "Error: Runtime exited")
            payload, function_error = _read_answer(status, answer, self._timeout_seconds)
            return Invocation(payload, function_error, self._read_log(mark))

    def invoke_asynchronously(self, payload: Any) -> None:
        """Hand over an event as EventBridge does: accepted at once, tried three times, then `on_failure`."""
        self.accept(json.dumps(payload).encode())

    def accept(self, body: bytes) -> str:
        """Put an event in the queue and give back its request id."""
        request_id = f"event-{time.time_ns()}"
        self._queue.put((request_id, body))
        return request_id

    def wait_until_idle(self) -> list[Invocation]:
        """Wait for the events handed over so far and give back every asynchronous attempt since the start."""
        self._queue.join()
        return self.asynchronous

    def kill(self) -> None:
        """Kill the function where it stands, as a lost host would; the next call finds a new one."""
        if self._process:
            processes.kill_group(self._process)

    def log_text(self) -> str:
        """Everything that the function and the emulator wrote."""
        return self._log.read_text(errors="replace")

    def _complete(self, environment: Mapping[str, str], memory_mb: int) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(self._task_root),
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self._timeout_seconds),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            # The code of a function is read-only there.
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }

    def _start(self) -> None:
        for _ in range(5):
            self._port = free_port()
            command: list[str | Path] = [emulator(), "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
            command += ["--runtime-api-address", f"127.0.0.1:{free_port()}"]
            command += [self._python, "-m", "awslambdaric", self._handler]
            with self._log.open("ab") as log:
                self._process = processes.start(
                    command, cwd=self._task_root, env=self._environment, stdout=log, stderr=log
                )
            if wait_for_port(self._port, self._process):
                return
            # Another process took one of the ports between our asking and the emulator's binding.
            processes.end(self._process)
        raise RuntimeError(f"the Lambda runtime emulator did not start:\n{self.log_text()[-2000:]}")

    def _call(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_seconds + 30)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _read_log(self, mark: int) -> str:
        # The emulator writes its closing line just after it answered.
        deadline = time.monotonic() + 1
        while True:
            with self._log.open("rb") as log:
                log.seek(mark)
                text = log.read().decode(errors="replace")
            closed = "\nREPORT RequestId" in text or "Runtime.ExitError" in text
            if closed or time.monotonic() > deadline:
                return "".join(line for line in text.splitlines(keepends=True) if "] (rapid) " not in line)
            time.sleep(0.005)

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._attempt(*event)
            finally:
                self._queue.task_done()

    def _attempt(self, request_id: str, body: bytes) -> None:
        invocation = self._note(self.invoke_raw(body))
        for _ in range(_ATTEMPTS - 1):
            if invocation.function_error is None:
                return
            time.sleep(self._retry_delay_seconds)
            invocation = self._note(self.invoke_raw(body))
        if invocation.function_error and self._on_failure:
            self._on_failure(self._failure_record(request_id, body, invocation))

    def _note(self, invocation: Invocation) -> Invocation:
        self.asynchronous.append(invocation)
        return invocation

    def _failure_record(self, request_id: str, body: bytes, last: Invocation) -> dict[str, Any]:
        return {
            "version": "1.0",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            "requestContext": {
                "requestId": request_id,
                "functionArn": f"{self.arn}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": _ATTEMPTS,
            },
            "requestPayload": json.loads(body),
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": last.function_error,
            },
            "responsePayload": last.payload,
        }


def emulator() -> Path:
    """The emulator's binary for this machine's processor."""
    processor = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    pattern = f".venv-sam/lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{processor}"
    found = next(iter(sorted(ROOT.glob(pattern))), None)
    if found is None:
        raise RuntimeError("the Lambda runtime emulator is not installed: run `make .venv-sam/bin/sam`")
    return found


def bare_python() -> Path:
    """A Python with only what Lambda puts beside a function, of the version of these tests where there are two."""
    found = [ROOT / name / "bin" / "python" for name in (".venv-runtime", ".venv-runtime313")]
    found = [python for python in found if python.exists()]
    if not found:
        raise RuntimeError("the function's environment is not installed: run `make .venv-runtime/.installed`")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    same = [python for python in found if (python.parent.parent / "lib" / version).exists()]
    return (same or found)[0]


def send_to_queue(aws: Aws, queue_url: str) -> Callable[[dict[str, Any]], None]:
    """An `on_failure` that puts the record into an SQS queue."""
    sqs = aws.client("sqs")
    return lambda record: sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(record))


def send_to_topic(aws: Aws, topic_arn: str) -> Callable[[dict[str, Any]], None]:
    """An `on_failure` that publishes the record on an SNS topic."""
    sns = aws.client("sns")
    return lambda record: sns.publish(TopicArn=topic_arn, Message=json.dumps(record))


def _read_answer(status: int, answer: bytes, timeout_seconds: int) -> tuple[Any, str | None]:
    """The emulator says a timeout in plain words, a crash with 502, and an error of the function with its two keys."""
    if status == 200 and answer.startswith(b"Task timed out"):
        return json.loads(_error("Sandbox.Timedout", f"Task timed out after {timeout_seconds}.00 seconds")), "Unhandled"
    if len(answer) > RESPONSE_LIMIT_BYTES:
        message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
        return json.loads(_error("Function.ResponseSizeTooLarge", message)), "Unhandled"
    payload = json.loads(answer or b"null")
    failed = status != 200 or (isinstance(payload, dict) and {"errorMessage", "errorType"} <= payload.keys())
    return payload, "Unhandled" if failed else None


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
