"""Contexts of TLS: what is agreed on, who trusts whom, and what is resumed, over two hosts."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.api.streams.joined import Node
from tests.unit.clients.certificates import SERVER, Files, other_authority
from weft.clients.tls.connect import NAMES_KEPT, client_context, server_context
from weft.errors import UsageError

SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}
PORT = 443


async def greet(node: Node, context: ssl.SSLContext, name: str = SERVER) -> ssl.SSLObject:
    """Connect, hear the server's greeting, which comes behind its tickets, and return what the connection said."""
    reader, writer = await node.streams.open_connection("fc00::2", PORT, ssl=context, server_hostname=name)
    try:
        assert await reader.readexactly(5) == b"hello"
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return tls
    finally:
        writer.close()


async def serve(node: Node, context: ssl.SSLContext) -> Any:
    async def greet_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        with suppress(OSError):
            await reader.read()
        writer.close()

    return await node.streams.start_server(greet_back, None, PORT, ssl=context)


class TestAgreement:
    async def test_it_is_tls_13_with_one_of_the_three_suites(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.server())
        tls = await greet(left, client_context(roots=files.roots))
        assert tls.version() == "TLSv1.3"
        assert tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        offered = {each["name"] for each in client_context().get_ciphers()}
        assert offered >= SUITES

    async def test_client_speaks_tls_12_with_servers_that_have_nothing_newer(
        self, left: Node, right: Node, files: Files
    ) -> None:
        context = files.server()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        await serve(right, context)
        assert (await greet(left, client_context(roots=files.roots))).version() == "TLSv1.2"

    async def test_server_speaks_nothing_older_than_tls_13(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.server())
        old = client_context(roots=files.roots)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await greet(left, old)

    @pytest.mark.parametrize(
        ("of_client", "of_server", "agreed"),
        [
            (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
            (("http/1.1", "h2"), ("h2", "http/1.1"), "h2"),
            (("h2",), (), None),
            ((), ("h2",), None),
        ],
    )
    async def test_protocol_is_the_first_of_the_servers_that_the_client_has(
        self, left: Node, right: Node, files: Files, of_client: tuple[str, ...], of_server: tuple[str, ...], agreed: str
    ) -> None:
        await serve(right, server_context(files.certificate(), alpn=of_server))
        tls = await greet(left, client_context(roots=files.roots, alpn=of_client))
        assert tls.selected_alpn_protocol() == agreed

    @pytest.mark.parametrize(("name", "asked"), [(SERVER, SERVER), ("fc00::2", None)])
    async def test_name_is_sent_unless_it_is_an_address(
        self, left: Node, right: Node, files: Files, name: str, asked: str | None
    ) -> None:
        context, seen = files.server(), []
        context.sni_callback = lambda _, name, __: seen.append(name)
        await serve(right, context)
        await greet(left, client_context(roots=files.roots), name)
        assert seen == [asked]


class TestTrust:
    async def test_own_roots_stand_in_place_of_the_systems(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.server())
        assert (await greet(left, client_context(roots=files.roots))).getpeercert()
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            await greet(left, client_context())

    async def test_roots_of_the_system(
        self, left: Node, right: Node, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(files.roots))
        await serve(right, files.server())
        assert (await greet(left, client_context())).getpeercert()

    async def test_empty_directory_of_roots_trusts_nobody(
        self, left: Node, right: Node, files: Files, tmp_path: Path
    ) -> None:
        await serve(right, files.server())
        (tmp_path / "empty").mkdir()
        with pytest.raises(ssl.SSLCertVerificationError):
            await greet(left, client_context(roots=tmp_path / "empty"))

    async def test_one_certificate_as_the_only_root(self, left: Node, right: Node, files: Files) -> None:
        own = files.self_signed()
        await serve(right, server_context(own))
        assert (await greet(left, client_context(roots=own))).getpeercert()

    async def test_without_verification_anybody_will_do(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, server_context(files.certificate("nobody", issuer=other_authority(), valid_days=(-9, -8))))
        assert (await greet(left, client_context(verify=False))).version() == "TLSv1.3"

    async def test_client_with_a_certificate(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, server_context(files.certificate(), clients=files.roots))
        context = client_context(roots=files.roots, certificate=files.certificate("me@example.org"))
        assert (await greet(left, context)).version() == "TLSv1.3"

    @pytest.mark.parametrize("shows", [False, True])
    async def test_client_whom_the_server_does_not_know(
        self, left: Node, right: Node, files: Files, shows: bool
    ) -> None:
        await serve(right, server_context(files.certificate(), clients=files.roots))
        certificate = files.certificate("me@example.org", issuer=other_authority()) if shows else None
        with pytest.raises(OSError, match="ALERT"):
            await greet(left, client_context(roots=files.roots, certificate=certificate))


class TestResumption:
    async def test_next_connection_resumes(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.server())
        context = client_context(roots=files.roots)
        assert [(await greet(left, context)).session_reused for _ in range(4)] == [False, True, True, True]

    async def test_with_the_systems_roots_too(
        self, left: Node, right: Node, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(files.roots))
        await serve(right, files.server())
        context = client_context()
        assert [(await greet(left, context)).session_reused for _ in range(2)] == [False, True]

    async def test_other_name_does_not_resume(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.server())
        context = client_context(roots=files.roots)
        await greet(left, context)
        assert not (await greet(left, context, "fc00::2")).session_reused

    async def test_connection_that_was_not_verified_is_not_resumed_by_one_that_is(
        self, left: Node, right: Node, files: Files
    ) -> None:
        await serve(right, server_context(files.certificate(issuer=other_authority())))
        context = client_context(verify=False)
        await greet(left, context)
        context.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(ssl.SSLCertVerificationError):
            await greet(left, context)

    async def test_server_that_has_forgotten_shakes_hands_anew(self, left: Node, right: Node, files: Files) -> None:
        server = await serve(right, files.server())
        context = client_context(roots=files.roots)
        await greet(left, context)
        server.close()
        await serve(right, files.server())
        assert not (await greet(left, context)).session_reused
        assert (await greet(left, context)).session_reused

    def test_not_more_than_some_names_are_kept(self, files: Files) -> None:
        context = client_context(roots=files.roots)
        for number in range(2 * NAMES_KEPT):
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=f"host{number}")
        assert len(context.__dict__["_latest"]) == NAMES_KEPT


