"""A process that appends rows to the trail, one at a time; started several times at once by the tests of the trail.

Called as `python aws_writers.py BUCKET NAME ROWS FULL_BYTES`, with the address of AWS in its environment.
"""

import sys

from provisioner.core.audit import Provenance, build_rows
from provisioner.core.model import Outcome, Status
from provisioner.edges.audit_store import AuditBucket
from provisioner.edges.aws import AwsClients


def main(bucket: str, name: str, rows: str, full_bytes: str) -> None:
    audit = AuditBucket(AwsClients(4), bucket, "governance/dev")
    for number in range(int(rows)):
        outcome = Outcome("grant", "keycloak", "keycloak_user", Status.SUCCESS, "2026-11-22T12:00:00.000Z")
        row = build_rows(Provenance("dev", build_id=name, run_id=str(number)), [outcome])
        audit.append(row, full_bytes=int(full_bytes))


if __name__ == "__main__":
    main(*sys.argv[1:])
