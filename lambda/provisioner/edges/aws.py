"""The clients of AWS, each made when first asked for, and the one shape that every failed call takes; all of boto3.

The stores beside this file say what a failure means: they turn an `AwsError` into a named error with a next step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient

_MISSING_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "NoRegionError", "CredentialRetrievalError")


class AwsError(Exception):
    """A call that AWS refused, or that never got an answer.

    `code` is the service's error code ("AccessDenied") or the name of botocore's exception ("ConnectTimeoutError");
    `status` is the HTTP status, 0 without an answer. The service's own message is left out: it may quote anything.
    """

    def __init__(self, code: str, status: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.status = status

    @property
    def is_conflict(self) -> bool:
        """Whether the condition of a conditional write did not hold, or two of them met."""
        return self.status in {409, 412}

    @property
    def is_missing(self) -> bool:
        return self.status == 404

    def next_step(self, permission: str) -> str:
        """What a person does about it; `permission` is the IAM action that the call needs."""
        # Secrets Manager denies with status 400, SNS with a code of its own.
        if self.status in {401, 403} or "AccessDenied" in self.code:
            return f"allow {permission} for the function's role, in the resource's own policy and for its key as well"
        if self.code in _MISSING_CREDENTIALS:
            return "run it with a role and a region: elsewhere than in Lambda set AWS_PROFILE and AWS_DEFAULT_REGION"
        if not self.status:
            return "check the way to the service: the VPC endpoint, its policy, and the function's security group"
        return "try again; if it stays, look the code up in the service's documentation"


class AwsClients:
    """The clients of one process. Make one before threads share it; from then on it is safe to use from many."""

    def __init__(self, max_connections: int, bucket_owners: Iterable[tuple[str, str]] = ()) -> None:
        """Each client has at most `max_connections` calls under way; `bucket_owners` are accounts by bucket.

        S3 refuses a call about a bucket that belongs to another account than is named here.
        """
        self.max_connections = max_connections
        self.bucket_owners = dict(bucket_owners)
        self._session = boto3.session.Session()
        self._config = Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"mode": "standard", "total_max_attempts": 5},
            max_pool_connections=max_connections,
        )

    @functools.cached_property
    def s3(self) -> S3Client:
        client = self._session.client("s3", config=self._config)
        # Names of buckets are global: one that was deleted, or mistyped, may be somebody else's.
        client.meta.events.register("provide-client-params.s3", self._name_the_owner)
        return client

    @functools.cached_property
    def secrets(self) -> SecretsManagerClient:
        return self._session.client("secretsmanager", config=self._config)

    @functools.cached_property
    def sns(self) -> SNSClient:
        return self._session.client("sns", config=self._config)

    def _name_the_owner(self, params: dict[str, Any], model: OperationModel, **_: object) -> None:
        shape = model.input_shape
        owner = self.bucket_owners.get(params.get("Bucket", ""))
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if owner and shape and name in shape.members:
                params[name] = owner


# Those of the process, which stay while it is warm.
aws_clients = functools.cache(AwsClients)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Run calls of AWS so that whatever botocore raises comes out as `AwsError`."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise AwsError(error.response.get("Error", {}).get("Code", "Unknown"), status) from None
    except BotoCoreError as error:
        raise AwsError(type(error).__name__) from None
