"""Environment variables in, `Settings` out; the only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from provisioner.core.errors import InvalidRequest
from provisioner.core.fields import Fields, Problems
from provisioner.core.model import Settings

# The build puts the certificates beside the package: /var/task/rds-ca-bundle.pem in the function.
DEFAULT_CA_BUNDLE = str(Path(__file__).resolve().parent.parent / "rds-ca-bundle.pem")

_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ACCOUNT = re.compile(r"[0-9]{12}")
_TOPIC = re.compile(r"arn:[a-z0-9-]+:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")
_NUMBER = re.compile(r"[0-9]{1,5}")  # Python refuses to convert thousands of digits, with an error of its own
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")
_NEXT_STEP = "correct it in the function's environment variables (a parameter of the stack)"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings, from `os.environ` unless other variables are given.

    A variable that is set to nothing counts as not set, because that is how SAM passes an empty parameter; only
    `UNGATED_ENVIRONMENTS` and `REQUIRE_PLAN_DIGEST` may be empty on purpose: no environment at all.

    Raises `InvalidRequest` with one finding (code `setting`, `where` the variable) for each wrong one, all at once.
    """
    reader = _Reader(os.environ if environ is None else environ)
    settings = Settings(
        environment=reader.environment,
        snapshot_bucket=reader.bucket("SNAPSHOT_BUCKET"),
        snapshot_key=reader.snapshot_key("SNAPSHOT_KEY", "{environment}/terraform.tfvars"),
        audit_bucket=reader.bucket("AUDIT_BUCKET"),
        audit_prefix=reader.template("AUDIT_PREFIX", "governance").strip("/"),
        admin_secret_id=reader.template("ADMIN_SECRET_ID", "goldenpath/{environment}/rds/master"),
        app_secret_id=reader.application_template("APP_SECRET_ID", "goldenpath/{environment}/{app}/postgres"),
        database_host=reader.text("DB_HOST"),
        database_port=reader.number("DB_PORT", default=5432, highest=65535),
        database_name=reader.text("DB_NAME", "postgres"),
        ca_bundle=reader.text("DB_CA_BUNDLE", DEFAULT_CA_BUNDLE),
        ungated_environments=reader.environments("UNGATED_ENVIRONMENTS", "dev"),
        digest_environments=reader.environments("REQUIRE_PLAN_DIGEST", "prod"),
        notify_topic_arn=reader.text("NOTIFY_TOPIC_ARN", "", _TOPIC, "the ARN of an SNS topic"),
        max_workers=reader.number("MAX_WORKERS", default=8, highest=64),
        retire_after_days=reader.number("RETIRE_AFTER_DAYS", default=7, highest=3650),
        snapshot_bucket_owner=reader.text("SNAPSHOT_BUCKET_OWNER", "", _ACCOUNT, "an account: twelve digits"),
        audit_bucket_owner=reader.text("AUDIT_BUCKET_OWNER", "", _ACCOUNT, "an account: twelve digits"),
        approval_hours=reader.number("APPROVAL_HOURS", default=24, highest=8760),
    )
    reader.problems.raise_if_any(InvalidRequest)
    return settings


class _Reader:
    """Reads one variable after the other; a wrong one reads as its default."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems = Problems()
        self.environment = self._required("ENVIRONMENT", _ENVIRONMENT, "a name of at most 63 letters, digits, _ and -")

    def text(self, name: str, default: str = "", pattern: re.Pattern[str] | None = None, wanted: str = "") -> str:
        value = self._environ.get(name, "").strip()
        fields = Fields({name: value} if value else {}, self.problems, "setting", prefix="the setting ")
        return fields.text(name, default, limit=1024, pattern=pattern, wanted=wanted, next_step=_NEXT_STEP)

    def bucket(self, name: str) -> str:
        return self._required(name, _BUCKET, "the name of a bucket")

    def template(self, name: str, default: str, *, kept: str = "") -> str:
        value = self.text(name, default)
        if wrong := sorted(set(_PLACEHOLDER.findall(value)) - {"{environment}", kept}):
            self._refuse(name, f"has {', '.join(wrong)}, which nothing fills in")
            return default
        return value.replace("{environment}", self.environment)

    def application_template(self, name: str, default: str) -> str:
        value = self.template(name, default, kept="{app}")
        if "{app}" not in value:
            self._refuse(name, "lacks {app}: every application would share one secret")
        return value

    def snapshot_key(self, name: str, default: str) -> str:
        value = self.template(name, default)
        if self._environ.get(name, "").startswith("/") or not value.endswith((".tfvars", ".tfvars.json")):
            self._refuse(name, "is not a key that ends in .tfvars or .tfvars.json")
        return value

    def number(self, name: str, *, default: int, highest: int) -> int:
        wanted = f"a whole number from 1 to {highest}"
        number = int(self.text(name, str(default), _NUMBER, wanted))
        if not 1 <= number <= highest:
            self._refuse(name, f"must be {wanted}")
        return number

    def environments(self, name: str, default: str) -> frozenset[str]:
        names = frozenset(part.strip() for part in self._environ.get(name, default).split(",") if part.strip())
        if not all(_ENVIRONMENT.fullmatch(each) for each in names):
            self._refuse(name, "is not a list of environment names with commas between")
        return names

    def _required(self, name: str, pattern: re.Pattern[str], wanted: str) -> str:
        if not self._environ.get(name, "").strip():
            self._refuse(name, "is not set")
        return self.text(name, "", pattern, wanted)

    def _refuse(self, name: str, problem: str) -> None:
        self.problems.refuse("setting", f"the setting {name} {problem}", _NEXT_STEP, name)