class TestFiles:
    @pytest.mark.parametrize("what", ["roots", "certificate", "key"])
    def test_missing_file_is_named(self, files: Files, tmp_path: Path, what: str) -> None:
        missing = tmp_path / "missing.pem"
        given: dict[str, Any] = {"certificate": files.certificate(), what: missing}
        with pytest.raises(FileNotFoundError) as raised:
            client_context(**given)
        assert raised.value.filename == str(missing)

    @pytest.mark.parametrize("what", ["roots", "certificate", "key"])
    def test_file_with_something_else_is_named(self, files: Files, tmp_path: Path, what: str) -> None:
        other = tmp_path / "notes.txt"
        other.write_text("nothing of the kind")
        given: dict[str, Any] = {"certificate": files.certificate(), what: other}
        with pytest.raises(UsageError, match=r"notes\.txt"):
            client_context(**given)

    def test_key_of_another_certificate(self, files: Files) -> None:
        with pytest.raises(UsageError, match="no certificate with its private key"):
            server_context(files.certificate(), files.certificate("another"))

    def test_encrypted_key_is_not_asked_for_at_the_terminal(self, files: Files, tmp_path: Path) -> None:
        encrypted = tmp_path / "encrypted.pem"
        encrypted.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        with pytest.raises(UsageError, match="encrypted"):
            client_context(certificate=files.certificate(), key=encrypted)
