"""Servers that have so many connections at a time, and no more, nor more than a part of them with one address.

A connection counts from its first moment to its end, while TLS is agreed on too: so `ssl` of a server is begun here,
once the connection is counted. One too many is reset. What was accepted and sends nothing more is asked now and then
whether it is there.

An address is a peer's, of which others have a hash of their key each. This machine's own programs, which are all at one
address, may have all connections.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final, cast

from weft.clients.network import Network
from weft.clients.relay import reset
from weft.clients.sparing import Told

CONNECTIONS: Final = 256
"""At a time; fewer than half of the files that a process may have open, for a relay has two ends."""
PER_ADDRESS: Final = 128
"""Of those, with one address: more than one client keeps for a host, httpx2 at most 100, browsers 6."""
HANDSHAKE_S: Final = 10.0
KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""After how many s of silence, each how many s, how often; macOS lacks the first."""
FAREWELL_S: Final = 2.0
"""For the other side to say goodbye over TLS."""


class Bounded:
    """A network whose servers, all together, have a bound.

    Args:
        network: where they are.
        told: is told in a line what is turned away.
        limit: connections.
        per_address: of those, with one address.

    Attributes:
        turned_away: how many connections, by reason.
    """

    def __init__(self, network: Network, told: Told, limit: int = CONNECTIONS, per_address: int = PER_ADDRESS) -> None:
        self.turned_away: Counter[str] = Counter()
        self._network = network
        self._told = told
        self._limit = limit
        self._per_address = per_address
        self._open: dict[_Counted, str | None] = {}
        self._at: Counter[str | None] = Counter()
        self.create_connection = network.create_connection
        self.start_tls = network.start_tls

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: Any = None,
        port: Any = None,
        *,
        ssl: ssl_module.SSLContext | None = None,
        **arguments: Any,
    ) -> asyncio.AbstractServer:
        """Listen.

        Raises:
            OSError: the port can't be had.
        """
        return await self._network.create_server(lambda: _Counted(self, protocol_factory, ssl), host, port, **arguments)

    def enter(self, connection: _Counted, address: str | None) -> bool:
        """Whether there is room for a connection; it counts then until `leave`.

        Args:
            connection: that was accepted.
            address: of the other side; None for this machine.
        """
        if len(self._open) >= self._limit:
            self.turned_away["connections"] += 1
            self._told(f"{self._limit} connections are open; one more is turned away")
            return False
        if address is not None and self._at[address] >= self._per_address:
            self.turned_away["connections of one address"] += 1
            self._told(f"{self._per_address} connections of {address} are open; one more is turned away")
            return False
        self._open[connection] = address
        self._at[address] += 1
        return True

    def leave(self, connection: _Counted) -> None:
        """A connection has ended."""
        if connection in self._open:
            address = self._open.pop(connection)
            self._at[address] -= 1
            if not self._at[address]:
                del self._at[address]


class _Counted(asyncio.Protocol):
    """Stands between a connection and its protocol, which it makes once there is one to be had."""

    def __init__(
        self, bounded: Bounded, factory: Callable[[], asyncio.Protocol], context: ssl_module.SSLContext | None
    ) -> None:
        self._bounded = bounded
        self._factory = factory
        self._context = context
        self._inner: asyncio.Protocol | None = None
        self._early: list[bytes] = []
        self._is_at_end = False
        self._is_over = False
        self._shaking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)  # which uvloop's do not say they are
        if not self._bounded.enter(self, _elsewhere(made)):
            self._is_over = True
            reset(made)
            return
        ask_if_silent(made)
        if self._context is None:
            self._begin(made)
        else:
            made.pause_reading()
            self._shaking = asyncio.get_running_loop().create_task(self._shake(made, self._context))

    async def _shake(self, transport: asyncio.Transport, context: ssl_module.SSLContext) -> None:
        shaking = asyncio.ensure_future(
            self._bounded.start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=FAREWELL_S,
            )
        )
        # Then it has taken the place of this protocol, and not read yet.
        await asyncio.sleep(0)
        _pass_on(self._early, transport)
        try:
            over = await shaking
        except OSError:
            transport.abort()
            self._end()
            return
        if not self._is_over:
            self._begin(over)

    def _begin(self, transport: asyncio.Transport) -> None:
        inner = self._inner = self._factory()
        inner.connection_made(transport)
        for data in self._early:
            inner.data_received(data)
        self._early.clear()
        if self._is_at_end:
            inner.eof_received()

    def _end(self) -> None:
        self._is_over = True
        self._bounded.leave(self)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
        else:
            # Came with the end of the handshake; or before it began, for uvloop reads once although it is told not to.
            self._early.append(data)

    def eof_received(self) -> bool | None:
        if self._inner is not None:
            return self._inner.eof_received()
        self._is_at_end = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        if self._inner is not None:
            # Over TLS it may have been made in this very turn, and the tasks that it made have yet to begin.
            asyncio.get_running_loop().call_soon(self._inner.connection_lost, exc)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()


def _pass_on(early: list[bytes], transport: asyncio.Transport) -> None:
    """Give what came before TLS took over to TLS."""
    protocol = cast(asyncio.BufferedProtocol, transport.get_protocol())
    rest = memoryview(b"".join(early))
    early.clear()
    while rest:
        room = memoryview(protocol.get_buffer(len(rest)))[: len(rest)]
        room[:] = rest[: len(room)]
        protocol.buffer_updated(len(room))
        rest = rest[len(room) :]


def _elsewhere(transport: asyncio.BaseTransport) -> str | None:
    """The address of the other side; None if that is this machine."""
    name = transport.get_extra_info("peername")
    if not name or ip_address(name[0]).is_loopback:
        return None
    return str(name[0])


def ask_if_silent(transport: asyncio.BaseTransport) -> None:
    """Have a connection end whose other side has vanished, though nothing is sent."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    with suppress(OSError):  # it is over
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if (option := getattr(socket, name, None)) is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
