"""The certificate that a node makes for its servers: it stays as long as it will do, and is believed by who has it."""

from __future__ import annotations

import asyncio
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.unit.api.streams.joined import Node
from weft.clients.tls.connect import client_context, server_context
from weft.clients.tls.self_signed import VALID, OwnCertificate, own_certificate
from weft.errors import ConfigError

NAMES = ["right", "fc00::2", "12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRJHmW6Z4DQWXF.weft"]
STRICT = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
"""What Python 3.13 asks for by default."""


def read(made: OwnCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.certificate.read_bytes())


def test_stays_the_same(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, NAMES)
    assert own_certificate(tmp_path, NAMES) == first
    assert len(first.sha256) == 95
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert b"PRIVATE" not in first.certificate.read_bytes()


def test_made_anew_before_it_runs_out_with_the_same_key(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, NAMES)
    key = first.key.read_bytes()
    later = datetime.now(UTC) + VALID - timedelta(days=50)
    second = own_certificate(tmp_path, NAMES, later)
    assert second.sha256 != first.sha256
    assert second.key.read_bytes() == key
    assert read(second).not_valid_after_utc > later + timedelta(days=800)


def test_made_anew_for_other_names(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, NAMES)
    second = own_certificate(tmp_path, ["right", "10.7.0.2"])
    assert second.sha256 != first.sha256
    named = read(second).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named.get_values_for_type(x509.DNSName) == ["right"]
    assert [str(address) for address in named.get_values_for_type(x509.IPAddress)] == ["10.7.0.2"]


def test_certificate_that_is_none_or_of_another_key_is_made_anew(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, NAMES)
    first.certificate.write_text("nonsense")
    second = own_certificate(tmp_path, NAMES)
    second.key.unlink()
    third = own_certificate(tmp_path, NAMES)
    assert len({first.sha256, second.sha256, third.sha256}) == 3
    server_context(third.certificate, third.key)


def test_key_that_is_none_is_told(tmp_path: Path) -> None:
    made = own_certificate(tmp_path, NAMES)
    made.key.write_text("nonsense")
    with pytest.raises(ConfigError, match="remove it for a new one"):
        own_certificate(tmp_path, NAMES)


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    own_certificate(tmp_path, NAMES).key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        own_certificate(tmp_path, NAMES)


@pytest.mark.parametrize("host", ["right", "fc00::2"])
async def test_is_believed_by_who_has_it_and_nobody_else(left: Node, right: Node, tmp_path: Path, host: str) -> None:
    made = own_certificate(tmp_path, NAMES)

    def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await right.streams.start_server(speak, None, 443, ssl=server_context(made.certificate, made.key))
    context = client_context(roots=made.certificate)
    context.verify_flags |= STRICT
    reader, writer = await left.streams.open_connection(host, 443, ssl=context)
    assert await reader.read() == b"hello"
    writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await left.streams.open_connection(host, 443, ssl=client_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        await left.streams.open_connection("fc00::2", 443, ssl=context, server_hostname="left")
    server.close()
