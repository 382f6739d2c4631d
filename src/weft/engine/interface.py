"""The fc00::/8 interface: a TUN, its address, its routes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv6Address

from weft.engine.peer import Network
from weft.engine.status import Interface
from weft.io.netlink import OVERLAY, InterfaceAddress, Netlink
from weft.io.tun import Tun

INTERFACE_MTU = 1352
"""What fits routed and direct on an underlay of 1,500 bytes (wire.md section 5)."""


class OverlayInterface:
    """The interface while it is up.

    Attributes:
        tun: the device.
        addresses: those that it has besides the node's own.
        mtu: of the interface, bytes.
    """

    def __init__(
        self, tun: Tun, netlink: Netlink, stack: AsyncExitStack, address: bytes, mtu: int = INTERFACE_MTU
    ) -> None:
        self.tun = tun
        self.mtu = mtu
        self._netlink = netlink
        self._stack = stack
        self._address = address
        self.addresses: tuple[InterfaceAddress, ...] = ()
        self._networks: set[Network] = set()
        self._routes: set[Network] = set()

    @classmethod
    async def open(cls, ifname: str, address: bytes, *, offloads: bool) -> OverlayInterface:
        """Make the interface and return when packets can use it.

        Args:
            ifname: its name.
            address: this node's, 16 bytes.
            offloads: False asks for a TUN without any, for measurements and tests.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: another interface owns fc00::/8, or the name is taken.
            TransportError: the system has no TUN.
        """
        async with AsyncExitStack() as stack:
            netlink = await stack.enter_async_context(Netlink())
            tun = Tun(ifname, offloads=offloads)
            stack.callback(tun.close)
            await netlink.configure_interface(tun.name, address, INTERFACE_MTU)
            return cls(tun, netlink, stack.pop_all(), address)
        raise AssertionError("unreachable")

    async def set_routes(self, networks: set[Network]) -> None:
        """Route the allowed addresses of stock devices here, besides fc00::/8 itself.

        Raises:
            UsageError: one of them has a route already.
        """
        self._networks = networks
        await self._set_routes(self.addresses)

    async def set_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        """Have these addresses, besides the one in fc00::/8, each with the route of its prefix.

        Raises:
            UsageError: another interface has that route, or no permission; what was before stays.
        """
        before = self.addresses
        try:
            await self._replace_addresses(addresses)
        except BaseException:
            await self._replace_addresses(before)
            raise

    async def _replace_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        # The kernel makes a route of each prefix itself: where a peer has it too, ours makes room meanwhile.
        await self._set_routes([*self.addresses, *addresses])
        # Nor does it take one address with two prefixes. All else goes last, so that it stays if something is refused.
        new = {address.ip for address in addresses}
        await self._remove_addresses([each for each in self.addresses if each not in addresses and each.ip in new])
        for address in addresses:
            if address not in self.addresses:
                await self._netlink.add_address(address, self.tun.name)
                self.addresses += (address,)
        await self._remove_addresses([each for each in self.addresses if each not in addresses])
        await self._set_routes(addresses)

    async def _remove_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        for address in addresses:
            await self._netlink.remove_address(address, self.tun.name)
            self.addresses = tuple(each for each in self.addresses if each != address)

    async def _set_routes(self, addresses: Sequence[InterfaceAddress]) -> None:
        """Route what was asked for, but for the prefixes of addresses."""
        connected = {address.network for address in addresses}
        wanted = {each for each in self._networks - connected if not (each.version == 6 and each.subnet_of(OVERLAY))}
        for network in self._routes - wanted:
            await self._netlink.remove_route(network, self.tun.name)
            self._routes.discard(network)
        for network in wanted - self._routes:
            await self._add_route(network)

    async def _add_route(self, network: Network) -> None:
        await self._netlink.add_route(network, self.tun.name)
        self._routes.add(network)

    async def close(self) -> None:
        """Remove what was made of it: routes, and the interface."""
        await self._stack.aclose()

    def status(self) -> Interface:
        """The interface as it is."""
        return Interface(
            up=True,
            ifname=self.tun.name,
            address=str(IPv6Address(self._address)),
            addresses=[str(address) for address in self.addresses],
            mtu=self.mtu,
            offloads=self.tun.offloads,
        )
