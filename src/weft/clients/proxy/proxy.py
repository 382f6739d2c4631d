"""A proxy into the network: SOCKS5 and HTTP on one port of this machine, told apart by the first byte.

| a client                        | gets                                                                              |
|---------------------------------|-----------------------------------------------------------------------------------|
| asks to connect                 | the answer once it is connected, and then the relay (relay.py)                    |
| asks for UDP (SOCKS5)           | an association (udp_association.py), until its TCP connection ends                |
| is refused, or asks for nothing | the answer that its protocol has for that, and the end of the connection          |
| is slow                         | `HANDSHAKE_S` for the request, `CONNECT_S` for the destination                    |
| is one too many                 | its connection aborted                                                            |

What it may lead to says clients/inside.py.

Not done here: the protocols (socks.py, http_connect.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Final, cast

from weft.clients.bounded import CONNECTIONS, ask_if_silent
from weft.clients.inside import Inside, Networks, ProxyNetwork
from weft.clients.proxy.http_connect import HttpDialect
from weft.clients.proxy.request import FAILURES, Command, Dialect, Refusal, Request, refusal_of
from weft.clients.proxy.socks import VERSION, SocksDialect
from weft.clients.proxy.udp_association import Association
from weft.clients.proxy.users import Users
from weft.clients.relay import End, relay
from weft.errors import DecodeError

ASSOCIATIONS: Final = 16
"""At a time, with a socket for each of their destinations: less than what `CONNECTIONS` leave of a process's files."""
HANDSHAKE_S: Final = 10.0
"""For a request, and for taking leave (RFC 1928 section 6)."""
CONNECT_S: Final = 30.0


class Proxy:
    """Takes connections until `close`; `serve_proxy` makes it.

    Attributes:
        refused: how many requests, by reason.
        dropped: how many datagrams, by reason.
    """

    def __init__(self, inside: Inside, users: Users) -> None:
        self.inside = inside
        self.users = users
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.associations = 0
        self._clients: set[_Client] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Begin.

        Raises:
            OSError: the port can't be had.
        """
        self._server = await asyncio.get_running_loop().create_server(lambda: _Client(self), host, port)

    @property
    def port(self) -> int:
        """That it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.abort()

    async def wait_closed(self) -> None:
        """Return when everything has ended."""
        while self._clients:
            await asyncio.wait([client.over for client in self._clients])

    def enter(self, client: _Client) -> bool:
        """Whether there is room for a connection; it counts then until `leave`."""
        if len(self._clients) >= CONNECTIONS:
            self.refused[Refusal.BUSY.words] += 1
            return False
        self._clients.add(client)
        return True

    def leave(self, client: _Client) -> None:
        """A connection has ended."""
        self._clients.discard(client)


async def serve_proxy(
    network: ProxyNetwork, networks: Networks, *, host: str = "127.0.0.1", port: int = 1080, users: Users | None = None
) -> Proxy:
    """Start a proxy.

    Args:
        network: where it leads to.
        networks: what lies in it.
        host: where it listens, an address of this machine.
        port: TCP; 0 for a free one.
        users: who may come in; None for everybody who can connect.

    Raises:
        OSError: the port can't be had.
    """
    proxy = Proxy(Inside(network, networks), users or Users())
    await proxy.listen(host, port)
    return proxy


class _Client(asyncio.Protocol):
    """One connection, until the relay takes it over.

    Attributes:
        over: is done once it has ended.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._proxy = proxy
        self._dialect: Dialect | None = None
        self._behind = b""
        self._is_heard = True
        self._is_at_end = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # which uvloop's do not say they are
        self._timer = self._loop.call_later(HANDSHAKE_S, self._transport.abort)
        if not self._proxy.enter(self):
            self._transport.abort()
            return
        ask_if_silent(transport)

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            # uvloop reads once more after it was paused.
            self._behind += data if self._is_heard else b""
            return
        if self._dialect is None:
            self._dialect = SocksDialect(self._proxy.users) if data[0] == VERSION else HttpDialect(self._proxy.users)
        dialect = self._dialect
        try:
            self._transport.write(dialect.receive(data))
            refusal = dialect.refusal
        except DecodeError:
            refusal = Refusal.MALFORMED
        if refusal is not None or dialect.request is not None:
            self._timer.cancel()
            self._transport.pause_reading()
            self._task = self._loop.create_task(self._serve(dialect, dialect.request, refusal))

    def eof_received(self) -> bool:
        self._is_at_end = True
        return self._task is not None and self._is_heard

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        else:
            self._end()

    def abort(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._transport.abort()

    async def _serve(self, dialect: Dialect, request: Request | None, refusal: Refusal | None) -> None:
        try:
            if request is None or refusal is not None:
                await self._refuse(dialect, refusal or Refusal.FAILED)
            elif request.command is Command.CONNECT:
                await self._connect(dialect, request)
            else:
                await self._associate(dialect, request)
        finally:
            self._transport.abort()
            self._end()

    async def _connect(self, dialect: Dialect, request: Request) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                other = await self._proxy.inside.connect(request.host, request.port)
        except FAILURES as error:
            await self._refuse(dialect, refusal_of(error))
            return
        if self._transport.is_closing():
            other.abort()
            return
        ask_if_silent(other.transport)
        host, port, *_ = other.transport.get_extra_info("sockname")
        self._transport.write(dialect.accept(host, port))
        one = End.adopt(self._transport, dialect.first + self._behind, is_at_end=self._is_at_end)
        await relay(one, other)

    async def _associate(self, dialect: Dialect, request: Request) -> None:
        proxy = self._proxy
        if proxy.associations >= ASSOCIATIONS:
            await self._refuse(dialect, Refusal.BUSY)
            return
        (here, *_), (client, *_) = (self._transport.get_extra_info(name) for name in ("sockname", "peername"))
        proxy.associations += 1
        try:
            association = await Association.open(here, proxy.inside, client, request.port, proxy.dropped)
        except OSError as error:
            proxy.associations -= 1
            await self._refuse(dialect, refusal_of(error))
            return
        try:
            self._transport.write(dialect.accept(here, association.port))
            await self._wait()
        finally:
            association.close()
            proxy.associations -= 1

    async def _refuse(self, dialect: Dialect, refusal: Refusal) -> None:
        """Say so, and let the client read it: if it were closed with something unread, the answer would be lost."""
        self._proxy.refused[refusal.words] += 1
        self._transport.write(dialect.refuse(refusal))
        self._transport.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_S):
                await self._wait()

    async def _wait(self) -> None:
        """Wait for the client's end, which cancels this, and drop what it still says."""
        self._is_heard = False
        self._transport.resume_reading()
        await self._loop.create_future()

    def _end(self) -> None:
        self._proxy.leave(self)
        if not self.over.done():
            self.over.set_result(None)
