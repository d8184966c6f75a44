"""What every test may ask for: real PostgreSQL servers of each version, started when first needed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from stack import binaries
from stack.aws import Aws
from stack.postgres import Login, Server

Servers = Callable[[int], Server]


def pytest_configure() -> None:
    """A run in the background ignores Ctrl-C and hands that on to its children; the tests send it to them."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the tests (`--dist loadgroup`): a file stays whole, as do those that need the artifact."""
    for item in items:
        folder = item.path.parent
        group = folder.name if folder.name == "deploy" else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_report_header() -> str:
    """Say which PostgreSQL versions this run stands on, and which are missing."""
    return "postgresql: " + ", ".join(binaries.describe(version) for version in binaries.VERSIONS)


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
