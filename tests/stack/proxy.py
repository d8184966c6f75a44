"""A TCP proxy on loopback in front of a server: adds latency, counts what passes, and breaks connections on demand."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Self

_CHUNK_BYTES = 64 * 1024
# What a PostgreSQL client says first: eight bytes long, code 1234.5679.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Counts:
    """What passed since the start or the last `reset_counts()`; bytes and messages are the client's and the server's.

    A round trip begins when a client speaks for the first time or after the server spoke.
    """

    connections: int = 0
    peak_connections: int = 0
    round_trips: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(frozen=True)
class Recording:
    """What one connection's client sent and received, as it stood on the wire."""

    sent: bytearray
    received: bytearray


class Proxy:
    """A proxy on a port that the system gives, from entering to leaving.

    Args:
        port: the server's port on this machine.
        delay_seconds: added to each round trip, half of it each way.
        refuse_tls: answer "no TLS here" in the server's name, as somebody in the middle would.
        record: keep what passes, in `recordings`.
    """

    host = "localhost"

    def __init__(
        self, port: int, *, delay_seconds: float = 0.0, refuse_tls: bool = False, record: bool = False
    ) -> None:
        self.port = 0
        self.recordings: list[Recording] = []
        self._server_port = port
        self._delay_seconds = delay_seconds
        self._refuse_tls = refuse_tls
        self._record = record
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._refusing = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._drop_after: int | None = None
        self._drop_delivered = False
        self.reset_counts()

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening and drop what is open."""
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume()
        self.drop()

    def counts(self) -> Counts:
        """The counts so far."""
        with self._lock:
            return Counts(self._connections, self._peak, self._round_trips, self._sent, self._received)

    def reset_counts(self) -> None:
        """Count from zero; connections that are open count for the peak."""
        with self._lock:
            self._connections = self._round_trips = self._sent = self._received = 0
            self._peak = len(self._open)

    def drop(self) -> None:
        """Break every open connection."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.close()

    def drop_after(self, messages: int, *, delivered: bool = False) -> None:
        """Break every connection at the nth client message from now, counted over all of them, and refuse new ones.

        With `delivered` the server still gets that message, and only its answer is lost.
        """
        with self._lock:
            self._drop_after, self._drop_delivered = messages, delivered

    def refuse(self) -> None:
        """Close each new connection at once."""
        self._refusing = True

    def stall(self) -> None:
        """Let nothing pass, as when a network swallows packets; connections stay open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything pass again."""
        self._refusing = False
        self._drop_after = None
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        connection = _Connection(self, client, server)
        with self._lock:
            self._open.add(connection)
            self._connections += 1
            self._peak = max(self._peak, len(self._open))
            if self._record:
                self.recordings.append(connection.recording)
        connection.run(self._delay_seconds / 2, self._flowing, refuse_tls=self._refuse_tls)
        with self._lock:
            self._open.discard(connection)

    def _note_sent(self, connection: "_Connection", data: bytes) -> bool:
        """Count a client's message; False when it is the one at which all breaks and that is not delivered."""
        with self._lock:
            self._sent += len(data)
            if connection.server_spoke_last:
                self._round_trips += 1
            connection.server_spoke_last = False
            if self._record:
                connection.recording.sent.extend(data)
            if self._drop_after is None:
                return True
            self._drop_after -= 1
            if self._drop_after > 0:
                return True
            self._drop_after = None
            self._refusing = True
            delivered = self._drop_delivered
        if delivered:
            connection.send_without_answer(data)
        self.drop()
        return False

    def _note_received(self, connection: "_Connection", data: bytes) -> None:
        with self._lock:
            self._received += len(data)
            connection.server_spoke_last = True
            if self._record:
                connection.recording.received.extend(data)


class _Connection:
    """One client's connection and ours to the server; a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.recording = Recording(bytearray(), bytearray())
        self.server_spoke_last = True
        self._proxy = proxy
        self._client = client
        self._server = server
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, delay_seconds: float, flowing: threading.Event, *, refuse_tls: bool) -> None:
        """Carry both directions until both ends are closed."""
        if refuse_tls:
            self._refuse_tls()
        back = threading.Thread(
            target=self._carry, args=(self._server, self._client, delay_seconds, flowing), daemon=True
        )
        back.start()
        self._carry(self._client, self._server, delay_seconds, flowing)
        back.join()
        self.close()
        self._client.close()
        self._server.close()

    def send_without_answer(self, data: bytes) -> None:
        """Break the client's side, then deliver its last message."""
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
            self._server.sendall(data)
            # Time for the server to have done it before it finds its client gone.
            time.sleep(0.05)

    def close(self) -> None:
        """Break both sides; the threads that wait on them end."""
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _refuse_tls(self) -> None:
        with contextlib.suppress(OSError):
            if self._client.recv(len(_SSL_REQUEST), socket.MSG_PEEK | socket.MSG_WAITALL) == _SSL_REQUEST:
                self._proxy._note_sent(self, self._client.recv(len(_SSL_REQUEST)))
                self._proxy._note_received(self, b"N")
                self._client.sendall(b"N")

    def _carry(
        self, source: socket.socket, target: socket.socket, delay_seconds: float, flowing: threading.Event
    ) -> None:
        """Pass on each piece when its time has come, until the source has ended or all breaks."""
        while data := self._receive(source):
            if delay_seconds:
                time.sleep(delay_seconds)
                # What came meanwhile was on its way too; to wait for it again would make a long answer longer.
                data += self._receive(source, socket.MSG_DONTWAIT)
            flowing.wait()
            try:
                target.sendall(data)
            except OSError:
                break
        flowing.wait()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _receive(self, source: socket.socket, flags: int = 0) -> bytes:
        """What comes next, counted; nothing where the source has ended, or this is the message at which all breaks."""
        try:
            data = source.recv(_CHUNK_BYTES, flags)
        except OSError:
            return b""
        if data and source is self._server:
            self._proxy._note_received(self, data)
        elif data and not self._proxy._note_sent(self, data):
            return b""
        return data
