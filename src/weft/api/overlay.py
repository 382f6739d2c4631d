"""The network as a program on asyncio has it: the sockets of the event loop, with peers for hosts.

Wherever asyncio takes a host, a peer will do: what `weft` commands call it, its peer id, `ID.weft`, an address, a
multiaddr with its id, or an object that has an address, such as a `PeerStatus` or a `PeerId`.

Not done here: the sockets (streams/, kernel.py); looking up names.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Protocol

from weft.errors import DecodeError, UsageError
from weft.identity import PeerId
from weft.multiaddr import decode_multiaddr

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import asyncssh
    import httpx2

    from weft.clients.serving import AppServer

Host = str | bytes | IPv4Address | IPv6Address | PeerId | object | None


class Sockets(Protocol):
    """Where the sockets come from: each method is the one of that name in asyncio."""

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect."""

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Listen."""

    async def open_connection(
        self, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, for a reader and a writer."""

    async def start_server(
        self, client_connected_cb: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Listen, with a reader and a writer for each connection."""

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **arguments: Any
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Open a UDP socket."""

    async def getaddrinfo(self, host: Any, port: Any, **arguments: int) -> Any:
        """Look up a name."""

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        **arguments: Any,
    ) -> asyncio.Transport:
        """Go on with TLS."""

    def close(self) -> None:
        """End all of them."""


class Overlay:
    """What programs do in the network.

    Each method has the arguments, results and exceptions of the one of that name in asyncio, be it of the module or of
    the event loop.
    """

    _sockets: Sockets | None = None
    _directory: Path | None = None
    _served: tuple[AppServer, ...] = ()

    @property
    def _open(self) -> Sockets:
        """Where sockets come from.

        Raises:
            UsageError: nothing runs.
        """
        if self._sockets is None:
            raise UsageError("the node does not run; use it inside `async with`")
        return self._sockets

    async def open_connection(
        self, host: Host = None, port: int | str | None = None, **arguments: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port of a peer, for a reader and a writer; see `asyncio.open_connection`.

        Raises:
            OSError: `ConnectionRefusedError`, `TimeoutError` and so on; `socket.gaierror` if there is no such name.
        """
        return await self._open.open_connection(host_of(host), port, **arguments)

    async def start_server(
        self, client_connected_cb: Any, host: Host = None, port: int | str | None = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Take connections, with a reader and a writer for each; see `asyncio.start_server`.

        Without a host it listens on all addresses that this node has in the network, and on no other of this machine.
        """
        return await self._open.start_server(client_connected_cb, _hosts_of(host), port, **arguments)

    async def create_connection(
        self, protocol_factory: Any, host: Host = None, port: int | str | None = None, **arguments: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect to a port of a peer; see `loop.create_connection`."""
        return await self._open.create_connection(protocol_factory, host_of(host), port, **arguments)

    async def create_server(
        self, protocol_factory: Any, host: Host = None, port: int | str | None = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Take connections; see `loop.create_server`, and `start_server` for what no host means."""
        return await self._open.create_server(protocol_factory, _hosts_of(host), port, **arguments)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Any,
        local_addr: tuple[Host, int] | None = None,
        remote_addr: tuple[Host, int] | None = None,
        **arguments: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Open a UDP socket; see `loop.create_datagram_endpoint`."""
        return await self._open.create_datagram_endpoint(
            protocol_factory, _address_of(local_addr), _address_of(remote_addr), **arguments
        )

    async def getaddrinfo(self, host: Host, port: int | str | None, **arguments: int) -> Any:
        """Look up a name; see `loop.getaddrinfo`."""
        return await self._open.getaddrinfo(host_of(host), port, **arguments)

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        **arguments: Any,
    ) -> asyncio.Transport:
        """Go on with TLS over a transport; see `loop.start_tls`."""
        return await self._open.start_tls(transport, protocol, sslcontext, **arguments)

    # What stands on them.

    def http(self, **arguments: Any) -> httpx2.AsyncClient:
        """An HTTP client whose connections are in the network, for `async with`; needs `weft[http]`.

        Args:
            **arguments: of `httpx2.AsyncClient`; see `weft.clients.http.client.http_client`.
        """
        from weft.clients.extras import extra

        with extra("http"):
            from weft.clients.http.client import http_client
        return http_client(self, **arguments)

    def ssh(
        self, host: Host, port: int = 22, **arguments: Any
    ) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
        """A connection of asyncssh to an SSH server in the network, for `async with`; needs `weft[ssh]`.

        Args:
            host: a peer, an address or a name.
            port: TCP.
            **arguments: `user`, `keys` (files), `password`, `trust` (whether to believe a server that was not seen
                before), and options of asyncssh; see `weft.clients.ssh.client.ssh_of_node`.
        """
        from weft.clients.extras import extra

        with extra("ssh"):
            from weft.clients.ssh.client import ssh_of_node
            from weft.clients.ssh.hosts import known_hosts
        return ssh_of_node(self, str(host_of(host)), port, hosts=known_hosts(self._directory), **arguments)

    async def serve_app(
        self, app: Any, port: int, host: Host = None, *, ssl: ssl_module.SSLContext | None = None, **bounds: Any
    ) -> AppServer:
        """Serve an application of aiohttp or of ASGI, WebSockets included.

        Args:
            app: the application.
            port: TCP; 0 for a free one.
            host: where it listens; None for all addresses that this node has in the network.
            ssl: speak TLS with it.
            **bounds: of `weft.clients.serving.serve_app`: `connections` at a time, and how many of them with one
                address (`per_address`).

        It ends with `close` and `wait_closed` or at the end of `async with`, and with the node at the latest.
        """
        from weft.clients.serving import serve_app

        server = await serve_app(self, app, port, host, ssl=ssl, **bounds)
        self._served = (*(each for each in self._served if not each.is_closed), server)
        return server

    async def _end_served(self) -> None:
        """End what is served, in order."""
        for server in self._served:
            server.close()
        await asyncio.gather(*(server.wait_closed() for server in self._served))


def host_of(peer: Host) -> str | bytes | None:
    """A peer in words that a resolver knows.

    Raises:
        UsageError: it is a multiaddr without a peer, or none.
        TypeError: it has no address.
    """
    if isinstance(peer, str) and peer.startswith("/"):
        try:
            peer_id = decode_multiaddr(peer).peer_id
        except DecodeError as error:
            raise UsageError(f"{peer}: {error}") from error
        if peer_id is None:
            raise UsageError(f"{peer}: has no /p2p/ID at its end, which says who is meant")
        return str(IPv6Address(peer_id.address))
    if peer is None or isinstance(peer, str | bytes):
        return peer
    if isinstance(peer, IPv4Address | IPv6Address):
        return str(peer)
    address = getattr(peer, "address", None) or next(iter(getattr(peer, "addresses", None) or ()), None)
    if isinstance(address, bytes):
        return str(IPv6Address(address))
    if isinstance(address, str | IPv4Address | IPv6Address):
        return str(address)
    raise TypeError(f"a peer is expected: its name, id or address, or what has one, not {peer!r}")


def _hosts_of(hosts: Host) -> Any:
    """As `host_of`, also for several."""
    if isinstance(hosts, Iterable) and not isinstance(hosts, str | bytes):
        return [host_of(each) for each in hosts]
    return host_of(hosts)


def _address_of(address: tuple[Host, int] | None) -> tuple[str | bytes | None, int] | None:
    return None if address is None else (host_of(address[0]), *address[1:])
