"""Runs real PostgreSQL servers that look like RDS: TLS and SCRAM only, a master that is not a superuser.

`Server(version)` is a context manager; a server of its own costs about a fifth of a second, `reset()` a thirtieth.
"""

import atexit
import base64
import contextlib
import functools
import hashlib
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import pg8000.native
from scramp import ScramMechanism

from stack import binaries, processes
from stack.certificates import Certificate, session_certificate
from stack.ports import free_port

SUPERUSER = "rdsadmin"
MASTER = "platform_admin"
DELEGATED_ADMIN = "rds_provisioner"
DELEGATED_ADMIN_FILE = binaries.ROOT / "infra" / "admin-role.sql"

Rows = list[list[Any]]

# Where data directories are made; None leaves it to `tempfile`. The tests put them into memory where there is enough.
data_parent: Path | None = None


class Login(NamedTuple):
    """A role's name and password."""

    username: str
    password: str


class Statement(NamedTuple):
    """A statement as the server's log has it."""

    username: str
    database: str
    statement: str


class Server:
    """A PostgreSQL server on loopback, started on entering and removed on leaving.

    Args:
        version: the major version, one of `binaries.available()`.
        parameters: settings of postgresql.conf on top of the usual ones.
        certificate: what the server shows; by default one for `localhost` that `ca_file` vouches for.
        tls: whether the server speaks TLS at all.
    """

    host = "localhost"

    def __init__(
        self,
        version: int,
        *,
        parameters: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
        tls: bool = True,
    ) -> None:
        self.version = version
        self.certificate = certificate or session_certificate()
        self.tls = tls
        self.master = Login(MASTER, secrets.token_urlsafe(18))
        self._delegated = Login(DELEGATED_ADMIN, secrets.token_urlsafe(18))
        self.port = 0
        self._parameters = dict(parameters or {})
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: pg8000.native.Connection | None = None
        self._new_postgres: Any = None

    @property
    def ca_file(self) -> Path:
        """The bundle that a client has to trust for this server."""
        return self.certificate.ca_file

    def __enter__(self) -> Self:
        """Start from a copy of the version's template, with the RDS-like roles in place."""
        self._create(_template(self.version))
        self.start()
        with contextlib.closing(self.superuser("template1")) as connection:
            self._create_roles(connection)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at once and leave nothing behind."""
        if self._process:
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def connect(self, username: str, password: str, database: str = "postgres") -> pg8000.native.Connection:
        """A connection over TLS with the server verified, or in clear where the server has no TLS."""
        # False is "in clear"; None would be "TLS if offered, and believe anybody".
        context = _trust(self.ca_file) if self.tls else False
        sock = socket.create_connection((self.host, self.port))
        # Without this the start-up packet waits 40 ms for a delayed acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return pg8000.native.Connection(
                username, host=self.host, password=password, database=database, ssl_context=context, sock=sock
            )
        except BaseException:
            sock.close()
            raise

    def superuser(self, database: str = "postgres") -> pg8000.native.Connection:
        """A connection as the superuser that RDS gives to nobody, over the unix socket; not in `log_statements`."""
        # Without the False, pg8000 would read the machine's certificates first, for a socket that has no TLS.
        return pg8000.native.Connection(
            SUPERUSER,
            unix_sock=str(self._folder / f".s.PGSQL.{self.port}"),
            database=database,
            ssl_context=False,
            startup_params={"log_statement": "none"},
        )

    def run_as_superuser(self, sql: str, database: str = "postgres") -> Rows:
        """Run SQL as the superuser and give back the rows of its last statement."""
        if database != "postgres":
            with contextlib.closing(self.superuser(database)) as connection:
                return connection.run(sql) or []
        # Kept, since a login costs ten times the statement. In databases of tenants a session would be in the way.
        kept, self._kept = self._kept, None
        if kept is None or _is_spoken_to(kept):
            kept = self.superuser()
        try:
            rows: Rows = kept.run(sql) or []
            kept.run("DISCARD ALL")
        except BaseException:
            _hang_up(kept)
            raise
        # Of two that asked at once, one is kept.
        self.end_kept_session()
        self._kept = kept
        return rows

    def end_kept_session(self) -> None:
        """End the session that `run_as_superuser` keeps: for who needs every place of a server."""
        if self._kept is not None:
            _hang_up(self._kept)
            self._kept = None

    def admin_secret(self, login: Login) -> dict[str, Any]:
        """The secret of an administrator as Secrets Manager holds it for this server."""
        return {
            "username": login.username,
            "password": login.password,
            "host": self.host,
            "port": self.port,
            "dbname": "postgres",
            "engine": "postgres",
        }

    def create_delegated_admin(self) -> Login:
        """Let the master run `infra/admin-role.sql`, then give the new role a password."""
        login = self._delegated
        # In the master's name; its own login, by TLS and password, would cost more than all the rest.
        self.run_as_superuser(
            f"SET SESSION AUTHORIZATION {MASTER};\n{DELEGATED_ADMIN_FILE.read_text()};\n"
            f"ALTER ROLE {login.username} PASSWORD '{_kept_verifier(login.password)}'"
        )
        return login

    def create_standby(self) -> "Server":
        """A second server that follows a copy of this one's data, read-only; this one is restarted on the way.

        The standby is returned not yet started: enter it.
        """
        return _Standby(self)

    def reset(self) -> None:
        """As new: only the template databases and a `postgres` as new, only the RDS-like roles."""
        # In the session that is kept, where `postgres` needs not be made anew: a login costs as much as the rest.
        kept, self._kept = self._kept, None
        if kept is not None and not _is_spoken_to(kept) and self._clear(kept):
            self._kept = kept
            return
        if kept is not None:
            _hang_up(kept)
        with contextlib.closing(self.superuser("template1")) as connection:
            self._clear(connection, renew=True)

    def _clear(self, connection: pg8000.native.Connection, *, renew: bool = False) -> bool:
        """Take away what a test has left; False, and not all is gone, where `postgres` would have to be renewed too.

        It stays where nothing was written in it, since making it costs as much as all else.
        """
        if (self._data / "postgresql.auto.conf").stat().st_size:
            connection.run("ALTER SYSTEM RESET ALL")
            connection.run("SELECT pg_reload_conf()")
        while connection.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ):
            time.sleep(0.01)
        for (name,) in connection.run("SELECT datname FROM pg_database WHERE datname !~ '^(template.|postgres)$'"):
            self._drop_database(connection, name)
        connection.run("CHECKPOINT")
        trace = self._trace_of_postgres(connection)
        if trace is None or trace != self._new_postgres:
            if not renew:
                return False
            if trace:
                self._drop_database(connection, "postgres")
            # Not block by block through the log, as is usual from 15 on.
            by_files = " STRATEGY file_copy" if self.version >= 15 else ""
            connection.run(f"CREATE DATABASE postgres TEMPLATE template0{by_files}")
            self._new_postgres = self._trace_of_postgres(connection)
        # 16384 is the first object id that initdb does not hand out.
        roles = [_quote(name) for (name,) in connection.run("SELECT rolname FROM pg_roles WHERE oid >= 16384")]
        if roles:
            connection.run(f"DROP OWNED BY {', '.join(roles)} CASCADE")
            connection.run(f"DROP ROLE {', '.join(roles)}")
        connection.run("ALTER ROLE ALL RESET ALL")
        self._create_roles(connection)
        return True

    def _trace_of_postgres(self, connection: pg8000.native.Connection) -> Any:
        """What changes with whatever is written in `postgres` or about it; None where there is none."""
        rows = connection.run(
            "SELECT d.oid, d.xmin::text, d.ctid::text, shobj_description(d.oid, 'pg_database'),"
            " EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)"
            " FROM pg_database AS d WHERE datname = 'postgres'"
        )
        if not rows:
            return None
        with os.scandir(self._data / "base" / str(rows[0][0])) as files:
            # But for what a session keeps there of the catalogs, so that the next one finds it.
            written = {each.name: each.stat() for each in files if not each.name.startswith("pg_internal.init")}
        return rows, {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in written.items()}

    def _drop_database(self, connection: pg8000.native.Connection, name: str) -> None:
        connection.run(f"ALTER DATABASE {_quote(name)} IS_TEMPLATE false")
        connection.run(f"DROP DATABASE {_quote(name)} WITH (FORCE)")

    def start(self) -> None:
        """Start the server; the first time on a port that the system gives, later on the same."""
        wanted = self.port
        for _ in range(5):
            self.port = wanted or free_port()
            mark = self.mark()
            self._process = self._spawn()
            if self._wait_until_ready():
                return
            self._process = None
            # Another process took the port between our asking and PostgreSQL's binding.
            if "could not bind" not in self.log_text(since=mark):
                break
            time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL {self.version} did not start:\n{self.log_text()[-4000:]}")

    def stop(self, mode: str = "fast") -> None:
        """Stop as `pg_ctl stop` does: `smart`, `fast`, or `immediate` (which is a crash)."""
        numbers = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self.end_kept_session()
        if self._process:
            processes.end(self._process, numbers[mode])
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same port: open connections are lost."""
        self.stop()
        self.start()

    def mark(self) -> int:
        """The present end of the log, to ask later for what came since."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log_text(self, since: int = 0) -> str:
        """The server's log, whole or since a marker."""
        with self._log.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def log_statements(self, since: int = 0, user: str | None = None) -> list[Statement]:
        """Every statement that the server could parse, in order, also failed ones; not the superuser's."""
        statements = [_statement(entry) for entry in _entries(self.log_text(since))]
        return [each for each in statements if each and (user is None or each.username == user)]

    def log_lines(self, since: int = 0) -> list[str]:
        """The same, those that came together in one message one by one."""
        return [line for each in self.log_statements(since) for line in each.statement.split(";\n")]

    def let_in(self, database: str, since: int = 0) -> list[str]:
        """Who has proved its password for a database, in order, though a lock may keep it from going on.

        That an earlier session has ended may be told late, so its name in the log says nothing.
        """
        return re.findall(rf"connection authorized: user=(\S+) database={database} ", self.log_text(since))

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _create(self, template: Path) -> None:
        # The shortest of names: the path of a unix socket ends at 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir=data_parent))
        shutil.copytree(template, self._data, symlinks=True)
        self._log.touch()
        (self._data / "server.key").write_bytes(self.certificate.key)
        (self._data / "server.crt").write_bytes(self.certificate.chain)
        (self._data / "server.key").chmod(0o600)
        (self._data / "pg_hba.conf").write_text(self._access_rules())
        (self._data / "postgresql.auto.conf").write_text("")
        (self._data / "postgresql.conf").write_text(self._configuration())
        give_all_away(self._folder)

    def _access_rules(self) -> str:
        kind = "hostssl" if self.tls else "host"
        return (
            f"local all {SUPERUSER} trust\n"
            f"{kind} all all 127.0.0.1/32 scram-sha-256\n"
            f"{kind} all all ::1/128 scram-sha-256\n"
        )

    def _configuration(self) -> str:
        parameters = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "ssl": "on" if self.tls else "off",
            "password_encryption": "scram-sha-256",
            # Not synchronous_commit: what a test was told is done must survive `stop("immediate")`.
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": "100",
            "max_wal_size": "256MB",
            "autovacuum": "off",
            "log_statement": "all",
            "log_connections": "on",
            "log_disconnections": "on",
            "log_line_prefix": "%m|%p|%u|%d|%a|%e|",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "lc_messages": "C",
            **self._parameters,
        }
        return "".join(f"{name} = '{value}'\n" for name, value in parameters.items())

    def _spawn(self) -> subprocess.Popen[bytes]:
        command: list[str | Path] = [_runnable(self.version) / "postgres", "-D", self._data, "-p", str(self.port)]
        with self._log.open("ab") as log:
            return processes.start(command, stdout=log, stderr=log, cwd=self._folder, **_owner_options())

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with contextlib.suppress(pg8000.native.InterfaceError, pg8000.native.DatabaseError, OSError):
                self.superuser("template1").close()
                return True
            time.sleep(0.01)
        if self._process:
            processes.end(self._process, signal.SIGQUIT)
        return False

    def _create_roles(self, connection: pg8000.native.Connection) -> None:
        """What RDS makes, as far as an administrator can tell the difference."""
        with_admin = " WITH ADMIN OPTION" if self.version >= 16 else ""
        monitoring = "pg_monitor, pg_signal_backend" + (", pg_checkpoint" if self.version >= 15 else "")
        connection.run(
            "CREATE ROLE rds_superuser NOLOGIN;"
            "CREATE ROLE rds_iam NOLOGIN;"
            "CREATE ROLE rds_password NOLOGIN;"
            "CREATE ROLE rds_replication NOLOGIN;"
            f"GRANT {monitoring} TO rds_superuser WITH ADMIN OPTION;"
            f"CREATE ROLE {MASTER} LOGIN CREATEDB CREATEROLE VALID UNTIL 'infinity'"
            f" PASSWORD '{_kept_verifier(self.master.password)}';"
            f"GRANT rds_superuser TO {MASTER}{with_admin}"
        )


