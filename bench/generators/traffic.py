"""What a program does with streams, as users of asyncio write it: one code over the kernel's sockets and a node's.

A network is the module `asyncio`, or a `weft.Node`. What listens there:

| port | what |
|---|---|
| SINK | takes all until its end, answers with the number of bytes, 8 of them in network order |
| ECHO | answers each REQUEST_BYTES with as many |
| SHORT | waits for the end, and closes |
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

SINK, ECHO, SHORT = 7001, 7002, 7003
READ_BYTES = 256 * 1024
WRITE_BYTES = 64 * 1024
REQUEST_BYTES = 64
COUNT_BYTES = 8
# A server of many connections asks for more than asyncio's hundred; so many may be on their way at once.
BACKLOG = 1024
OPENING = 100

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server(Protocol):
    """What `start_server` gives."""

    def close(self) -> None: ...


class Network(Protocol):
    """What the kernel and a node have in common."""

    async def open_connection(self, host: str, port: int) -> Streams: ...

    async def start_server(
        self, client_connected_cb: object, host: str | None, port: int, *, backlog: int
    ) -> Server: ...


class Services:
    """What listens.

    Attributes:
        arrived: bytes that came so far, for each connection of the sink that is open, by its number.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.arrived: dict[int, int] = {}
        self.servers: list[Server] = []
        self.opened = 0

    async def start(self, host: str | None) -> None:
        """Listen on an address, None for all."""
        for port, handle in ((SINK, self.sink), (ECHO, self.echo), (SHORT, self.short)):
            self.servers.append(await self.network.start_server(handle, host, port, backlog=BACKLOG))

    async def sink(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take everything."""
        self.opened = number = self.opened + 1
        self.arrived[number] = 0
        try:
            while data := await reader.read(READ_BYTES):
                self.arrived[number] += len(data)
            writer.write(self.arrived[number].to_bytes(COUNT_BYTES, "big"))
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            del self.arrived[number]
            writer.close()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the other side has none any more."""
        try:
            while True:
                writer.write(await reader.readexactly(REQUEST_BYTES))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def short(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wait for the end."""
        await reader.read()
        writer.close()


async def send(network: Network, host: str, seconds: float) -> int:
    """Send for so long over one connection; returns how many bytes have arrived."""
    reader, writer = await network.open_connection(host, SINK)
    chunk, deadline = bytes(WRITE_BYTES), time.monotonic() + seconds
    while time.monotonic() < deadline:
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
    arrived = int.from_bytes(await reader.readexactly(COUNT_BYTES), "big")
    writer.close()
    await writer.wait_closed()
    return arrived


async def transfer(network: Network, host: str, streams: int, seconds: float) -> dict[str, float]:
    """Send over several connections at once; the time counts until the last byte is known to have arrived."""
    started = time.monotonic()
    arrived = await asyncio.gather(*(send(network, host, seconds) for _ in range(streams)))
    return {"bytes": sum(arrived), "seconds": time.monotonic() - started}


async def open_and_close(network: Network, host: str, clients: int, seconds: float) -> dict[str, float]:
    """Open a connection and close it in order from both sides, again and again, so many at a time."""
    started = time.monotonic()

    async def client() -> int:
        count = 0
        while time.monotonic() < started + seconds:
            reader, writer = await network.open_connection(host, SHORT)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            count += 1
        return count

    count = sum(await asyncio.gather(*(client() for _ in range(clients))))
    return {"count": count, "seconds": time.monotonic() - started}


async def ask(network: Network, host: str, seconds: float) -> dict[str, list[float]]:
    """Send small requests over one connection, each when the last was answered; gives the round trips in ms."""
    reader, writer = await network.open_connection(host, ECHO)
    request, times = bytes(REQUEST_BYTES), []
    now = time.perf_counter()
    deadline = now + seconds
    while now < deadline:
        writer.write(request)
        await writer.drain()
        await reader.readexactly(REQUEST_BYTES)
        before, now = now, time.perf_counter()
        times.append(1000 * (now - before))
    writer.close()
    await writer.wait_closed()
    return {"times": times}


async def open_many(network: Network, host: str, count: int) -> list[Streams]:
    """Open connections to the sink, some at a time, and keep them."""
    opening = asyncio.Semaphore(OPENING)

    async def open_one() -> Streams:
        async with opening:
            return await network.open_connection(host, SINK)

    return await asyncio.gather(*(open_one() for _ in range(count)))


async def fill(writer: asyncio.StreamWriter) -> None:
    """Send as much as goes, until cancelled."""
    chunk = bytes(WRITE_BYTES)
    while True:
        writer.write(chunk)
        await writer.drain()
