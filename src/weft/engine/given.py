"""An interface that somebody with more rights has made and set up for a node that may not: it is used as it is.

A persistent TUN of which this user is the owner, or a descriptor that another process passes. The node checks that the
address is its own, adds routes of peers if it may, and leaves the interface where it is when it is closed. The route
fc00::/8 is left to whoever made it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv6Address

from weft.engine.interface import INTERFACE_MTU, OverlayInterface, is_inside
from weft.engine.peer import Network
from weft.errors import UsageError
from weft.io.link import look_at
from weft.io.netlink import OVERLAY, InterfaceAddress, Netlink
from weft.io.tun import Tun

log = logging.getLogger("weft.engine")


class GivenInterface(OverlayInterface):
    """The interface while it is used."""

    @classmethod
    async def use(cls, tun: Tun, address: bytes) -> GivenInterface:
        """Take an interface whose TUN is open; it is closed if the interface is not fit.

        Args:
            tun: the device.
            address: this node's, 16 bytes.

        Raises:
            UsageError: it is down, or has another address; says what to do.
        """
        async with AsyncExitStack() as stack:
            stack.callback(tun.close)
            link, own = look_at(tun.name), IPv6Address(address)
            if own not in link.addresses:
                others = ", ".join(map(str, link.addresses)) or "none"
                raise UsageError(
                    f"{tun.name} does not have this node's address (it has {others}); as root: "
                    f"ip addr add {own}/128 dev {tun.name}"
                )
            if not link.is_up:
                raise UsageError(f"{tun.name} is down; as root: ip link set {tun.name} up")
            if link.mtu > INTERFACE_MTU:
                log.warning(
                    "%s has MTU %d; more than %d may not fit the way to a peer; as root: ip link set %s mtu %d",
                    *(tun.name, link.mtu, INTERFACE_MTU, tun.name, INTERFACE_MTU),
                )
            netlink = await stack.enter_async_context(Netlink())
            return cls(tun, netlink, stack.pop_all(), address, link.mtu)
        raise AssertionError("unreachable")

    async def set_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        """Have these addresses, if this process may give them to it; else say who can."""
        try:
            await super().set_addresses(addresses)
        except UsageError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            for address in addresses:
                log.warning("%s; as root: ip addr add %s dev %s", error, address, self.device.name)

    async def _add_route(self, network: Network) -> None:
        if network == OVERLAY:
            self._left.add(network)
            return
        try:
            await super()._add_route(network)
        except UsageError as error:
            if is_inside(network):
                raise
            if await self._netlink.owner_of(network) != self.device.name:
                if not isinstance(error.__cause__, PermissionError):
                    raise
                log.warning("%s; as root: ip route add %s dev %s", error, network, self.device.name)
            self._left.add(network)
