"""A network in memory for programs on asyncio: nodes with the sockets of `weft.Node`, links with faults, virtual time.

    async def main():
        async with SimulatedNetwork(Faults(latency_ns=50 * MS, loss=0.01), seed=7) as network:
            alice, bob = network.node("alice"), network.node("bob")
            await bob.start_server(serve, port=80)
            reader, writer = await alice.open_connection("bob.weft", 80)

    weft.testing.run(main())

What a program is given here is what it is given by a `weft.Node`: the same TCP/IP stack, the same transports, the same
errors. Between the nodes is no tunnel, but one link from each to each, and both directions of it have faults. These can
be changed while it runs, and nodes be cut off. The same seed gives the same run, packet by packet.

Not done here: tunnels, and so handshakes, NATs and relays; what TLS draws by lot.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_network
from random import Random
from types import TracebackType
from typing import BinaryIO, Final, Self

from weft.engine.status import PeerStatus
from weft.errors import UsageError
from weft.identity import encode_wireguard_key
from weft.packet.answers import Unreachable, destination_unreachable
from weft.packet.pcap import encode_file_header, encode_packet
from weft.stack.routes import Routes
from weft.testing.clock import MS, VirtualClock
from weft.testing.faults import FaultInjector, Faults
from weft.testing.loop import VirtualLoop
from weft.testing.simulated_node import SimulatedNode
from weft.testing.trace import Fate, Trace
from weft.testing.way import Crossing, PacketEntry, Way, singles

MAX_PACKET_BYTES: Final = 65_535

_NAME: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


class SimulatedNetwork:
    """Nodes, and a link from each to each; with `async with`, all of it ends with the block.

    Args:
        faults: of every direction that has none of its own.
        seed: the same seed gives the same run.
        reports_too_big: whether the sender of a packet over the MTU of its way is told, as by a router; if not, such a
            packet just vanishes, as behind many firewalls.

    Attributes:
        trace: every packet.

    Raises:
        UsageError: in each method that needs to know the time, if the loop that runs is no `VirtualLoop`.
    """

    def __init__(
        self,
        faults: Faults = Faults(latency_ns=10 * MS),  # noqa: B008 - frozen
        *,
        seed: int = 0,
        reports_too_big: bool = True,
    ) -> None:
        self.trace = Trace()
        self._faults = faults
        self._seed = seed
        self._reports_too_big = reports_too_big
        self._loop: VirtualLoop | None = None
        self._nodes: dict[str, SimulatedNode] = {}
        self._owners: dict[bytes, SimulatedNode] = {}
        self._routes = Routes(self._forget_paths)
        self._ways: dict[tuple[str, str], Way] = {}
        self._groups: dict[str, int] = {}
        self._made = 0
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        """Belong to the loop that runs."""
        self._on_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the world: no packet arrives any more, and all that is open is aborted."""
        self.end()
        # Whoever has something open sees it in the next turn.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @property
    def clock(self) -> VirtualClock:
        """Virtual time, which is that of the loop."""
        return self._on_loop().clock

    @property
    def nodes(self) -> list[SimulatedNode]:
        """All that take part, in the order in which they came."""
        return list(self._nodes.values())

    @property
    def faults(self) -> Faults:
        """Of every direction that has none of its own; assign to change it for packets sent from now on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        for way in self._ways.values():
            if way.faults is self._faults:
                way.faults = faults
        self._faults = faults

    def node(self, name: str, *addresses: str) -> SimulatedNode:
        """Add a node.

        Args:
            name: how others, and the trace, call it.
            addresses: that it has besides its own, each with its prefix length, such as `10.7.0.1/24`.

        Raises:
            UsageError: a name or an address is taken, or can't be one.
        """
        self._on_loop()
        name = name.lower()
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name: one word of letters, digits and hyphens")
        if name in self._nodes:
            raise UsageError(f"there is a node {name} already")
        self._made += 1
        node = SimulatedNode(self, name, addresses, Random(f"{self._seed} {name} {self._made}"))
        taken = [self._owners[address].name for address in node.host.addresses.own if address in self._owners]
        if taken:
            node._end()
            raise UsageError(f"{taken[0]} has an address of {name} already")
        self._nodes[name] = node
        for address in node.host.addresses.own:
            self._owners[address] = node
            self._routes.add(ip_network(address))
        return node

    def way(self, source: SimulatedNode | str, destination: SimulatedNode | str) -> Way:
        """One direction between two nodes: its faults, what travels, and an attacker's means.

        Args:
            source: a node, or its name.
            destination: likewise.
        """
        ends = self._name_of(source), self._name_of(destination)
        if ends not in self._ways:
            way = self._ways[ends] = Way(
                self.clock,
                self.trace,
                FaultInjector(self._faults, Random(f"{self._seed} {ends}")),
                ends,
                partial(self._deliver, ends[1]),
                answer=partial(self._deliver, ends[0]) if self._reports_too_big else None,
            )
            way.is_cut = self._groups.get(ends[0]) != self._groups.get(ends[1])
        return self._ways[ends]

    def set_faults(
        self, source: SimulatedNode | str, destination: SimulatedNode | str, faults: Faults, *, one_way: bool = False
    ) -> None:
        """Give the link between two nodes faults of its own, for packets sent from now on.

        Args:
            source: a node, or its name.
            destination: likewise.
            faults: what happens to packets.
            one_way: leave the way back as it is.
        """
        self.way(source, destination).faults = faults
        if not one_way:
            self.way(destination, source).faults = faults

    def partition(self, *groups: Iterable[SimulatedNode | str]) -> None:
        """Cut the network: from now on nodes reach those of their own group only.

        Args:
            *groups: nodes, or their names; all that are in none of the groups are one more group.
        """
        self._groups = {self._name_of(node): number for number, group in enumerate(groups) for node in group}
        for (source, destination), way in self._ways.items():
            way.is_cut = self._groups.get(source) != self._groups.get(destination)

    def heal(self) -> None:
        """Undo `partition`."""
        self.partition()

    def capture(self, path: str | os.PathLike[str]) -> None:
        """Write each packet that is sent from now on, lost or not, to a file for Wireshark and tcpdump."""
        self._close_file()
        self._file = open(path, "wb")  # noqa: SIM115 - it is open as long as the network
        self._file.write(encode_file_header(MAX_PACKET_BYTES))

    def end(self) -> None:
        """End the world at once, without waiting until those who have something open have seen it.

        It ends with its loop in any case.
        """
        self._close_file()
        for node in self.nodes:
            node._end()
        self._nodes.clear()
        self._owners.clear()

    def _on_loop(self) -> VirtualLoop:
        if self._loop is None:
            loop = asyncio.get_running_loop()
            if not isinstance(loop, VirtualLoop):
                raise UsageError(
                    "a simulated network needs virtual time: weft.testing.run(), the fixture simulated_network of "
                    "weft.testing.fixtures, or another that makes a VirtualLoop"
                )
            self._loop = loop
            loop.call_at_close(self.end)
            self.trace.start = loop.clock.now
        return self._loop

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _name_of(self, node: SimulatedNode | str) -> str:
        name = node.lower() if isinstance(node, str) else node.name
        if name not in self._nodes:
            raise UsageError(f"there is no node {name}")
        return name

    def _addresses_of(self, name: str) -> list[bytes]:
        node = self._nodes.get(name.lower())
        return [interface.ip.packed for interface in node.host.addresses] if node is not None else []

    def _describe(self, address: bytes) -> PeerStatus | None:
        """What `get_extra_info("peer")` gives, as in a `weft.Node`."""
        node = self._owners.get(address)
        if node is None:
            return None
        return PeerStatus(
            id=str(node.identity),
            name=node.name,
            kind="weft",
            addresses=[str(interface.ip) for interface in node.host.addresses],
            wireguard_public_key=encode_wireguard_key(node.identity.noise_public_key),
            state="up",
            endpoint=None,
            path="direct",
            mode="burst",
            burst_pieces=0,
            path_mtu=0,
            loss=0.0,
            rtt_ms=None,
            handshake_age_s=None,
            tx_bytes=0,
            rx_bytes=0,
        )

    def _carry(self, sender: SimulatedNode, crossing: Crossing) -> None:
        """Take a packet from a node; a host's own packets to itself never come here."""
        packet = crossing.packet
        if self._file is not None:
            for single, _, _ in singles(crossing):
                self._file.write(encode_packet(self.clock.wall_ns, len(single), single))
        receiver = self._owners.get(packet[24:40] if packet[0] >> 4 == 6 else packet[16:20])
        if receiver is not None:
            self.way(sender, receiver).send(crossing)
            return
        self.trace.add(PacketEntry.of(crossing, self.clock.now, (sender.name, "nobody"), Fate.UNREACHABLE))
        source = packet[8:24] if packet[0] >> 4 == 6 else packet[12:16]
        answer = destination_unreachable(packet, Unreachable.ADDRESS, source)
        if answer is not None:
            sender._receive([Crossing(answer)])

    def _deliver(self, name: str, crossings: list[Crossing]) -> None:
        node = self._nodes.get(name)
        if node is not None:
            node._receive(crossings)

    def _forget_paths(self) -> None:
        for node in self._nodes.values():
            node.host.ip.forget_paths()

    def _forget(self, node: SimulatedNode) -> None:
        if self._nodes.get(node.name) is node:
            del self._nodes[node.name]
            for address in node.host.addresses.own:
                del self._owners[address]
                self._routes.remove(ip_network(address))
            for (_, destination), way in self._ways.items():
                if destination == node.name:
                    way.take()
