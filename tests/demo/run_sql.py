"""Logs in to the embedded stack as an application, with the password of its secret, and runs SQL.

stack_sql keycloak_user keycloak "SELECT 1"
"""

import contextlib
import json
import os
import ssl
import sys

import boto3
import pg8000.native


def main(role: str, database: str, sql: str) -> int:
    """Print the rows, or why they were refused; 1 then."""
    tls_context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    host, port = os.environ["PGHOST"], int(os.environ["PGPORT"])
    try:
        connection = pg8000.native.Connection(
            role, host=host, port=port, password=_password(role), database=database, ssl_context=tls_context
        )
        with contextlib.closing(connection):
            for row in connection.run(sql) or []:
                print(" | ".join(str(value) for value in row))
    except pg8000.native.DatabaseError as error:
        print(f"refused: {error.args[0]['M']} (SQLSTATE {error.args[0]['C']})")
        return 1
    return 0


def _password(role: str) -> str:
    client = boto3.client("secretsmanager")
    for secret in client.list_secrets()["SecretList"]:
        value = json.loads(client.get_secret_value(SecretId=secret["Name"])["SecretString"])
        if value["username"] == role:
            return str(value["password"])
    sys.exit(f"no secret is for {role}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
