"""What a proxy, or the answer of a server, may lead to: the addresses of the network, and no others.

Where the network is an interface of the machine its sockets reach whatever the machine does. So each address is held
against those of the network before anything is sent to it, after names were looked up: what a name leads to may change.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Protocol

from weft.clients.network import Network
from weft.clients.relay import End, connect
from weft.io.kernel.inside import is_of_machines

Networks = Callable[[], Iterable[str]]
"""The addresses of the network and its prefixes, as they are now: the node's own, and all that its peers may use."""

_network_of = lru_cache(ip_network)


class ProxyNetwork(Network, Protocol):
    """Two more methods of the event loop, of those that a node has."""

    async def getaddrinfo(self, host: Any, port: Any, **arguments: int) -> Any:
        """Look up a name."""

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **arguments: Any
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Open a UDP socket."""


class Inside:
    """The way there.

    Args:
        network: whose sockets are used.
        networks: what lies inside.
    """

    def __init__(self, network: ProxyNetwork, networks: Networks) -> None:
        self._network = network
        self._networks = networks

    async def connect(self, host: str, port: int) -> End:
        """Connect to a host; see `create_connection`."""
        return await connect(self.create_connection, host, port)

    async def create_connection(
        self, protocol_factory: Any, host: Any, port: Any, **arguments: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect to the first address of a host that takes it.

        Raises:
            OSError: why the best address does not; `ENETUNREACH` if none is inside.
        """
        failures: list[OSError] = []
        for address in await self._look_up(host, port, socket.SOCK_STREAM):
            try:
                return await self._network.create_connection(protocol_factory, address, port, **arguments)
            except OSError as error:
                failures.append(error)
        raise failures[0]

    async def open_udp(self, protocol: asyncio.DatagramProtocol, host: str, port: int) -> str:
        """Open a UDP socket that talks to one host.

        Returns:
            Its address.

        Raises:
            OSError: it can't be had; `ENETUNREACH` if it is not inside.
        """
        address, *_ = await self._look_up(host, port, socket.SOCK_DGRAM)
        await self._network.create_datagram_endpoint(lambda: protocol, remote_addr=(address, port))
        return address

    def has(self, text: str) -> bool:
        """Whether an address is inside."""
        address = ip_address(text)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        # What is of this machine or of one link is not, whatever prefix a peer has.
        return is_of_machines(address) and any(_covers(each, address) for each in self._networks())

    async def _look_up(self, host: str, port: int, kind: socket.SocketKind) -> list[str]:
        """The addresses of a host that are inside, the best first; at least one."""
        infos = await self._network.getaddrinfo(host, port, type=int(kind))
        found = [address for *_, (address, *_) in infos if self.has(address)]
        if not found:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return found


def _covers(inside: str, address: IPv4Address | IPv6Address) -> bool:
    return address in _network_of(inside) if "/" in inside else str(address) == inside
