"""A certificate that a node makes for its own servers, and keeps, so that its fingerprint stays the same.

It is made anew when it is about to run out, or when the names and addresses of the node are others by then; its key
stays. Nobody vouches for it but itself: who connects is to be given the file, or to compare the fingerprint.

| extension        | what it says                          |
|------------------|---------------------------------------|
| subjectAltName   | the names and addresses of the node   |
| basicConstraints | no authority                          |
| keyUsage         | digitalSignature                      |
| extendedKeyUsage | serverAuth                            |

Source: RFC 5280 sections 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weft.errors import ConfigError
from weft.io.durable import create_file, read_private, replace_file

CERTIFICATE_FILE: Final = "serve_cert.pem"
KEY_FILE: Final = "serve_key.pem"
VALID: Final = timedelta(days=825)
"""More is refused by some systems even if they are told to trust it."""
RENEWED: Final = timedelta(days=60)
"""Before it runs out."""
_SKEW: Final = timedelta(days=1)
"""The clocks of others may be behind."""


@dataclass(frozen=True)
class OwnCertificate:
    """Files, and what people compare.

    Attributes:
        certificate: PEM; others may have it.
        key: PEM, secret.
        sha256: fingerprint, as `openssl x509 -fingerprint -sha256` prints it.
    """

    certificate: Path
    key: Path
    sha256: str


def own_certificate(directory: Path, names: Sequence[str], now: datetime | None = None) -> OwnCertificate:
    """The certificate of a node, made if there is none that will do.

    Args:
        directory: of the node.
        names: names and addresses that it is to be for; the first is its subject.
        now: None for the clock's.

    Raises:
        ConfigError: a file can't be written, or others can read the key.
        OSError: the certificate can't be read.
    """
    now = now or datetime.now(UTC)
    path, key_path = directory / CERTIFICATE_FILE, directory / KEY_FILE
    key = _key(key_path)
    certificate = _kept(path)
    if certificate is None or not _will_do(certificate, key, names, now):
        certificate = _make(key, names, now)
        replace_file(path, certificate.public_bytes(Encoding.PEM))
    return OwnCertificate(path, key_path, certificate.fingerprint(SHA256()).hex(":").upper())


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    with suppress(FileExistsError):
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            create_file(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        key = load_pem_private_key(read_private(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("holds no key that weft made; remove it for a new one", file=str(path))
    return key


def _kept(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _will_do(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime
) -> bool:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return (
        certificate.public_key() == key.public_key()
        and certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEWED
        and named == _alternatives(names)
    )


def _make(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), now - _SKEW, now + VALID
        )
        .add_extension(_alternatives(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(name) for name in names])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
