"""Secrets: all at once, twenty a call; each that cannot be had is named, and what is being rotated is known."""

from collections import Counter

import pytest

from provisioner.core.credentials import Secret
from provisioner.core.errors import Finding, SecretUnavailable
from provisioner.edges.aws import AwsClients
from provisioner.edges.secret_store import has_pending_rotation, read_secrets
from stack.aws import ALWAYS, Aws


@pytest.fixture
def clients(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AwsClients:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    return AwsClients(4)


def code_of(found: Secret | Finding) -> str:
    assert isinstance(found, Finding)
    assert found.next_step
    return found.code


def text_of(found: Secret | Finding) -> str | None:
    assert isinstance(found, Secret), found
    return found.text


def version_of(aws: Aws, name: str, stage: str) -> str:
    stages = aws.client("secretsmanager").describe_secret(SecretId=name)["VersionIdsToStages"]
    return next(version for version, names in stages.items() if stage in names)


def arn_of(aws: Aws, name: str) -> str:
    return str(aws.client("secretsmanager").describe_secret(SecretId=name)["ARN"])


def test_no_ids_need_no_call(aws: Aws, clients: AwsClients) -> None:
    assert read_secrets(clients, []) == {}
    assert aws.calls() == []


def test_forty_five_secrets_are_read_in_three_calls_in_the_order_asked_for(aws: Aws, clients: AwsClients) -> None:
    names = [f"goldenpath/dev/app{number}/postgres" for number in range(45)]
    for name in names:
        aws.put_secret(name, f"value of {name}")
    found = read_secrets(clients, [*reversed(names), names[0]])
    assert list(found) == list(reversed(names))
    assert {name: text_of(secret) for name, secret in found.items()} == {name: f"value of {name}" for name in names}
    assert [call.operation for call in aws.calls()] == ["BatchGetSecretValue"] * 3


def test_a_secret_comes_with_the_version_that_was_read(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "one")
    assert read_secrets(clients, ["app"]) == {
        "app": Secret("app", arn_of(aws, "app"), version_of(aws, "app", "AWSCURRENT"), "one")
    }


def test_the_current_version_is_read_and_not_a_pending_one(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "current")
    aws.client("secretsmanager").put_secret_value(SecretId="app", SecretString="next", VersionStages=["AWSPENDING"])
    assert text_of(read_secrets(clients, ["app"])["app"]) == "current"


def test_a_secret_is_found_by_its_arn_with_and_without_its_random_end(aws: Aws, clients: AwsClients) -> None:
    arn = aws.put_secret("goldenpath/dev/app/postgres", "one")
    found = read_secrets(clients, [arn, arn.rpartition("-")[0]])
    assert [text_of(each) for each in found.values()] == ["one", "one"]


def test_names_and_arns_are_asked_for_apart(aws: Aws, clients: AwsClients) -> None:
    """In one call the secret of another account could be taken for ours of the same name."""
    arn = aws.put_secret("app", "one")
    aws.put_secret("other", "two")
    aws.fail("secretsmanager:BatchGetSecretValue", times=ALWAYS, kind="invalid", matching="arn:")
    found = read_secrets(clients, ["app", arn, "other"])
    assert {name: text_of(secret) for name, secret in found.items()} == {"app": "one", arn: "one", "other": "two"}
    assert Counter(call.operation for call in aws.calls()) == {"BatchGetSecretValue": 2, "GetSecretValue": 1}


def test_a_binary_secret_has_no_text(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("binary", b"\x00\x01")
    assert text_of(read_secrets(clients, ["binary"])["binary"]) is None


def test_every_secret_that_cannot_be_had_is_named_and_the_others_are_read(aws: Aws, clients: AwsClients) -> None:
    client = aws.client("secretsmanager")
    aws.put_secret("good", "one")
    aws.put_secret("deleted", "two")
    client.delete_secret(SecretId="deleted")
    client.create_secret(Name="without-value")
    found = read_secrets(clients, ["good", "absent", "deleted", "without-value"])
    assert text_of(found["good"]) == "one"
    assert {name: code_of(found[name]) for name in ("absent", "deleted", "without-value")} == {
        "absent": "secret_missing",
        "deleted": "secret_deleted",
        "without-value": "secret_missing",
    }
    assert 'the secret "absent"' in str(found["absent"])


def test_a_missing_right_is_named_for_each_secret(aws: Aws, clients: AwsClients) -> None:
    aws.fail("secretsmanager:BatchGetSecretValue", times=ALWAYS, kind="access_denied")
    found = read_secrets(clients, ["one", "two"])
    assert [code_of(each) for each in found.values()] == ["secret_unavailable", "secret_unavailable"]
    assert all("secretsmanager:BatchGetSecretValue" in str(each) for each in found.values())


def test_an_id_that_has_its_batch_refused_keeps_no_other_from_being_read(aws: Aws, clients: AwsClients) -> None:
    """Secrets Manager takes no batch in which one id is none, or in which two are of one secret."""
    aws.put_secret("one", "its text")
    aws.put_secret("two", "another")
    aws.fail("secretsmanager:BatchGetSecretValue", times=ALWAYS, kind="invalid")
    aws.fail("secretsmanager:GetSecretValue", times=ALWAYS, kind="invalid", matching="two")
    found = read_secrets(clients, ["one", "two"])
    assert text_of(found["one"]) == "its text"
    assert code_of(found["two"]) == "secret_unavailable"
    assert "InvalidParameterException" in str(found["two"])


@pytest.mark.parametrize(
    ("kind", "code"), [("server_error", "InternalServiceError"), ("drop", "ConnectionClosedError")]
)
def test_a_service_that_stays_away_is_named(aws: Aws, clients: AwsClients, kind: str, code: str) -> None:
    aws.fail("secretsmanager:BatchGetSecretValue", times=ALWAYS, kind=kind)  # type: ignore[arg-type]
    found = read_secrets(clients, ["one"])["one"]
    assert code_of(found) == "secret_unavailable"
    assert code in str(found)


def test_a_service_that_is_throttled_for_a_moment_is_waited_for(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "one")
    aws.fail("secretsmanager:BatchGetSecretValue", times=2, kind="throttling")
    assert text_of(read_secrets(clients, ["app"])["app"]) == "one"


def test_a_secret_does_not_show_its_text() -> None:
    assert "hunter2" not in repr(Secret("app", "arn", "1", "hunter2"))


def test_a_secret_at_rest_is_not_being_rotated(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "one")
    aws.put_secret("app", "two")
    assert not has_pending_rotation(clients, "app", version_of(aws, "app", "AWSCURRENT"))


def test_a_pending_version_that_differs_is_a_rotation_under_way(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "one")
    aws.client("secretsmanager").put_secret_value(SecretId="app", SecretString="two", VersionStages=["AWSPENDING"])
    assert has_pending_rotation(clients, "app", version_of(aws, "app", "AWSCURRENT"))


def test_a_pending_stage_left_on_the_current_version_is_none(aws: Aws, clients: AwsClients) -> None:
    stages = ["AWSCURRENT", "AWSPENDING"]
    aws.put_secret("app", "one")
    aws.client("secretsmanager").put_secret_value(SecretId="app", SecretString="two", VersionStages=stages)
    assert not has_pending_rotation(clients, "app", version_of(aws, "app", "AWSCURRENT"))


def test_a_rotation_that_ended_after_the_secret_was_read_counts_as_one(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "one")
    read = version_of(aws, "app", "AWSCURRENT")
    aws.put_secret("app", "two")
    assert has_pending_rotation(clients, "app", read)


def test_a_rotation_that_cannot_be_known_is_an_error(aws: Aws, clients: AwsClients) -> None:
    aws.put_secret("app", "one")
    aws.fail("secretsmanager:DescribeSecret", times=ALWAYS, kind="access_denied")
    with pytest.raises(SecretUnavailable) as error:
        has_pending_rotation(clients, "app", "1")
    assert "secretsmanager:DescribeSecret" in str(error.value)
