"""The interface of a node that needs no rights: what comes through the tunnels goes to a host inside this program.

It stands where a TUN stands otherwise (interface.py): the datapath sees a device, and the rest of the engine something
that has addresses and routes. Super-packets go in and out whole and without their checksums, so that nothing is split
or summed between two weft nodes.

Not done here: the host itself (stack/host.py), its turns on the loop (driver.py), and what programs do with its sockets
(api/streams/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_interface
from typing import Final

from weft.burst.records import KIND_PACKET, KIND_TCP, KIND_UDP
from weft.engine.driver import Driver, rest
from weft.engine.interface import INTERFACE_MTU, Routes, routed
from weft.engine.peer import Network
from weft.engine.readers import read_host
from weft.engine.session import NODE_ITSELF, Session
from weft.engine.stack_backend import StackBackend
from weft.engine.status import Interface
from weft.firewall.open import OpenFirewall
from weft.io.device import Buffer, Read
from weft.io.netlink import InterfaceAddress
from weft.packet import ipv4, ipv6
from weft.packet.protocols import TCP
from weft.stack.host import Host


class HostDevice:
    """A host, as the datapath sees an interface.

    Args:
        driver: of the host.

    Attributes:
        name: for people.
        offloads: what it takes, in the words for a TUN.
        takes_tcp: TCP super-packets can be written.
        takes_udp: UDP super-packets can be written.
        takes_partial: it needs no transport checksums.
        needs_pseudo_header: nor any part of them.
    """

    def __init__(self, driver: Driver) -> None:
        self.name = "the stack"
        self.offloads = ["csum", "tso4", "tso6", "uso"]
        self.takes_tcp = self.takes_udp = self.takes_partial = True
        self.needs_pseudo_header = False
        self._driver = driver
        self._host = driver.host
        self._clock = driver.clock
        self._is_given = False

    @property
    def drops(self) -> Counter[str]:
        """What the host dropped, by reason."""
        return self._host.drops

    def read(self, into: memoryview) -> Read | None:
        """Take the next packet that the host sends."""
        outgoing = self._host.next_packet(self._clock())
        if outgoing is None:
            return None
        parts, segment, is_partial = outgoing
        start = 0
        for part in parts:
            end = start + len(part)
            into[start:end] = part
            start = end
        if not segment:
            return Read(start, KIND_PACKET, 0, is_partial)
        protocol = into[ipv6.NEXT_HEADER if into[0] >> 4 == 6 else ipv4.PROTOCOL]
        return Read(start, KIND_TCP if protocol == TCP else KIND_UDP, segment, True)

    def write(self, parts: Sequence[Buffer]) -> bool:
        """Give the host a packet."""
        return self._give(parts)

    def write_partial(self, parts: Sequence[Buffer], transport: int, checksum_offset: int) -> bool:
        """Give the host a packet whose transport checksum is not computed."""
        return self._give(parts, is_partial=True)

    def write_super(self, parts: Sequence[Buffer], kind: int, segment: int, transport: int, headers: int) -> bool:
        """Give the host a super-packet."""
        return self._give(parts, segment, is_partial=True)

    def _give(self, parts: Sequence[Buffer], segment: int = 0, *, is_partial: bool = False) -> bool:
        packet = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
        self._host.receive(packet, self._clock(), segment=segment, is_partial=is_partial)
        self._is_given = True
        return True

    def settle(self) -> None:
        """Have the host answer what it was given."""
        if self._is_given:
            self._is_given = False
            self._driver.run()

    def wake(self) -> None:
        """Have the host answer in its next turn."""
        self._driver.wake()


class HostInterface:
    """The interface while it is up.

    Args:
        address: this node's, 16 bytes.
        clock: monotonic ns.
        random_bytes: unpredictable ones.

    Attributes:
        kind: what is behind it.
        firewall: decides in place of the node's own: nothing, for the host refuses by itself.
        device: the host, as the datapath sees it.
        driver: of the host.
        backend: its sockets.
        speaker: see `Session.join`; nobody but the host itself has its address.
        addresses: those that it has besides the node's own.
        mtu: of the interface, bytes.
        routes: what of fc00::/8 is routed here; nothing before somebody says so.
    """

    kind: Final = "stack"
    speaker: Final = NODE_ITSELF

    def __init__(self, address: bytes, clock: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self.mtu = INTERFACE_MTU
        self.host = Host(random_bytes, mtu=self.mtu)
        self.driver = Driver(self.host, clock, rest)
        self.backend = StackBackend(self.driver)
        self.device = HostDevice(self.driver)
        self.addresses: tuple[InterfaceAddress, ...] = ()
        self.routes: Routes = "peers"
        self._address = IPv6Address(address)
        self._networks: set[Network] = set()
        self._routed: set[Network] = set()
        self.host.addresses.add(ip_interface(self._address))
        self.firewall = OpenFirewall()

    async def run(self, session: Session) -> None:
        """Send what the host sends, until cancelled; meanwhile, what it has to send waits in it."""
        await read_host(self.driver, self.device, session)

    async def set_routes(self, networks: set[Network], at_most: int | None = None) -> bool:
        """Let the host reach the networks of peers, and no longer those that were theirs.

        Args:
            networks: of all peers.
            at_most: of no matter here, where a route costs nothing.

        Returns:
            That this was all.
        """
        self._networks = networks
        wanted = routed(networks, self.routes)
        for network in self._routed - wanted:
            self.host.routes.remove(network)
        for network in wanted - self._routed:
            self.host.routes.add(network)
        self._routed = wanted
        return True

    async def set_overlay_routes(self, routes: Routes) -> None:
        """Let the host reach all of fc00::/8, or only the addresses that peers have."""
        self.routes = routes
        await self.set_routes(self._networks)

    async def set_addresses(self, addresses: Sequence[InterfaceAddress]) -> None:
        """Have these addresses, besides the one in fc00::/8, each with the network of its prefix."""
        for address in self.addresses:
            if address not in addresses:
                self.host.addresses.remove(address)
        for address in addresses:
            self.host.addresses.add(address)
        self.addresses = tuple(addresses)

    async def end(self) -> None:
        """End what programs have open, while the other side can still be told; what they have closed arrives first."""
        await self.driver.end()

    async def close(self) -> None:
        """Drive the host no longer."""
        self.driver.close()

    def status(self) -> Interface:
        """The interface as it is."""
        return Interface(
            up=True,
            device=self.kind,
            address=str(self._address),
            addresses=[str(address) for address in self.addresses],
            mtu=self.mtu,
            offloads=self.device.offloads,
        )
