"""The child process of `stack.aws`: moto's server behind a layer that records each call and fails some on demand.

Prints its port and serves until it is ended. The layer answers under `/_stack/` itself.
"""

import functools
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from moto import backends
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.responses import S3Response
from werkzeug.serving import WSGIRequestHandler, make_server

from stack import aws_contents
from stack.aws_operations import Request, describe_operation

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


@dataclass
class Fault:
    """So many calls of an operation that fail in one way, after so many that pass."""

    operation: str
    times: int
    kind: str
    after: int
    matching: str
    caller: str | None

    def applies(self, call: dict[str, Any], text: str) -> bool:
        """Whether this call is the one to fail; counts it."""
        names = {call["operation"], f"{call['service']}:{call['operation']}", f"{call['service']}:*"}
        known = self.operation in names and self.caller in (None, call["caller"]) and self.matching in text
        if not known or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Layer:
    """A WSGI application around moto's."""

    def __init__(self, moto: Application) -> None:
        self._moto = moto
        self._lock, self._comparing = threading.Lock(), threading.Lock()
        self._calls: list[dict[str, Any]] = []
        self._faults: list[Fault] = []
        self._healed = threading.Event()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Record the call, then fail it or hand it to moto."""
        body = _read_body(environ)
        if len(body) < int(environ["CONTENT_LENGTH"]):
            # The caller died in mid-sentence. moto would store the half of it; no service does.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if environ["PATH_INFO"].startswith("/_stack/"):
            return self._control(environ, body, start_response)
        request = _request(environ, body)
        if request.service == "" or environ["PATH_INFO"].startswith("/moto-api"):
            return self._moto(environ, start_response)
        kind = self._note(request, environ)
        if kind is None and environ.keys() & {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}:
            # moto compares and writes in two steps; S3 does so in one.
            with self._comparing:
                return self._moto(environ, start_response)
        if kind is None:
            return self._moto(environ, start_response)
        return self._fail(kind, request, environ, start_response)

    def _control(self, environ: Environ, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
        asked = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix("/_stack/")
        with self._lock:
            answer = self._put(asked[1], environ, body) if asked[1] in _CONTENTS else self._steer(asked, body)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def _put(self, what: str, environ: Environ, body: bytes) -> Any:
        if what == "objects":
            query = dict(parse_qsl(environ["QUERY_STRING"]))
            answer, told = aws_contents.put_object(query["bucket"], query["key"], body)
        else:
            answer, told = _CONTENTS[what](**json.loads(body))
        self._calls += [
            {"service": service, "operation": operation, "caller": "operator", "parameters": parameters}
            for service, operation, parameters in told
        ]
        return answer

    def _steer(self, asked: tuple[str, str], body: bytes) -> Any:
        if asked == ("GET", "calls"):
            return list(self._calls)
        if asked == ("POST", "faults"):
            self._faults.append(Fault(**json.loads(body)))
        elif asked == ("POST", "age"):
            aws_contents.make_older(**json.loads(body))
        elif asked[0] == "DELETE":
            self._faults.clear()
            self._healed.set()
            self._healed = threading.Event()
        if asked == ("DELETE", "all"):
            moto_api_backend.reset()
            self._calls.clear()
        return None

    def _note(self, request: Request, environ: Environ) -> str | None:
        operation, parameters = describe_operation(request)
        caller = _credential(environ)[0]
        call = {"service": request.service, "operation": operation, "caller": caller, "parameters": parameters}
        text = f"{request.path}?{environ.get('QUERY_STRING', '')}\n{request.body.decode(errors='replace')}"
        with self._lock:
            self._calls.append(call)
            return next((fault.kind for fault in self._faults if fault.applies(call, text)), None)

    def _fail(self, kind: str, request: Request, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if kind == "timeout":
            self._healed.wait(600)
        if kind == "lost_answer":
            b"".join(self._moto(environ, lambda *_: None))
        if kind in ("timeout", "lost_answer", "drop"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        status, content_type, answer = _error(kind, request)
        start_response(status, [("Content-Type", content_type), ("x-amzn-RequestId", f"fault-{time.time_ns()}")])
        return [answer]


def _read_body(environ: Environ) -> bytes:
    # The dechunking is the server's; what is left is to give moto a body that can be read a second time.
    if environ.get("wsgi.input_terminated"):
        body = environ["wsgi.input"].read()
        environ["CONTENT_LENGTH"] = str(len(body))
    else:
        environ["CONTENT_LENGTH"] = environ.get("CONTENT_LENGTH") or "0"
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(body)
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("wsgi.input_terminated", None)
    return body


def _request(environ: Environ, body: bytes) -> Request:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    return Request(
        service=_credential(environ)[1],
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"],
        query=dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
        headers=headers,
        body=body,
    )


def _credential(environ: Environ) -> tuple[str, str]:
    """The access key and the service that the signature names."""
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    if "Credential=" not in authorization:
        return "", ""
    scope = authorization.split("Credential=")[1].split(",")[0].split("/")
    return scope[0], scope[3]


def _error(kind: str, request: Request) -> tuple[str, str, bytes]:
    """The status line, content type and body of an error as the request's protocol words it."""
    is_json, is_s3 = "x-amz-target" in request.headers, request.service == "s3"
    status, code = {
        "throttling": ("503 Slow Down", "SlowDown") if is_s3 else ("400 Bad Request", "ThrottlingException"),
        "server_error": ("500 Internal Server Error", "InternalError" if is_s3 else "InternalServiceError"),
        "access_denied": ("403 Forbidden", "AccessDenied")
        if not is_json
        else ("400 Bad Request", "AccessDeniedException"),
        "invalid": ("400 Bad Request", "InvalidParameterException"),
    }[kind]
    message = "Made to fail by the test."
    if is_json:
        body = json.dumps({"__type": code, "message": message, "Message": message})
        return status, "application/x-amz-json-1.1", body.encode()
    error = f"<Code>{code}</Code><Message>{message}</Message>"
    if is_s3:
        return status, "application/xml", f"<Error>{error}</Error>".encode()
    return status, "text/xml", f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>".encode()


