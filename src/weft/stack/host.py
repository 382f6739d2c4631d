"""A TCP/IP host, sans-IO: what the engine puts in the place of a kernel with a TUN.

    in      receive (packets and super-packets from the network), handle_timer, and the verbs of tcp, udp and icmp
    out     next_packet (asked until there is none), next_event, next_timer

Packets are made when they are asked for: what waits in the queue of IP first, then TCP's connections in turn. What is
for an address of this host is not handed out but comes back in with the next `handle_timer`, which is due at once then.
No more is taken from the transports while such packets wait in numbers, so that none of them need be dropped.

What is sent to a multicast group that was joined here, or to a broadcast address, goes both ways.

Source: ARCHITECTURE.md, "Contract of a state machine"; RFC 1122 section 3.2.1.3 (g) (loopback).
Not done here: everything; this only joins the parts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from weft.stack.arrivals import Arrivals
from weft.stack.icmp import Icmp
from weft.stack.ip import Ip
from weft.stack.outgoing import Outgoing
from weft.stack.socket import Socket
from weft.stack.tcp.tcp import Tcp
from weft.stack.udp import Udp

DEFAULT_MTU: Final = 1352
LOOPED_PACKETS: Final = 256
LOOPED_BYTES: Final = 1024 * 1024


class _Looped(NamedTuple):
    """A packet of this host to itself."""

    packet: bytes
    segment: int
    is_partial: bool


class Host:
    """The whole machine.

    Attributes:
        ip: what the transports stand on.
        addresses: of the host.
        routes: of the host.
        icmp: pings.
        udp: UDP sockets.
        tcp: TCP connections and listeners.
        sent_packets: that left; a super-packet is one.
        sent_bytes: of these.
        received_packets: that came.
        received_bytes: of these.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], *, mtu: int = DEFAULT_MTU) -> None:
        """Make a host without addresses or routes.

        Args:
            random_bytes: gives that many random bytes, which nobody can guess.
            mtu: bytes of the largest packet that the network takes.
        """
        self._events: deque[Socket] = deque()
        self.ip = Ip(random_bytes, mtu)
        self.addresses = self.ip.addresses
        self.routes = self.ip.routes
        self.icmp = Icmp(self.ip, random_bytes, self._events)
        self.udp = Udp(self.ip, self.icmp, random_bytes, self._events)
        self.tcp = Tcp(self.ip, random_bytes, self._events)
        self.icmp.attach(self.tcp, self.udp)
        self._arrivals = Arrivals(self.ip, self.icmp, self.tcp, self.udp)
        self._parts: Final = (self._arrivals, self.ip, self.icmp, self.tcp)
        self.sent_packets = self.sent_bytes = self.received_packets = self.received_bytes = 0
        self._looped: deque[_Looped] = deque()
        self._looped_bytes = 0
        self._looped_at: int | None = None

    @property
    def drops(self) -> Counter[str]:
        """What was dropped, by reason."""
        return self.ip.drops + self.tcp.drops

    def receive(self, packet: memoryview, now: int, *, segment: int = 0, is_partial: bool = False) -> None:
        """Take a packet, or super-packet, from the network.

        Args:
            packet: one IP packet; its buffer is the caller's again afterwards.
            now: monotonic ns.
            segment: payload bytes of each segment but the last, of a super-packet without `super_packet_fault`; else 0.
            is_partial: the transport checksum was never computed; true of a super-packet.
        """
        self.received_packets += 1
        self.received_bytes += len(packet)
        self._arrivals.receive(packet, now, segment, is_partial=is_partial)

    def handle_timer(self, now: int) -> None:
        """Do what is due."""
        for _ in range(len(self._looped)):
            packet, segment, is_partial = self._looped.popleft()
            self._looped_bytes -= len(packet)
            self._arrivals.receive_looped(memoryview(packet), now, segment, is_partial=is_partial)
        self._looped_at = None
        for part in self._parts:
            part.handle_timer(now)

    def next_timer(self) -> int | None:
        """When to call `handle_timer`, monotonic ns; None for never."""
        if self._looped_at is not None:
            return self._looped_at
        first = None
        for part in self._parts:
            at = part.next_timer()
            if at is not None and (first is None or at < first):
                first = at
        return first

    def next_packet(self, now: int) -> Outgoing | None:
        """Take the next packet, or super-packet, that is to be sent; None if there is none now.

        Args:
            now: monotonic ns.
        """
        while len(self._looped) < LOOPED_PACKETS and self._looped_bytes < LOOPED_BYTES:
            outgoing = self.ip.next_packet() or self.tcp.next_packet(now)
            if outgoing is None:
                return None
            if not self._loop(outgoing, now):
                self.sent_packets += 1
                self.sent_bytes += sum(map(len, outgoing.parts))
                return outgoing
        return None

    @property
    def has_output(self) -> bool:
        """Whether `next_packet` may give something; it is not worth a call else."""
        return self.tcp.has_output or self.ip.has_output

    @property
    def has_looped(self) -> bool:
        """Whether something that it has sent to itself waits for `handle_timer`."""
        return bool(self._looped)

    @property
    def has_events(self) -> bool:
        """Whether `next_event` gives a socket."""
        return bool(self._events)

    def next_event(self) -> Socket | None:
        """Take the next socket to which something happened; None if there is none."""
        if not self._events:
            return None
        socket = self._events.popleft()
        socket._handle_looked_at()
        return socket

    def _loop(self, outgoing: Outgoing, now: int) -> bool:
        """Keep a packet that is for this host; returns whether it is for nobody else."""
        header = outgoing.parts[0]
        destination = bytes(header[24:40] if header[0] >> 4 == 6 else header[16:20])
        addresses = self.addresses
        is_local = addresses.is_local(destination)
        if is_local or destination in self.ip.groups or destination in addresses.broadcasts:
            packet = b"".join(outgoing.parts)
            self._looped.append(_Looped(packet, outgoing.segment, outgoing.is_partial))
            self._looped_bytes += len(packet)
            if self._looped_at is None:
                self._looped_at = now
        return is_local
