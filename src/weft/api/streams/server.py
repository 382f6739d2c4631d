"""Servers: listeners of the stack as `asyncio.AbstractServer`.

    made ──start_serving──> serving ──close──> closed ──last connection ends──> over: `wait_closed` returns

A server that was made with `start_serving=False` has its ports, and who connects waits, up to `backlog`.

A host of None or "" is all addresses of both versions of IP: one listener, one socket, one port. An explicit "::" is
the same; "0.0.0.0" is all of IPv4.

Source: `asyncio.base_events.Server`, as it is in Python 3.13, where `wait_closed` does what its description says.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl as ssl_module
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Final

from weft.api.streams.errors import binding_error
from weft.api.streams.names import Port, getaddrinfo
from weft.api.streams.sockaddr import ANY_IPV4, ANY_IPV6, endpoint_of, sockaddr_of
from weft.api.streams.sockets import TransportSocket
from weft.api.streams.tls import Tls, check_arguments
from weft.api.streams.transport import TcpTransport
from weft.stack.endpoint import Endpoint
from weft.stack.failure import StackError
from weft.stack.tcp.connection import Keepalive

if TYPE_CHECKING:
    from weft.api.streams.ground import Ground
    from weft.stack.tcp.connection import Connection
    from weft.stack.tcp.listener import Listener

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
Hosts = str | Iterable[str] | None

BACKLOG: Final = 100


class Server(asyncio.AbstractServer):
    """What `create_server` gives.

    Args:
        ground: what it stands on.
        listeners: nobody uses them yet.
        protocol_factory: makes the protocol of each connection.
        tls: what is spoken over each; None for nothing.
        keepalive: when a silent peer is asked whether it is there; None for never.
    """

    def __init__(
        self,
        ground: Ground,
        listeners: list[Listener],
        protocol_factory: ProtocolFactory,
        tls: Tls | None,
        keepalive: Keepalive | None,
    ) -> None:
        self._ground = ground
        self._listeners: list[Listener] | None = listeners
        self._protocol_factory = protocol_factory
        self._tls = tls
        self._keepalive = keepalive
        self._context: Context = copy_context()
        self._connections: set[TcpTransport] = set()
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None
        self._is_serving = False
        ground.open[self] = None

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} sockets={self.sockets!r}>"

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """What it listens on; nothing once it is closed."""
        return tuple(TransportSocket(socket.SOCK_STREAM, each.local) for each in self._listeners or ())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which it runs."""
        return self._ground.loop

    def is_serving(self) -> bool:
        """Whether it takes connections."""
        return self._is_serving

    async def start_serving(self) -> None:
        """Take connections; nothing, if it does."""
        self._begin()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Take connections until cancelled; then close, the connections too.

        Raises:
            RuntimeError: it is closed, or somebody else has called this.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._listeners is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._begin()
        self._forever = self._ground.loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Take no more connections; those that there are go on."""
        if self._listeners is None:
            return
        listeners, self._listeners = self._listeners, None
        now = self._ground.now()
        for listener in listeners:
            listener.user = None
            listener.close(now)
        self._ground.driver.wake()
        self._ground.open.pop(self, None)
        self._is_serving = False
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
            self._forever = None
        if not self._connections:
            self._wake_waiters()

    def close_clients(self) -> None:
        """Close all connections that it took."""
        for transport in list(self._connections):
            transport.close()

    def abort_clients(self) -> None:
        """Abort all connections that it took."""
        for transport in list(self._connections):
            transport.abort()

    async def wait_closed(self) -> None:
        """Return when it is closed and its last connection has ended."""
        if self._waiters is not None:
            waiter: asyncio.Future[None] = self._ground.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def end(self) -> None:
        """The host goes away."""
        self.close()

    def handle_event(self) -> None:
        """Somebody has connected."""
        self._context.run(self._accept)

    def _begin(self) -> None:
        if self._is_serving or self._listeners is None:
            return
        self._is_serving = True
        for listener in self._listeners:
            listener.user = self
        self._accept()

    def _accept(self) -> None:
        for listener in self._listeners or ():
            while (connection := listener.accept()) is not None:
                self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        ground = self._ground
        try:
            protocol = self._protocol_factory()
            if self._tls is not None:
                protocol = self._tls.wrap(ground.loop, protocol, None)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            connection.abort(ground.now())
            ground.driver.wake()
            message = "Error on transport creation for incoming connection"
            ground.loop.call_exception_handler({"message": message, "exception": error})
            return
        if self._keepalive is not None:
            connection.set_keepalive(self._keepalive, ground.now())
        TcpTransport(ground, connection, protocol, server=self, context=self._context.copy())

    def _attach(self, transport: TcpTransport) -> None:
        self._connections.add(transport)

    def _detach(self, transport: TcpTransport) -> None:
        self._connections.discard(transport)
        if not self._connections and self._listeners is None:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


async def create_server(
    ground: Ground,
    protocol_factory: ProtocolFactory,
    host: Hosts = None,
    port: Port = None,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: object = None,
    backlog: int = BACKLOG,
    ssl: ssl_module.SSLContext | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen for connections, as `loop.create_server` does.

    Args:
        ground: where.
        protocol_factory: makes the protocol of each connection.
        host: a name or an address, several of them, or None for all addresses.
        port: 0 for a free one, for each address another.
        family: of the addresses.
        flags: of `getaddrinfo`.
        sock: a socket of the kernel; can't be used here.
        backlog: connections that may wait to be taken.
        ssl: speak TLS with it.
        reuse_address: an address that connections of before still use can always be used.
        reuse_port: a port can't be shared.
        keep_alive: ask silent peers whether they are there.
        ssl_handshake_timeout: s.
        ssl_shutdown_timeout: s.
        start_serving: take connections at once.

    Raises:
        OSError: an address can't be had; none is.
        RuntimeError: the node is closed.
        ValueError: arguments that do not go together.
    """
    ground.check_open()
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    check_arguments(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        raise ValueError("a socket of the kernel can't listen in the overlay; use loop.create_server() for it")
    if host is None and port is None:
        raise ValueError("Neither host/port nor sock were specified")
    endpoints = await _endpoints(ground, host, port, family, flags)
    tls = None
    if ssl is not None:
        tls = Tls(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
    keepalive = Keepalive() if keep_alive else None
    server = Server(ground, await _listen(ground, endpoints, backlog), protocol_factory, tls, keepalive)
    if start_serving:
        await server.start_serving()
    return server


async def _endpoints(ground: Ground, host: Hosts, port: Port, family: int, flags: int) -> list[Endpoint]:
    """Where to listen, each once."""
    hosts = [host] if host is None or isinstance(host, str) else list(host)
    found = await asyncio.gather(
        *(getaddrinfo(ground, each, port, family=family, type=socket.SOCK_STREAM, flags=flags) for each in hosts)
    )
    endpoints = dict.fromkeys(endpoint_of(info[4]) for info in itertools.chain.from_iterable(found))
    # A listener on "::" takes those of IPv4 too.
    return [each for each in endpoints if each.address != ANY_IPV4 or Endpoint(ANY_IPV6, each.port) not in endpoints]


async def _listen(ground: Ground, endpoints: list[Endpoint], backlog: int) -> list[Listener]:
    listeners: list[Listener] = []
    for endpoint in endpoints:
        try:
            listeners.append(await ground.listen(endpoint, backlog))
        except BaseException as error:
            for listener in listeners:
                listener.close(ground.now())
            if not isinstance(error, StackError):
                raise
            raise binding_error(error.failure, sockaddr_of(endpoint)) from None
    return listeners
