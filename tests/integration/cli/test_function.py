"""Calling the function: what is waited for, what is tried again, and what is said when no answer comes."""

import socket
from pathlib import Path

import pytest

from integration.cli.conftest import Lambda
from rds_provisioner_cli import aws, function
from rds_provisioner_cli.function import call, call_when_free
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.stopped import Exit, FunctionFailed, Stopped
from rds_provisioner_cli.target import Target

EVENT = {"environment": "test", "mode": "apply"}


def test_another_run_is_waited_for(
    service: Lambda, target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(function, "PAUSES", (0.01,))
    service.answers = ["RunInProgress", "RunInProgress", {"status": "applied"}]
    assert call_when_free(target, EVENT, Screen(), wait_seconds=30) == {"status": "applied"}
    assert service.events == [EVENT] * 3
    assert capsys.readouterr().err.count("Another run is at work") == 1


def test_another_run_is_not_waited_for_longer_than_is_said(service: Lambda, target: Target, screen: Screen) -> None:
    service.answers = ["RunInProgress"]
    with pytest.raises(FunctionFailed, match="RunInProgress"):
        call_when_free(target, EVENT, screen, wait_seconds=0)
    assert len(service.events) == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [("ApprovalRequired", Exit.NOT_APPROVED), ("PlanChanged", Exit.NOT_APPROVED), ("ApplyFailed", Exit.FAILED)],
)
def test_what_the_gate_refuses_has_a_status_of_its_own(
    service: Lambda, target: Target, screen: Screen, kind: str, status: Exit
) -> None:
    service.answers = [kind]
    with pytest.raises(FunctionFailed) as failed:
        call(target, EVENT, screen)
    assert failed.value.status == status


def test_a_call_is_never_sent_twice_and_its_silence_is_told_from_a_refusal(
    target: Target, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(aws, "READ_SECONDS", 0.2)
        with pytest.raises(Stopped, match="no answer came") as stopped:
            call(target, EVENT, screen)
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    assert "aws logs tail /aws/lambda/rds-provisioner-test" in str(stopped.value)


def test_what_cannot_be_reached_did_not_refuse(target: Target, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Stopped, match=r"^AWS cannot be reached"):
        call(target, EVENT, screen)


def test_without_credentials_that_is_what_is_said(
    target: Target, screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(Stopped, match=r"^there are no AWS credentials"):
        call(target, EVENT, screen)


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="only Linux tells the times of its probes")
def test_the_connection_is_probed_each_minute_so_that_no_gateway_forgets_it(service: Lambda) -> None:
    service.answers = [{}]
    client = aws.client("lambda", is_patient=True)
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    )
    seen: list[list[int]] = []
    connect = socket.socket.connect

    class Watched(socket.socket):
        def connect(self, address: object) -> None:
            seen.append([self.getsockopt(*option) for option in options])
            connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Watched)
        client.invoke(FunctionName="f", Payload=b"{}")
    assert seen == [[1, 60, 60]]
