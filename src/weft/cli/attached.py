"""The network for commands that connect and listen in it: through the daemon that runs here.

Where the daemon has a TUN, the sockets are the kernel's, and the names those of the daemon's peers.

Not done here: a daemon whose network is inside it.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import peer as peer_api
from weft.cli.settings import Settings
from weft.errors import UsageError

if TYPE_CHECKING:
    from weft.api.overlay import Overlay
    from weft.engine.status import Interface, PeerStatus


@asynccontextmanager
async def attached(settings: Settings) -> AsyncIterator[Overlay]:
    """The network, while the block runs.

    Raises:
        NoDaemon: none answers.
        UsageError: it has no interface.
    """
    import asyncio

    from weft.api.kernel import KernelSockets
    from weft.api.overlay import Overlay
    from weft.api.streams.resolver import SystemResolver
    from weft.stack.dns.names import DOMAIN, Names

    interface: Interface = await asyncio.to_thread(settings.client.call, fc00_api.STATUS)
    if not interface.up or interface.device != "tun":
        raise UsageError("the daemon has no interface of the system; `weft fc00 start` makes one")
    peers = (await asyncio.to_thread(settings.client.call, peer_api.LIST)).peers
    known = {peer.name.lower(): _addresses(peer) for peer in peers if peer.name is not None}
    resolver = SystemResolver(Names(lambda name: known.get(name, ())))

    async def resolve(host: str, family: int = socket.AF_UNSPEC) -> Sequence[bytes]:
        return await resolver.resolve(f"{host}.{DOMAIN}" if host.lower() in known else host, family)

    network = Overlay()
    own = [interface.address or "", *(str(ip_interface(each).ip) for each in interface.addresses)]
    network._sockets = KernelSockets(resolve, lambda: own)
    yield network


def _addresses(peer: PeerStatus) -> list[bytes]:
    networks = map(ip_network, peer.addresses)
    return [network.network_address.packed for network in networks if network.num_addresses == 1]
