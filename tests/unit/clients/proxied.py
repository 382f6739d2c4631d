"""A proxy on the left host, and clients that ask it with sockets of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.unit.api.streams.joined import Node
from weft.clients.proxy.proxy import Proxy, serve_proxy
from weft.clients.proxy.socks import encode_address
from weft.clients.proxy.users import Users

HERE = "127.0.0.1"
INSIDE = ("fc00::/64", "10.7.0.2", "10.9.0.0/16")
"""What is in the network for it: hosts that are not there, too."""


@asynccontextmanager
async def proxying(left: Node, inside: Sequence[str] = INSIDE, users: Users | None = None) -> AsyncIterator[Proxy]:
    proxy = await serve_proxy(left.streams, lambda: inside, host=HERE, port=0, users=users)
    try:
        yield proxy
    finally:
        proxy.close()
        await asyncio.wait_for(proxy.wait_closed(), 5)


class Client:
    """One connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: Proxy) -> Client:
        return cls(*await asyncio.open_connection(HERE, proxy.port))

    async def say(self, said: bytes, length: int) -> bytes:
        """Say something, and hear so many bytes."""
        self.writer.write(said)
        return await asyncio.wait_for(self.reader.readexactly(length), 5)

    async def ask(self, host: str, port: int, command: int = 1, behind: bytes = b"") -> tuple[int, str, int]:
        """Ask in SOCKS5 without a login; what the reply says."""
        return await self.hear(b"\5\1\0" + request(host, port, command) + behind)

    async def hear(self, said: bytes) -> tuple[int, str, int]:
        """Say all of that; code, address and port of the reply."""
        assert await self.say(said, 2) == b"\5\0"
        version, code, _, kind = await self.say(b"", 4)
        assert version == 5
        address = await self.say(b"", {1: 4, 4: 16}[kind])
        port = int.from_bytes(await self.say(b"", 2), "big")
        return code, socket.inet_ntop({1: socket.AF_INET, 4: socket.AF_INET6}[kind], address), port

    async def rest(self) -> bytes:
        """All that still comes."""
        return await asyncio.wait_for(self.reader.read(), 5)

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def client_of(proxy: Proxy) -> AsyncIterator[Client]:
    client = await Client.connect(proxy)
    try:
        yield client
    finally:
        client.close()


def target(host: str, port: int) -> bytes:
    """An address or a name in SOCKS5."""
    try:
        return encode_address(host, port)
    except ValueError:
        return bytes((3, len(host))) + host.encode() + port.to_bytes(2, "big")


def request(host: str, port: int, command: int = 1) -> bytes:
    return bytes((5, command, 0)) + target(host, port)
