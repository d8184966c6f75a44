"""The audit trail in, a timeline out: who changed what, run by run, the newest last."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from provisioner.core.audit import AuditRow, read_csv
from provisioner.core.model import Status
from rds_provisioner_cli.aws import client, explain, failures, read_object
from rds_provisioner_cli.stopped import Stopped
from rds_provisioner_cli.target import Given, find_trail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rds_provisioner_cli.screen import Screen

STYLES = {
    Status.SUCCESS: ("+", "green"),
    Status.ERROR: ("!", "bold red"),
    Status.WARNING: ("?", "magenta"),
    Status.SKIPPED: ("-", "yellow"),
    Status.UNKNOWN: ("?", "yellow"),
}


def tell(given: Given, screen: Screen, *, role: str, database: str, as_json: bool) -> None:
    """Tell what the trail and its archives say, of one role or one database where they are named. Raises Stopped."""
    trail = find_trail(given)
    rows = sorted((row for row in _read_all(trail) if _is_about(row, role, database)), key=attrgetter("timestamp_utc"))
    if as_json:
        screen.document(json.dumps([asdict(row) for row in rows], indent=2))
        return
    told = 0
    for run, members in groupby(rows, key=_run_of):
        changed = [row for row in members if row.status is not Status.NO_CHANGE]
        # A run that found everything as declared says nothing of one role.
        if changed:
            _tell_run(run, changed, screen)
            told += len(changed)
    subject = " and ".join(text for text in (role and f"role {role}", database and f"database {database}") if text)
    screen.note(f"{told} of {len(rows)} rows{f' about {subject}' if subject else ''} in {trail}")


def _read_all(trail: str) -> Iterable[AuditRow]:
    bucket, _, key = trail.removeprefix("s3://").partition("/")
    prefix = f"{key.rpartition('/')[0]}/archive/rds_provision_audit-"
    try:
        pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        archives = [item["Key"] for page in pages for item in page.get("Contents", [])]
    except failures() as error:
        raise Stopped(f"the archives beside {trail} cannot be listed: {explain(error)}") from None
    for address in (*(f"s3://{bucket}/{archive}" for archive in archives), trail):
        yield from read_csv(read_object(address, missing="no run of this environment was written down there yet"))[0]


def _is_about(row: AuditRow, role: str, database: str) -> bool:
    return (not role or row.username == role) and (not database or row.database == database)


def _run_of(row: AuditRow) -> tuple[str, ...]:
    """What the heading says; runs that are alike in it stand under one, and each row says its own time."""
    return (
        row.timestamp_utc[:10],
        row.run_id,
        row.build_id,
        row.requested_by,
        row.approved_by,
        row.snapshot_version,
        row.plan_digest,
    )


def _tell_run(run: tuple[str, ...], rows: list[AuditRow], screen: Screen) -> None:
    day, run_id, build_id, requested_by, approved_by, version, _ = run
    said = {"asked by": requested_by, "approved by": approved_by, "build": build_id, "run": run_id, "snapshot": version}
    words = (f"{name} {value}" for name, value in said.items() if value)
    screen.say("  ".join((day, *words)), "bold")
    for row in rows:
        sign, style = STYLES.get(row.status, (" ", ""))
        where = ".".join(name for name in (row.database, row.username) if name) or "(server)"
        time = row.timestamp_utc[11:19]
        screen.say(f"  {time} {sign} {row.status.value:<8} {row.action:<18} {where:<32} {row.message}", style)
    screen.say()
