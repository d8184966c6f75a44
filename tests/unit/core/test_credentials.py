"""Secrets become credentials, or every problem is named; passwords become verifiers and show nowhere."""

import base64
import hashlib
import hmac
import json

import pytest

from provisioner.core.credentials import (
    Administrator,
    Credentials,
    Secret,
    parse_administrator_secret,
    parse_application_secret,
    scram_verifier,
)
from provisioner.core.errors import Finding, SecretUnavailable
from provisioner.core.model import Entry
from provisioner.settings import read_settings

ENTRY = Entry("keycloak", "keycloak", "keycloak_user")
SETTINGS = read_settings({"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit"})
HOST = "db.example.com"


def secret(text: str | None, name: str = "goldenpath/dev/keycloak/postgres") -> Secret:
    return Secret(name, f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf", "v1", text)


def application(fields: object) -> Credentials | tuple[Finding, ...]:
    text = fields if fields is None or isinstance(fields, str) else json.dumps(fields)
    try:
        return parse_application_secret(secret(text), ENTRY, HOST)
    except SecretUnavailable as refusal:
        return refusal.findings


def codes(parsed: object) -> list[str]:
    assert isinstance(parsed, tuple)
    return [finding.code for finding in parsed]


def test_a_password_alone_is_enough() -> None:
    fields = {"password": "hunter2"}
    assert application(fields) == Credentials("keycloak_user", "hunter2", secret(json.dumps(fields)), ())


def test_a_whole_secret_that_agrees_has_no_warnings() -> None:
    fields = {
        "username": "keycloak_user",
        "password": "hunter2",
        "host": "DB.example.com.",
        "port": 5432,
        "dbname": "keycloak",
        "engine": "postgres",
    }
    assert application(fields) == Credentials("keycloak_user", "hunter2", secret(json.dumps(fields)), ())


@pytest.mark.parametrize("host", ["replica.example.com", 7, None])
def test_another_host_is_a_warning_that_names_the_entry(host: object) -> None:
    parsed = application({"password": "hunter2", "host": host})
    assert isinstance(parsed, Credentials)
    assert [(each.code, each.database, each.username) for each in parsed.warnings] == [
        ("secret_host", "keycloak", "keycloak_user")
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (None, ["secret_binary"]),
        ("hunter2", ["secret_not_json"]),
        ("[" * 100_000, ["secret_not_json"]),
        ('"hunter2"', ["secret_not_json"]),
        ([{"password": "hunter2"}], ["secret_not_json"]),
        ({}, ["secret_without_password"]),
        ({"password": ""}, ["secret_without_password"]),
        ({"password": None}, ["secret_without_password"]),
        ({"password": 123456}, ["secret_without_password"]),
        ({"Password": "hunter2"}, ["secret_without_password"]),
        ({"password": "hunter2\n"}, ["secret_password_characters"]),
        ({"password": "hun\u0000ter2"}, ["secret_password_characters"]),
        ({"password": "hun\u0085ter2"}, ["secret_password_characters"]),
        ({"password": "\ud800"}, ["secret_password_characters"]),
        ({"password": "\ue000hunter2"}, ["secret_password_characters"]),
        ({"password": "\u00ad"}, ["secret_password_characters"]),
        ({"password": "hunter2", "username": "other"}, ["secret_username"]),
        ({"password": "hunter2", "username": None}, ["secret_username"]),
        ({"password": "hunter2", "dbname": "postgres"}, ["secret_dbname"]),
        ({"username": "o", "dbname": "p"}, ["secret_without_password", "secret_username", "secret_dbname"]),
    ],
)
def test_an_unusable_secret_is_refused_with_all_that_is_wrong(fields: object, expected: list[str]) -> None:
    assert codes(application(fields)) == expected


def test_a_verifier_in_place_of_a_password_is_refused() -> None:
    verifier = scram_verifier("hunter2", b"0123456789abcdef")
    assert codes(application({"password": verifier})) == ["secret_password_verifier"]


def test_the_administrator_cannot_log_in_with_a_verifier() -> None:
    verifier = scram_verifier("hunter2", b"0123456789abcdef")
    fields = {"username": "admin", "password": verifier, "host": HOST, "port": 5432, "dbname": "postgres"}
    assert codes(administrator(fields)) == ["secret_password_verifier"]


@pytest.mark.parametrize(
    "password",
    [
        "SCRAM-SHA-256$4096:c2FsdA==$c2hvcnQ=:c2hvcnQ=",
        "SCRAM-SHA-256$4096:c2FsdA$" + "A" * 43 + "=:" + "A" * 43 + "=",
        "SCRAM-SHA-256$4096:$" + "A" * 43 + "=:" + "A" * 43 + "=",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$4096:x",
        "md5" + "0" * 32,
    ],
    ids=["short keys", "salt that is no base64", "no salt", "a name", "nothing behind", "MD5, which is sent hashed"],
)
def test_what_only_looks_like_a_verifier_is_a_password(password: str) -> None:
    assert isinstance(application({"password": password}), Credentials)


