"""The overlay's sockets as a program on asyncio has them: the names, arguments and objects of the event loop."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Self

from weft.api.streams import connect, datagram, names, pair, server, tls
from weft.api.streams.ground import DescribePeer, Ground, Resolve
from weft.engine.driver import Driver


class Streams:
    """The sockets of one host, to which a node delegates.

    Each method has the arguments, results and exceptions of the one of that name in asyncio; see there, and the module
    that it is in here.

    Args:
        driver: of the host; runs on the loop on which this is made.
        resolve: looks up names.
        describe_peer: gives what `get_extra_info("peer")` says of an address; None for nothing.
    """

    def __init__(self, driver: Driver, resolve: Resolve, describe_peer: DescribePeer) -> None:
        self._ground = Ground(driver, resolve, describe_peer)

    @classmethod
    def on(cls, ground: Ground) -> Self:
        """The sockets that stand on something else than a host of this program."""
        streams = cls.__new__(cls)
        streams._ground = ground
        return streams

    async def create_connection(
        self,
        protocol_factory: server.ProtocolFactory,
        host: names.Host = None,
        port: names.Port = None,
        **arguments: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect; see `connect.create_connection`."""
        return await connect.create_connection(self._ground, protocol_factory, host, port, **arguments)

    async def create_server(
        self,
        protocol_factory: server.ProtocolFactory,
        host: server.Hosts = None,
        port: names.Port = None,
        **arguments: Any,
    ) -> server.Server:
        """Listen; see `server.create_server`."""
        return await server.create_server(self._ground, protocol_factory, host, port, **arguments)

    async def open_connection(
        self, host: names.Host = None, port: names.Port = None, **arguments: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, for a reader and a writer; see `pair.open_connection`."""
        return await pair.open_connection(self._ground, host, port, **arguments)

    async def start_server(
        self,
        client_connected_cb: pair.ClientConnected,
        host: server.Hosts = None,
        port: names.Port = None,
        **arguments: Any,
    ) -> server.Server:
        """Listen, with a reader and a writer for each connection; see `pair.start_server`."""
        return await pair.start_server(self._ground, client_connected_cb, host, port, **arguments)

    async def create_datagram_endpoint(
        self,
        protocol_factory: datagram.DatagramProtocolFactory,
        local_addr: datagram.Address | None = None,
        remote_addr: datagram.Address | None = None,
        **arguments: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Open a UDP socket; see `datagram.create_datagram_endpoint`."""
        return await datagram.create_datagram_endpoint(
            self._ground, protocol_factory, local_addr, remote_addr, **arguments
        )

    async def getaddrinfo(self, host: names.Host, port: names.Port, **arguments: int) -> list[names.AddressInfo]:
        """Look up a name; see `names.getaddrinfo`."""
        return await names.getaddrinfo(self._ground, host, port, **arguments)

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        **arguments: Any,
    ) -> asyncio.Transport:
        """Go on with TLS; see `tls.start_tls`."""
        return await tls.start_tls(transport, protocol, sslcontext, **arguments)

    def close(self) -> None:
        """The host goes away: close all servers, abort all connections, close all datagram endpoints."""
        self._ground.close()
