"""Clients of AWS, patient where a run takes its time, and what is said of their failures."""

from __future__ import annotations

import functools
import os
import socket
from typing import TYPE_CHECKING, Any

from rds_provisioner_cli.stopped import Exit, Stopped

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.exceptions import BotoCoreError, ClientError

# A NAT gateway forgets a connection after 350 s without a packet, and Linux would send its first probe after 7200 s.
KEEPALIVE_SECONDS = 60
# A run may take the fifteen minutes of Lambda; calling again by itself would make a second run of it.
READ_SECONDS = 920

# The account that each bucket must belong to, as its stack says. Names of buckets are global: S3 refuses the call where
# one that was deleted, or mistyped, is somebody else's.
_OWNERS: dict[str, str] = {}

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId"}


def client(service: str, *, is_patient: bool = False) -> Any:
    """A client in the region of the surroundings; AWS_ENDPOINT_URL leads it elsewhere. Raises Stopped."""
    # Loaded here: `validate` and `--help` have no use for it, and it takes longer than both.
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    once = {"total_max_attempts": 1}
    patient = Config(read_timeout=READ_SECONDS, connect_timeout=10, retries=once, tcp_keepalive=True)  # type: ignore[arg-type]
    try:
        made = session().client(service, config=patient if is_patient else None)  # type: ignore[call-overload]
    except BotoCoreError as error:
        raise Stopped(explain(error)) from None
    if service == "s3":
        made.meta.events.register("provide-client-params.s3", _name_the_owner)
    if is_patient:
        # boto3 can switch probes on and has no option for their times; the list is the one that its pools hold.
        made._endpoint.http_session._socket_options.extend(_keepalive_options())  # noqa: SLF001
    return made


@functools.cache
def session() -> Session:
    """The one session of a command: whose credentials it has is found out once, and half of a client's making saved."""
    from boto3.session import Session  # noqa: PLC0415

    return Session(region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))


def expect_owner(bucket: str, account: str) -> None:
    """Have every call to a bucket say whose it must be; nothing is said where the account is not known."""
    _OWNERS[bucket] = account


def _name_the_owner(params: dict[str, Any], **_: object) -> None:
    if owner := _OWNERS.get(params.get("Bucket", "")):
        params["ExpectedBucketOwner"] = owner


def _keepalive_options() -> list[tuple[int, int, int]]:
    # macOS calls the first one TCP_KEEPALIVE; what a system does not know is left to it.
    names = ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", "TCP_KEEPINTVL")
    numbers = [getattr(socket, name) for name in names if hasattr(socket, name)]
    return [(socket.IPPROTO_TCP, number, KEEPALIVE_SECONDS) for number in numbers]


def explain(error: BotoCoreError | ClientError) -> str:
    """What went wrong between this machine and AWS, in the words of who can do something about it."""
    from botocore import exceptions as known  # noqa: PLC0415

    unsigned = (known.NoCredentialsError, known.PartialCredentialsError, known.CredentialRetrievalError)
    profile = (known.ProfileNotFound, known.SSOError, known.TokenRetrievalError)
    if isinstance(error, known.NoRegionError):
        return "in which region? Set AWS_REGION"
    if isinstance(error, (*unsigned, *profile)):
        return f"there are no AWS credentials ({error}): sign in, or set AWS_PROFILE"
    if isinstance(error, (known.ReadTimeoutError, known.ConnectionClosedError)):
        return f"no answer came ({error})"
    if isinstance(error, (known.HTTPClientError, known.ConnectionError)):
        return f"AWS cannot be reached ({error}): is there a network, a proxy, the right region?"
    if isinstance(error, known.ClientError) and error_code(error) in _EXPIRED:
        return f"the AWS credentials have expired or are unknown ({error}): sign in again"
    return f"AWS refused: {error}"


def error_code(error: Exception) -> str:
    """The code of a refusal; empty for what is none."""
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def failures() -> tuple[type[BotoCoreError], type[ClientError]]:
    """What calls of AWS raise."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    return BotoCoreError, ClientError


def read_object(address: str, missing: str = "there is no such object") -> bytes:
    """The object at an `s3://` address; `missing` says why there may be none. Raises Stopped."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    try:
        return bytes(client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except failures() as error:
        reason = missing if error_code(error) == "NoSuchKey" else explain(error)
        raise Stopped(f"{address} cannot be read: {reason}", Exit.FAILED) from None
