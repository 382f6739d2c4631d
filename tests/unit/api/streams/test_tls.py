"""TLS over two hosts: the cases of CPython's `test_ssl` and `test_sslproto`, and of `test_events` with `ssl=`."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import ssl
import weakref
from contextlib import suppress
from typing import Any

import pytest

from tests.unit.api.streams.certificates import client_context, old, server_context
from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import BufferedRecorder, Recorder, turns, until
from weft.api.streams import Server


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(node: Node, factory: Any, context: ssl.SSLContext | None = None, **arguments: Any) -> Server:
    return await node.streams.create_server(factory, None, 443, ssl=context or server_context(), **arguments)


async def serve_echo(node: Node, context: ssl.SSLContext | None = None) -> Server:
    return await node.streams.start_server(echo, None, 443, ssl=context or server_context())


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


class Noting:
    """Makes protocols and keeps them."""

    def __init__(self, kind: Any = Recorder) -> None:
        self.kind = kind
        self.made: list[Any] = []

    def __call__(self) -> Any:
        self.made.append(self.kind())
        return self.made[-1]


class TestHandshake:
    @pytest.mark.parametrize("host", ["right", "fc00::2", "10.7.0.2"])
    async def test_data_goes_there_and_back(self, left: Node, right: Node, host: str) -> None:
        await serve_echo(right)
        reader, writer = await left.streams.open_connection(host, 443, ssl=client_context())
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await close(writer)

    async def test_large_data_is_the_same_both_ways(self, left: Node, right: Node) -> None:
        await serve_echo(right)
        reader, writer = await left.streams.open_connection("right", 443, ssl=client_context())
        data = os.urandom(2_000_000)

        async def send() -> None:
            for start in range(0, len(data), 50_000):
                writer.write(data[start : start + 50_000])
                await writer.drain()

        task = asyncio.create_task(send())
        back = await reader.readexactly(len(data))
        await task
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
        await close(writer)

    async def test_protocols_see_what_they_see_without_tls(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        assert isinstance(protocol, Recorder)
        assert protocol.transport is transport
        transport.write(b"one ")
        transport.writelines([b"two ", b"three"])
        await until(lambda: served.made and served.made[0].data == b"one two three")
        served.made[0].transport.write(b"answer")
        await until(lambda: protocol.data == b"answer")
        transport.close()
        assert await protocol.lost is None
        assert await served.made[0].lost is None
        assert protocol.events == ["made", "eof", "lost"]
        assert served.made[0].events == ["made", "eof", "lost"]

    async def test_is_a_transport_without_half_close(self, left: Node, right: Node) -> None:
        await serve(right, Recorder)
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        assert isinstance(transport, asyncio.Transport)
        assert not transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        with pytest.raises(TypeError):
            transport.write("text")  # type: ignore[arg-type]
        transport.close()

    async def test_extra_info_is_that_of_tls_and_of_the_transport_below(self, left: Node, right: Node) -> None:
        await serve_echo(right)
        context = client_context()
        _, writer = await left.streams.open_connection("right", 443, ssl=context)
        assert writer.get_extra_info("sslcontext") is context
        assert writer.get_extra_info("peercert")["subjectAltName"][0] == ("DNS", "right")
        assert writer.get_extra_info("cipher")[1].startswith("TLSv1")
        assert writer.get_extra_info("compression") is None
        assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
        assert writer.get_extra_info("peername") == (right.ipv6, 443, 0, 0)
        assert writer.get_extra_info("peer") == f"peer at {right.ipv6}"
        assert writer.get_extra_info("socket").fileno() == -1
        assert writer.get_extra_info("no such", 7) == 7
        await close(writer)

    async def test_server_sees_the_name_that_is_asked_for(self, left: Node, right: Node) -> None:
        asked: list[str | None] = []
        context = server_context()
        context.sni_callback = lambda _, name, __: asked.append(name)
        await serve(right, Recorder, context)
        for arguments in ({}, {"server_hostname": "10.7.0.2"}, {"server_hostname": "right"}):
            transport, _ = await left.streams.create_connection(
                Recorder, "right", 443, ssl=client_context(), **arguments
            )
            transport.close()
        assert asked == ["right", None, "right"]

    async def test_protocol_above_is_agreed_on(self, left: Node, right: Node) -> None:
        server, client = server_context(), client_context()
        server.set_alpn_protocols(["h2", "http/1.1"])
        client.set_alpn_protocols(["http/1.1"])
        await serve(right, Recorder, server)
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=client)
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        transport.close()

    async def test_many_handshakes_at_once(self, left: Node, right: Node) -> None:
        await serve_echo(right)
        context = client_context()

        async def talk(number: int) -> bytes:
            reader, writer = await left.streams.open_connection("right", 443, ssl=context)
            writer.write(b"%d\n" % number)
            line = await reader.readline()
            await close(writer)
            return line

        lines = await asyncio.gather(*map(talk, range(20)))
        assert lines == [b"%d\n" % number for number in range(20)]


class TestTrust:
    async def test_both_sides_show_certificates(self, left: Node, right: Node) -> None:
        seen: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("peercert"))
            await echo(reader, writer)

        await right.streams.start_server(tell, None, 443, ssl=server_context(asks=True))
        reader, writer = await left.streams.open_connection("right", 443, ssl=client_context(has_certificate=True))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert (await seen)["subjectAltName"] == (("email", "client@example.org"),)
        await close(writer)

    async def test_client_without_a_certificate_is_refused(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served, server_context(asks=True))
        reader, writer = await left.streams.open_connection("right", 443, ssl=client_context())
        # TLS 1.3: the client learns it with the first answer.
        with suppress(OSError):
            assert await reader.read() == b""
        with suppress(OSError):
            await close(writer)
        assert served.made[0].events == []

    async def test_client_without_a_certificate_is_refused_in_tls_1_2(self, left: Node, right: Node) -> None:
        await serve(right, Recorder, old(server_context(asks=True)))
        with pytest.raises(OSError):  # noqa: PT011
            await left.streams.create_connection(Recorder, "right", 443, ssl=old(client_context()))
        await until(lambda: not left.host.tcp.connections and not right.host.tcp.connections)

    @pytest.mark.parametrize("version", [lambda context: context, old])
    async def test_certificate_of_an_unknown_authority_is_refused(self, left: Node, right: Node, version: Any) -> None:
        served = Noting()
        await serve(right, served)
        with pytest.raises(ssl.SSLCertVerificationError):
            await left.streams.create_connection(Recorder, "right", 443, ssl=version(ssl.create_default_context()))
        await until(lambda: not left.host.tcp.connections and not right.host.tcp.connections)
        assert "made" not in served.made[0].events or version is not old

    async def test_default_context_knows_no_authority_of_ours(self, left: Node, right: Node) -> None:
        await serve(right, Recorder)
        with pytest.raises(ssl.SSLCertVerificationError):
            await left.streams.create_connection(Recorder, "right", 443, ssl=True)

    async def test_certificate_for_another_name_is_refused(self, left: Node, right: Node) -> None:
        await serve(right, Recorder, server_context("elsewhere.example.org"))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        transport, _ = await left.streams.create_connection(
            Recorder, "right", 443, ssl=client_context(), server_hostname="elsewhere.example.org"
        )
        transport.close()

    async def test_empty_name_asks_for_none(self, left: Node, right: Node) -> None:
        await serve(right, Recorder, server_context("elsewhere.example.org"))
        context = client_context()
        context.check_hostname = False
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=context, server_hostname="")
        transport.close()

    async def test_failure_of_a_handshake_is_no_complaint(
        self, left: Node, right: Node, complaints: list[dict[str, Any]]
    ) -> None:
        await serve(right, Recorder)
        with pytest.raises(ssl.SSLCertVerificationError):
            await left.streams.create_connection(Recorder, "right", 443, ssl=ssl.create_default_context())
        await until(lambda: not right.host.tcp.connections)
        assert complaints == []


class TestBrokenHandshake:
    async def test_server_that_says_nothing_times_out(self, left: Node, right: Node) -> None:
        await right.streams.create_server(Recorder, None, 443)
        with pytest.raises(ConnectionAbortedError, match=r"SSL handshake is taking longer than 0\.05 seconds"):
            await left.streams.create_connection(
                Recorder, "right", 443, ssl=client_context(), ssl_handshake_timeout=0.05
            )
        await until(lambda: not left.host.tcp.connections)

    async def test_client_that_says_nothing_times_out(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served, ssl_handshake_timeout=0.05)
        _, protocol = await left.streams.create_connection(Recorder, "right", 443)
        assert isinstance(protocol, Recorder)
        await asyncio.wait_for(asyncio.shield(protocol.lost), 5)
        assert served.made[0].events == []

    async def test_server_that_speaks_no_tls(self, left: Node, right: Node) -> None:
        class Greeting(Recorder):
            def connection_made(self, transport: Any) -> None:
                transport.write(b"220 welcome to no TLS\r\n" * 10)

        await right.streams.create_server(Greeting, None, 443)
        with pytest.raises(ssl.SSLError):
            await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())

    async def test_client_that_speaks_no_tls(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443)
        assert isinstance(protocol, Recorder)
        transport.write(b"GET / HTTP/1.1\r\n\r\n")
        await protocol.lost
        assert served.made[0].events == []

    async def test_server_that_ends_amid_the_handshake(self, left: Node, right: Node) -> None:
        def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        await right.streams.start_server(leave, None, 443)
        with pytest.raises(ConnectionResetError):
            await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())

    async def test_server_that_is_gone_amid_the_handshake(self, left: Node, right: Node) -> None:
        silent = Noting()
        await right.streams.create_server(silent, None, 443)
        task = asyncio.create_task(left.streams.create_connection(Recorder, "right", 443, ssl=client_context()))
        await until(lambda: silent.made and silent.made[0].data)
        right.streams.close()
        with pytest.raises(ConnectionResetError):
            await task

    async def test_cancelled_handshake_leaves_no_connection(self, left: Node, right: Node) -> None:
        await right.streams.create_server(Recorder, None, 443)
        task = asyncio.create_task(left.streams.create_connection(Recorder, "right", 443, ssl=client_context()))
        await until(lambda: right.host.tcp.connections)
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not left.host.tcp.connections)

    async def test_no_timer_is_left_of_a_handshake(self, left: Node, right: Node) -> None:
        await serve_echo(right)
        context = client_context()
        held = weakref.ref(context)
        reader, writer = await left.streams.open_connection("right", 443, ssl=context)
        await close(writer)
        await until(lambda: not left.host.tcp.connections)
        del reader, writer, context
        await turns()
        gc.collect()
        assert held() is None

    async def test_corrupted_record_ends_the_connection(
        self, left: Node, right: Node, complaints: list[dict[str, Any]]
    ) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        below: Any = transport._ssl_protocol._transport  # type: ignore[attr-defined]
        below.write(b"I AM NO RECORD")
        assert isinstance(await served.made[0].lost, ssl.SSLError)
        assert isinstance(protocol, Recorder)
        await protocol.lost
        assert complaints == []


class TestEnd:
    async def test_close_delivers_what_was_written(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        transport.write(bytes(1_000_000))
        transport.close()
        assert transport.is_closing()
        assert isinstance(protocol, Recorder)
        assert await protocol.lost is None
        assert await served.made[0].lost is None
        assert len(served.made[0].data) == 1_000_000

    async def test_data_before_the_end_comes_to_who_had_paused(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        await until(lambda: served.made and served.made[0].transport)
        served.made[0].transport.pause_reading()
        transport.write(b"trailing" * 10_000)
        transport.close()
        await asyncio.sleep(0.02)
        assert served.made[0].data == b""
        served.made[0].transport.resume_reading()
        assert await served.made[0].lost is None
        assert served.made[0].data == b"trailing" * 10_000
        assert isinstance(protocol, Recorder)
        assert await protocol.lost is None

    async def test_abort_ends_at_once(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        transport.abort()
        assert isinstance(protocol, Recorder)
        assert await protocol.lost is None
        await served.made[0].lost

    async def test_end_without_a_close_notify_is_an_end(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        transport.write(b"cut off")
        await until(lambda: served.made and served.made[0].data)
        transport._ssl_protocol._transport.close()  # type: ignore[attr-defined]
        await served.made[0].lost
        assert served.made[0].data == b"cut off"

    async def test_peer_that_never_closes_is_given_up(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(
            Recorder, "right", 443, ssl=client_context(), ssl_shutdown_timeout=0.05
        )
        right.is_cut = True
        transport.close()
        assert isinstance(protocol, Recorder)
        error = await protocol.lost
        assert isinstance(error, TimeoutError)
        assert "SSL shutdown timed out" in str(error)

    async def test_reset_below_is_told_above(self, left: Node, right: Node) -> None:
        await serve(right, Recorder)
        _, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        right.streams.close()
        assert isinstance(protocol, Recorder)
        assert isinstance(await protocol.lost, ConnectionResetError)

    async def test_write_after_close_is_nothing(self, left: Node, right: Node) -> None:
        await serve(right, Recorder)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        transport.close()
        transport.write(b"too late")
        transport.close()
        assert isinstance(protocol, Recorder)
        assert await protocol.lost is None

    async def test_streams_raise_nothing_at_an_orderly_end(self, left: Node, right: Node) -> None:
        await serve_echo(right)
        reader, writer = await left.streams.open_connection("right", 443, ssl=client_context())
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await close(writer)
        assert await reader.read() == b""

    async def test_server_waits_for_its_connections(self, left: Node, right: Node) -> None:
        server = await serve_echo(right)
        _, writer = await left.streams.open_connection("right", 443, ssl=client_context())
        server.close()
        waiter = asyncio.create_task(server.wait_closed())
        await turns()
        assert not waiter.done()
        await close(writer)
        await waiter


class TestFlowControl:
    async def test_paused_reader_stops_the_writer(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        assert isinstance(protocol, Recorder)
        await until(lambda: served.made and served.made[0].transport)
        served.made[0].transport.pause_reading()
        written = 0
        while protocol.events[-1] != "pause":
            transport.write(bytes(500_000))
            written += 500_000
            await asyncio.sleep(0.02)
            assert written < 50_000_000
        assert served.made[0].data == b""
        served.made[0].transport.resume_reading()
        await until(lambda: len(served.made[0].data) == written)
        await until(lambda: "resume" in protocol.events)
        transport.close()

    async def test_limits_can_be_set(self, left: Node, right: Node) -> None:
        await serve(right, Recorder)
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        assert transport.get_write_buffer_size() == 0
        transport.close()

    async def test_buffered_protocol_above(self, left: Node, right: Node) -> None:
        served = Noting(lambda: BufferedRecorder(1000))
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(
            lambda: BufferedRecorder(7), "right", 443, ssl=client_context()
        )
        data = os.urandom(100_000)
        transport.write(data)
        await until(lambda: served.made and served.made[0].data == data)
        served.made[0].transport.write(data)
        assert isinstance(protocol, BufferedRecorder)
        await until(lambda: protocol.data == data)
        transport.close()
        await protocol.lost

    async def test_buffer_may_be_cut_when_it_is_filled(self, left: Node, right: Node) -> None:
        class Cutting(BufferedRecorder):
            def get_buffer(self, sizehint: int) -> Any:
                self.buffer = bytearray(500)
                return self.buffer

            def buffer_updated(self, nbytes: int) -> None:
                del self.buffer[nbytes:]
                self.data += self.buffer

        served = Noting(Cutting)
        await serve(right, served)
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        data = os.urandom(10_000)
        transport.write(data)
        await until(lambda: served.made and served.made[0].data == data)
        transport.close()
        await served.made[0].lost
        assert served.made[0].events == ["made", "eof", "lost"]

    async def test_buffer_that_takes_nothing_ends_the_connection(
        self, left: Node, right: Node, complaints: list[dict[str, Any]]
    ) -> None:
        served = Noting(lambda: BufferedRecorder(0))
        await serve(right, served)
        transport, _ = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        transport.write(b"data")
        await until(lambda: served.made)
        assert isinstance(await served.made[0].lost, RuntimeError)
        assert len(complaints) == 1

    async def test_protocols_of_both_kinds_take_turns(self, left: Node, right: Node) -> None:
        served = Noting()
        await serve(right, served)
        transport, protocol = await left.streams.create_connection(Recorder, "right", 443, ssl=client_context())
        await until(lambda: served.made and served.made[0].transport)
        served.made[0].transport.write(b"one")
        assert isinstance(protocol, Recorder)
        await until(lambda: protocol.data == b"one")
        other = BufferedRecorder()
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        served.made[0].transport.write(b"two")
        await until(lambda: other.data == b"two")
        transport.close()
        await other.lost
