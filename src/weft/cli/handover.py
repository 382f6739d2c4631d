"""An interface for a daemon that may not make one: opened by this command and passed as a descriptor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from ipaddress import IPv6Address, ip_network
from pathlib import Path

from weft.api.client import Client
from weft.api.v0 import node as node_api
from weft.api.v0 import peer as peer_api
from weft.api.v0.fc00 import StartInterface
from weft.engine.config import FILE_NAME, load_config
from weft.engine.environment import allowed_offloads
from weft.engine.interface import INTERFACE_MTU, is_inside, routed
from weft.errors import TransportError, UsageError
from weft.io.netlink import OVERLAY, Netlink, Prefix
from weft.io.passing import Giver
from weft.io.tun import Tun


@contextmanager
def making(client: Client, ifname: str | None) -> Iterator[StartInterface]:
    """Make and set up the interface of a node; it stays if the daemon has it when the block ends.

    Args:
        client: the way to the daemon.
        ifname: its name; None is that of the node's configuration.

    Yields:
        What to ask of the daemon.

    Raises:
        PermissionError: this command may not make one either.
        UsageError: another interface owns fc00::/8.
    """
    info = client.call(node_api.INFO)
    config = load_config(Path(info.dir) / FILE_NAME).fc00
    peers = client.call(peer_api.LIST).peers
    networks = routed((ip_network(address) for peer in peers for address in peer.addresses), config.routes)
    tun = Tun(ifname or config.ifname, offloads="tun" in allowed_offloads())
    try:
        asyncio.run(_set_up(tun.name, info.address, networks))
        with passing(client, tun.fileno()) as asked:
            yield asked
    finally:
        tun.close()


@contextmanager
def passing(client: Client, descriptor: int) -> Iterator[StartInterface]:
    """Pass a descriptor that this process has to the daemon, while the block asks the daemon to take it.

    Yields:
        What to ask of the daemon.

    Raises:
        TransportError: the daemon can't be met beside its socket.
    """
    info = client.call(node_api.INFO)
    try:
        giver = Giver(client.socket.absolute().parent, info.pid)
    except OSError as error:
        raise TransportError(f"can't pass the interface to the daemon: {error.strerror or error}") from error
    with giver:
        thread = threading.Thread(target=_give, args=(giver, descriptor), daemon=True)
        thread.start()
        yield StartInterface(socket=str(giver.path))


def _give(giver: Giver, descriptor: int) -> None:
    # If it fails, the daemon says so, in answer to what it is asked.
    with suppress(TransportError):
        giver.give(descriptor)


async def _set_up(ifname: str, address: str, networks: set[Prefix]) -> None:
    async with Netlink() as netlink:
        await netlink.configure_interface(ifname, IPv6Address(address), INTERFACE_MTU)
        for network in networks:
            if network == OVERLAY:
                await netlink.add_overlay_route(ifname)
                continue
            # Another node may have a part of fc00::/8, as when the daemon sets its routes itself.
            with suppress(UsageError) if is_inside(network) else nullcontext():
                await netlink.add_route(network, ifname)
        netlink.leave()
