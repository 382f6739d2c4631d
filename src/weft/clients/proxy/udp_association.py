"""UDP through SOCKS5: an association of one client, and a socket in the network for each destination.

| what comes                                          | what is done                                               |
|-----------------------------------------------------|------------------------------------------------------------|
| from elsewhere than the client                      | dropped: `stranger`                                        |
| no datagram of SOCKS5                               | dropped: `malformed`                                       |
| a fragment                                          | dropped: `fragment`                                        |
| for a destination that was not asked for before     | it waits while the name is looked up and the socket opened |
| more than `WAITING` wait for that                   | dropped: `waiting`                                         |
| for what can't be reached, or is not in the network | dropped: `unreachable`; the next one tries anew            |
| more than one side takes at present                 | dropped: `full`                                            |
| from a destination                                  | it goes to the client                                      |

The client is who has the TCP connection: datagrams come from its address, and from the port that it told. If it told
none, the first one says it. A destination answers from where it was asked, or is not heard. Of more than `DESTINATIONS`
the one that was asked longest ago is forgotten.

Source: RFC 1928 section 7.
Not done here: when it ends, which the caller says.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, Self, cast

from weft.clients.inside import Inside
from weft.clients.proxy.request import FAILURES
from weft.clients.proxy.socks import decode_datagram, encode_datagram_header
from weft.errors import DecodeError

DESTINATIONS: Final = 16
"""Of one association, each with a socket."""
WAITING: Final = 16
"""Datagrams for a destination that is not open yet."""


class _Talk(asyncio.DatagramProtocol):
    """A socket that drops what it has no room for."""

    def __init__(self, dropped: Counter[str]) -> None:
        self._dropped = dropped
        self._transport: asyncio.DatagramTransport | None = None
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False

    def send(self, data: bytes, remote: object = None) -> None:
        """Send a datagram, if there is room."""
        if self._transport is not None and not self._is_full:
            self._transport.sendto(data, remote)  # type: ignore[arg-type]
        else:
            self._dropped["full"] += 1

    def error_received(self, exc: Exception) -> None:
        # Of one that was sent before; SOCKS has no words for it.
        self._dropped["unreachable"] += 1

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()


class Association(_Talk):
    """One client's, from `open` to `close`.

    Args:
        inside: the way into the network.
        client: its address.
        port: where its datagrams come from; 0 if it does not know that.
        dropped: counts what was dropped, by reason.
    """

    def __init__(self, inside: Inside, client: str, port: int, dropped: Counter[str]) -> None:
        super().__init__(dropped)
        self.inside = inside
        self._client, self._port = client, port
        self._remote: object = None
        self._destinations: dict[tuple[str, int], _Destination] = {}

    @classmethod
    async def open(cls, host: str, inside: Inside, client: str, port: int, dropped: Counter[str]) -> Self:
        """Open one at an address of this machine.

        Raises:
            OSError: there are no sockets left.
        """
        association = cls(inside, client, port, dropped)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: association, local_addr=(host, 0))
        return association

    @property
    def port(self) -> int:
        """Where it takes the client's datagrams."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def close(self) -> None:
        """End it, with all its destinations."""
        for destination in self._destinations.values():
            destination.close()
        self._destinations.clear()
        super().close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """The client sent something, or somebody else did."""
        if addr[0] != self._client or addr[1] != (self._port or addr[1]):
            self._dropped["stranger"] += 1
            return
        try:
            fragment, host, port, payload = decode_datagram(data)
        except DecodeError:
            self._dropped["malformed"] += 1
            return
        if fragment:
            self._dropped["fragment"] += 1
            return
        self._port, self._remote = addr[1], addr
        self._to(host, port).send(payload)

    def answer(self, data: bytes) -> None:
        """Send the client something."""
        self.send(data, self._remote)

    def forget(self, host: str, port: int) -> None:
        """A destination is over."""
        self._destinations.pop((host, port), None)

    def _to(self, host: str, port: int) -> _Destination:
        destination = self._destinations.pop((host, port), None)
        if destination is None:
            if len(self._destinations) >= DESTINATIONS:
                self._destinations.pop(next(iter(self._destinations))).close()
            destination = _Destination(self, host, port, self._dropped)
        self._destinations[host, port] = destination
        return destination


class _Destination(_Talk):
    """One, as the client called it."""

    def __init__(self, owner: Association, host: str, port: int, dropped: Counter[str]) -> None:
        super().__init__(dropped)
        self._owner = owner
        self._header = b""
        self._waiting: list[bytes] = []
        self._opening = asyncio.get_running_loop().create_task(self._open(host, port))

    def send(self, data: bytes, remote: object = None) -> None:
        if self._header:
            super().send(data)
        elif len(self._waiting) < WAITING:
            self._waiting.append(data)
        else:
            self._dropped["waiting"] += 1

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._owner.answer(self._header + data)

    def close(self) -> None:
        self._opening.cancel()
        super().close()

    async def _open(self, host: str, port: int) -> None:
        try:
            self._header = encode_datagram_header(await self._owner.inside.open_udp(self, host, port), port)
        except FAILURES:
            self._dropped["unreachable"] += len(self._waiting)
            self._owner.forget(host, port)
            return
        for data in self._waiting:
            super().send(data)
        self._waiting.clear()
