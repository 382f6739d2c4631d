"""Certificates that are right, and wrong in each way, as files."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from weft.clients.tls.connect import server_context

SERVER = "right"
DAY = timedelta(days=1)


@cache
def authority() -> trustme.CA:
    """Whom clients trust."""
    return trustme.CA()


@cache
def other_authority() -> trustme.CA:
    """Whom nobody trusts."""
    return trustme.CA(organization_name="Nobody")


class Files:
    """Certificates in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.roots = directory / "roots.pem"
        authority().cert_pem.write_to_path(str(self.roots))

    def certificate(
        self, *names: str, issuer: trustme.CA | None = None, valid_days: tuple[float, float] = (-1, 1)
    ) -> Path:
        """A certificate for these names and its key, valid from so many days from now to so many.

        Args:
            *names: none for that of `SERVER` and its address.
            issuer: in place of the one whom clients trust.
            valid_days: from, to.
        """
        file = self._directory / f"{len(list(self._directory.iterdir()))}.pem"
        now = datetime.now(UTC)
        issued = (issuer or authority()).issue_cert(
            *(names or (SERVER, "fc00::2")),
            not_before=now + valid_days[0] * DAY,
            not_after=now + valid_days[1] * DAY,
        )
        issued.private_key_and_cert_chain_pem.write_to_path(str(file))
        return file

    def self_signed(self, name: str = SERVER) -> Path:
        """A certificate that vouches for itself, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number(), now - DAY, now + DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, SHA256())
        )
        file = self._directory / f"self-{name}.pem"
        file.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file

    def server(self) -> ssl.SSLContext:
        """What a server with the right certificate uses."""
        return server_context(self.certificate())
