"""Lambda's own log settings must not make the SDK write secrets into the log."""

import json
import subprocess
import sys

from stack.aws import Aws

PASSWORD = "canary-Pa55-of-the-log"
# What the runtime client does where the function's log format is JSON and its level DEBUG: it sets the root logger.
PROGRAM = """
import logging
logging.basicConfig(level=logging.DEBUG, force=True)
from provisioner.telemetry import logger
import boto3
boto3.client("secretsmanager").get_secret_value(SecretId="canary")
logger.info("done")
"""


def test_at_debug_no_body_of_an_answer_of_aws_is_in_the_log(aws: Aws) -> None:
    aws.put_secret("canary", {"password": PASSWORD})
    environment = aws.environment() | {"PYTHONPATH": ":".join(sys.path), "POWERTOOLS_LOG_LEVEL": "DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["message"] == "done"
    assert PASSWORD not in done.stdout + done.stderr
