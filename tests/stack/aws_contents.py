"""What a test puts into moto without the SDK: buckets, objects, secrets; each is told as the calls it stands for."""

import uuid
from datetime import timedelta
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import S3Backend, s3_backends
from moto.secretsmanager.exceptions import ResourceExistsException
from moto.secretsmanager.models import secretsmanager_backends

REGION = "us-east-1"
# Service, operation and parameters of a call.
Told = tuple[str, str, dict[str, Any]]


def create_bucket(name: str, *, versioned: bool) -> tuple[None, list[Told]]:
    """A bucket; one that is there stays."""
    s3 = _s3()
    if name not in s3.buckets:
        s3.create_bucket(name, REGION)
    told: list[Told] = [("s3", "CreateBucket", {"Bucket": name})]
    if versioned:
        s3.put_bucket_versioning(name, "Enabled")
        told.append(("s3", "PutBucketVersioning", {"Bucket": name}))
    return None, told


def put_object(bucket: str, key: str, content: bytes) -> tuple[str, list[Told]]:
    """An object; gives back its version, `null` where the bucket has none."""
    stored = _s3().put_object(bucket, key, content, storage="STANDARD")
    stored.set_acl(_s3().get_bucket(bucket).acl)
    return stored.version_id, [("s3", "PutObject", {"Bucket": bucket, "Key": key})]


def put_secret(name: str, value: str, *, binary: bool) -> tuple[str, list[Told]]:
    """A secret, or a new current version of it; `value` is Base64 where it is binary. Gives back its ARN."""
    secrets = secretsmanager_backends[DEFAULT_ACCOUNT_ID][REGION]
    text, data, token = (None, value, str(uuid.uuid4())) if binary else (value, None, str(uuid.uuid4()))
    try:
        secrets.create_secret(name, text, data, "", [], None, token, [], False)  # noqa: FBT003 - named there
        told = "CreateSecret"
    except ResourceExistsException:
        secrets.put_secret_value(name, text, data, token, ["AWSCURRENT"])  # type: ignore[arg-type]
        told = "PutSecretValue"
    return secrets.secrets[name].arn, [("secretsmanager", told, {"Name": name})]


def make_older(bucket: str, key: str, hours: float) -> None:
    """Let S3 say that the newest version of an object was put so many hours before it was."""
    stored = _s3().get_object(bucket, key)
    assert stored is not None
    stored.last_modified -= timedelta(hours=hours)


def _s3() -> S3Backend:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
