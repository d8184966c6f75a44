"""Where things are: what was given, what the stack's outputs say, and what is said when they cannot be had."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from rds_provisioner_cli.stopped import Exit, Stopped
from rds_provisioner_cli.target import Given, Target, find_target

GIVEN = Given("prod", function_name="f", bucket="b")


@pytest.fixture(params=["AccessDenied", "ValidationError", "ExpiredToken"])
def refusal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """CloudFormation that refuses with this code."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            error = f"<Error><Code>{request.param}</Code><Message>as the test says</Message></Error>"
            self.send_response(403)
            self.end_headers()
            self.wfile.write(f"<ErrorResponse>{error}</ErrorResponse>".encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield request.param
        server.shutdown()
        thread.join()


def test_with_everything_given_no_stack_is_looked_at() -> None:
    expected = Target("prod", "f", "b", "prod/terraform.tfvars", frozenset({"dev"}), frozenset({"prod"}))
    assert find_target(GIVEN, with_bucket=True) == expected


def test_what_the_caller_says_of_the_gate_is_believed_for_asking_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNGATED_ENVIRONMENTS", "dev, prod")
    monkeypatch.setenv("REQUIRE_PLAN_DIGEST", "staging")
    target = find_target(GIVEN, with_bucket=True)
    assert not target.is_gated
    assert not target.needs_digest


@pytest.mark.parametrize("name", ["f", "f:live", "arn:aws:lambda:eu-west-2:123456789012:function:f:live"])
def test_the_log_is_that_of_the_function_by_whatever_name_it_is_called(name: str) -> None:
    assert find_target(Given("dev", function_name=name), with_bucket=False).plain_name == "f"


def test_who_may_not_see_the_stack_goes_on_with_the_usual_names_or_hears_why_not(refusal: str) -> None:
    if refusal == "ExpiredToken":
        with pytest.raises(Stopped, match="sign in again"):
            find_target(Given("prod"), with_bucket=False)
        return
    target = find_target(Given("prod"), with_bucket=False)
    assert target.function_name == "rds-provisioner-prod"
    with pytest.raises(Stopped, match=f"where does the snapshot go.*{refusal}") as stopped:
        target.snapshot_bucket()
    assert stopped.value.status == Exit.USAGE
