"""The artifact in the Lambda runtime, called as Lambda is: answers, failed invocations, and the lines of its log."""

import json
from typing import Any

import pytest

from e2e.deploy.deployment import AUDIT, KEYCLOAK, READER, Deployment

# What the emulator itself writes around each call.
PLATFORM_LINES = ("START RequestId", "END RequestId", "INIT_START", "REPORT RequestId")


def read_log(logs: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logs.splitlines() if line and not line.startswith(PLATFORM_LINES)]


def test_a_direct_event_is_applied_and_the_same_again_changes_nothing(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK, analytics=READER))
    first = dev.runtime.invoke({"environment": "dev", "build_id": "16-01-26-01"})
    assert first.function_error is None, first.payload
    assert (first.payload["status"], first.payload["build_id"]) == ("applied", "16-01-26-01")
    assert dev.databases() == {"keycloak"}
    second = dev.runtime.invoke({"environment": "dev"})
    assert (second.payload["status"], second.payload["changes"]) == ("no_change", [])
    assert f"s3://{AUDIT}/governance/dev/rds_provision_audit.csv" == second.payload["audit"]["trail"]


def test_what_cannot_be_done_is_a_failed_invocation_with_every_problem_in_it(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK, analytics=READER))
    for application in ("keycloak", "analytics"):
        dev.aws.client("secretsmanager").delete_secret(SecretId=f"goldenpath/dev/{application}/postgres")
    failed = dev.runtime.invoke({"environment": "dev"})
    assert failed.function_error == "Unhandled"
    assert failed.payload["errorType"] == "SecretUnavailable"
    assert failed.payload["errorMessage"].startswith("2 problems:\n1. ")
    assert dev.databases() == set()
    assert b"goldenpath/dev/analytics/postgres" in dev.aws.read_object(AUDIT, "governance/dev/rds_provision_audit.csv")


@pytest.mark.parametrize("event", [[], {"environment": "prod"}, {"environment": "dev", "dryrun": True}], ids=str)
def test_an_event_that_is_not_understood_is_a_failed_invocation(dev: Deployment, event: object) -> None:
    failed = dev.runtime.invoke(event)
    assert (failed.function_error, failed.payload["errorType"]) == ("Unhandled", "InvalidRequest")


def test_every_line_of_the_log_is_json_and_the_last_one_is_the_answer(dev: Deployment) -> None:
    dev.put_snapshot(dev.declare(keycloak=KEYCLOAK))
    invocation = dev.runtime.invoke({"environment": "dev"})
    lines = read_log(invocation.logs)
    assert lines[-1]["answer"] == invocation.payload
    assert [line["action"] for line in lines if line.get("message") == "outcome"] == [
        "create_role",
        "create_database",
        "grant",
        "revoke",
    ]
    assert not any(password in invocation.logs for password in dev.passwords.values())