def test_no_finding_quotes_the_secret() -> None:
    for fields in ("hunter2-not-json", {"password": "hunter2\n", "username": "hunter2-user", "dbname": "hunter2-db"}):
        parsed = application(fields)
        assert isinstance(parsed, tuple)
        assert "hunter2" not in repr(parsed)


def test_credentials_do_not_show_their_password() -> None:
    assert "hunter2" not in repr(application({"password": "hunter2"}))
    assert "hunter2" not in repr(Administrator("admin", "hunter2", HOST, 5432, "postgres"))


def test_the_verifier_is_the_one_that_the_server_computes() -> None:
    # RFC 5802, computed here step by step.
    salt = bytes.fromhex("5b6d9d8f3ad3f4d7c8f6b0b2e1a2c3d4")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    expected = "SCRAM-SHA-256$4096:{}${}:{}".format(
        *(base64.b64encode(each).decode() for each in (salt, stored, server))
    )
    assert scram_verifier("pencil", salt) == expected


def test_the_password_is_prepared_as_the_server_prepares_it() -> None:
    # SASLprep: a no-break space is a space, the feminine ordinal is an a, a soft hyphen is nothing.
    assert scram_verifier("\u00aa\u00a0b\u00ad", b"0" * 16) == scram_verifier("a b", b"0" * 16)


def administrator(fields: object, **settings: str) -> Administrator | tuple[Finding, ...]:
    variables = {"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit", **settings}
    text = None if fields is None else json.dumps(fields)
    try:
        return parse_administrator_secret(secret(text, "goldenpath/dev/rds/master"), read_settings(variables))
    except SecretUnavailable as refusal:
        return refusal.findings


def test_a_whole_administrator_secret_is_taken_as_it_is() -> None:
    fields = {"username": "admin", "password": "hunter2", "host": HOST, "port": 5433, "dbname": "main"}
    expected = Administrator("admin", "hunter2", HOST, 5433, "main")
    assert administrator(fields) == expected
    assert administrator(fields | {"port": "5433"}, DB_HOST="other", DB_PORT="1", DB_NAME="other") == expected


def test_the_settings_fill_in_what_a_secret_managed_by_rds_lacks() -> None:
    fields = {"username": "postgres", "password": "hunter2"}
    assert administrator(fields, DB_HOST=HOST, DB_PORT="5444", DB_NAME="main") == Administrator(
        "postgres", "hunter2", HOST, 5444, "main"
    )
    assert administrator(fields, DB_HOST=HOST) == Administrator("postgres", "hunter2", HOST, 5432, "postgres")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"username": "admin", "password": "hunter2"}, ["secret_host"]),
        ({"username": "admin", "password": "hunter2", "host": 7}, ["secret_host"]),
        ({"host": HOST}, ["secret_without_password", "secret_username"]),
        ({"username": "a" * 64, "password": "hunter2", "host": HOST}, ["secret_username"]),
        ({"username": "ad\nmin", "password": "hunter2", "host": HOST}, ["secret_username"]),
        ({"username": "admin", "password": "hunter2", "host": HOST, "port": 0}, ["secret_port"]),
        ({"username": "admin", "password": "hunter2", "host": HOST, "port": 65536}, ["secret_port"]),
        ({"username": "admin", "password": "hunter2", "host": HOST, "port": True}, ["secret_port"]),
        ({"username": "admin", "password": "hunter2", "host": HOST, "port": "x"}, ["secret_port"]),
        ({"username": "admin", "password": "hunter2", "host": HOST, "dbname": ""}, ["secret_dbname"]),
        (
            {"username": 1, "password": 1, "port": 1.5},
            ["secret_without_password", "secret_username", "secret_host", "secret_port"],
        ),
        ([], ["secret_not_json"]),
    ],
)
def test_an_unusable_administrator_secret_is_refused_with_all_that_is_wrong(
    fields: object, expected: list[str]
) -> None:
    assert codes(administrator(fields)) == expected


def test_a_binary_administrator_secret_is_refused() -> None:
    assert codes(administrator(None, DB_HOST=HOST)) == ["secret_binary"]


def test_what_could_not_be_had_is_refused_as_it_was_found_and_names_the_entry() -> None:
    found = Finding("secret_missing", "it is not there", "create it")
    with pytest.raises(SecretUnavailable) as caught:
        parse_application_secret(found, ENTRY, HOST)
    assert caught.value.findings == (
        Finding("secret_missing", "it is not there", "create it", "", "keycloak", "keycloak_user"),
    )


def test_an_administrator_secret_that_could_not_be_had_is_refused_as_it_was_found() -> None:
    found = Finding("secret_missing", "it is not there", "create it")
    with pytest.raises(SecretUnavailable) as caught:
        parse_administrator_secret(found, SETTINGS)
    assert caught.value.findings == (found,)


def test_the_messages_name_the_secret_and_say_what_to_do() -> None:
    parsed = application({"username": "other", "password": 7})
    assert isinstance(parsed, tuple)
    name = 'the secret "goldenpath/dev/keycloak/postgres"'
    assert [str(each) for each in parsed] == [
        f'{name} has no "password", or one that is empty or no text; add it to the secret',
        f'{name} has another "username" than the declared "keycloak_user"; correct the secret or the declaration',
    ]
