"""Logs and metrics as CloudWatch reads them: the logger made once for the process, and the numbers of one run.

The metrics are in the embedded metric format: a JSON line on stdout that CloudWatch turns into metrics by itself.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

SERVICE = "rds-provisioner"
NAMESPACE = "RdsProvisioner"

logger = Logger(service=SERVICE)

# At DEBUG these write requests and answers whole, secrets in them. Lambda's own log settings (JSON, DEBUG) set the root
# logger's level, so each has one of its own.
for _name in ("botocore", "boto3", "urllib3", "s3transfer"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def log_mistake(error: Exception) -> None:
    """Write where a mistake of ours happened; its text may hold anything, so that nobody is told more than its kind."""
    logger.error("unexpected", extra={"place": traceback.format_tb(error.__traceback__)})


def emit_metrics(environment: str, numbers: Mapping[str, float]) -> None:
    """Write one line with these metrics; a name that ends in Ms is a time in milliseconds, others are counts."""
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)
    metrics.add_dimension(name="environment", value=environment)
    for name, value in numbers.items():
        unit = MetricUnit.Milliseconds if name.endswith("Ms") else MetricUnit.Count
        metrics.add_metric(name=name, unit=unit, value=value)
    metrics.flush_metrics()
