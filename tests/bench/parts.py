"""Handlers that answer how many milliseconds their own imports took: run in the Lambda runtime, one in each process.

`ALONE` names what the product cannot do without, each with its first use; `product` is the product's own handler.
"""

from __future__ import annotations

import os
import time


def nothing() -> None:
    """What the clock itself costs."""


def boto3() -> None:
    """The SDK with one client."""
    import boto3 as sdk

    sdk.session.Session().client("s3")


def pg8000() -> None:
    """The driver."""
    import pg8000.native as driver

    assert driver.Connection


def hcl2() -> None:
    """The parser, to the end of its first parse."""
    import hcl2 as parser

    parser.loads('environment = "dev"\n')


def powertools() -> None:
    """The logger."""
    from aws_lambda_powertools import Logger

    Logger(service="bench")


def product() -> None:
    """The function as Lambda imports it, and the client that its first line needs."""
    import provisioner.handler
    from provisioner.edges.aws import aws_clients

    _ = aws_clients(8).s3
    assert callable(provisioner.handler.lambda_handler)


def product_with_hcl() -> None:
    """The same, to the end of its first parse of HCL."""
    product()
    from provisioner.core.snapshot import parse_snapshot

    parse_snapshot(b"application_databases = {}\n", "terraform.tfvars", environment="dev")


ALONE = ("boto3", "pg8000", "hcl2", "powertools")

_BEGUN = time.process_time()
globals()[os.environ.get("BENCH_PART", "nothing")]()
MILLISECONDS = (time.process_time() - _BEGUN) * 1000


def handler(_event: object, _context: object) -> float:
    """The time that the imports took, of the processor: a machine at other work does not show."""
    return MILLISECONDS
