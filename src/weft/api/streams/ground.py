"""What all sockets of one host stand on: the host and who drives it, the loop, the names, and who is who."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Protocol

from weft.engine.driver import Driver
from weft.stack.endpoint import Endpoint
from weft.stack.tcp.listener import Listener
from weft.stack.udp_socket import UdpSocket

Resolve = Callable[[str, int], Awaitable[Sequence[bytes]]]
"""Looks up a name: takes it and `AF_UNSPEC`, `AF_INET` or `AF_INET6`, and gives addresses of 4 or 16 bytes, the best
first, none if there are none. It may raise `socket.gaierror`."""

DescribePeer = Callable[[bytes], object]
"""What is known of the participant who has an address of 4 or 16 bytes; None if nothing is."""


class Closable(Protocol):
    """What ends with its host."""

    def end(self) -> None:
        """The host goes away now: no packet is sent any more after this turn of the loop."""


class Ground:
    """One host, as its transports see it.

    Args:
        driver: of the host; runs on the loop on which this is made.
        resolve: looks up names.
        describe_peer: knows the participants.

    Attributes:
        driver: of the host.
        host: the stack.
        loop: on which all of it runs.
        resolve: looks up names.
        describe_peer: knows the participants.
        open: what ends with the host, in the order in which it was opened.
        keeps_sending: whether the host goes on with what was written after the transport has ended.
    """

    keeps_sending: ClassVar[bool] = True

    def __init__(self, driver: Driver, resolve: Resolve, describe_peer: DescribePeer) -> None:
        self.driver = driver
        self.host = driver.host
        self.loop = asyncio.get_running_loop()
        self.resolve = resolve
        self.describe_peer = describe_peer
        self.open: dict[Closable, None] = {}
        self._is_closed = False

    def now(self) -> int:
        """Monotonic ns."""
        return self.driver.clock()

    async def listen(self, local: Endpoint, backlog: int) -> Listener:
        """Take connections at an endpoint.

        Raises:
            StackError: IN_USE, NOT_OURS, NO_PORTS.
        """
        return self.host.tcp.listen(local, backlog=backlog)

    async def open_udp(
        self, local: Endpoint | None, remote: Endpoint | None, *, reuse: bool, broadcast: bool
    ) -> UdpSocket:
        """Open a UDP socket.

        Raises:
            StackError: as `Udp.open`.
        """
        return self.host.udp.open(local, remote, reuse=reuse, broadcast=broadcast)

    def check_open(self) -> None:
        """Refuse what nobody would ever answer.

        Raises:
            RuntimeError: the host has gone away.
        """
        if self._is_closed:
            raise RuntimeError("the node is closed")

    def close(self) -> None:
        """The host goes away: all that stands on it ends."""
        self._is_closed = True
        for each in list(self.open):
            each.end()
