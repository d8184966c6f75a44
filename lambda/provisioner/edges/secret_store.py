"""Secret ids in, what Secrets Manager holds under them out, or for each why it cannot be had."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from provisioner.core.credentials import Secret
from provisioner.core.errors import Finding, SecretUnavailable
from provisioner.edges.aws import AwsClients, AwsError, translate_errors

_BATCH = 20  # the most that BatchGetSecretValue takes
_ROTATING_STAGES = frozenset({"AWSCURRENT", "AWSPENDING"})

# What one secret may be guilty of: the code of the service, ours, what to say and what to do.
_PROBLEMS = {
    "ResourceNotFoundException": (
        "secret_missing",
        "does not exist or has no value",
        "create it, or correct the entry's secret_name or the setting that names it",
    ),
    "AccessDeniedException": (
        "secret_denied",
        "may not be read",
        "allow secretsmanager:GetSecretValue on it for the function's role, and kms:Decrypt with its key",
    ),
    "DecryptionFailure": (
        "secret_undecryptable",
        "cannot be decrypted",
        "allow kms:Decrypt with its key for the function's role, or enable the key again",
    ),
    "InvalidRequestException": (
        "secret_deleted",
        "is marked for deletion",
        "restore it (aws secretsmanager restore-secret), or remove the entry that names it",
    ),
}
# One id can have a whole batch refused for these: an ARN of another region, or the secret of another id once more.
_OF_ONE = {*_PROBLEMS, "InvalidParameterException", "ValidationException"} - {"AccessDeniedException"}


def read_secrets(clients: AwsClients, secret_ids: Iterable[str]) -> dict[str, Secret | Finding]:
    """Read every secret, 20 a call and several calls at once; whatever cannot be had is a finding under its id."""
    wanted = list(dict.fromkeys(secret_ids))
    # Apart: among names, the secret of an ARN of another account could be taken for ours of the same name.
    apart = [[each for each in wanted if each.startswith("arn:") is is_arn] for is_arn in (False, True)]
    batches = [ids[start : start + _BATCH] for ids in apart for start in range(0, len(ids), _BATCH)]
    if not batches:
        return {}
    found: dict[str, Secret | Finding] = {}
    with ThreadPoolExecutor(min(clients.max_connections, len(batches))) as pool:
        for part in pool.map(partial(_read_batch, clients), batches):
            found |= part
    return {secret_id: found[secret_id] for secret_id in wanted}


def has_pending_rotation(clients: AwsClients, secret_id: str, version_id: str) -> bool:
    """Whether the secret is between two passwords: a version other than the one that was read is pending or current.

    Raises `SecretUnavailable` when that cannot be known, since the password must then be left alone.
    """
    try:
        with translate_errors():
            stages = clients.secrets.describe_secret(SecretId=secret_id).get("VersionIdsToStages", {})
    except AwsError as failure:
        message = f'whether the secret "{secret_id}" is being rotated cannot be known: {failure.code}'
        next_step = failure.next_step("secretsmanager:DescribeSecret")
        raise SecretUnavailable(Finding("secret_rotation_unknown", message, next_step)) from None
    return any(version != version_id and _ROTATING_STAGES & set(names) for version, names in stages.items())


def read_previous(clients: AwsClients, secret_id: str) -> str | None:
    """What the secret held before its current version; None where that cannot be had, or is no text."""
    try:
        with translate_errors():
            value = clients.secrets.get_secret_value(SecretId=secret_id, VersionStage="AWSPREVIOUS")
    except AwsError:
        return None
    return value.get("SecretString")


def _read_batch(clients: AwsClients, secret_ids: list[str]) -> dict[str, Secret | Finding]:
    found: dict[str, Secret | Finding] = {}
    try:
        with translate_errors():
            answer = clients.secrets.batch_get_secret_value(SecretIdList=secret_ids)
    except AwsError as failure:
        if failure.code not in _OF_ONE:
            return {each: _unavailable(each, failure, "secretsmanager:BatchGetSecretValue") for each in secret_ids}
    else:
        for value in answer["SecretValues"]:
            for secret_id in _requested_ids(secret_ids, value["Name"], value["ARN"]):
                found[secret_id] = Secret(secret_id, value["ARN"], value["VersionId"], value.get("SecretString"))
        for error in answer.get("Errors", []):
            if error["SecretId"] in secret_ids:
                found[error["SecretId"]] = _problem(error["SecretId"], AwsError(error["ErrorCode"], 400))
    # One secret can fail a whole batch, and an answer can leave some out: those are asked for alone.
    return {each: found.get(each) or _read_one(clients, each) for each in secret_ids}


def _requested_ids(secret_ids: list[str], name: str, arn: str) -> list[str]:
    """The ids under which a secret was asked for: its name, its ARN, or its ARN without the six random characters."""
    return [each for each in secret_ids if each in {name, arn, arn.rpartition("-")[0]}]


def _read_one(clients: AwsClients, secret_id: str) -> Secret | Finding:
    try:
        with translate_errors():
            value = clients.secrets.get_secret_value(SecretId=secret_id)
    except AwsError as failure:
        return _problem(secret_id, failure)
    return Secret(secret_id, value["ARN"], value["VersionId"], value.get("SecretString"))


def _problem(secret_id: str, failure: AwsError) -> Finding:
    if failure.code not in _PROBLEMS:
        return _unavailable(secret_id, failure, "secretsmanager:GetSecretValue")
    code, what, next_step = _PROBLEMS[failure.code]
    return Finding(code, f'the secret "{secret_id}" {what} ({failure.code})', next_step)


def _unavailable(secret_id: str, failure: AwsError, permission: str) -> Finding:
    message = f'the secret "{secret_id}" cannot be read: {failure.code}'
    return Finding("secret_unavailable", message, failure.next_step(permission))
