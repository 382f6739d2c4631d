"""A look at a handshake: what was agreed on, the chain, and in one line why it is to be believed or not."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.clients.certificates import SERVER, Files, authority, other_authority
from weft.clients.tls.connect import client_context, server_context
from weft.clients.tls.handshake import look
from weft.clients.tls.shaken import Handshake

PORT = 443


async def seen(node: Node, files: Files, host: str = SERVER, *, name: str | None = None, **options: Any) -> Handshake:
    """What a look at the server shows to somebody who trusts the authority."""

    def make_context(verify: bool) -> ssl.SSLContext:
        return client_context(verify=verify, roots=files.roots if verify else None, **options)

    return await look(node.streams, host, PORT, make_context, name=name)


async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await reader.read()
    writer.close()


async def serve(node: Node, certificate: Path, **options: Any) -> None:
    await node.streams.start_server(listen, None, PORT, ssl=server_context(certificate, **options))


class TestTrusted:
    async def test_what_is_told(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(), alpn=["http/1.1"])
        shaken = await seen(left, files, alpn=["h2", "http/1.1"])
        assert (shaken.host, shaken.port, shaken.address, shaken.name) == (SERVER, PORT, "fc00::2", SERVER)
        assert (shaken.version, shaken.cipher) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        assert shaken.alpn == "http/1.1"
        assert shaken.trusted
        assert shaken.refusal is None

    async def test_chain_ends_at_the_root(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate())
        shaken = await seen(left, files)
        own, root = shaken.chain
        assert own.names == [SERVER, "fc00::2"]
        assert own.key == "EC secp256r1"
        assert own.not_before is not None
        assert own.not_after is not None
        assert own.not_before < own.not_after
        assert len(own.sha256.split(":")) == 32
        assert own.issuer == root.subject == root.issuer
        assert shaken.reason == f"it is for {SERVER}, and {root.subject} vouches for it"

    async def test_chain_over_an_intermediate(self, left: Node, right: Node, files: Files) -> None:
        between = authority().create_child_ca()
        await serve(right, files.certificate(issuer=between))
        shaken = await seen(left, files)
        assert shaken.trusted
        assert [each.issuer for each in shaken.chain[:-1]] == [each.subject for each in shaken.chain[1:]]
        assert len(shaken.chain) == 3

    async def test_certificate_that_is_longer_than_a_record(self, left: Node, right: Node, files: Files) -> None:
        names = [f"host{number}.example.org" for number in range(1000)]
        await serve(right, files.certificate(SERVER, *names))
        shaken = await seen(left, files)
        assert shaken.trusted
        assert shaken.chain[0].names == [SERVER, *names]

    async def test_certificate_that_is_a_root_itself(self, left: Node, right: Node, files: Files) -> None:
        own = files.self_signed()
        await serve(right, own)
        shaken = await look(left.streams, SERVER, PORT, lambda verify: client_context(verify=verify, roots=own))
        assert (shaken.trusted, shaken.reason) == (True, "it is known here")
        assert [each.title for each in shaken.chain] == [SERVER]

    async def test_other_name_than_the_hosts(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate("www.example.org"))
        assert (await seen(left, files, name="www.example.org")).trusted

    async def test_one_connection_is_enough(self, left: Node, right: Node, files: Files) -> None:
        taken = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal taken
            taken += 1
            await listen(reader, writer)

        await right.streams.start_server(count, None, PORT, ssl=files.server())
        await seen(left, files)
        assert taken == 1

    async def test_it_is_json(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate())
        shaken = await seen(left, files)
        assert msgspec.json.decode(msgspec.json.encode(shaken), type=Handshake) == shaken


class TestNotTrusted:
    async def test_other_name(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate("www.example.org"))
        shaken = await seen(left, files)
        assert not shaken.trusted
        assert shaken.reason == f"it is for www.example.org, and not for {SERVER}"
        assert shaken.cipher == "TLS_AES_256_GCM_SHA384"

    async def test_other_address(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate())
        assert (await seen(left, files, "10.7.0.2")).reason == f"it is for {SERVER}, fc00::2, and not for 10.7.0.2"

    async def test_many_other_names(self, left: Node, right: Node, files: Files) -> None:
        names = [f"host{number}.example.org" for number in range(8)]
        await serve(right, files.certificate(*names))
        reason = (await seen(left, files)).reason
        assert reason == f"it is for {', '.join(names[:5])} and 3 more, and not for {SERVER}"

    async def test_expired(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(valid_days=(-9, -8)))
        shaken = await seen(left, files)
        date = shaken.chain[0].not_after
        assert shaken.reason == f"it expired on {date:%Y-%m-%d %H:%M} UTC"

    async def test_not_valid_yet(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(valid_days=(8, 9)))
        shaken = await seen(left, files)
        date = shaken.chain[0].not_before
        assert shaken.reason == f"it is not valid before {date:%Y-%m-%d %H:%M} UTC; is the clock right?"

    async def test_self_signed(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.self_signed())
        shaken = await seen(left, files)
        assert shaken.reason == "it is self-signed: nobody vouches for it but itself"
        assert len(shaken.chain) == 1

    async def test_unknown_issuer(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(issuer=other_authority()))
        shaken = await seen(left, files)
        assert shaken.reason.startswith("its issuer is not known here, or does not show its own certificate: ")
        assert "Nobody" in shaken.reason

    async def test_unknown_root_that_is_sent(self, left: Node, right: Node, files: Files, tmp_path: Path) -> None:
        file = files.certificate(issuer=other_authority())
        file.write_bytes(file.read_bytes() + other_authority().cert_pem.bytes())
        await serve(right, file)
        shaken = await seen(left, files)
        assert shaken.reason.startswith("its root is not known here: ")
        assert len(shaken.chain) == 2

    async def test_issuer_that_may_issue_none(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate())
        own = files.certificate("nobody")
        # Whoever is trusted for a name is no authority for others.
        shaken = await look(
            left.streams, SERVER, PORT, lambda verify: client_context(verify=verify, roots=own if verify else None)
        )
        assert not shaken.trusted


class TestRefusal:
    async def test_server_that_wants_a_certificate(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(), clients=files.roots)
        shaken = await seen(left, files)
        assert shaken.trusted
        assert shaken.refusal == "the other side refused: certificate required"

    async def test_server_that_ends_without_a_word(self, left: Node, right: Node, files: Files) -> None:
        await right.streams.start_server(lambda _, writer: writer.close(), None, PORT, ssl=files.server())
        assert (await seen(left, files)).refusal == "the other side ended the connection at once"

    async def test_server_that_says_what_it_has_to_say_and_ends(self, left: Node, right: Node, files: Files) -> None:
        def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"it is noon")
            writer.close()

        await right.streams.start_server(speak, None, PORT, ssl=files.server())
        assert (await seen(left, files)).refusal is None

    async def test_server_that_gets_one(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(), clients=files.roots)
        assert (await seen(left, files, certificate=files.certificate("me@example.org"))).refusal is None

    async def test_server_that_does_not_take_it(self, left: Node, right: Node, files: Files) -> None:
        await serve(right, files.certificate(), clients=files.roots)
        own = files.certificate("me@example.org", issuer=other_authority())
        assert (await seen(left, files, certificate=own)).refusal == "the other side refused: unknown ca"


class TestFailures:
    async def test_nobody_listens(self, left: Node, files: Files) -> None:
        with pytest.raises(ConnectionRefusedError):
            await seen(left, files, "fc00::2")

    async def test_no_tls(self, left: Node, right: Node, files: Files) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await listen(reader, writer)

        await right.streams.start_server(speak, None, PORT)
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            await seen(left, files)
