"""What a run looks at: a way in and a declaration in, the session with the lock and the observed scope out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from provisioner.core import difference
from provisioner.core.difference import Difference
from provisioner.core.errors import DatabaseUnavailable, Finding, ProvisioningError, SecretUnavailable
from provisioner.core.holdings import Leaving
from provisioner.core.model import Declaration, Request, Settings, Trigger
from provisioner.core.ownership import Ownership
from provisioner.core.state import PasswordCheck, Server
from provisioner.edges.aws import AwsClients
from provisioner.edges.driver import VerifierRefused
from provisioner.edges.leaving_catalogs import observe_holdings, observe_leaving
from provisioner.edges.lock import acquire_run_lock, find_run
from provisioner.edges.observe import observe_databases
from provisioner.edges.postgres import Connection, Login
from provisioner.edges.probe import probe_passwords
from provisioner.edges.secret_store import has_pending_rotation
from provisioner.edges.server_catalogs import observe_server, read_locked
from provisioner.edges.server_findings import locked_out
from provisioner.edges.sqlstates import Remedy, SqlError
from provisioner.run_secrets import RunSecrets


@dataclass(frozen=True, slots=True)
class Session:
    """The administrator's connection that asks the shared catalogs; with a `session_id` it holds that run's lock.

    `has_waited` says that another run was at work before; `warnings`, of a session without the lock, that one is.
    """

    connection: Connection
    session_id: str = ""
    has_waited: bool = False
    warnings: tuple[Finding, ...] = ()


# SQLSTATE classes that speak of a login, a database or a right; any other says nothing of the administrator.
_ABOUT_WHO_ASKS = frozenset({"28", "3D", "42", "55"})
# How long is asked why nobody gets in, once it is known that nobody does.
SECONDS_FOR_A_REASON = 5.0


def connect_and_lock(login: Login, seconds: float, check: Callable[[], object], *, with_lock: bool) -> Session:
    """Connect; with the lock, wait for it so many seconds, and call `check` now and then meanwhile.

    Raises:
        DatabaseUnavailable: the administrator cannot log in.
        RunInProgress: another run holds the lock.
    """
    with own_session(login), ExitStack() as stack:
        connection = stack.enter_context(enter(login))
        if with_lock:
            session = Session(connection, *acquire_run_lock(connection, seconds, check))
        else:
            session = Session(connection, warnings=find_run(connection))
        stack.pop_all()
    return session


def enter(login: Login) -> Connection:
    """A connection to the administrator's own database.

    Raises DatabaseUnavailable: it could not be reached or trusted, it refused, or somebody's lock keeps everybody out.
    """
    try:
        with own_session(login):
            return login.connect()
    except DatabaseUnavailable as error:
        if error.findings[0].code == "unreachable" and (holder := _who_locks_out(login)):
            raise DatabaseUnavailable(locked_out(login.database, holder)) from None
        raise


def _who_locks_out(login: Login) -> str:
    """Who holds a lock that lets nobody into the administrator's database, asked in one where everybody may ask."""
    address = replace(login.address, deadline=replace(login.address.deadline, at_most=SECONDS_FOR_A_REASON))
    with suppress(SqlError, ProvisioningError), replace(login, address=address).connect("template1") as connection:
        return min(read_locked(connection).get(login.database, ()), default="")
    return ""


@contextmanager
def own_session(login: Login) -> Iterator[None]:
    """What the administrator's own session is told ends the run, as `DatabaseUnavailable`."""
    try:
        yield
    except SqlError as error:
        raise DatabaseUnavailable(connection_finding(login, error)) from None


def observe(
    request: Request,
    declaration: Declaration,
    secrets: RunSecrets,
    session: Connection,
    settings: Settings,
    clients: AwsClients,
) -> tuple[Ownership, tuple[Difference, ...]]:
    """Observe everything that the declaration speaks of, and what is to be done to each of its databases.

    Raises:
        DatabaseUnavailable: the server broke off, is a standby, or is too old.
        OutOfTime: there was not time enough to look at everything.
        SecretUnavailable: whether a secret is being rotated cannot be known.
    """
    with own_session(secrets.login):
        server = observe_server(session, declaration.by_database, with_extensions=declaration.has_extensions)
        leaving = _observe_leaving(request, server, secrets.login, session, settings)
    ownership = Ownership(
        declaration,
        server,
        request.environment,
        adopt=frozenset(request.adopt),
        secret_problems=secrets.problems,
        secrets={role: known.secret.arn for role, known in secrets.credentials.items()},
        host=secrets.login.address.host,
        port=secrets.login.address.port,
        leaving=leaving,
    )
    workers = count_workers(server, settings)
    differences = (*observe_databases(secrets.login, ownership, workers), *difference.of_new(ownership))
    looked_into = {each.database.name: each.database for each in differences if each.database.name in server.databases}
    server = replace(server, databases={**server.databases, **looked_into})
    homes = {role: [entry.database for entry in entries] for role, entries in ownership.by_role.items()}
    server = probe_passwords(secrets.login.address, server, secrets.credentials, homes, workers)
    server = replace(server, passwords=_mark_rotations(server, secrets, settings, clients))
    return replace(ownership, server=server), differences


def _observe_leaving(
    request: Request, server: Server, login: Login, session: Connection, settings: Settings
) -> Leaving:
    retire = frozenset(request.retire)
    if request.trigger is Trigger.APPROVAL_EVENT:
        # Events come twice, and what an approval began is continued by the same: who is gone was retired.
        retire &= server.roles.keys()
    asked = Leaving(frozenset(request.quarantine), retire, settings.retire_after_days)
    known = observe_leaving(session, server, asked)
    roles = known.retire & server.roles.keys() - known.quarantine
    return replace(known, holdings=observe_holdings(session, login, server, roles))


def count_workers(server: Server, settings: Settings) -> int:
    """How much is done at once: with the two connections beside it, at most half of what the server has left."""
    return max(1, min(settings.max_workers, server.available_connections // 2 - 1))


def connection_finding(login: Login, error: SqlError) -> Finding:
    server = f"the server {login.address}"
    if isinstance(error, VerifierRefused):
        message = f'{server} cannot let "{login.username}" in: it keeps the password as {error.kept_as}'
        return Finding("administrator_verifier", message, error.next_step)
    if error.remedy is Remedy.MANUAL and error.sqlstate[:2] in _ABOUT_WHO_ASKS:
        return Finding(
            "administrator_refused",
            f'{server} refused "{login.username}": {error}',
            "check the administrator's secret, its rights, and the database that it names",
        )
    return Finding("server_unavailable", f"{server} could not answer: {error}", error.next_step)


def _mark_rotations(
    server: Server, secrets: RunSecrets, settings: Settings, clients: AwsClients
) -> dict[str, PasswordCheck]:
    """What is known of each password: what the login said, a rotation under way."""
    asked = [role for role, check in server.passwords.items() if check is not PasswordCheck.NOT_CHECKED]

    def is_rotating(role: str) -> bool:
        secret = secrets.credentials[role].secret
        try:
            return has_pending_rotation(clients, secret.secret_id, secret.version_id)
        except SecretUnavailable:
            # What is right is left alone anyway.
            if server.passwords[role] is PasswordCheck.CURRENT:
                return False
            raise

    with ThreadPoolExecutor(settings.max_workers) as pool:
        rotating = pool.map(is_rotating, asked)
        marked = {role: PasswordCheck.ROTATING for role, is_so in zip(asked, rotating, strict=True) if is_so}
    return {**server.passwords, **marked}