def _is_spoken_to(connection: pg8000.native.Connection) -> bool:
    """Whether the server said something to a session that asked nothing: it has ended it, or had it look anew."""
    return bool(select.select([connection._usock], [], [], 0)[0])


def _hang_up(connection: pg8000.native.Connection) -> None:
    with contextlib.suppress(pg8000.native.InterfaceError, OSError):
        connection.close()


@functools.cache
def _trust(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file))


class _Standby(Server):
    """A copy of a primary's data in recovery; it knows the same roles and passwords."""

    def __init__(self, primary: Server) -> None:
        super().__init__(primary.version, parameters=primary._parameters, certificate=primary.certificate)
        self.master = primary.master
        self._primary = primary

    def __enter__(self) -> Self:
        # Only the data of a stopped server can be copied file by file.
        self._primary.stop()
        try:
            self._create(self._primary._data)
        finally:
            self._primary.start()
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        (self._data / "standby.signal").touch()
        give_all_away(self._folder)
        self.start()
        return self


def make_verifier(password: str) -> str:
    """The SCRAM-SHA-256 verifier that PostgreSQL would make of a password, so that no log sees the password."""
    salt, stored_key, server_key, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info(password)
    salt, stored_key, server_key = (_base64(part) for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored_key}:{server_key}"


