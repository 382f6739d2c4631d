"""The fc00::/8 interface: a TUN, its address, its routes.

Of fc00::/8 it has the whole, or the addresses that peers have and no more, so that several nodes share a machine. The
former is refused where another interface has it. Of the latter one may have a route already, which stays: several
nodes may know the same peer, and strangers come by themselves.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Final, Literal

from weft.engine.peer import Network
from weft.engine.readers import read_tun
from weft.engine.session import Session
from weft.engine.status import Interface
from weft.errors import TransportError, UsageError, WeftError
from weft.io.clock import monotonic_ns, random_bytes
from weft.io.netlink import OVERLAY, InterfaceAddress, Netlink
from weft.io.tun import Tun

if TYPE_CHECKING:
    from weft.io.backend import Backend
    from weft.io.kernel.backend import KernelBackend

log = logging.getLogger("weft.engine")

INTERFACE_MTU = 1352
"""What fits routed and direct on an underlay of 1,500 bytes (wire.md section 5)."""

Routes = Literal["all", "peers"]
"""What of fc00::/8 is routed to an interface."""


def is_inside(network: Network) -> bool:
    """Whether a network is a part of fc00::/8."""
    return network.version == 6 and network != OVERLAY and network.subnet_of(OVERLAY)


def routed(networks: Iterable[Network], routes: Routes) -> set[Network]:
    """What is routed to an interface.

    Args:
        networks: of the peers.
        routes: what of fc00::/8.
    """
    networks = set(networks)
    inside = {network for network in networks if is_inside(network)}
    return (networks - inside) | ({OVERLAY} if routes == "all" else inside)


class OverlayInterface:
    """The interface while it is up.

    Attributes:
        kind: what is behind it.
        firewall: None, for the node's own decides what may pass.
        driver: None, for the host behind it is the system's.
        speaker: see `Session.join`; None is the node's own address.
        device: the TUN.
        addresses: those that it has besides the node's own.
        mtu: of the interface, bytes.
        routes: what of fc00::/8 is routed here; nothing before somebody says so.
    """

    kind: Final = "tun"
    firewall: Final = None
    driver: Final = None
    speaker: Final = None

    def __init__(
        self, tun: Tun, netlink: Netlink, stack: AsyncExitStack, address: bytes, mtu: int = INTERFACE_MTU
    ) -> None:
        self.device = tun
        self.mtu = mtu
        self._netlink = netlink
        self._stack = stack
        self._address = address
        self._own = IPv6Interface(address)
        self.addresses: tuple[InterfaceAddress, ...] = ()
        self.routes: Routes = "peers"
        self._networks: set[Network] = set()
        self._routed: set[Network] = set()
        self._left: set[Network] = set()
        """Not routed by us, since others have them, or we may not."""
        self._changing = asyncio.Lock()
        self._backend: KernelBackend | None = None

    @classmethod
    async def open(cls, ifname: str, address: bytes, *, offloads: bool) -> OverlayInterface:
        """Make the interface and return when packets can use it.

        Args:
            ifname: its name.
            address: this node's, 16 bytes.
            offloads: False asks for a TUN without any, for measurements and tests.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: the name is taken.
            TransportError: the system has no TUN.
        """
        async with AsyncExitStack() as stack:
            netlink = await stack.enter_async_context(Netlink())
            tun = _made(ifname, offloads=offloads)
            stack.callback(tun.close)
            await netlink.configure_interface(tun.name, address, INTERFACE_MTU)
            return cls(tun, netlink, stack.pop_all(), address)
        raise AssertionError("unreachable")

    async def run(self, session: Session) -> None:
        """Send what the interface gives, until cancelled.

        Raises:
            OSError: it is gone.
        """
        await read_tun(self.device, session)

    async def set_routes(self, networks: set[Network], at_most: int | None = None) -> bool:
        """Route the networks of peers here, and no longer those that were theirs.

        Args:
            networks: of all peers.
            at_most: so many changes now, at which what others have is not asked for again; None for all.

        Returns:
            Whether that was all.

        Raises:
            UsageError: one that is not of fc00::/8 has a route already.
        """
        async with self._changing:
            self._networks = networks
            return await self._set_routes(self.addresses, at_most)

    async def set_overlay_routes(self, routes: Routes) -> None:
        """Route all of fc00::/8 here, or only the addresses that peers have.

        Raises:
            UsageError: another interface has all of it; what was before stays.
        """
        async with self._changing:
            before, self.routes = self.routes, routes
            try:
                await self._set_routes(self.addresses)
            except BaseException:
                self.routes = before
                raise

    async def set_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        """Have these addresses, besides the one in fc00::/8, each with the route of its prefix.

        Raises:
            UsageError: another interface has that route, or no permission; what was before stays.
        """
        async with self._changing:
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
                await self._netlink.add_address(address, self.device.name)
                self.addresses += (address,)
        await self._remove_addresses([each for each in self.addresses if each not in addresses])
        await self._set_routes(addresses)

    async def _remove_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        for address in addresses:
            await self._netlink.remove_address(address, self.device.name)
            self.addresses = tuple(each for each in self.addresses if each != address)

    async def _set_routes(self, addresses: Sequence[InterfaceAddress], at_most: int | None = None) -> bool:
        """Route what was asked for, but for the prefixes of addresses; see `set_routes`."""
        wanted = routed(self._networks, self.routes) - {address.network for address in addresses}
        self._left &= wanted
        coming = wanted - self._routed - (self._left if at_most is not None else set())
        changes = sorted(
            coming | (self._routed - wanted), key=lambda network: _turn(network, is_coming=network in wanted)
        )
        for network in changes[:at_most]:
            if network not in wanted:
                await self._netlink.remove_route(network, self.device.name)
                self._routed.discard(network)
            elif is_inside(network):
                await self._try_route(network)
            else:
                await self._add_route(network)
        return at_most is None or len(changes) <= at_most

    async def _try_route(self, network: Network) -> None:
        """Route a part of fc00::/8, or leave it to whoever has it."""
        try:
            await self._add_route(network)
        except WeftError as error:
            # There may be a thousand of the same kind.
            is_told = any(map(is_inside, self._left))
            log.log(logging.DEBUG if is_told else logging.WARNING, "%s: %s", self.device.name, error)
            self._left.add(network)

    async def _add_route(self, network: Network) -> None:
        if network == OVERLAY:
            await self._netlink.add_overlay_route(self.device.name)
        else:
            await self._netlink.add_route(network, self.device.name)
        self._routed.add(network)
        self._left.discard(network)

    @property
    def backend(self) -> Backend:
        """The system's sockets in the network; made for whoever asks first."""
        if self._backend is None:
            # Few nodes with a TUN serve programs by it.
            from weft.io.kernel.backend import KernelBackend

            own, networks = self._own_addresses, lambda: self._networks
            self._backend = KernelBackend(self.device.name, own, networks, monotonic_ns, random_bytes)
        return self._backend

    def _own_addresses(self) -> tuple[InterfaceAddress, ...]:
        return (self._own, *self.addresses)

    async def end(self) -> None:
        """End what programs have open by the backend; their own sockets are theirs."""
        if self._backend is not None:
            await self._backend.end()

    async def close(self) -> None:
        """Remove what was made of it: routes, and the interface."""
        await self._stack.aclose()

    def status(self) -> Interface:
        """The interface as it is."""
        return Interface(
            up=True,
            device=self.kind,
            ifname=self.device.name,
            address=str(IPv6Address(self._address)),
            addresses=[str(address) for address in self.addresses],
            mtu=self.mtu,
            offloads=self.device.offloads,
        )


def _turn(network: Network, *, is_coming: bool) -> int:
    """When a route is changed: first what may be refused, and what comes before what it takes the place of.

    Strangers come and go: those that go first, so that there are never more routes than peers.
    """
    if is_inside(network):
        return 2 if is_coming else 1
    return 0 if is_coming else 3


def _made(ifname: str, *, offloads: bool) -> Tun:
    try:
        return Tun(ifname, offloads=offloads)
    except TransportError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EBUSY:
            hint = "give this node's another name: weft --dir DIR config set fc00.ifname weft1"
            raise UsageError(f"{error}; {hint}") from error
        raise
