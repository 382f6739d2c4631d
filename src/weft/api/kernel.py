"""The sockets of a node with a TUN: the kernel's, on the event loop's own transports, and names as in a node.

Without a host a server listens on the addresses that the node has in the network, and on no other of the machine.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Any

Resolve = Callable[[str, int], Awaitable[Sequence[bytes]]]
"""As in `streams.ground`."""


class KernelSockets:
    """The event loop's functions, for the network of a node.

    Args:
        resolve: looks up names.
        own: gives the addresses of the node, as text.
    """

    def __init__(self, resolve: Resolve, own: Callable[[], Sequence[str]]) -> None:
        self._resolve = resolve
        self._own = own
        self._loop = asyncio.get_running_loop()

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect; see `loop.create_connection`."""
        made: tuple[asyncio.Transport, asyncio.BaseProtocol] = await self._try_each(
            host, arguments, self._loop.create_connection, protocol_factory, port=port
        )
        return made

    async def open_connection(
        self, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, for a reader and a writer; see `asyncio.open_connection`."""
        made: tuple[asyncio.StreamReader, asyncio.StreamWriter] = await self._try_each(
            host, arguments, asyncio.open_connection, port=port
        )
        return made

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Listen; see `loop.create_server`."""
        return await self._loop.create_server(protocol_factory, await self._local(host), port, **arguments)

    async def start_server(
        self, client_connected_cb: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Listen, with a reader and a writer for each connection; see `asyncio.start_server`."""
        return await asyncio.start_server(client_connected_cb, await self._local(host), port, **arguments)

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **arguments: Any
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Open a UDP socket; see `loop.create_datagram_endpoint`."""
        ends = {"local_addr": local_addr, "remote_addr": remote_addr}
        for name, end in ends.items():
            if end is not None and end[0] is not None:
                arguments[name] = ((await self._addresses(end[0], arguments.get("family", 0)))[0], *end[1:])
            elif end is not None:
                arguments[name] = end
        return await self._loop.create_datagram_endpoint(protocol_factory, **arguments)

    async def getaddrinfo(self, host: Any, port: Any, **arguments: int) -> Any:
        """Look up a name; see `loop.getaddrinfo`."""
        if host is None:
            return await self._loop.getaddrinfo(None, port, **arguments)
        found = await self._addresses(host, arguments.get("family", 0))
        return [info for each in found for info in await self._loop.getaddrinfo(each, port, **arguments)]

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        **arguments: Any,
    ) -> asyncio.Transport:
        """Go on with TLS; see `loop.start_tls`."""
        made = await self._loop.start_tls(transport, protocol, sslcontext, **arguments)  # type: ignore[arg-type]
        assert made is not None
        return made

    def close(self) -> None:
        """Nothing: the sockets are the program's own."""

    async def _try_each(self, host: Any, arguments: dict[str, Any], connect: Any, *first: Any, port: Any) -> Any:
        """Connect to the first address of a host that takes it."""
        if host is None:
            return await connect(*first, None, port, **arguments)
        if arguments.get("ssl"):
            arguments.setdefault("server_hostname", host)
        addresses = await self._addresses(host, arguments.pop("family", 0))
        for address in addresses[:-1]:
            try:
                return await connect(*first, address, port, **arguments)
            except OSError:
                continue
        return await connect(*first, addresses[-1], port, **arguments)

    async def _local(self, host: Any) -> list[str]:
        """Where to listen."""
        if host is None:
            return list(self._own())
        hosts = [host] if isinstance(host, str | bytes) else host
        return [address for each in hosts for address in await self._addresses(each, socket.AF_UNSPEC)]

    async def _addresses(self, host: str | bytes, family: int) -> list[str]:
        name = host.decode("ascii") if isinstance(host, bytes) else host
        return [str(ip_address(address)) for address in await self._resolve(name, family)]
