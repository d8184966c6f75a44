"""Environment variables in, `Settings` out; the only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from provisioner.core.credentials import MAX_NAME_BYTES
from provisioner.core.errors import InvalidRequest
from provisioner.core.fields import TEXT, Fields, Problems, Shape
from provisioner.core.model import Settings

# The build puts the certificates beside the package: /var/task/rds-ca-bundle.pem in the function.
DEFAULT_CA_BUNDLE = str(Path(__file__).resolve().parent.parent / "rds-ca-bundle.pem")
# What S3 takes for a key, and how much of it is left to the folder of an environment and what is put there.
MAX_KEY_BYTES, MAX_PREFIX_BYTES = 1024, 512

_NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_FILLED_IN = r"(?:[^{}]|\{environment\})*"
_ENVIRONMENT = Shape("a name of at most 63 letters, digits, _ and -", _NAME)
_ENVIRONMENTS = Shape("names of environments with commas between", f"(?:{_NAME})?(?: *, *(?:{_NAME})?)*")
_BUCKET = Shape("the name of a bucket", "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ACCOUNT = Shape("an account: twelve digits", "([0-9]{12})?")
_TOPIC = Shape("the ARN of an SNS topic", "(arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})?")
_KEY = Shape("a key that ends in .tfvars or .tfvars.json", rf"(?!/){_FILLED_IN}\.tfvars(\.json)?")
_TEMPLATE = Shape("a text with nothing in braces but {environment}", _FILLED_IN)
_APPLICATION = Shape("a name with {app} in it, one for each application", rf"{_FILLED_IN}(\{{app\}}{_FILLED_IN})+")
_PREFIX = Shape(
    "a folder with nothing in braces but {environment}", rf"/*[^/{{}}]{_FILLED_IN}|/*\{{environment\}}{_FILLED_IN}"
)
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
        snapshot_bucket=reader.text("SNAPSHOT_BUCKET", _BUCKET),
        snapshot_key=reader.text("SNAPSHOT_KEY", _KEY, "{environment}/terraform.tfvars"),
        audit_bucket=reader.text("AUDIT_BUCKET", _BUCKET),
        audit_prefix=reader.text("AUDIT_PREFIX", _PREFIX, "governance", max_bytes=MAX_PREFIX_BYTES).strip("/"),
        admin_secret_id=reader.text("ADMIN_SECRET_ID", _TEMPLATE, "goldenpath/{environment}/rds/master"),
        app_secret_id=reader.text("APP_SECRET_ID", _APPLICATION, "goldenpath/{environment}/{app}/postgres"),
        database_host=reader.text("DB_HOST"),
        database_port=reader.number("DB_PORT", default=5432, highest=65535),
        database_name=reader.text("DB_NAME", default="postgres", max_bytes=MAX_NAME_BYTES),
        ca_bundle=reader.text("DB_CA_BUNDLE", default=DEFAULT_CA_BUNDLE),
        ungated_environments=reader.environments("UNGATED_ENVIRONMENTS", "dev"),
        digest_environments=reader.environments("REQUIRE_PLAN_DIGEST", "prod"),
        notify_topic_arn=reader.text("NOTIFY_TOPIC_ARN", _TOPIC),
        max_workers=reader.number("MAX_WORKERS", default=8, highest=64),
        retire_after_days=reader.number("RETIRE_AFTER_DAYS", default=7, highest=3650),
        snapshot_bucket_owner=reader.text("SNAPSHOT_BUCKET_OWNER", _ACCOUNT),
        audit_bucket_owner=reader.text("AUDIT_BUCKET_OWNER", _ACCOUNT),
        approval_hours=reader.number("APPROVAL_HOURS", default=24, highest=8760),
    )
    reader.problems.raise_if_any(InvalidRequest)
    return settings


def read_environment() -> str:
    """The environment that the variables name, also where other settings are wrong; `unknown` where it is."""
    return _Reader(os.environ).environment or "unknown"


class _Reader:
    """Reads one variable after the other; one that is missing or wrong is refused by what it must be."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems = Problems()
        self.environment = ""
        self.environment = self.text("ENVIRONMENT", _ENVIRONMENT)

    def text(self, name: str, shape: Shape = TEXT, default: str = "", *, max_bytes: int = MAX_KEY_BYTES) -> str:
        given = {name: self._environ.get(name, "").strip() or default}
        fields = Fields(given, self.problems, "setting", prefix="the setting ")
        text = fields.text(name, replace(shape, next_step=_NEXT_STEP, limit=1024), default)
        text = text.replace("{environment}", self.environment)
        if len(text.encode()) > max_bytes:
            self.problems.refuse(
                "setting", f"the setting {name} must be of at most {max_bytes} bytes", _NEXT_STEP, name
            )
        return text

    def number(self, name: str, *, default: int, highest: int) -> int:
        wanted = f"a whole number from 1 to {highest}"
        # Python refuses to convert thousands of digits, with an error of its own.
        number = int(self.text(name, Shape(wanted, "[0-9]{1,5}"), str(default)))
        if not 1 <= number <= highest:
            self.problems.refuse("setting", f"the setting {name} must be {wanted}", _NEXT_STEP, name)
        return number

    def environments(self, name: str, default: str) -> frozenset[str]:
        listed = self._environ.get(name, default).strip() and self.text(name, _ENVIRONMENTS, default)
        names = frozenset(part.strip() for part in listed.split(",") if part.strip())
        # Such a list would be one of others, and the gate another than was meant.
        for other in sorted(names - {self.environment}):
            if other.lower() == self.environment.lower():
                message = f'the setting {name} names "{other}", and the environment is "{self.environment}"'
                self.problems.refuse("setting", message, _NEXT_STEP, name)
        return names
