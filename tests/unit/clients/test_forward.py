"""Ports of this machine for the network and the reverse; the bound of servers, and that of lines about them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, cast

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.clients.certificates import Files
from weft.clients import bounded as bounded_module
from weft.clients import forward as forward_module
from weft.clients.bounded import KEEPALIVE, Bounded
from weft.clients.forward import Forwarder
from weft.clients.network import Network
from weft.clients.relay import reset
from weft.clients.sparing import LINES_AT_ONCE, Sparing
from weft.clients.tls.connect import client_context

HERE = "127.0.0.1"
DATA = Random("forward").randbytes(1_000_000)


def loop_network() -> Network:
    """This machine as a network."""
    return cast(Network, asyncio.get_running_loop())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def serving(speak: Any = echo) -> AsyncIterator[int]:
    """A server of this machine; gives its port."""
    server = await asyncio.start_server(speak, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def said(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> bytes:
    """What is answered to data."""
    reader, writer = streams

    async def write() -> None:
        writer.write(data)
        await writer.drain()

    _, heard = await asyncio.gather(write(), reader.readexactly(len(data)))
    writer.close()
    return heard


async def is_reset(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    try:
        await asyncio.wait_for(streams[0].read(), 5)
    except ConnectionResetError:
        return True
    finally:
        streams[1].close()
    return False


class TestServed:
    async def test_port_of_this_machine_is_there_for_the_network(self, left: Node, right: Node) -> None:
        told: list[str] = []
        async with serving() as port:
            forwarder = await Forwarder.listen(right.streams, None, 80, loop_network(), (HERE, port), told=told.append)
            assert forwarder.port == 80
            for _ in range(3):
                assert await said(await left.streams.open_connection("right", 80), DATA) == DATA
            await forwarder.close()
        assert told == []

    async def test_over_tls(self, left: Node, right: Node, files: Files) -> None:
        async with serving() as port:
            forwarder = await Forwarder.listen(
                right.streams, None, 443, loop_network(), (HERE, port), told=print, ssl=files.server()
            )
            context = client_context(roots=files.roots)
            assert await said(await left.streams.open_connection("right", 443, ssl=context), DATA) == DATA
            await forwarder.close()

    async def test_nobody_behind_it_is_a_reset_and_a_line(self, left: Node, right: Node) -> None:
        told: list[str] = []
        async with serving() as port:
            pass
        forwarder = await Forwarder.listen(right.streams, None, 80, loop_network(), (HERE, port), told=told.append)
        assert await is_reset(await left.streams.open_connection("right", 80))
        assert told == [f"{HERE} port {port}: connection refused"]
        await forwarder.close()

    async def test_port_that_is_taken(self, right: Node) -> None:
        taken = await right.streams.start_server(echo, None, 80)
        with pytest.raises(OSError, match="in use") as caught:
            await Forwarder.listen(right.streams, None, 80, loop_network(), (HERE, 1), told=print)
        assert caught.value.errno == errno.EADDRINUSE
        taken.close()

    async def test_end_resets_what_is_open_and_frees_the_port(self, left: Node, right: Node) -> None:
        async with serving() as port:
            forwarder = await Forwarder.listen(right.streams, None, 80, loop_network(), (HERE, port), told=print)
            open_ = await left.streams.open_connection("right", 80)
            open_[1].write(b"x")
            assert await open_[0].readexactly(1) == b"x"
            await forwarder.close()
            assert await is_reset(open_)
            with pytest.raises(ConnectionRefusedError):
                await left.streams.open_connection("fc00::2", 80)


class TestForwarded:
    async def test_port_in_the_network_is_there_for_this_machine(self, left: Node, right: Node) -> None:
        server = await right.streams.start_server(echo, None, 80)
        forwarder = await Forwarder.listen(loop_network(), HERE, 0, left.streams, ("right", 80), told=print)
        assert await said(await asyncio.open_connection(HERE, forwarder.port), DATA) == DATA
        await forwarder.close()
        server.close()

    async def test_what_breaks_off_is_a_reset_and_a_line(self, left: Node, right: Node) -> None:
        async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"a part")
            await reader.readexactly(1)
            reset(writer.transport)

        told: list[str] = []
        server = await right.streams.start_server(break_off, None, 80)
        forwarder = await Forwarder.listen(loop_network(), HERE, 0, left.streams, ("right", 80), told=told.append)
        open_ = await asyncio.open_connection(HERE, forwarder.port)
        assert await open_[0].readexactly(6) == b"a part"
        open_[1].write(b"x")
        assert await is_reset(open_)
        await forwarder.close()
        assert told == ["right port 80: connection reset by peer"]
        server.close()

    @pytest.mark.parametrize(
        ("host", "why"), [("nobody", "name or service not known"), ("right", "connection refused")]
    )
    async def test_why_there_is_nobody_is_told(self, left: Node, host: str, why: str) -> None:
        told: list[str] = []
        forwarder = await Forwarder.listen(loop_network(), HERE, 0, left.streams, (host, 80), told=told.append)
        assert await is_reset(await asyncio.open_connection(HERE, forwarder.port))
        await forwarder.close()
        assert told == [f"{host} port 80: {why}"]

    async def test_peer_that_is_gone_has_not_for_ever(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forward_module, "CONNECT_S", 0.2)
        told: list[str] = []
        right.is_cut = True
        forwarder = await Forwarder.listen(loop_network(), HERE, 0, left.streams, ("right", 80), told=told.append)
        assert await is_reset(await asyncio.open_connection(HERE, forwarder.port))
        await forwarder.close()
        assert told == ["right port 80: no answer"]

    async def test_lines_are_few_however_often_it_fails(self, left: Node, right: Node) -> None:
        told: list[str] = []
        forwarder = await Forwarder.listen(loop_network(), HERE, 0, left.streams, ("right", 80), told=told.append)
        for _ in range(3 * LINES_AT_ONCE):
            assert await is_reset(await asyncio.open_connection(HERE, forwarder.port))
        await forwarder.close()
        assert LINES_AT_ONCE <= len(told) < 2 * LINES_AT_ONCE


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class TestBound:
    async def test_one_too_many_is_reset_until_there_is_room(self, left: Node, right: Node) -> None:
        told: list[str] = []
        server = await Bounded(right.streams, told.append, 2).create_server(Echo, None, 80)
        first, second = [await left.streams.open_connection("right", 80) for _ in range(2)]
        assert await is_reset(await left.streams.open_connection("right", 80))
        assert told == ["2 connections are open; one more is turned away"]
        assert await said(first, b"still there") == b"still there"
        await first[1].wait_closed()
        assert await said(await left.streams.open_connection("right", 80), b"in") == b"in"
        second[1].close()
        server.close()

    async def test_one_address_has_a_part_of_them(self, left: Node, right: Node) -> None:
        told: list[str] = []
        bounded = Bounded(right.streams, told.append, 4, 2)
        server = await bounded.create_server(Echo, None, 80)
        first, second = [await left.streams.open_connection(right.ipv6, 80) for _ in range(2)]
        assert await is_reset(await left.streams.open_connection(right.ipv6, 80))
        other = await left.streams.open_connection(right.ipv4, 80)
        assert await said(other, b"in") == b"in"
        assert await said(first, b"still there") == b"still there"
        await first[1].wait_closed()
        assert await said(await left.streams.open_connection(right.ipv6, 80), b"in") == b"in"
        assert told == [f"2 connections of {left.ipv6} are open; one more is turned away"]
        assert bounded.turned_away == {"connections of one address": 1}
        second[1].close()
        server.close()

    async def test_this_machine_may_have_all_of_them(self) -> None:
        server: Any = await Bounded(loop_network(), print, 3, 1).create_server(Echo, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        three = [await asyncio.open_connection(HERE, port) for _ in range(3)]
        for each in three:
            assert await said(each, b"in") == b"in"
        server.close()

    async def test_tls_over_sockets_of_the_kernel(self, files: Files) -> None:
        server: Any = await Bounded(loop_network(), print).create_server(Echo, HERE, 0, ssl=files.server())
        port = server.sockets[0].getsockname()[1]
        context = client_context(roots=files.roots)
        for _ in range(3):
            streams = await asyncio.open_connection(HERE, port, ssl=context, server_hostname="right")
            assert await said(streams, DATA) == DATA
        server.close()

    async def test_who_has_vanished_does_not_stay(self, left: Node, right: Node) -> None:
        asked: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()

        class Asking(Echo):
            def connection_made(self, transport: Any) -> None:
                sock = transport.get_extra_info("socket")
                options = {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE}
                asked.set_result({**options, "on": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)})

        for network, connect in ((right.streams, left.streams.open_connection), (loop_network(), None)):
            server: Any = await Bounded(network, print).create_server(Asking, None if connect else HERE, 0)
            port = server.sockets[0].getsockname()[1]
            _, writer = await (connect("right", port) if connect else asyncio.open_connection(HERE, port))
            assert await asked == {**KEEPALIVE, "on": 1}
            asked = asyncio.get_running_loop().create_future()
            writer.close()
            server.close()

    async def test_who_only_begins_with_tls_counts_and_has_not_long(
        self, left: Node, right: Node, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bounded_module, "HANDSHAKE_S", 0.2)
        told: list[str] = []
        bounded = Bounded(right.streams, told.append, 2)
        server = await bounded.create_server(Echo, None, 443, ssl=files.server())
        silent = [await left.streams.open_connection("right", 443) for _ in range(2)]
        assert await is_reset(await left.streams.open_connection("right", 443))
        assert len(told) == 1
        for reader, writer in silent:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        context = client_context(roots=files.roots)
        assert await said(await left.streams.open_connection("right", 443, ssl=context), b"in") == b"in"
        server.close()

    @pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""])
    async def test_what_is_no_tls_leaves_room(
        self, left: Node, right: Node, files: Files, first: bytes, complaints: list[dict[str, object]]
    ) -> None:
        server = await Bounded(right.streams, print, 1).create_server(Echo, None, 443, ssl=files.server())
        context = client_context(roots=files.roots)
        for _ in range(3):
            reader, writer = await left.streams.open_connection("right", 443)
            writer.write(first)
            writer.write_eof()
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        assert await said(await left.streams.open_connection("right", 443, ssl=context), b"in") == b"in"
        server.close()
        assert complaints == []

    @pytest.mark.parametrize("has_last", [False, True])
    async def test_end_of_the_handshake_and_first_words_in_one_piece(
        self, left: Node, right: Node, files: Files, has_last: bool
    ) -> None:
        noting = Noting()
        server = await Bounded(right.streams, print).create_server(lambda: noting, None, 443, ssl=files.server())
        tls, goes, writer = await nearly_agreed(left, files)
        tls.write(b"first words")
        if has_last:
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
        writer.write(goes.read())
        expected = ["made", b"first words", *(["end"] if has_last else []), "its first task"]
        assert [await noting.next() for _ in expected] == expected
        writer.close()
        server.close()

    async def test_end_of_the_handshake_and_of_the_connection_in_one_piece(
        self, left: Node, right: Node, files: Files
    ) -> None:
        noting = Noting()
        server = await Bounded(right.streams, print).create_server(lambda: noting, None, 443, ssl=files.server())
        tls, goes, writer = await nearly_agreed(left, files)
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        writer.write(goes.read())
        writer.write_eof()
        events = [await noting.next() for _ in range(4)]
        assert events == ["made", "end", "its first task", "lost"]
        writer.close()
        server.close()


class Noting(asyncio.Protocol):
    """A protocol with a task, as one of HTTP has it."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def next(self) -> bytes | str:
        return await asyncio.wait_for(self._events.get(), 5)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._events.put_nowait("made")
        self._task = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        self._events.put_nowait("its first task")

    def data_received(self, data: bytes) -> None:
        self._events.put_nowait(data)

    def eof_received(self) -> None:
        self._events.put_nowait("end")

    def connection_lost(self, exc: Exception | None) -> None:
        self._events.put_nowait("lost")


async def nearly_agreed(left: Node, files: Files) -> tuple[ssl.SSLObject, ssl.MemoryBIO, asyncio.StreamWriter]:
    """TLS to the server, but for the client's last words of the handshake: they wait in what goes."""
    reader, writer = await left.streams.open_connection("right", 443)
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(roots=files.roots).wrap_bio(came, goes, server_hostname="right")
    while True:
        try:
            tls.do_handshake()
            return tls, goes, writer
        except ssl.SSLWantReadError:
            writer.write(goes.read())
            came.write(await reader.read(1 << 16))


class TestSparing:
    def test_says_how_much_it_left_out(self) -> None:
        now = 0
        told: list[str] = []
        sparing = Sparing(told.append, lambda: now)
        for number in range(LINES_AT_ONCE + 5):
            sparing(f"line {number}")
        assert told == [f"line {number}" for number in range(LINES_AT_ONCE)]
        now = 2_000_000_000
        sparing("next")
        sparing("one more")
        assert told[LINES_AT_ONCE:] == ["next (5 lines before it left out)", "one more"]
