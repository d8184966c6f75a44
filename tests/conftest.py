"""What every test may ask for: real PostgreSQL servers of each version, started when first needed."""

import functools
import hashlib
import os
import re
import shutil
import signal
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from stack import binaries, postgres
from stack.aws import Aws
from stack.postgres import Login, Server
from stack.world import World

Servers = Callable[[int], Server]


# Seconds that the groups of a file took, where that is more than its number of tests tells. The longest begin first, so
# that all processes are busy to the end.
SECONDS = {
    "deploy": 450,
    "test_examples_apply": 270,
    "test_retiring": 80,
    "test_isolated_changes": 70,
    "test_killed_anywhere": 65,
    "test_scenarios": 60,
    "test_every_statement_fails": 60,
    "test_hostile": 50,
    "test_canary": 50,
    "test_postgres_fails": 50,
    "test_demo": 50,
    "test_tutorial": 45,
    "test_hostile_locks": 45,
    "test_tfvars_terraform": 45,
    "test_counts": 42,
    "test_two_at_once": 40,
    "test_approvals": 40,
    "test_bad_input": 38,
    "test_doctor": 35,
    "test_retiring_rights": 35,
    "test_convergence": 33,
    "test_pre_commit": 30,
    "test_preflight": 30,
    "test_first_generation": 30,
    "test_aws_fails": 28,
    "test_probes": 25,
    "test_in_sync": 25,
    "test_run_lock": 25,
    "test_access": 20,
    "test_access_page": 20,
    "test_leaving": 20,
    "test_iam_roles": 20,
    "test_rotation": 20,
    "test_processes": 20,
    "test_retiring_others": 20,
    "test_lambda_clock": 18,
    "test_access_theorem": 18,
    "test_many_objects": 18,
}
# What an example takes says more of what else the machine does.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("usual", PATIENT)
settings.register_profile("dev", PATIENT, max_examples=25)
settings.load_profile("usual")

# Each run forgets the passwords that it has hashed, as it should, and hashes the same ones again: 4 ms of each.
hashlib.pbkdf2_hmac = functools.cache(hashlib.pbkdf2_hmac)

ADMINISTRATORS = {"master", "delegated"}

MEMORY = Path("/dev/shm")
# What two dozen servers take; less than that is left to those who share memory.
ENOUGH_MEMORY = 4 * 2**30


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "each test meets one administrator on each PostgreSQL version, by turns (decision 0024)"
    parser.addoption("--administrators-in-turn", action="store_true", help=text)


def pytest_configure() -> None:
    """A run in the background ignores Ctrl-C and hands that on to its children; the tests send it to them."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Terraform and its provider live for seconds: collecting garbage four times as often saves nobody anything.
    os.environ.setdefault("GOGC", "400")
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_MEMORY:
        postgres.data_parent = MEMORY


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Bring the groups into the order in which they are handed out, after pytest has sorted by fixtures."""
    yield
    if config.getoption("administrators_in_turn"):
        items[:] = [item for item in items if not _is_the_others_turn(item)]
    count = Counter(group_of(item.nodeid) for item in items)

    def rank(item: pytest.Item) -> tuple[float, str]:
        group = group_of(item.nodeid)
        seconds = SECONDS.get(group.split()[0].rpartition("/")[2], count[group] / 10)
        # The versions of a file that waits for locks come one after the other, not all at once.
        version = re.search(r" pg(\d+)$", group)
        return -seconds * (1 - (int(version[1]) - 13) / 10 if version else 1), group

    items.sort(key=rank)


def _is_the_others_turn(item: pytest.Item) -> bool:
    """Whether the test meets the other administrator on this version: master and delegated take turns by version."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    mine = ADMINISTRATORS & {value for value in parameters.values() if isinstance(value, str)}
    if not mine or "postgres_version" not in parameters or item.get_closest_marker("both_administrators"):
        return False
    turn = zlib.crc32(item.name.partition("[")[0].encode()) + parameters["postgres_version"]
    return mine != {("master", "delegated")[turn % 2]}


def group_of(nodeid: str) -> str:
    """What one process takes at a time: a file's tests of one PostgreSQL version."""
    file, _, name = nodeid.partition("::")
    if "/deploy/" in file:
        return "deploy"  # the built artifact is one for all
    if "test_killed_anywhere" in file:
        return f"{file.removesuffix('.py')} {name}"  # each enumeration takes a minute
    version = re.search(r"[\[-](pg\d+)[\]-]", name)
    return f"{file.removesuffix('.py')} {version[1] if version else ''}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """The processes share the tests group by group. (The marks that xdist has for this are lost on pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which PostgreSQL versions this run stands on, which are missing, and who administers them."""
    in_turn = config.getoption("administrators_in_turn")
    return [
        "postgresql: " + ", ".join(binaries.describe(version) for version in binaries.VERSIONS),
        f"administrators: {'one on each version, by turns' if in_turn else 'both on each version'}",
    ]


TOLD = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Lets a test say a number that a reader of the run should see, such as how many cases it has counted out."""
    return lambda text: record_property(TOLD, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests had to tell."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == TOLD and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `postgres_version` runs once on each; a version that cannot be had is named as skipped."""
    if "postgres_version" in metafunc.fixturenames:
        metafunc.parametrize(
            "postgres_version", [_parameter(version) for version in binaries.VERSIONS], scope="session"
        )


def _parameter(version: int) -> object:
    # With none at all the run has to fail, not to pass by skipping.
    missing = version not in binaries.available() and bool(binaries.available())
    reason = f"PostgreSQL {version} is neither on this machine nor to be had from npm"
    return pytest.param(version, id=f"pg{version}", marks=pytest.mark.skipif(missing, reason=reason))


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """One shared server for each version; whoever uses one directly resets it first."""
    started: dict[int, Server] = {}
    with ExitStack() as stack:

        def serve(version: int) -> Server:
            if version not in started:
                started[version] = stack.enter_context(Server(version))
            return started[version]

        yield serve


@pytest.fixture
def pg_server(postgres_version: int, postgres_servers: Servers) -> Server:
    """A server as new, once for each PostgreSQL version."""
    server = postgres_servers(postgres_version)
    server.reset()
    return server


@pytest.fixture
def latest_server(postgres_servers: Servers) -> Server:
    """A server as new, of the newest version that can be had."""
    server = postgres_servers(max(binaries.available(), default=max(binaries.VERSIONS)))
    server.reset()
    return server


@pytest.fixture(params=["master", "delegated"])
def admin(request: pytest.FixtureRequest) -> Login:
    """Either administrator of the test's server: the RDS master, or the role that `infra/admin-role.sql` makes."""
    name = "latest_server" if "latest_server" in request.fixturenames else "pg_server"
    server: Server = request.getfixturevalue(name)
    return server.master if request.param == "master" else server.create_delegated_admin()


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Aws]:
    """The session's one AWS; a test asks for `aws`."""
    with Aws() as server:
        yield server


@pytest.fixture
def aws(aws_server: Aws) -> Aws:
    """An empty AWS without failures or memories."""
    aws_server.reset()
    return aws_server


@pytest.fixture
def world(latest_server: Server, aws: Aws) -> Iterator[World]:
    """An environment in which nothing is declared yet, with the delegated administrator, on the newest server."""
    with World(latest_server, aws, latest_server.create_delegated_admin()) as made:
        yield made