# Of the administrators, who are made anew with the same password before each test.
_kept_verifier = functools.cache(make_verifier)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- the log ----------------------------------------------------------------------------------------------------------

_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ UTC\|\d+\|(?P<user>[^|]*)\|(?P<database>[^|]*)\|[^|]*\|\w*\|")
_SAID = re.compile(r"LOG:  (?:statement|execute [^:]*): (?P<sql>.*)", re.DOTALL)


def _entries(text: str) -> Iterator[str]:
    """The log's entries; PostgreSQL continues one with a tab at the start of each further line."""
    entry: list[str] = []
    for line in text.splitlines():
        if line.startswith("\t"):
            entry.append(line[1:])
            continue
        if entry:
            yield "\n".join(entry)
        entry = [line]
    if entry:
        yield "\n".join(entry)


def _statement(entry: str) -> Statement | None:
    prefix = _PREFIX.match(entry)
    said = _SAID.match(entry, prefix.end()) if prefix else None
    if not prefix or not said or prefix["user"] == SUPERUSER:
        return None
    return Statement(prefix["user"], prefix["database"], said["sql"])


# --- who runs it, and from where --------------------------------------------------------------------------------------


@functools.cache
def _owner() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: somebody else then, who has an entry in passwd."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and this machine has neither `postgres` nor `nobody`")


