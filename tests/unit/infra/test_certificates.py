"""The bundle in the artifact: where it comes from, what is refused, what is left out."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fetch_certificates
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fetch_certificates import CertificatesError, parse_bundle, read_bundle, ship_certificates

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def make_certificate(name: str, *, expires: datetime = NOW + timedelta(days=365), authority: bool = True) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(expires - timedelta(days=3650)).not_valid_after(expires)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def ship(folder: Path, text: str) -> tuple[list[str], str]:
    (folder / "given.pem").write_text(text)
    lines = ship_certificates(folder / "target.pem", str(folder / "given.pem"), NOW.timestamp())
    return lines, (folder / "target.pem").read_text()


def test_the_line_says_where_the_bundle_came_from_and_what_expires_first(tmp_path: Path) -> None:
    soon = make_certificate("Soon", expires=datetime(2027, 1, 2, tzinfo=UTC))
    lines, _ = ship(tmp_path, make_certificate("Later", expires=datetime(2060, 1, 1, tzinfo=UTC)) + soon)
    origin = f"the file {tmp_path}/given.pem (RDS_CA_BUNDLE)"
    assert lines == [f"certificates: 2 from {origin}, the first to expire is 'Soon' on 2027-01-02"]


def test_what_is_shipped_can_be_loaded_as_a_trust_store(tmp_path: Path) -> None:
    ship(tmp_path, make_certificate("One") + "a remark between two certificates\n" + make_certificate("Two"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "target.pem")
    assert len(context.get_ca_certs()) == 2


def test_an_expired_certificate_is_left_out_and_named(tmp_path: Path) -> None:
    expired, valid = make_certificate("Old", expires=NOW - timedelta(days=1)), make_certificate("New")
    lines, shipped = ship(tmp_path, expired + valid)
    assert shipped == valid
    assert lines[1:] == ["certificates: left out, expired on 2026-05-31: Old"]


def test_a_bundle_in_which_everything_has_expired_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificatesError, match="all 1 certificates"):
        ship(tmp_path, make_certificate("Old", expires=NOW - timedelta(seconds=1)))
    assert not (tmp_path / "target.pem").exists()


def test_every_certificate_that_does_not_parse_is_named_by_its_place() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    with pytest.raises(CertificatesError, match=r"number 2: does not parse .*; number 3: does not parse"):
        parse_bundle(make_certificate("Good") + broken + broken, "the bundle")


def test_a_server_certificate_is_no_authority() -> None:
    with pytest.raises(CertificatesError, match="number 1: is not a certificate authority"):
        parse_bundle(make_certificate("db.example.internal", authority=False), "the bundle")


def test_a_file_without_certificates_is_refused() -> None:
    with pytest.raises(CertificatesError, match="it holds none"):
        parse_bundle("<html>not found</html>", "the bundle")


def test_a_file_that_is_not_there_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(CertificatesError, match=r"RDS_CA_BUNDLE names .*missing\.pem, which cannot be read"):
        read_bundle(str(tmp_path / "missing.pem"))


def test_without_a_network_the_error_says_how_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_certificates, "PUBLISHED_BUNDLE", "http://127.0.0.1:9/bundle.pem")
    with pytest.raises(CertificatesError, match=r"127\.0\.0\.1:9.* name the file in RDS_CA_BUNDLE"):
        read_bundle(None)
