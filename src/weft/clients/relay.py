"""Two connections joined both ways: what comes from either goes to the other, and how either ends, the other ends too.

    one = End()  # is the protocol of a connection that was accepted
    await relay(one, await connect(network.create_connection, host, port))

| what happens to one                  | what becomes of the other                                           |
|--------------------------------------|---------------------------------------------------------------------|
| data came                            | it is written                                                       |
| more than `HIGH_BYTES` wait for it   | it is not read until most of them have left                         |
| it has no more to send               | it is told so; over TLS, which has no half-close, it is closed      |
| both have no more to send            | both are closed, when what was written has left                     |
| it was closed                        | it is closed, when what was written has left                        |
| it failed                            | it is reset, so that nobody takes a part for the whole              |

A connection may be there before the other one: until they are joined it is not read, or keeps the one piece that came.

Pieces pass as they come, without a copy of ours.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self, cast

HIGH_BYTES: Final = 512 * 1024
"""May wait for one end; beside them one piece, which is what a transport reads at a time."""

_RESETS: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Of SO_LINGER: what was not taken yet is dropped, and the other side is told so."""

Connect = Callable[..., Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]]


class End(asyncio.Protocol):
    """One end of a relay, as the protocol of its transport.

    Attributes:
        transport: of the connection.
        error: what it failed of; None if it did not, or was aborted here.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept: list[bytes] = []
        self._other: End | None = None
        self._is_at_end = False
        self._is_full = False

    @classmethod
    def adopt(cls, transport: asyncio.Transport, unread: bytes = b"", *, is_at_end: bool = False) -> Self:
        """Take over a connection that had another protocol.

        Args:
            transport: of the connection, in use; no more waits to be written than its protocol may write.
            unread: what came and belongs to the other end.
            is_at_end: whether nothing more will come.
        """
        end = cls()
        transport.set_protocol(end)
        end.connection_made(transport)
        if unread:
            end.data_received(unread)
        if is_at_end:
            end.eof_received()
        return end

    def abort(self) -> None:
        """End the connection now, by a reset; nothing, if it is over."""
        if not self._over.done():
            reset(self.transport)

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)  # which uvloop's do not say they are
        self.transport.set_write_buffer_limits(high=HIGH_BYTES)
        # uvloop reads all the same, once; then `data_received` pauses it.
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        other = self._other
        if other is None:
            self._kept.append(data)
            self.transport.pause_reading()
        elif not other.transport.is_closing():
            other.transport.write(data)

    def eof_received(self) -> bool:
        """No more will come; the transport stays open, where it can."""
        self._is_at_end = True
        if self._other is not None:
            self._pass_end(self._other)
        return self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self.error = exc
        self._over.set_result(None)
        if self._other is not None:
            self._pass_loss(self._other)

    def pause_writing(self) -> None:
        """Enough waits to be sent."""
        self._is_full = True
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Most of it has left."""
        self._is_full = False
        if self._other is not None:
            self._other.transport.resume_reading()

    # What passes to the other end.

    def _pass_kept(self, other: End) -> None:
        """Pass on what came before they were joined."""
        for data in self._kept:
            other.transport.write(data)
        self._kept.clear()

    def _begin(self, other: End) -> None:
        """Pass on how it ended before they were joined, or go on."""
        if self._is_at_end:
            self._pass_end(other)
        if self._over.done():
            self._pass_loss(other)
        elif not other._is_full:
            self.transport.resume_reading()

    def _pass_end(self, other: End) -> None:
        if not other.transport.can_write_eof():
            other.transport.close()
            return
        with suppress(OSError):  # it is reset already; that will be told
            other.transport.write_eof()
        if other._is_at_end:
            self.transport.close()
            other.transport.close()

    def _pass_loss(self, other: End) -> None:
        if self.error is not None:
            other.abort()
        else:
            other.transport.close()


async def connect(create_connection: Connect, host: Any, port: int, **arguments: Any) -> End:
    """Make a connection that is an end of a relay.

    Args:
        create_connection: of a network or of an event loop.
        host: as that takes it.
        port: TCP.
        **arguments: as that takes them.

    Raises:
        OSError: there is none; whatever that raises.
    """
    _, end = await create_connection(End, host, port, **arguments)
    return cast(End, end)


async def relay(one: End, other: End) -> None:
    """Join two connections, and return when both are over.

    If it is cancelled both are reset.

    Args:
        one: is connected.
        other: is connected.
    """
    one._other, other._other = other, one
    try:
        one._pass_kept(other)
        other._pass_kept(one)
        one._begin(other)
        other._begin(one)
        await asyncio.wait([one._over, other._over])
    finally:
        one.abort()
        other.abort()


def reset(transport: asyncio.WriteTransport) -> None:
    """End a connection now, so that the other side can't take what it has for all of it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):  # it is no TCP, or over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
    transport.abort()
