"""TLS over a connection that is in use: by `Streams.start_tls`, by `StreamWriter.start_tls`, by asyncio's loop."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from tests.unit.api.streams.certificates import client_context, server_context
from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import BufferedRecorder, Recorder, turns, until

GO = b"220 go ahead\r\n"
Complaints = list[dict[str, Any]]


def is_uvloop() -> bool:
    return isinstance(asyncio.get_running_loop(), uvloop.Loop)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that goes on with TLS when it is asked to, and echoes."""
    assert await reader.readline() == b"STARTTLS\r\n"
    writer.write(GO)
    await writer.drain()
    try:
        await writer.start_tls(server_context())
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def ask(left: Node, right: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked such a server."""
    await right.streams.start_server(upgrade, None, 25)
    reader, writer = await left.streams.open_connection(right.ipv6, 25)
    writer.write(b"STARTTLS\r\n")
    assert await reader.readline() == GO
    return reader, writer


class TestStreamWriter:
    async def test_both_sides_go_on_with_tls(self, left: Node, right: Node) -> None:
        reader, writer = await ask(left, right)
        below = writer.transport
        await writer.start_tls(client_context(), server_hostname="right")
        assert writer.transport is not below
        assert writer.get_extra_info("cipher")
        assert writer.get_extra_info("peer") == f"peer at {right.ipv6}"
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        assert b"secret" not in b"".join(left.sent)
        writer.close()
        await writer.wait_closed()

    async def test_large_data_goes_there_and_back(self, left: Node, right: Node) -> None:
        reader, writer = await ask(left, right)
        await writer.start_tls(client_context(), server_hostname="right")
        writer.write(bytes(500_000))
        assert await reader.readexactly(500_000) == bytes(500_000)
        writer.close()
        await writer.wait_closed()

    async def test_certificate_for_another_name_is_refused(self, left: Node, right: Node) -> None:
        _, writer = await ask(left, right)
        with pytest.raises(ssl.SSLCertVerificationError):
            await writer.start_tls(client_context(), server_hostname="elsewhere.example.org")
        assert writer.is_closing()
        await until(lambda: not left.host.tcp.connections and not right.host.tcp.connections)

    async def test_server_that_does_not_go_on_times_out(self, left: Node, right: Node) -> None:
        await right.streams.create_server(Recorder, None, 25)
        _, writer = await left.streams.open_connection(right.ipv6, 25)
        with pytest.raises(ConnectionAbortedError):
            await writer.start_tls(client_context(), server_hostname="right", ssl_handshake_timeout=0.05)

    async def test_what_was_sent_in_the_clear_is_not_taken_for_secret(self, left: Node, right: Node) -> None:
        """The flaw of STARTTLS: an attacker puts a command in front of the TLS that follows."""
        await right.streams.start_server(upgrade, None, 25)
        reader, writer = await left.streams.open_connection(right.ipv6, 25)
        writer.write(b"STARTTLS\r\nEVIL COMMAND\r\n")
        assert await reader.readline() == GO
        with suppress(OSError):
            await writer.start_tls(client_context(), server_hostname="right")
            assert await reader.read() == b""
        assert b"EVIL" not in b"".join(right.sent)
        writer.close()

    async def test_client_does_not_take_it_for_secret_either(self, left: Node, right: Node) -> None:
        async def evil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(GO + b"250 forged answer\r\n")
            await writer.drain()
            await asyncio.sleep(0)
            writer.close()

        await right.streams.start_server(evil, None, 25)
        reader, writer = await left.streams.open_connection(right.ipv6, 25)
        assert await reader.readline() == GO
        await until(lambda: reader._buffer)  # type: ignore[attr-defined]
        with pytest.raises(OSError):  # noqa: PT011
            await writer.start_tls(client_context(), server_hostname="right")
        assert not reader._buffer  # type: ignore[attr-defined]

    async def test_hello_that_comes_early_is_not_lost(self, left: Node, right: Node) -> None:
        """The client's first message may be in the reader's buffer before the server has begun."""
        begun = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await until(lambda: reader._buffer)  # type: ignore[attr-defined]
            begun.set()
            await writer.start_tls(server_context())
            writer.write(b"got it")
            writer.close()

        await right.streams.start_server(slow, None, 25)
        reader, writer = await left.streams.open_connection(right.ipv6, 25)
        await writer.start_tls(client_context(), server_hostname="right")
        assert begun.is_set()
        assert await reader.read() == b"got it"
        writer.close()


class TestTransports:
    @pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
    async def test_protocols_of_both_kinds_go_on(self, left: Node, right: Node, kind: Any) -> None:
        served: list[Any] = []

        def make() -> Any:
            served.append(kind())
            return served[-1]

        await right.streams.create_server(make, None, 25)
        transport, protocol = await left.streams.create_connection(kind, right.ipv6, 25)
        await until(lambda: served and served[0].transport)
        upgrading = asyncio.create_task(
            right.streams.start_tls(served[0].transport, served[0], server_context(), server_side=True)
        )
        ours = await left.streams.start_tls(transport, protocol, client_context(), server_hostname="right")
        theirs = await upgrading
        ours.write(b"question")
        await until(lambda: served[0].data == b"question")
        theirs.write(b"answer")
        seen: Any = protocol
        await until(lambda: seen.data == b"answer")
        assert seen.events == ["made"]
        ours.close()
        await seen.lost
        await served[0].lost
        assert seen.events == ["made", "eof", "lost"]

    async def test_tls_within_tls(self, left: Node, right: Node) -> None:
        served: list[Recorder] = []

        def make() -> Recorder:
            served.append(Recorder())
            return served[-1]

        await right.streams.create_server(make, None, 443, ssl=server_context())
        outer, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        assert isinstance(protocol, Recorder)
        await until(lambda: served and served[0].transport)
        upgrading = asyncio.create_task(
            right.streams.start_tls(served[0].transport, served[0], server_context(), server_side=True)
        )
        inner = await left.streams.start_tls(outer, protocol, client_context(), server_hostname="right")
        theirs = await upgrading
        inner.write(b"x" * 100_000)
        await until(lambda: len(served[0].data) == 100_000)
        theirs.write(b"answer")
        await until(lambda: protocol.data == b"answer")
        inner.close()
        await protocol.lost
        await served[0].lost

    async def test_failure_of_tls_within_tls_is_told(self, left: Node, right: Node) -> None:
        served: list[Recorder] = []

        def make() -> Recorder:
            served.append(Recorder())
            return served[-1]

        await right.streams.create_server(make, None, 443, ssl=server_context())
        outer, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        await until(lambda: served and served[0].transport)
        upgrading = asyncio.create_task(
            right.streams.start_tls(served[0].transport, served[0], server_context(), server_side=True)
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            await left.streams.start_tls(outer, protocol, client_context(), server_hostname="elsewhere.example.org")
        with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset
            await upgrading
        await until(lambda: not left.host.tcp.connections and not right.host.tcp.connections)

    async def test_cancelled_closes(self, left: Node, right: Node) -> None:
        served: list[Recorder] = []

        def make() -> Recorder:
            served.append(Recorder())
            return served[-1]

        await right.streams.create_server(make, None, 25)
        transport, protocol = await left.streams.create_connection(Recorder, right.ipv6, 25)
        task = asyncio.create_task(
            left.streams.start_tls(transport, protocol, client_context(), server_hostname="right")
        )
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.is_closing()
        await served[0].lost

    @pytest.mark.parametrize("context", [None, True, "context"])
    async def test_context_must_be_one(self, left: Node, right: Node, context: Any) -> None:
        await right.streams.create_server(Recorder, None, 25)
        transport, protocol = await left.streams.create_connection(Recorder, right.ipv6, 25)
        with pytest.raises(TypeError, match="SSLContext"):
            await left.streams.start_tls(transport, protocol, context)
        transport.close()

    @pytest.mark.parametrize("transport", [None, asyncio.Transport(), object()])
    async def test_transport_must_be_one_of_ours(self, left: Node, transport: Any) -> None:
        with pytest.raises(TypeError, match=r"is not supported by start_tls\(\)"):
            await left.streams.start_tls(transport, Recorder(), client_context())

    async def test_method_of_the_loop_works_on_asyncio(self, left: Node, right: Node) -> None:
        if is_uvloop():
            # That it refuses is why there is one of ours.
            await right.streams.create_server(Recorder, None, 25)
            transport, protocol = await left.streams.create_connection(Recorder, right.ipv6, 25)
            with pytest.raises(TypeError):
                await asyncio.get_running_loop().start_tls(transport, protocol, client_context())
            transport.close()
            return
        await right.streams.start_server(upgrade, None, 25)
        below, protocol = await left.streams.create_connection(Recorder, right.ipv6, 25)
        assert isinstance(protocol, Recorder)
        below.write(b"STARTTLS\r\n")
        await until(lambda: protocol.data == GO)
        transport = await asyncio.get_running_loop().start_tls(
            below, protocol, client_context(), server_hostname="right"
        )
        assert transport is not None
        transport.write(b"secret\n")
        await until(lambda: protocol.data == GO + b"secret\n")
        transport.close()
        await protocol.lost
