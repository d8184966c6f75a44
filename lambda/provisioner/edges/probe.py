"""Whether a role has the password of its secret: credentials in, what a login with them tells out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from secrets import token_hex

from provisioner.core.credentials import Credentials
from provisioner.core.errors import DatabaseUnavailable, OutOfTime
from provisioner.core.state import IAM_ROLE, PasswordCheck, Role, Server, all_members
from provisioner.edges.driver import VerifierRefused
from provisioner.edges.postgres import Login, ServerAddress, prove_password
from provisioner.edges.sqlstates import SqlError

# A database that does not exist, by a name that is drawn anew for each login, so that nobody can have made it. The
# server judges the password before it looks for the database; it writes a FATAL line for each.
NO_DATABASE = "rds-provisioner/probe/"
# The owner of a database can keep everybody out of it for as long as it likes (VACUUM FULL of its catalogs): its roles
# are then asked without it.
SECONDS_IN_A_DATABASE = 5.0


def probe_passwords(
    address: ServerAddress,
    server: Server,
    credentials: Mapping[str, Credentials],
    databases: Mapping[str, Sequence[str]],
    workers: int,
) -> Server:
    """Log in once as each role that exists and has a password here, and keep what the server said to it.

    A role logs in to one of its `databases` that was looked into, so that its login is one as any other; to none, which
    leaves a FATAL line in the server's log, without such a one, or where its session would read large settings.

    Raises OutOfTime: there was not time enough.
    """
    iam_roles = all_members({IAM_ROLE}, server.memberships)
    asked = [item for name, item in sorted(credentials.items()) if name in server.roles and name not in iam_roles]
    hurried = replace(address, deadline=replace(address.deadline, at_most=SECONDS_IN_A_DATABASE))
    closed = {name for name, facts in server.databases.items() if not facts.may_be_entered} | {""}

    def probe(item: Credentials) -> PasswordCheck:
        role = server.roles[item.username]
        known = (name for name in databases.get(role.name, ()) if name in server.databases)
        database = "" if role.has_large_settings else next((name for name in known if name not in closed), "")
        if database:
            try:
                return _ask(Login(hurried, role.name, item.password, database, version=server.version), role)
            except (DatabaseUnavailable, OutOfTime):
                closed.add(database)
        return probe_login(address, item, role)

    with ThreadPoolExecutor(workers) as pool:
        checks = pool.map(probe, asked)
        return replace(server, passwords={item.username: check for item, check in zip(asked, checks, strict=True)})


def probe_login(address: ServerAddress, credentials: Credentials, role: Role) -> PasswordCheck:
    """Whether a password is the role's, asked without any database: one that was just set, say, beside its creation.

    Raises OutOfTime: there was not time enough.
    """
    try:
        return _ask(Login(address, role.name, credentials.password, NO_DATABASE + token_hex(8)), role)
    except DatabaseUnavailable:
        return PasswordCheck.UNKNOWN


def _ask(login: Login, role: Role) -> PasswordCheck:
    try:
        prove_password(login)
    except VerifierRefused:
        return PasswordCheck.OTHER_VERIFIER
    except SqlError as error:
        # An expired password is refused with the same code as a wrong one. All others come before the password is
        # looked at: no matching line in pg_hba.conf, too many clients, a server that starts.
        is_wrong = error.sqlstate == "28P01" and not role.expired
        return PasswordCheck.DIFFERS if is_wrong else PasswordCheck.UNKNOWN
    return PasswordCheck.CURRENT
