"""Plays Terraform's part: a tfvars file comes in, and each of its entries gets a secret with a made-up password.

python -m demo.put_secrets terraform.tfvars dev
"""

import contextlib
import json
import secrets
import sys
from pathlib import Path
from typing import Any

import boto3

from provisioner.core.snapshot import parse_snapshot


def put_secrets(client: Any, path: Path, environment: str) -> list[str]:
    """Make the secrets that are not there yet; give back their names."""
    declaration, _ = parse_snapshot(path.read_bytes(), str(path), environment=environment)
    made = []
    for entry in declaration.entries:
        name = entry.secret_name or f"goldenpath/{environment}/{entry.application}/postgres"
        value = {"username": entry.username, "password": secrets.token_urlsafe(18), "dbname": entry.database}
        with contextlib.suppress(client.exceptions.ResourceExistsException):
            client.create_secret(Name=name, SecretString=json.dumps(value))
            made.append(name)
    return made


if __name__ == "__main__":
    for name in put_secrets(boto3.client("secretsmanager"), Path(sys.argv[1]), sys.argv[2]):
        print(f"made {name}")