# What can be put there without the SDK, each with its name in the path.
_CONTENTS: dict[str, Callable[..., Any]] = {
    "buckets": aws_contents.create_bucket,
    "objects": aws_contents.put_object,
    "secrets": aws_contents.put_secret,
}


class _KeptAlive(WSGIRequestHandler):
    """Answers in one write and keeps the connection, as AWS does; werkzeug closes it, which doubles a call's cost."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        told: list[tuple[str, list[tuple[str, str]]]] = []
        body: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None, /) -> Callable[[bytes], None]:
            told.append((status, headers))
            return body.append

        body += self.server.app(self.make_environ(), start_response)
        if not told:
            # The socket is shut down: nothing is answered.
            self.close_connection = True
            return
        [(status, headers)] = told
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        content = b"".join(body)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self._headers_buffer.append(b"\r\n" + (b"" if self.command == "HEAD" else content))
        self.flush_headers()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        pass


def _tell_of_eventbridge() -> None:
    """Let moto say what it was told: its answer about a bucket's notifications leaves EventBridge out."""
    told = S3Response.get_bucket_notification

    def answer(self: S3Response) -> Any:
        told_so: Any = told(self)
        status, headers, body = told_so
        configuration = self.backend.get_bucket_notification_configuration(self.bucket_name)
        if configuration is not None and configuration.event_bridge is not None:
            end = "</NotificationConfiguration>"
            opened = body if body.endswith(end) else f"{body.removesuffix('/>')}>{end}"
            body = opened.replace(end, f"<EventBridgeConfiguration/>{end}")
        return status, headers, body

    S3Response.get_bucket_notification = answer  # type: ignore[method-assign]


def _dispatcher() -> DomainDispatcherApplication:
    """moto's, which for every call looked into its own folder and tried hundreds of patterns: a third of its cost."""
    modules = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    dispatcher = DomainDispatcherApplication(create_backend_app)
    dispatcher.get_backend_for_host = functools.cache(dispatcher.get_backend_for_host)  # type: ignore[method-assign]
    return dispatcher


def main() -> None:
    """Serve until ended."""
    _tell_of_eventbridge()
    layer = Layer(_dispatcher())
    server = make_server("127.0.0.1", 0, layer, threaded=True, request_handler=_KeptAlive)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
