"""What transports ask of IP: the way to a destination, and to have something sent there.

Packets wait in one queue, bounded by bytes and number, until the host hands them out. Datagrams may join a train that
is the last in the queue. TCP does not use the queue for its data: it makes its packets when they can leave.

    destination                  source                       MTU
    loopback, or ours            the destination itself       65,535; it does not leave the host
    multicast, broadcast         by the rules of `addresses`  of the interface
    in a route                   of the route, or the rules   of the path, if a smaller one is known
    in the network of an address likewise                     likewise

Source: RFC 1122 section 3.3, RFC 8200 section 5.
Not done here: what arrives (`arrivals`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from weft.errors import UsageError
from weft.packet.checksum import Buffer, complete
from weft.packet.protocols import ICMP
from weft.stack.addresses import LOOPBACK_V4, LOOPBACK_V6, Addresses, is_any, is_loopback
from weft.stack.failure import Failure, StackError
from weft.stack.fragmenting import fragment
from weft.stack.header import DEFAULT_HOP_LIMIT, encode_header
from weft.stack.multicast import Groups
from weft.stack.outgoing import Outgoing
from weft.stack.path_mtu import PathMtus, believable
from weft.stack.routes import Routes
from weft.stack.train import Train

LOOPBACK_MTU: Final = 65_535
MAX_PACKET_BYTES: Final = 65_535
QUEUE_BYTES: Final = 4 * 1024 * 1024
QUEUE_PACKETS: Final = 4096
MAX_PATHS: Final = 4096
"""Ways that are remembered, so that they need not be looked for each time."""


class Path(NamedTuple):
    """The way to a destination."""

    source: bytes
    """The address of ours that packets to it are sent from."""
    mtu: int
    """Bytes of the largest packet that gets there whole, as far as is known."""
    is_local: bool
    """Whether it stays in this host."""


class Ip:
    """The sending half of IP, and what both halves know.

    Attributes:
        interface_mtu: bytes of the largest packet that the network takes.
        addresses: of this host.
        routes: of this host.
        groups: multicast groups that are received.
        path_mtus: destinations with a smaller MTU.
        drops: what was dropped by any part of the host but TCP, by reason.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], mtu: int) -> None:
        self.interface_mtu = mtu
        self.addresses = Addresses(self.forget_paths)
        self.routes = Routes(self.forget_paths)
        self.groups = Groups()
        self.path_mtus = PathMtus()
        self.drops: Counter[str] = Counter()
        self._random_bytes = random_bytes
        self._paths: dict[bytes, Path] = {}
        self._queue: deque[Outgoing | Train] = deque()
        self._queued_bytes = 0

    def path(self, destination: bytes, source: bytes | None = None) -> Path:
        """The way to a destination.

        Args:
            destination: 4 or 16 bytes.
            source: the address to send from; None or all zero to have it chosen.

        Raises:
            StackError: NO_ROUTE, there is none from here or from that address; NOT_OURS.
        """
        path = self._paths.get(destination)
        if path is None:
            path = self._find(destination)
            if len(self._paths) >= MAX_PATHS:
                self._paths.clear()
            self._paths[destination] = path
        if source is None or source == path.source or is_any(source):
            return path
        if not self.addresses.is_local(source):
            raise StackError(Failure.NOT_OURS)
        if len(source) != len(destination) or (is_loopback(source) and not path.is_local):
            raise StackError(Failure.NO_ROUTE)
        return path._replace(source=source)

    def mtu(self, destination: bytes) -> int:
        """Bytes of the largest packet that gets to a destination whole, as far as is known."""
        path = self._paths.get(destination)
        if path is not None:
            return path.mtu
        if self.addresses.is_local(destination):
            return LOOPBACK_MTU
        return self.path_mtus.get(destination, self.interface_mtu)

    def send(
        self,
        source: bytes,
        destination: bytes,
        protocol: int,
        parts: list[Buffer],
        *,
        segment: int = 0,
        hop_limit: int = DEFAULT_HOP_LIMIT,
        traffic_class: int = 0,
    ) -> None:
        """Queue a packet; it is fragmented if it is longer than its way takes.

        Args:
            source: an address of ours.
            destination: as many bytes.
            protocol: of the transport.
            parts: begin with the transport header, its checksum field zero; they stay as they are until they leave.
            segment: payload bytes of each segment but the last, of a super-packet.
            hop_limit: or time to live.
            traffic_class: DSCP and ECN.

        Raises:
            StackError: TOO_LONG for any packet.
        """
        length = sum(map(len, parts))
        header_length = 40 if len(source) == 16 else 20
        if length + (0 if header_length == 40 else 20) > MAX_PACKET_BYTES:
            raise StackError(Failure.TOO_LONG)
        header = encode_header(source, destination, protocol, length, hop_limit=hop_limit, traffic_class=traffic_class)
        mtu = self.mtu(destination)
        if segment or length + header_length <= mtu or mtu == LOOPBACK_MTU:
            if protocol == ICMP:
                packet = bytearray(b"".join((header, *parts)))
                complete(packet, header_length, ICMP)
                self.enqueue(Outgoing([packet], 0, False), len(packet))
            else:
                self.enqueue(Outgoing([header + parts[0], *parts[1:]], segment, True), header_length + length)
            return
        packet = bytearray(b"".join((header, *parts)))
        complete(packet, header_length, protocol)
        self._send_fragments(source, destination, protocol, memoryview(packet)[header_length:], mtu, hop_limit)

    def enqueue(self, item: Outgoing | Train, length: int) -> None:
        """Queue what is ready to leave; where there is no room it is dropped and counted.

        Args:
            item: a packet, or a train that others may join.
            length: its bytes.
        """
        if not self.has_room():
            self.drops["ip: queue full"] += 1
            return
        self._queue.append(item)
        self._queued_bytes += length

    def has_room(self, length: int = 0) -> bool:
        """Whether the queue takes so many bytes more; the last packet in it may go over the bound."""
        return self._queued_bytes + length <= QUEUE_BYTES and len(self._queue) < QUEUE_PACKETS

    def tail(self) -> Outgoing | Train | None:
        """What was queued last, if it still waits."""
        return self._queue[-1] if self._queue else None

    def lengthen_tail(self, length: int) -> None:
        """The train at the tail has become longer."""
        self._queued_bytes += length

    @property
    def has_output(self) -> bool:
        """Whether `next_packet` gives something."""
        return bool(self._queue)

    def next_packet(self) -> Outgoing | None:
        """Take what is first in the queue."""
        if not self._queue:
            return None
        item = self._queue.popleft()
        outgoing = item.outgoing() if isinstance(item, Train) else item
        self._queued_bytes -= sum(map(len, outgoing.parts))
        return outgoing

    def lower_mtu(self, destination: bytes, mtu: int, length: int, now: int) -> None:
        """A packet was too big for its way; `mtu` may tell less from now on.

        Args:
            destination: of the packet.
            mtu: what the router said; 0 for nothing.
            length: bytes of the packet.
            now: monotonic ns.
        """
        smaller = believable(destination, mtu, length, self.mtu(destination))
        if smaller is not None and not self.addresses.is_local(destination):
            self.path_mtus.learn(destination, smaller, now)
            self._paths.pop(destination, None)

    def forget_paths(self) -> None:
        """Addresses, routes or MTUs have changed; look for ways anew."""
        self._paths.clear()

    def handle_timer(self, now: int) -> None:
        """Forget path MTUs whose time is over."""
        if self.path_mtus.expire(now):
            self.forget_paths()

    def next_timer(self) -> int | None:
        """When `handle_timer` next has something to do, monotonic ns."""
        return self.path_mtus.next_timer()

    def _find(self, destination: bytes) -> Path:
        if len(destination) not in {4, 16}:
            raise UsageError("an address has 4 bytes or 16")
        addresses = self.addresses
        if is_loopback(destination):
            return Path(LOOPBACK_V4 if len(destination) == 4 else LOOPBACK_V6, LOOPBACK_MTU, True)
        if destination in addresses.own:
            return Path(destination, LOOPBACK_MTU, True)
        source = None
        if addresses.is_many(destination):
            source = addresses.choose(destination)
        elif not is_any(destination):
            route = self.routes.lookup(destination)
            if route is not None and route.source in addresses.own:
                source = route.source
            elif route is not None or addresses.is_on_link(destination):
                source = addresses.choose(destination)
        if source is None:
            raise StackError(Failure.NO_ROUTE)
        return Path(source, self.path_mtus.get(destination, self.interface_mtu), False)

    def _send_fragments(
        self, source: bytes, destination: bytes, protocol: int, payload: memoryview, mtu: int, hop_limit: int
    ) -> None:
        identification = int.from_bytes(self._random_bytes(4 if len(source) == 16 else 2), "big")
        packets = fragment(source, destination, protocol, payload, mtu, identification, hop_limit)
        if not self.has_room():
            self.drops["ip: queue full"] += 1
            return
        # All or none: some of them would be of no use.
        for packet in packets:
            self._queue.append(Outgoing([packet], 0, False))
            self._queued_bytes += len(packet)
