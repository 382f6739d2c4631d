"""A relay: what passes, how either end passes on, and that nothing waits without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.clients.certificates import Files
from weft.clients.relay import HIGH_BYTES, End, connect, relay, reset
from weft.clients.tls.connect import client_context

DATA = Random("relay").randbytes(2_000_000)
KERNEL_BYTES = 8_000_000
"""More than the kernel keeps for one socket of the loopback interface in both directions."""

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Joint:
    """Between `near`, a socket of this machine, and a server in the network."""

    def __init__(self, near: tuple[asyncio.StreamReader, asyncio.StreamWriter], task: asyncio.Task[None]) -> None:
        self.reader, self.writer = near
        self.task = task


@asynccontextmanager
async def joint(left: Node, right: Node, speak: Speak, early: bytes = b"", **tls: Any) -> AsyncIterator[Joint]:
    """A client of this machine, joined by `left` with a server of `right`.

    Args:
        left: relays.
        right: serves.
        speak: what the server does.
        early: what the client says before there is a connection to the server.
        **tls: for the connection in the network.
    """
    accepted: asyncio.Queue[End] = asyncio.Queue()
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer)
        finally:
            writer.close()
            ended.set()

    class Accepted(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.put_nowait(self)

    loop = asyncio.get_running_loop()
    door = await loop.create_server(Accepted, "127.0.0.1", 0)
    server = await right.streams.start_server(handle, None, 80, ssl=tls.pop("server", None))
    near = await asyncio.open_connection("127.0.0.1", door.sockets[0].getsockname()[1])
    near[1].write(early)
    one = await accepted.get()
    other = await connect(left.streams.create_connection, "right", 80, **tls)
    task = loop.create_task(relay(one, other))
    try:
        yield Joint(near, task)
    finally:
        near[1].close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(ended.wait(), 5)
        door.close()
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


class TestData:
    async def test_passes_both_ways_byte_for_byte_and_half_closed(self, left: Node, right: Node) -> None:
        async with joint(left, right, echo) as joined:

            async def write() -> None:
                joined.writer.write(DATA)
                await joined.writer.drain()
                joined.writer.write_eof()

            _, came = await asyncio.gather(write(), joined.reader.read())
            assert came == DATA
            await asyncio.wait_for(joined.task, 5)

    async def test_what_came_before_there_was_a_connection(self, left: Node, right: Node) -> None:
        async with joint(left, right, echo, early=b"first ") as joined:
            joined.writer.write(b"second")
            joined.writer.write_eof()
            assert await joined.reader.read() == b"first second"

    async def test_over_tls(self, left: Node, right: Node, files: Files) -> None:
        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(len(DATA)) == DATA
            writer.write(DATA)
            await writer.drain()

        context = client_context(roots=files.roots)
        async with joint(left, right, count, server=files.server(), ssl=context, server_hostname="right") as joined:
            joined.writer.write(DATA)
            assert await joined.reader.read() == DATA
            await asyncio.wait_for(joined.task, 5)


class TestBounds:
    async def test_who_does_not_read_makes_the_other_side_wait(self, left: Node, right: Node) -> None:
        written = 0

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.transport.set_write_buffer_limits(0)
            while written < 8 * KERNEL_BYTES:
                writer.write(DATA[:100_000])
                await writer.drain()
                written += 100_000

        async with joint(left, right, flood) as joined:
            before = -1
            while before < written:  # until nothing more goes
                before = written
                await asyncio.sleep(0.3)
            assert written < KERNEL_BYTES + 4 * HIGH_BYTES
            came = 0
            while data := await joined.reader.read(1 << 20):
                came += len(data)
            assert came == written == 8 * KERNEL_BYTES

    async def test_one_piece_at_most_is_kept_before_they_are_joined(self, left: Node, right: Node) -> None:
        ends: list[End] = []

        def make() -> End:
            ends.append(End())
            return ends[-1]

        server = await right.streams.create_server(make, None, 80)
        _, writer = await left.streams.open_connection("right", 80)
        writer.write(DATA)
        await asyncio.sleep(0.1)
        assert sum(map(len, ends[0]._kept)) <= 256 * 1024
        writer.transport.abort()
        server.close()


class TestEnd:
    async def test_reset_of_the_server_is_a_reset_for_the_client(self, left: Node, right: Node) -> None:
        async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"a part")
            await reader.readexactly(2)
            reset(writer.transport)

        async with joint(left, right, break_off) as joined:
            assert await joined.reader.readexactly(6) == b"a part"
            joined.writer.write(b"on")
            with pytest.raises(ConnectionResetError):
                await joined.reader.read()
            await asyncio.wait_for(joined.task, 5)

    async def test_reset_of_the_client_is_a_reset_for_the_server(self, left: Node, right: Node) -> None:
        seen: asyncio.Future[BaseException | bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(6) == b"a part"
            writer.write(b"on")
            seen.set_result((await asyncio.gather(reader.read(), return_exceptions=True))[0])

        async with joint(left, right, listen) as joined:
            joined.writer.write(b"a part")
            assert await joined.reader.readexactly(2) == b"on"
            reset(joined.writer.transport)
            assert isinstance(await asyncio.wait_for(seen, 5), ConnectionResetError)

    async def test_server_that_ends_first_is_still_told_the_rest(self, left: Node, right: Node) -> None:
        rest: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"go on")
            writer.write_eof()
            rest.set_result(await reader.read())

        async with joint(left, right, listen) as joined:
            assert await joined.reader.read() == b"go on"
            joined.writer.write(DATA)
            joined.writer.write_eof()
            assert await asyncio.wait_for(rest, 5) == DATA

    async def test_client_that_was_gone_before_the_server_was_there(
        self, left: Node, right: Node, complaints: list[dict[str, object]]
    ) -> None:
        gone: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            gone.set_result(await reader.read())
            writer.close()

        server = await right.streams.start_server(listen, None, 80)
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[End] = asyncio.Queue()

        def make() -> End:
            made.put_nowait(End())
            return made._queue[-1]  # type: ignore[attr-defined,no-any-return]

        door = await loop.create_server(make, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", door.sockets[0].getsockname()[1])
        writer.write(b"said before")
        writer.close()
        one = await made.get()
        await asyncio.sleep(0.05)
        other = await connect(left.streams.create_connection, "right", 80)
        await asyncio.wait_for(relay(one, other), 5)
        assert await gone == b"said before"
        assert complaints == []
        door.close()
        server.close()

    async def test_cancelled_relay_resets_both(self, left: Node, right: Node) -> None:
        seen: asyncio.Future[BaseException | bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"here")
            seen.set_result((await asyncio.gather(reader.read(), return_exceptions=True))[0])

        async with joint(left, right, listen) as joined:
            assert await joined.reader.readexactly(4) == b"here"
            joined.task.cancel()
            with pytest.raises(ConnectionResetError):
                await joined.reader.read()
            assert isinstance(await asyncio.wait_for(seen, 5), ConnectionResetError)

    async def test_node_that_goes_away_resets_the_client(self, left: Node, right: Node) -> None:
        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"here")
            await asyncio.gather(reader.read(), return_exceptions=True)

        async with joint(left, right, listen) as joined:
            assert await joined.reader.readexactly(4) == b"here"
            left.streams.close()
            with pytest.raises(ConnectionResetError):
                await joined.reader.read()

    async def test_end_of_one_closes_what_speaks_tls(self, left: Node, right: Node, files: Files) -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.read())

        context = client_context(roots=files.roots)
        async with joint(left, right, listen, server=files.server(), ssl=context, server_hostname="right") as joined:
            joined.writer.write(b"all of it")
            joined.writer.write_eof()
            assert await asyncio.wait_for(heard, 5) == b"all of it"
            assert await joined.reader.read() == b""
            await asyncio.wait_for(joined.task, 5)


class TestAdopted:
    async def test_what_was_read_before_passes_first(self, left: Node, right: Node) -> None:
        accepted: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

        class Greeter(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.pause_reading()
                accepted.set_result(self.transport)

        server = await right.streams.start_server(echo, None, 80)
        loop = asyncio.get_running_loop()
        door = await loop.create_server(Greeter, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.sockets[0].getsockname()[1])
        writer.write(b"hello: ")
        one = End.adopt(await accepted, b"and ")
        writer.write(b"more")
        writer.write_eof()
        other = await connect(left.streams.create_connection, "right", 80)
        await asyncio.wait_for(relay(one, other), 5)
        assert await reader.read() == b"and more"
        writer.close()
        door.close()
        server.close()

    async def test_end_that_was_read_before(self, left: Node, right: Node) -> None:
        class Silent(asyncio.Protocol):
            def eof_received(self) -> bool:
                return True

        server = await right.streams.start_server(echo, None, 80)
        first, _ = await left.streams.create_connection(Silent, "right", 80)
        one = End.adopt(first, b"last words", is_at_end=True)
        other = await connect(left.streams.create_connection, "right", 80)
        await asyncio.wait_for(relay(one, other), 5)
        assert one.error is None
        assert other.error is None
        server.close()

    async def test_more_than_waits_for_one_is_waited_for_before_more_is_read(self, left: Node, right: Node) -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await ended.wait()
            writer.close()

        ended = asyncio.Event()
        server = await right.streams.start_server(say_nothing, None, 80)
        first, _ = await left.streams.create_connection(asyncio.Protocol, "right", 80)
        one = End.adopt(first, bytes(40 * HIGH_BYTES))
        other = await connect(left.streams.create_connection, "right", 80)
        task = asyncio.create_task(relay(one, other))
        await asyncio.sleep(0)
        assert not first.is_reading()
        assert other.transport.is_reading()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ended.set()
        server.close()
