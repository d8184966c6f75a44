"""The floor: the same roles, databases and grants by hand, with as few round trips as PostgreSQL allows.

No plan, no proof, no audit, no login probes unless asked for, no names but the bench's own, no case but the good one:
what is measured beside it shows what all of that costs. It shares no line with the product.

    python -m bench.floor '{"host": ..., "port": ..., "ca_file": ..., "username": ..., "password": ..., "count": 100,
                              "probes": false}'
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import pg8000.native
import scramp.core

from bench import fleet

WORKERS = 8
# More databases at once gain nothing: the server copies files.
PARALLEL_CREATES = 2

SHARED = """
SELECT (SELECT json_agg(json_build_array(r.rolname, shobj_description(r.oid, 'pg_authid'))) FROM pg_roles AS r),
       (SELECT json_agg(json_build_array(d.datname, d.datdba, d.datacl)) FROM pg_database AS d),
       (SELECT json_agg(json_build_array(m.roleid, m.member)) FROM pg_auth_members AS m)
"""
INSIDE = """
SELECT (SELECT datacl FROM pg_database WHERE datname = current_database()),
       (SELECT json_agg(json_build_array(nspname, nspowner, nspacl)) FROM pg_namespace WHERE nspname !~ '^pg_'),
       (SELECT json_agg(json_build_array(relnamespace, relkind, relowner, relacl)) FROM pg_class
        WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
          AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
       (SELECT json_agg(json_build_array(defaclrole, defaclobjtype, defaclacl)) FROM pg_default_acl),
       (SELECT json_agg(extname) FROM pg_extension)
"""


class Floor:
    """One run by hand against one server."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.tls = ssl.create_default_context(cafile=job["ca_file"])
        self.tls.set_ecdh_curve("prime256v1")

    def connect(self, database: str = "postgres", username: str = "", password: str = "") -> pg8000.native.Connection:
        """A tuned connection, as the administrator unless somebody else is named."""
        sock = socket.create_connection((self.job["host"], self.job["port"]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return pg8000.native.Connection(
            username or self.job["username"],
            password=password or self.job["password"],
            database=database,
            host=self.job["host"],
            ssl_context=self.tls,
            sock=sock,
        )

    def run(self) -> None:
        """Look at everything, then make what is missing."""
        count = self.job["count"]
        with self.connect() as session, ThreadPoolExecutor(WORKERS) as pool:
            _, databases, _ = session.run(SHARED)[0]
            present = {name for name, *_ in databases}
            numbers = range(count)
            list(pool.map(self._look, [number for number in numbers if fleet.database(number) in present]))
            if self.job["probes"]:
                list(pool.map(self._probe, [(number, level) for number in numbers for level in fleet.LEVELS]))
            missing = [number for number in numbers if fleet.database(number) not in present]
            if missing:
                self._make(session, missing, pool)

    def _look(self, number: int) -> None:
        with self.connect(fleet.database(number)) as connection:
            connection.run(INSIDE)

    def _probe(self, who: tuple[int, str]) -> None:
        # Refused after the password, before a session is built.
        with contextlib.suppress(pg8000.native.DatabaseError):
            self.connect("no/database", fleet.role(*who), fleet.password(*who)).close()

    def _make(self, session: pg8000.native.Connection, missing: list[int], pool: ThreadPoolExecutor) -> None:
        texts = [text for number in missing for text in _role_statements(number)]
        borrowed = [f'GRANT "{fleet.database(number)}" TO CURRENT_USER' for number in missing]
        session.run("BEGIN;" + ";".join(texts + borrowed) + ";COMMIT")
        creators = [session, *(self.connect() for _ in range(PARALLEL_CREATES - 1))]
        for creator, part in zip(
            creators, (missing[number::PARALLEL_CREATES] for number in range(PARALLEL_CREATES)), strict=True
        ):
            pool.submit(partial(self._create, creator, part, pool))
        self._finished = threading.Semaphore(0)
        for _ in missing:
            self._finished.acquire()
        session.run(";".join(f'REVOKE "{fleet.database(number)}" FROM CURRENT_USER' for number in missing))
        for creator in creators[1:]:
            creator.close()

    def _create(self, creator: pg8000.native.Connection, numbers: list[int], pool: ThreadPoolExecutor) -> None:
        for number in numbers:
            name = fleet.database(number)
            creator.run(f'CREATE DATABASE "{name}" OWNER "{name}" TEMPLATE template0')
            pool.submit(self._grant, number)

    def _grant(self, number: int) -> None:
        with self.connect(fleet.database(number)) as connection:
            connection.run("BEGIN;" + ";".join(_grant_statements(number, self.job["username"])) + ";COMMIT")
        self._finished.release()


def _role_statements(number: int) -> list[str]:
    texts = []
    for level in fleet.LEVELS:
        name = fleet.role(number, level)
        texts.append(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{_verifier(fleet.password(number, level))}'")
        texts.append(f"COMMENT ON ROLE \"{name}\" IS 'made by the floor'")
    return texts


def _grant_statements(number: int, administrator: str) -> list[str]:
    name = fleet.database(number)
    editor, reader = (f'"{fleet.role(number, level)}"' for level in ("editor", "reader"))
    future = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{name}" GRANT'
    return [
        f'REVOKE CONNECT, TEMPORARY ON DATABASE "{name}" FROM PUBLIC',
        f'GRANT CONNECT ON DATABASE "{name}" TO "{administrator}", {editor}, {reader}',
        f'GRANT TEMPORARY ON DATABASE "{name}" TO {editor}',
        f"GRANT USAGE ON SCHEMA public TO {editor}, {reader}",
        f"{future} USAGE ON SCHEMAS TO {editor}, {reader}",
        f"{future} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {editor}",
        f"{future} SELECT ON TABLES TO {reader}",
        f"{future} SELECT, UPDATE, USAGE ON SEQUENCES TO {editor}",
        f"{future} SELECT ON SEQUENCES TO {reader}",
        f"COMMENT ON DATABASE \"{name}\" IS 'made by the floor'",
    ]


def _verifier(password: str) -> str:
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    parts = [base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return f"SCRAM-SHA-256$4096:{parts[0]}${parts[1]}:{parts[2]}"


def main() -> None:
    """Run once and print how long it took from the first connection to the last, and in processor time."""
    # The administrator has one salt, so that its password needs to be hashed once.
    hash_once = lru_cache(scramp.core.hi)
    scramp.core.hi = lambda function, password, salt, count: hash_once(function, password, salt, int(count))
    floor = Floor(json.loads(sys.argv[1]))
    started, processor = time.perf_counter(), time.process_time()
    floor.run()
    print(json.dumps({"database": time.perf_counter() - started, "cpu": time.process_time() - processor}))


if __name__ == "__main__":
    main()
