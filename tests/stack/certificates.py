"""A certificate authority made for one session, and the server certificates that it issues, right or wrong."""

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """A server's key and certificate as PEM, and the file with the authority that a client should trust."""

    key: bytes
    chain: bytes
    ca_file: Path


class Authority:
    """A certificate authority whose root is also a file, as a client's bundle."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        folder = Path(tempfile.mkdtemp(prefix="authority-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # Child processes of another user must be able to read it.
        folder.chmod(0o755)
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def issue(self, host: str = "localhost", *, expired: bool = False) -> Certificate:
        """A certificate for one host name, valid now or since yesterday no longer."""
        now = datetime.now(UTC)
        issued = self._ca.issue_cert(
            host,
            not_before=now - timedelta(days=2),
            not_after=now - timedelta(days=1) if expired else now + timedelta(days=1),
        )
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return Certificate(issued.private_key_pem.bytes(), chain, self.ca_file)


@functools.cache
def session_authority() -> Authority:
    """The authority that servers of this session use unless they are told otherwise."""
    return Authority()


@functools.cache
def session_certificate() -> Certificate:
    """The certificate for `localhost` that servers of this session show unless they are told otherwise."""
    return session_authority().issue("localhost")