def _owner_options() -> dict[str, Any]:
    owner = _owner()
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}


def give_away(path: Path) -> None:
    """Let a file or a folder, not what is in it, belong to whoever runs PostgreSQL."""
    owner = _owner()
    if owner:
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def give_all_away(folder: Path) -> None:
    """A folder with all that is in it; the data in it is for nobody else to read."""
    if _owner():
        for path in (folder, *folder.rglob("*")):
            give_away(path)
    (folder / "data").chmod(0o700)


@functools.cache
def _runnable(version: int) -> Path:
    """The folder of the version's binaries, copied first where the server's user cannot read it."""
    folder = binaries.available().get(version)
    if folder is None:
        raise RuntimeError(f"there is no PostgreSQL {version} on this machine: run `make install`, which needs npm")
    with contextlib.suppress(OSError):
        probe: list[str | Path] = [folder / "postgres", "--version"]
        if subprocess.run(probe, capture_output=True, check=False, cwd="/", **_owner_options()).returncode == 0:
            return folder
    copy = Path(tempfile.mkdtemp(prefix=f"pg{version}-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    shutil.copytree(folder.parent, copy / "native", symlinks=True)
    copy.chmod(0o755)
    return copy / "native" / folder.name


@functools.cache
def _template(version: int) -> Path:
    """A data directory as initdb leaves it, kept beside the binaries: made once for them, these options and a user."""
    options = ["-U", SUPERUSER, "--no-sync", "-E", "UTF8", "--locale=C", "--auth=trust"]
    if version >= 18:
        # Asked for by default there; with them a hint in a page is written to the log, and costs as much as a change.
        options += ["--no-data-checksums"]
    made_of = repr((binaries.describe(version), options, os.geteuid()))
    template = binaries.FOLDER / "templates" / f"{version}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not template.exists():
        template.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=template.parent) as place:
            _run_initdb(version, options, Path(place) / "data")
            # Another process may have been first.
            with contextlib.suppress(OSError):
                (Path(place) / "data").rename(template)
    return template


def _run_initdb(version: int, options: list[str], target: Path) -> None:
    """Run it where its user may write, and copy what it made to where ours may."""
    with tempfile.TemporaryDirectory(prefix=f"pg{version}-") as place:
        folder = Path(place)
        (folder / "data").mkdir()
        give_all_away(folder)
        command: list[str | Path] = [_runnable(version) / "initdb", "-D", folder / "data", *options]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_owner_options())
        if answer.returncode != 0:
            raise RuntimeError(f"initdb of PostgreSQL {version} failed:\n{answer.stderr}")
        shutil.copytree(folder / "data", target)
