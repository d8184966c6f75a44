"""Puts the certificate bundle of Amazon RDS into the artifact, or fails: nothing ships that could not verify a server.

The bundle is the file that the environment variable RDS_CA_BUNDLE names, else the one that AWS publishes. Each
certificate must parse; one that has expired is left out and named.

    python3 infra/fetch_certificates.py --target rds-ca-bundle.pem
"""

from __future__ import annotations

import argparse
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

PUBLISHED_BUNDLE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
PATH_VARIABLE = "RDS_CA_BUNDLE"
FETCH_TIMEOUT_SECONDS = 20
PEM_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class CertificatesError(Exception):
    """There is no bundle, or it holds nothing that could verify a server today."""


@dataclass(frozen=True)
class Certificate:
    """One certificate authority: its PEM text, its common name and the end of its validity (seconds since 1970)."""

    pem: str
    name: str
    expires: float


def ship_certificates(target: Path, given: str | None, now: float) -> list[str]:
    """Write the bundle to `target` and return the lines that say where it came from and what it holds.

    Raises CertificatesError.
    """
    text, origin = read_bundle(given)
    certificates = parse_bundle(text, origin)
    expired = [certificate for certificate in certificates if certificate.expires <= now]
    valid = [certificate for certificate in certificates if certificate.expires > now]
    if not valid:
        raise CertificatesError(f"all {len(expired)} certificates of {origin} have expired: give a current bundle")
    target.write_text("\n".join(certificate.pem for certificate in valid) + "\n", encoding="ascii")
    first = min(valid, key=lambda certificate: certificate.expires)
    return [
        f"certificates: {len(valid)} from {origin}, the first to expire is {first.name!r} on {_day(first.expires)}",
        *(f"certificates: left out, expired on {_day(each.expires)}: {each.name}" for each in expired),
    ]


def read_bundle(given: str | None) -> tuple[str, str]:
    """The text of the bundle and the name of its origin: the file given, else the published one."""
    if given:
        try:
            return Path(given).read_text(encoding="utf-8"), f"the file {given} ({PATH_VARIABLE})"
        except (OSError, UnicodeDecodeError) as error:
            raise CertificatesError(f"{PATH_VARIABLE} names {given}, which cannot be read: {error}") from error
    try:
        with urllib.request.urlopen(PUBLISHED_BUNDLE, timeout=FETCH_TIMEOUT_SECONDS) as answer:
            return answer.read().decode("utf-8"), PUBLISHED_BUNDLE
    except (urllib.error.URLError, OSError, UnicodeDecodeError) as error:
        raise CertificatesError(
            f"{PUBLISHED_BUNDLE} cannot be fetched ({error}): fetch it where there is a network "
            f"and name the file in {PATH_VARIABLE}"
        ) from error


def parse_bundle(text: str, origin: str) -> list[Certificate]:
    """Every certificate of a bundle, in its order. Raises CertificatesError, naming all that do not parse."""
    blocks = PEM_BLOCK.findall(text)
    parsed = [_parse_certificate(block) for block in blocks]
    broken = [f"number {place}: {result}" for place, result in enumerate(parsed, 1) if isinstance(result, str)]
    if broken or not blocks:
        raise CertificatesError(f"{origin} is no certificate bundle: {'; '.join(broken) or 'it holds none'}")
    return [result for result in parsed if isinstance(result, Certificate)]


def _parse_certificate(pem: str) -> Certificate | str:
    """The certificate, or what is wrong with it. OpenSSL parses: what it refuses here it would refuse at run time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        return f"does not parse ({error})"
    authorities = context.get_ca_certs()
    if not authorities:
        return "is not a certificate authority"
    subject = {key: value for relative_name in authorities[0]["subject"] for key, value in relative_name}
    expires = float(ssl.cert_time_to_seconds(str(authorities[0]["notAfter"])))
    return Certificate(pem, str(subject.get("commonName", "without a common name")), expires)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def main() -> int:
    """Write the bundle, say what it holds, and return the exit status."""
    parser = argparse.ArgumentParser(description="Write the certificate bundle of Amazon RDS to a file.")
    parser.add_argument("--target", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()
    try:
        lines = ship_certificates(arguments.target, os.environ.get(PATH_VARIABLE), time.time())
    except CertificatesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
