"""Environment variables become settings, or every wrong one is named."""

import pytest

from provisioner.core.errors import InvalidRequest
from provisioner.settings import DEFAULT_CA_BUNDLE, read_settings

REQUIRED = {"ENVIRONMENT": "dev", "SNAPSHOT_BUCKET": "acme-tfvars", "AUDIT_BUCKET": "acme-audit"}


def refused(**variables: str) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        read_settings({**REQUIRED, **variables})
    assert {finding.code for finding in error.value.findings} == {"setting"}
    return [finding.where for finding in error.value.findings]


def test_three_variables_are_enough_and_the_rest_has_the_documented_defaults() -> None:
    settings = read_settings(REQUIRED)
    assert settings.environment == "dev"
    assert settings.snapshot_bucket == "acme-tfvars"
    assert settings.snapshot_key == "dev/terraform.tfvars"
    assert settings.audit_bucket == "acme-audit"
    assert settings.audit_prefix == "governance"
    assert settings.admin_secret_id == "goldenpath/dev/rds/master"
    assert settings.app_secret_id == "goldenpath/dev/{app}/postgres"
    assert (settings.database_host, settings.database_port, settings.database_name) == ("", 5432, "postgres")
    assert settings.ca_bundle == DEFAULT_CA_BUNDLE
    assert settings.ungated_environments == {"dev"}
    assert settings.digest_environments == {"prod"}
    assert settings.notify_topic_arn == ""
    assert settings.max_workers == 8


def test_the_owner_of_a_bucket_is_an_account_and_is_said_for_each_bucket() -> None:
    assert read_settings(REQUIRED).bucket_owners == ()
    settings = read_settings({**REQUIRED, "AUDIT_BUCKET_OWNER": "210987654321"})
    assert settings.bucket_owners == (("acme-audit", "210987654321"),)
    assert refused(SNAPSHOT_BUCKET_OWNER="acme", AUDIT_BUCKET_OWNER="12") == [
        "SNAPSHOT_BUCKET_OWNER",
        "AUDIT_BUCKET_OWNER",
    ]


def test_the_default_certificates_lie_beside_the_package() -> None:
    assert DEFAULT_CA_BUNDLE.endswith("/lambda/rds-ca-bundle.pem")


def test_without_an_argument_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**REQUIRED, "ENVIRONMENT": "staging"}.items():
        monkeypatch.setenv(name, value)
    assert read_settings().environment == "staging"


def test_a_variable_set_to_nothing_counts_as_not_set() -> None:
    settings = read_settings({**REQUIRED, "SNAPSHOT_KEY": "", "DB_PORT": "", "MAX_WORKERS": " "})
    assert (settings.snapshot_key, settings.database_port, settings.max_workers) == ("dev/terraform.tfvars", 5432, 8)


def test_an_empty_list_of_ungated_environments_gates_them_all() -> None:
    settings = read_settings({**REQUIRED, "UNGATED_ENVIRONMENTS": "", "REQUIRE_PLAN_DIGEST": ""})
    assert (settings.ungated_environments, settings.digest_environments) == (frozenset(), frozenset())


def test_lists_of_environments_are_split_at_commas_and_trimmed() -> None:
    settings = read_settings({**REQUIRED, "UNGATED_ENVIRONMENTS": " dev , sandbox,", "REQUIRE_PLAN_DIGEST": "prod,dr"})
    assert settings.ungated_environments == {"dev", "sandbox"}
    assert settings.digest_environments == {"prod", "dr"}


@pytest.mark.parametrize("name", ["UNGATED_ENVIRONMENTS", "REQUIRE_PLAN_DIGEST"])
def test_an_environment_in_other_letters_is_refused_and_not_passed_over(name: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_settings({**REQUIRED, "ENVIRONMENT": "prod", name: "dr, PROD"})
    (finding,) = error.value.findings
    assert (finding.code, finding.where) == ("setting", name)
    assert finding.message == f'the setting {name} names "PROD", and the environment is "prod"'


def test_the_environment_is_filled_into_every_template() -> None:
    settings = read_settings(
        {
            **REQUIRED,
            "ENVIRONMENT": "prod",
            "SNAPSHOT_KEY": "platform/{environment}/terraform.tfvars.json",
            "ADMIN_SECRET_ID": "{environment}-{environment}",
            "APP_SECRET_ID": "{app}@{environment}",
            "AUDIT_PREFIX": "/audit/{environment}/",
        }
    )
    assert settings.snapshot_key == "platform/prod/terraform.tfvars.json"
    assert settings.admin_secret_id == "prod-prod"
    assert settings.app_secret_id == "{app}@prod"
    assert settings.audit_prefix == "audit/prod"


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as error:
        read_settings({"ENVIRONMENT": "", "SNAPSHOT_BUCKET": "s3://acme", "MAX_WORKERS": "0", "DB_PORT": "http"})
    assert {finding.where for finding in error.value.findings} == {
        "ENVIRONMENT",
        "SNAPSHOT_BUCKET",
        "AUDIT_BUCKET",
        "MAX_WORKERS",
        "DB_PORT",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "dev/prod"),
        ("ENVIRONMENT", "{app}"),
        ("AUDIT_BUCKET", "Acme"),
        ("SNAPSHOT_KEY", "dev/terraform.tf"),
        ("SNAPSHOT_KEY", "/dev/terraform.tfvars"),
        ("SNAPSHOT_KEY", "{stage}/terraform.tfvars"),
        ("ADMIN_SECRET_ID", "{app}/master"),
        ("APP_SECRET_ID", "goldenpath/{environment}/postgres"),
        ("APP_SECRET_ID", "{app"),
        ("MAX_WORKERS", "65"),
        ("MAX_WORKERS", "8.0"),
        ("MAX_WORKERS", "\u0668"),
        ("DB_PORT", "65536"),
        ("DB_PORT", "9" * 5000),
        ("DB_HOST", "db\nhost"),
        ("UNGATED_ENVIRONMENTS", "dev;prod"),
        ("UNGATED_ENVIRONMENTS", "*"),
        ("NOTIFY_TOPIC_ARN", "my-topic"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: str) -> None:
    assert refused(**{name: value}) == [name]


def test_sixty_four_workers_are_the_most() -> None:
    assert read_settings({**REQUIRED, "MAX_WORKERS": "64"}).max_workers == 64


@pytest.mark.parametrize(
    ("name", "value"),
    [("AUDIT_PREFIX", "///"), ("AUDIT_PREFIX", "a" * 513), ("AUDIT_PREFIX", "ü" * 257), ("DB_NAME", "d" * 64),
     ("DB_NAME", "ü" * 32)],
)  # fmt: skip
def test_what_s3_or_the_server_cannot_take_is_refused_by_the_setting(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"the setting {name} must be") as error:
        read_settings({**REQUIRED, name: value})
    assert [finding.where for finding in error.value.findings] == [name]


def test_the_longest_that_s3_and_the_server_take_is_a_setting() -> None:
    settings = read_settings({**REQUIRED, "AUDIT_PREFIX": "a" * 512, "DB_NAME": "d" * 63})
    assert (len(settings.audit_prefix), len(settings.database_name)) == (512, 63)
