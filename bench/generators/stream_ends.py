"""One end of streams: over the kernel's sockets, or over a rootless node of weft's own in this process.

Usage: python -m bench.generators.stream_ends kernel
       python -m bench.generators.stream_ends node [DIRECTORY]
Without a directory the node keeps nothing. Does what verbs.py says; the verbs are the methods of `End` and `NodeEnd`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import weft
from bench.generators import traffic
from bench.generators.traffic import Network, Services, Streams
from bench.generators.verbs import Verb, obey
from weft.identity import encode_wireguard_key

Result = dict[str, Any]


class End:
    """What is done at one end.

    Args:
        network: over which.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.services = Services(network)
        self.held: list[Streams] = []
        self.filling: list[asyncio.Task[None]] = []

    def verbs(self) -> dict[str, Verb]:
        """All that it can be told."""
        return {
            "serve": self.serve,
            "transfer": self.transfer,
            "open_and_close": self.open_and_close,
            "ask": self.ask,
            "hold": self.hold,
            "fill": self.fill,
            "arrived": self.arrived,
        }

    async def serve(self, host: str | None = None) -> Result:
        """Listen."""
        await self.services.start(host)
        return {}

    async def transfer(self, host: str, streams: int, seconds: float) -> Result:
        """See `traffic.transfer`."""
        return await traffic.transfer(self.network, host, streams, seconds)

    async def open_and_close(self, host: str, clients: int, seconds: float) -> Result:
        """See `traffic.open_and_close`."""
        return await traffic.open_and_close(self.network, host, clients, seconds)

    async def ask(self, host: str, seconds: float) -> Result:
        """See `traffic.ask`."""
        return await traffic.ask(self.network, host, seconds)

    async def hold(self, host: str, count: int) -> Result:
        """Open connections that stay."""
        self.held += await traffic.open_many(self.network, host, count)
        return {"open": sum(not writer.is_closing() for _, writer in self.held)}

    async def fill(self) -> Result:
        """Send over all connections that are held, from now on."""
        self.filling += [asyncio.create_task(traffic.fill(writer)) for _, writer in self.held]
        return {}

    async def arrived(self) -> Result:
        """How many bytes have come over each connection of the sink that is open."""
        return {"arrived": self.services.arrived}


class NodeEnd(End):
    """One end over a node.

    Args:
        node: that is up.
    """

    def __init__(self, node: weft.Node) -> None:
        super().__init__(node)
        self.node = node

    def verbs(self) -> dict[str, Verb]:
        return super().verbs() | {"who": self.who, "connect_peer": self.connect_peer}

    async def who(self) -> Result:
        """Who it is, for weft nodes and for stock WireGuard, and where."""
        return {
            "address": str(self.node.address),
            "multiaddrs": self.node.multiaddrs,
            "wireguard_key": encode_wireguard_key(self.node.identity.noise_public_key),
        }

    async def connect_peer(self, multiaddr: str) -> Result:
        """Connect to another node."""
        await self.node.connect_peer(multiaddr)
        return {}


async def over_kernel() -> None:
    """Work over the kernel's sockets."""
    await obey(End(asyncio).verbs())


async def over_node(directory: str | None = None) -> None:
    """Work over a node."""
    async with weft.Node(directory) as node:
        await obey(NodeEnd(node).verbs())


if __name__ == "__main__":
    asyncio.run({"kernel": over_kernel, "node": over_node}[sys.argv[1]](*sys.argv[2:]))
