"""The Invoke API of Lambda over one function, as boto3, `sam remote invoke` and Terraform's provider call it.

`POST /2015-03-31/functions/<name or ARN>/invocations`; every other request is passed on to the rest of AWS.
"""

import base64
import http.client
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from stack.runtime import LambdaRuntime

REQUEST_LIMIT_BYTES = 6 * 1024 * 1024
_CONFIGURATION = re.compile(r"/2015-03-31/functions/([^/]+)/configuration/?")
_INVOCATIONS = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
_LOG_TAIL_BYTES = 4096
# Said by each connection for itself.
_HOP_BY_HOP = {"connection", "content-length", "date", "expect", "host", "keep-alive", "server", "transfer-encoding"}


def serve(runtime: "LambdaRuntime") -> ThreadingHTTPServer:
    """Serve the function's Invoke API from a thread, on a port that the system gives."""
    handler = type("InvokeApi", (_InvokeApi,), {"runtime": runtime})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class _InvokeApi(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    runtime: ClassVar["LambdaRuntime"]

    def do_POST(self) -> None:
        body = self._read_body()
        match = _INVOCATIONS.fullmatch(urlsplit(self.path).path)
        if not match:
            self._forward(body)
        elif not self._is_ours(unquote(match[1])):
            self._refuse(404, "ResourceNotFoundException", f"Function not found: {unquote(match[1])}")
        elif len(body) > REQUEST_LIMIT_BYTES:
            self._refuse(413, "RequestTooLargeException", f"Request must be smaller than {REQUEST_LIMIT_BYTES} bytes")
        elif not _is_json(body):
            self._refuse(400, "InvalidRequestContentException", "Could not parse request body into json")
        else:
            self._invoke(body or b"{}")

    def do_GET(self) -> None:
        body = self._read_body()
        match = _CONFIGURATION.fullmatch(urlsplit(self.path).path)
        if match and self._is_ours(unquote(match[1])):
            # What `sam remote invoke` asks first.
            answer = {"FunctionName": self.runtime.name, "FunctionArn": self.runtime.arn, "State": "Active"}
            self._answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        else:
            self._forward(body)

    do_PUT = do_GET  # noqa: N815 - the base class looks methods up by these names
    do_DELETE = do_GET  # noqa: N815 - the same
    do_HEAD = do_GET  # noqa: N815 - the same
    do_PATCH = do_GET  # noqa: N815 - the same

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def _invoke(self, body: bytes) -> None:
        kind = self.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind == "DryRun":
            self._answer(204, b"", {})
        elif kind == "Event":
            self._answer(202, b"", {"x-amzn-RequestId": self.runtime.accept(body)})
        else:
            self._invoke_and_wait(body)

    def _invoke_and_wait(self, body: bytes) -> None:
        invocation = self.runtime.invoke_raw(body)
        headers = {"Content-Type": "application/json", "X-Amz-Executed-Version": "$LATEST"}
        if invocation.function_error:
            headers["X-Amz-Function-Error"] = invocation.function_error
        if self.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(invocation.logs.encode()[-_LOG_TAIL_BYTES:]).decode()
        self._answer(200, json.dumps(invocation.payload).encode(), headers)

    def _is_ours(self, name: str) -> bool:
        # A name, an ARN, or part of one; each may end with a version or alias.
        ours = self.runtime.name
        return bool(
            re.fullmatch(rf"(arn:aws:lambda:[\w-]+:\d+:function:|\d+:function:)?{re.escape(ours)}(:[^:]+)?", name)
        )

    def _forward(self, body: bytes) -> None:
        if not self.runtime.forward_to:
            self._refuse(404, "ResourceNotFoundException", "Only the Invoke API is served here")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection(urlsplit(self.runtime.forward_to).netloc, timeout=120)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            self._answer(answer.status, answer.read(), kept, answer.getheader("Content-Length"))
        except (OSError, http.client.HTTPException):
            # What the other side did not answer is not answered here either.
            self.close_connection = True
        finally:
            connection.close()

    def _refuse(self, status: int, kind: str, message: str) -> None:
        body = json.dumps({"Type": "User", "Message": message}).encode()
        self._answer(status, body, {"x-amzn-ErrorType": kind, "Content-Type": "application/json"})

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _answer(self, status: int, body: bytes, headers: dict[str, str], length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            # The answer to a HEAD tells the length of a body that it does not have.
            self.send_header("Content-Length", length if length and self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body or b"{}")
    except ValueError:
        return False
    return True
