"""Reader and writer over two hosts: the cases of CPython's `test_streams` that are about a connection.

Those of `StreamReader` alone are asyncio's own business, for the class is asyncio's.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import turns, until

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


class TestConversation:
    @pytest.mark.parametrize("version", ["ipv4", "ipv6"])
    async def test_bytes_go_there_and_back(self, left: Node, right: Node, version: str) -> None:
        server = await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(getattr(right, version), 80)
        writer.write(b"hello ")
        writer.writelines([b"there", b"\n"])
        await writer.drain()
        assert await reader.readline() == b"hello there\n"
        writer.write_eof()
        assert await reader.read() == b""
        assert reader.at_eof()
        await close(writer)
        server.close()
        await server.wait_closed()
        assert left.host.tcp.connections == right.host.tcp.connections == []

    async def test_callback_may_be_a_plain_function(self, left: Node, right: Node) -> None:
        def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"welcome")
            writer.close()

        await right.streams.start_server(greet, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        assert await reader.read() == b"welcome"
        await close(writer)

    async def test_large_data_is_the_same_both_ways(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        data = os.urandom(3_000_000)

        async def send() -> None:
            for start in range(0, len(data), 100_001):
                writer.write(data[start : start + 100_001])
                await writer.drain()
            writer.write_eof()

        task = asyncio.create_task(send())
        back = await reader.read()
        await task
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
        await close(writer)

    async def test_one_write_of_many_bytes_arrives(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        data = os.urandom(2_000_000)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await close(writer)

    async def test_buffer_that_is_changed_after_the_write_was_sent_as_it_was(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        data = bytearray(b"before")
        writer.write(data)
        data[:] = b"after!"
        assert await reader.readexactly(6) == b"before"
        await close(writer)

    async def test_many_connections_at_once_keep_apart(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)

        async def talk(number: int) -> bytes:
            reader, writer = await left.streams.open_connection(right.ipv6, 80)
            writer.write(b"%d\n" % number)
            line = await reader.readline()
            await close(writer)
            return line

        lines = await asyncio.gather(*map(talk, range(100)))
        assert lines == [b"%d\n" % number for number in range(100)]

    async def test_host_talks_to_itself(self, right: Node) -> None:
        server = await right.streams.start_server(echo, "127.0.0.1", 0)
        for host in ("127.0.0.1", None):
            if host is None:
                server = await right.streams.start_server(echo, None, 0)
            reader, writer = await right.streams.open_connection(host, server.sockets[0].getsockname()[1])
            writer.write(b"to myself")
            assert await reader.readexactly(9) == b"to myself"
            await close(writer)

    async def test_addresses_of_both_ends_agree(self, left: Node, right: Node) -> None:
        seen: asyncio.Future[tuple[object, ...]] = asyncio.get_running_loop().create_future()

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(tuple(map(writer.get_extra_info, ("sockname", "peername", "peer"))))
            writer.close()

        await right.streams.start_server(tell, None, 80)
        _, writer = await left.streams.open_connection(right.ipv6, 80)
        sockname, peername, peer = await seen
        assert (writer.get_extra_info("peername"), writer.get_extra_info("sockname")) == (sockname, peername)
        assert peer == "peer at fc00::1"
        assert writer.get_extra_info("peer") == "peer at fc00::2"
        await close(writer)

    async def test_ipv4_shows_addresses_of_ipv4_at_a_listener_for_all(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        _, writer = await left.streams.open_connection(right.ipv4, 80)
        assert writer.get_extra_info("peername") == (right.ipv4, 80)
        assert writer.get_extra_info("sockname")[0] == left.ipv4
        assert len(writer.get_extra_info("sockname")) == 2
        await close(writer)


class TestEnds:
    async def test_half_close_leaves_the_other_way_open(self, left: Node, right: Node) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            question = await reader.read()
            assert reader.at_eof()
            for _ in range(100):
                writer.write(question * 1000)
                await writer.drain()
            writer.close()

        await right.streams.start_server(answer, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        assert writer.can_write_eof()
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"question" * 100_000
        await close(writer)

    async def test_close_delivers_what_was_written(self, left: Node, right: Node) -> None:
        received: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(len(await reader.read()))
            writer.close()

        await right.streams.start_server(take, None, 80)
        _, writer = await left.streams.open_connection(right.ipv6, 80)
        writer.write(bytes(1_000_000))
        await close(writer)
        assert await received == 1_000_000

    async def test_wait_closed_after_close_with_unread_data(self, left: Node, right: Node) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nunread")
            writer.close()

        await right.streams.start_server(greet, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        assert await reader.readline() == b"HTTP/1.0 200 OK\r\n"
        await close(writer)

    async def test_reset_raises_where_it_is_read_and_written(self, left: Node, right: Node) -> None:
        async def abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            # With data that can't all be sent, an abort is no orderly end.
            writer.write(bytes(5_000_000))
            writer.transport.abort()

        await right.streams.start_server(abort, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        with pytest.raises(ConnectionResetError):
            await close(writer)

    async def test_drain_of_a_closing_writer_raises_in_the_end(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        _, writer = await left.streams.open_connection(right.ipv6, 80)
        writer.close()

        async def write_on() -> None:
            while True:
                writer.write(b"foo\n")
                await writer.drain()

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(write_on(), 5)

    async def test_read_sees_the_end_when_the_writer_closes(self, left: Node, right: Node) -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        await right.streams.start_server(never, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        reading = asyncio.create_task(reader.readline())
        await turns()
        writer.close()
        assert await reading == b""

    async def test_peer_that_is_gone_is_noticed_by_keepalive(self, left: Node, right: Node) -> None:
        import socket

        await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        right.is_cut = True
        with pytest.raises(TimeoutError):
            await reader.read()
        with pytest.raises(TimeoutError):
            await close(writer)

    async def test_node_that_closes_aborts_its_connections(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        right.streams.close()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        left.streams.close()
        with pytest.raises(ConnectionResetError):
            await close(writer)


class TestFlowControl:
    async def test_writer_waits_for_a_reader_that_does_not_read(self, left: Node, right: Node) -> None:
        started = asyncio.Event()
        total = 0

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal total
            await started.wait()
            while data := await reader.read(100_000):
                total += len(data)
            writer.close()

        await right.streams.start_server(slow, None, 80)
        _, writer = await left.streams.open_connection(right.ipv6, 80)
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(400):
                writer.write(bytes(50_000))
                await writer.drain()
                written += 50_000
            writer.close()

        task = asyncio.create_task(write())
        previous = -1
        while written != previous:
            previous = written
            await asyncio.sleep(0.05)
        assert not task.done()
        # The window, the marks of the writer and of the reader: some hundred KB, not all.
        assert written < 2_000_000
        assert writer.transport.get_write_buffer_size() > 0
        started.set()
        await task
        await until(lambda: total == 20_000_000)

    async def test_several_drains_wait_at_once(self, left: Node, right: Node) -> None:
        go_on = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            await reader.read()
            writer.close()

        await right.streams.start_server(slow, None, 80)
        _, writer = await left.streams.open_connection(right.ipv6, 80)
        writer.write(bytes(3_000_000))
        drains = [asyncio.create_task(writer.drain()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(drain.done() for drain in drains)
        go_on.set()
        await asyncio.gather(*drains)
        await close(writer)

    async def test_reader_with_a_limit_gets_long_lines_in_pieces(self, left: Node, right: Node) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"x" * 500_000 + b"\n" + b"short\n")
            await writer.drain()
            writer.close()

        await right.streams.start_server(talk, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80, limit=1000)
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        rest = await reader.read(-1)
        assert rest.endswith(b"\nshort\n")
        await close(writer)

    async def test_limit_must_be_positive(self, left: Node) -> None:
        with pytest.raises(ValueError, match="Limit"):
            await left.streams.open_connection("fc00::2", 80, limit=0)


class TestFaults:
    async def test_fault_of_the_callback_is_reported_and_closes(
        self, left: Node, right: Node, complaints: list[dict[str, object]]
    ) -> None:
        async def faulty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise LookupError("fault")

        await right.streams.start_server(faulty, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        assert await reader.read() == b""
        assert complaints[0]["message"] == "Unhandled exception in client_connected_cb"
        await close(writer)

    async def test_unclosed_writer_warns_and_closes(self, left: Node, right: Node) -> None:
        await right.streams.start_server(echo, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        with pytest.warns(ResourceWarning, match="unclosed <OverlayStreamWriter"):
            del writer
        assert await reader.read() == b""

    async def test_cancelled_handler_lets_the_server_go_on(self, left: Node, right: Node) -> None:
        tasks: list[asyncio.Task[None] | None] = []

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.current_task())
            try:
                await echo(reader, writer)
            finally:
                writer.close()

        await right.streams.start_server(wait, None, 80)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        await until(lambda: tasks)
        assert tasks[0] is not None
        tasks[0].cancel()
        assert await reader.read() == b""
        await close(writer)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"
        await close(writer)
