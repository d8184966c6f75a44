"""The proxy counts, delays and breaks what passes between a client and a server."""

import contextlib
import socket
import ssl
import time

import pg8000.native
import pytest

from stack.postgres import Server
from stack.proxy import Proxy


def connect(server: Server, proxy: Proxy) -> pg8000.native.Connection:
    """A verified connection through the proxy, without Nagle's algorithm so that time is the network's alone."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    connection = socket.create_connection(("127.0.0.1", proxy.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    username, password = server.master
    return pg8000.native.Connection(
        username, host="localhost", password=password, database="postgres", sock=connection, ssl_context=context
    )


def test_a_query_is_one_round_trip_and_a_bound_one_three(latest_server: Server) -> None:
    with Proxy(latest_server.port) as proxy, contextlib.closing(connect(latest_server, proxy)) as connection:
        proxy.reset_counts()
        connection.run("SELECT 1; SELECT 2")
        assert proxy.counts().round_trips == 1
        connection.run("SELECT :number::int", number=3)
        assert proxy.counts().round_trips == 4
        assert proxy.counts().bytes_sent > 0
        assert proxy.counts().bytes_received > 0


def test_connections_and_their_peak_are_counted(latest_server: Server) -> None:
    with Proxy(latest_server.port) as proxy:
        first, second = connect(latest_server, proxy), connect(latest_server, proxy)
        first.close()
        second.close()
        time.sleep(0.1)
        connect(latest_server, proxy).close()
        assert (proxy.counts().connections, proxy.counts().peak_connections) == (3, 2)


def test_each_round_trip_takes_the_delay_longer(latest_server: Server) -> None:
    with (
        Proxy(latest_server.port, delay_seconds=0.02) as proxy,
        contextlib.closing(connect(latest_server, proxy)) as connection,
    ):
        began = time.perf_counter()
        for _ in range(10):
            connection.run("SELECT 1")
        assert 0.2 <= time.perf_counter() - began < 0.35


def test_nothing_readable_is_on_the_wire(latest_server: Server) -> None:
    with Proxy(latest_server.port, record=True) as proxy:
        connect(latest_server, proxy).close()
        wire = bytes(proxy.recordings[0].sent + proxy.recordings[0].received)
    assert len(wire) > 1000
    assert b"platform_admin" not in wire
    assert latest_server.master.password.encode() not in wire


def test_somebody_in_the_middle_can_deny_tls(latest_server: Server) -> None:
    with (
        Proxy(latest_server.port, refuse_tls=True, record=True) as proxy,
        pytest.raises((pg8000.native.InterfaceError, pg8000.native.DatabaseError)),
    ):
        connect(latest_server, proxy)
    assert bytes(proxy.recordings[0].received[:1]) == b"N"


def test_connections_can_be_dropped_on_command_and_new_ones_refused(latest_server: Server) -> None:
    with Proxy(latest_server.port) as proxy:
        connection = connect(latest_server, proxy)
        proxy.drop()
        with pytest.raises((pg8000.native.InterfaceError, OSError)):
            connection.run("SELECT 1")
        connect(latest_server, proxy).close()
        proxy.refuse()
        with pytest.raises((pg8000.native.InterfaceError, OSError)):
            connect(latest_server, proxy)
        proxy.resume()
        connect(latest_server, proxy).close()


@pytest.mark.parametrize("lost", ["the message", "the answer"])
def test_the_nth_message_is_lost_or_its_answer_is(latest_server: Server, lost: str) -> None:
    with Proxy(latest_server.port) as proxy:
        connection = connect(latest_server, proxy)
        proxy.drop_after(2, delivered=lost == "the answer")
        connection.run("SELECT 1")
        with pytest.raises((pg8000.native.InterfaceError, OSError)):
            connection.run("CREATE ROLE made")
        with pytest.raises((pg8000.native.InterfaceError, OSError)):
            connect(latest_server, proxy)
    made = latest_server.run_as_superuser("SELECT rolname FROM pg_roles WHERE rolname = 'made'")
    assert made == ([["made"]] if lost == "the answer" else [])


def test_a_stalled_connection_answers_only_after_it_resumes(latest_server: Server) -> None:
    with Proxy(latest_server.port) as proxy:
        connection = connect(latest_server, proxy)
        connection._usock.settimeout(0.2)
        proxy.stall()
        with pytest.raises((pg8000.native.InterfaceError, TimeoutError)):
            connection.run("SELECT 1")
        proxy.resume()
        connect(latest_server, proxy).close()
