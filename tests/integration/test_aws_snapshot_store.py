"""The snapshot: the newest version, pinned and hashed, in one call; anything else refused by its name."""

import pytest

from provisioner.core.errors import InvalidSnapshot, StaleSnapshot
from provisioner.core.model import SnapshotReference
from provisioner.core.snapshot import MAX_BYTES
from provisioner.edges.aws import AwsClients
from provisioner.edges.snapshot_store import read_snapshot
from stack.aws import ALWAYS, Aws

BUCKET = "acme-tfvars"
KEY = "dev/terraform.tfvars"
NEWEST = SnapshotReference(BUCKET, KEY)


@pytest.fixture
def clients(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AwsClients:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    aws.create_bucket(BUCKET)
    return AwsClients(4)


def refused(clients: AwsClients, reference: SnapshotReference = NEWEST) -> tuple[str, str]:
    with pytest.raises((InvalidSnapshot, StaleSnapshot)) as error:
        read_snapshot(clients, reference)
    (finding,) = error.value.findings
    assert finding.where == f"s3://{reference.bucket}/{reference.key}"
    assert finding.next_step
    return type(error.value).__name__, finding.code


def test_the_newest_version_is_read_in_one_call_and_hashed(aws: Aws, clients: AwsClients) -> None:
    aws.put_snapshot(BUCKET, KEY, "old")
    version = aws.put_snapshot(BUCKET, KEY, "abc")
    snapshot = read_snapshot(clients, NEWEST)
    assert (snapshot.content, snapshot.version_id) == (b"abc", version)
    assert snapshot.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [call.operation for call in aws.calls()] == ["GetObject"]


def test_a_bucket_whose_owner_is_known_is_asked_for_by_it(aws: Aws, clients: AwsClients) -> None:
    aws.put_snapshot(BUCKET, KEY, "abc")
    read_snapshot(AwsClients(4, [(BUCKET, "210987654321")]), NEWEST)
    read_snapshot(clients, NEWEST)
    assert [call.parameters.get("ExpectedBucketOwner") for call in aws.calls()] == ["210987654321", None]


def test_the_newest_version_by_its_id_is_read(aws: Aws, clients: AwsClients) -> None:
    version = aws.put_snapshot(BUCKET, KEY, "abc")
    assert read_snapshot(clients, SnapshotReference(BUCKET, KEY, version)).content == b"abc"


def test_an_older_version_is_stale(aws: Aws, clients: AwsClients) -> None:
    version = aws.put_snapshot(BUCKET, KEY, "old")
    aws.put_snapshot(BUCKET, KEY, "new")
    assert refused(clients, SnapshotReference(BUCKET, KEY, version)) == ("StaleSnapshot", "stale_snapshot")


def test_a_version_whose_object_has_been_deleted_since_is_stale(aws: Aws, clients: AwsClients) -> None:
    version = aws.put_snapshot(BUCKET, KEY, "old")
    aws.client("s3").delete_object(Bucket=BUCKET, Key=KEY)
    assert refused(clients, SnapshotReference(BUCKET, KEY, version)) == ("StaleSnapshot", "stale_snapshot")


def test_a_deleted_snapshot_is_missing(aws: Aws, clients: AwsClients) -> None:
    aws.put_snapshot(BUCKET, KEY, "old")
    aws.client("s3").delete_object(Bucket=BUCKET, Key=KEY)
    assert refused(clients) == ("InvalidSnapshot", "missing_snapshot")


@pytest.mark.parametrize(
    "reference",
    [
        SnapshotReference(BUCKET, "dev/none.tfvars"),
        SnapshotReference(BUCKET, "dev/none.tfvars", "3HL4kqtJ"),
        SnapshotReference("acme-nowhere", KEY),
    ],
    ids=["key", "version of a key", "bucket"],
)
def test_what_never_was_is_missing(clients: AwsClients, reference: SnapshotReference) -> None:
    assert refused(clients, reference) == ("InvalidSnapshot", "missing_snapshot")


def test_a_bucket_without_versioning_is_refused(aws: Aws, clients: AwsClients) -> None:
    aws.create_bucket("acme-plain", versioned=False)
    aws.put_snapshot("acme-plain", KEY, "abc")
    assert refused(clients, SnapshotReference("acme-plain", KEY)) == ("InvalidSnapshot", "unversioned_bucket")


def test_an_object_from_before_versioning_was_switched_on_is_refused(aws: Aws, clients: AwsClients) -> None:
    aws.create_bucket("acme-late", versioned=False)
    aws.put_snapshot("acme-late", KEY, "abc")
    versioning = {"Status": "Enabled"}
    aws.client("s3").put_bucket_versioning(Bucket="acme-late", VersioningConfiguration=versioning)
    assert refused(clients, SnapshotReference("acme-late", KEY)) == ("InvalidSnapshot", "unversioned_bucket")


def test_a_snapshot_of_exactly_the_limit_is_read_and_one_byte_more_refused(aws: Aws, clients: AwsClients) -> None:
    aws.put_snapshot(BUCKET, KEY, "x" * MAX_BYTES)
    assert len(read_snapshot(clients, NEWEST).content) == MAX_BYTES
    aws.put_snapshot(BUCKET, KEY, "x" * (MAX_BYTES + 1))
    assert refused(clients) == ("InvalidSnapshot", "snapshot_too_large")


@pytest.mark.parametrize(
    ("kind", "code"),
    [("access_denied", "AccessDenied"), ("server_error", "InternalError"), ("drop", "ConnectionClosedError")],
)
def test_a_snapshot_that_s3_does_not_give_is_refused_with_the_reason(
    aws: Aws, clients: AwsClients, kind: str, code: str
) -> None:
    aws.put_snapshot(BUCKET, KEY, "abc")
    aws.fail("s3:GetObject", times=ALWAYS, kind=kind)  # type: ignore[arg-type]
    with pytest.raises(InvalidSnapshot) as error:
        read_snapshot(clients, NEWEST)
    assert error.value.findings[0].message == f"the snapshot cannot be read: {code}"


def test_a_snapshot_does_not_show_its_content(aws: Aws, clients: AwsClients) -> None:
    aws.put_snapshot(BUCKET, KEY, "password = hunter2")
    assert "hunter2" not in repr(read_snapshot(clients, NEWEST))
