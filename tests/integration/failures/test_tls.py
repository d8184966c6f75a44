"""A server that cannot be trusted gets nothing: refused before a byte of a user name or password is sent."""

import base64
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from stack import binaries
from stack.certificates import Authority, Certificate, session_authority, session_certificate
from stack.postgres import Server
from stack.proxy import _SSL_REQUEST, Proxy

LATEST = max(binaries.available())


def _message(code: int, content: bytes = b"") -> bytes:
    """An authentication message of the protocol."""
    return b"R" + struct.pack("!ii", len(content) + 8, code) + content


USER, PASSWORD = "platform_admin", "canary-Pa55-never-sent"
# What a client that has not finished TLS has said at most: a hello of 0.3 to 0.6 KB and an alert.
MOST_BYTES_OF_A_HANDSHAKE = 1024


def connect(port: int, *, host: str = "localhost") -> str:
    """Connect as the product does and give back what the refusal says."""
    from provisioner.core.errors import DatabaseUnavailable
    from provisioner.edges.postgres import Login, ServerAddress, tls_context

    address = ServerAddress(host, port, tls_context(str(session_certificate().ca_file)))
    with pytest.raises(DatabaseUnavailable) as caught:
        Login(address, USER, PASSWORD, "postgres").connect()
    return str(caught.value)


def strangers() -> Certificate:
    return Authority().issue("localhost")


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        pytest.param(strangers, "is not trusted: unable to get local issuer certificate", id="another authority"),
        pytest.param(
            lambda: session_authority().issue("db.example.com"),
            "is not trusted: Hostname mismatch, certificate is not valid for 'localhost'.",
            id="another host",
        ),
        pytest.param(
            lambda: session_authority().issue("localhost", expired=True),
            "is not trusted: certificate has expired",
            id="expired",
        ),
    ],
)
def test_a_certificate_that_is_not_right_ends_it_before_the_start_up_packet(
    certificate: Callable[[], Certificate], reason: str
) -> None:
    with Server(LATEST, certificate=certificate()) as server, Proxy(server.port, record=True) as proxy:
        mark = server.mark()
        message = connect(proxy.port)
        assert reason in message
        assert "no password was sent" in message
        sent = bytes(proxy.recordings[0].sent)
        assert sent.startswith(_SSL_REQUEST)
        assert len(sent) < MOST_BYTES_OF_A_HANDSHAKE
        assert USER not in server.log_text(since=mark)


@pytest.fixture(scope="module")
def plain_server() -> Iterator[Server]:
    with Server(LATEST, tls=False) as server:
        yield server


def test_a_server_without_tls_is_refused_after_eight_bytes(plain_server: Server) -> None:
    with Proxy(plain_server.port, record=True) as proxy:
        assert "it offers no TLS" in connect(proxy.port)
        assert bytes(proxy.recordings[0].sent) == _SSL_REQUEST


def test_a_man_in_the_middle_who_denies_tls_is_refused_after_eight_bytes(latest_server: Server) -> None:
    with Proxy(latest_server.port, refuse_tls=True, record=True) as proxy:
        assert "it offers no TLS" in connect(proxy.port)
        assert bytes(proxy.recordings[0].sent) == _SSL_REQUEST


def test_an_error_in_place_of_tls_is_not_believed() -> None:
    """A man in the middle may inject an error text before TLS; nothing of it may be shown as the server's."""
    with _answering(b"E\x00\x00\x00\x2aSERROR\x00C42501\x00Mcall this number\x00\x00") as port:
        assert "call this number" not in connect(port)


READY = b"Z\x00\x00\x00\x05I"


def test_a_trusted_server_that_asks_for_the_password_in_clear_text_does_not_get_it() -> None:
    heard = bytearray()
    with _impostor(heard, _message(3)) as port:
        assert "it asks for the password in clear text" in connect(port)
    assert USER.encode() in heard
    assert PASSWORD.encode() not in heard


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([_message(0) + READY], id="it lets in at once"),
        pytest.param([READY], id="it is ready at once"),
        pytest.param(["challenge", _message(0) + READY], id="it leaves its own proof out"),
    ],
)
def test_a_trusted_server_that_does_not_prove_itself_hears_no_statement(answers: list[bytes | str]) -> None:
    heard = bytearray()
    with _impostor(heard, *answers) as port:
        assert "it lets in without having proved itself by SCRAM" in connect(port)
    assert b"Q\x00" not in heard
    assert PASSWORD.encode() not in heard


def test_a_trusted_server_whose_proof_is_wrong_hears_no_statement() -> None:
    heard = bytearray()
    wrong = b"v=" + base64.b64encode(bytes(32))
    with _impostor(heard, "challenge", _message(12, wrong) + _message(0) + READY) as port:
        assert "its proof is wrong" in connect(port)
    assert b"Q\x00" not in heard


def test_a_trusted_server_that_asks_for_an_md5_hash_does_not_get_one() -> None:
    from provisioner.edges.driver import VerifierRefused
    from provisioner.edges.postgres import Login, ServerAddress, tls_context

    heard = bytearray()
    with _impostor(heard, _message(5, b"salt")) as port:
        address = ServerAddress("localhost", port, tls_context(str(session_certificate().ca_file)))
        with pytest.raises(VerifierRefused, match="keeps the password as an MD5 hash"):
            Login(address, USER, PASSWORD, "postgres").connect()
    assert b"md5" not in heard


@contextlib.contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    def serve(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(answer)

    with _listening(serve) as port:
        yield port


@contextlib.contextmanager
def _impostor(heard: bytearray, *answers: bytes | str) -> Iterator[int]:
    """A server with the right certificate, which gives these answers to what it is told; "challenge" is SCRAM's."""
    certificate = session_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = certificate.ca_file.parent
    (folder / "fake.pem").write_bytes(certificate.key + certificate.chain)
    context.load_cert_chain(folder / "fake.pem")

    def serve(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secure:
            for answer in answers:
                heard.extend(secure.recv(65536))
                if answer == "challenge":
                    secure.sendall(_message(10, b"SCRAM-SHA-256\x00\x00"))
                    said = secure.recv(65536)
                    nonce = said.rpartition(b"r=")[2]
                    secure.sendall(_message(11, b"r=" + nonce + b"abc,s=" + base64.b64encode(bytes(16)) + b",i=4096"))
                else:
                    assert isinstance(answer, bytes)
                    secure.sendall(answer)
            with contextlib.suppress(OSError):
                while more := secure.recv(65536):
                    heard.extend(more)

    with _listening(serve) as port:
        yield port


@contextlib.contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one client on a port that the system gives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                serve(client)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
