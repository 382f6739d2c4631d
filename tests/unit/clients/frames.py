"""A client of WebSockets that says whatever it likes, frame by frame, right or wrong.

Source: RFC 6455 sections 4.1 (handshake), 5.2 (frames).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from tests.unit.api.streams.joined import Node

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What belongs to that key, of RFC 6455 section 1.3."""
MASK = b"\x01\x02\x03\x04"


class Frame(NamedTuple):
    """What a frame says."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


@dataclass
class Socket:
    """A WebSocket, or what became of the wish for one."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *frames: Frame, is_masked: bool = True) -> None:
        self.writer.write(b"".join(encode(frame, is_masked=is_masked) for frame in frames))
        await self.writer.drain()

    async def receive(self) -> Frame:
        first, length = await self.reader.readexactly(2)
        assert not length & 0x80, "a server does not mask"
        if length >= 126:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
        return Frame(first & 15, await self.reader.readexactly(length), bool(first & 0x80), first >> 4 & 7)

    async def code(self) -> int:
        """That with which the server closes; 0 if it says none."""
        while (frame := await self.receive()).opcode != CLOSE:
            pass
        return int.from_bytes(frame.payload[:2], "big")


def encode(frame: Frame, *, is_masked: bool = True) -> bytes:
    """A frame as a client sends it."""
    length = len(frame.payload)
    mark = 0x80 if is_masked else 0
    head = bytes([frame.fin << 7 | frame.rsv << 4 | frame.opcode])
    if length < 126:
        head += bytes([mark | length])
    elif length < 65536:
        head += bytes([mark | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([mark | 127]) + length.to_bytes(8, "big")
    if not is_masked:
        return head + frame.payload
    mask = int.from_bytes((MASK * (length // 4 + 1))[:length], "big")
    return head + MASK + (int.from_bytes(frame.payload, "big") ^ mask).to_bytes(length, "big")


def request(*, headers: bytes = b"", version: bytes = b"13", key: bytes = KEY) -> bytes:
    """What asks for a WebSocket."""
    return (
        b"GET /chat HTTP/1.1\r\nHost: right\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: %b\r\n%b\r\n" % (key, version, headers)
    )


async def ask(node: Node, port: int = 80, **wrong: bytes) -> Socket:
    """Ask for a WebSocket."""
    reader, writer = await node.streams.open_connection("fc00::2", port)
    writer.write(request(**wrong))
    return Socket(await reader.readuntil(b"\r\n\r\n"), reader, writer)
