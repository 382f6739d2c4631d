"""What arrives at the host: IP packets are checked, put together, and given to their transports.

A packet is dropped, and counted by reason, unless

    its version, lengths and (IPv4) header checksum are right
    its source is one host, not of loopback, and not this one; for what never left the host, any of its addresses
    its destination is ours, or broadcast, or a multicast group that was joined: a host forwards nothing
    its options and extension headers are such as may be passed over
    its transport is known, its transport header there, and the checksum right (unless it was never computed)

The hop limit is not looked at: the packet has arrived (RFC 1122 section 3.2.1.7).

The plainest packets, TCP without options or extension headers, take a short way through the same rules.

Source: RFC 1122 sections 3.2.1 and 3.3; RFC 8200 sections 3 and 4; RFC 7126 (source routes of IPv4 are dropped).
Not done here: what IPv4 options mean, but for source routes; forwarding.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, Protocol

from weft.packet import ipv4, ipv6
from weft.packet.checksum import verify, verify_ipv4_header
from weft.packet.ip import is_one_host
from weft.packet.protocols import ICMP, ICMPV6, NO_NEXT_HEADER, TCP, UDP
from weft.stack.addresses import LOOPBACK_V6, is_loopback
from weft.stack.extensions import Chain, Problem, walk
from weft.stack.icmp import Icmp
from weft.stack.ip import Ip
from weft.stack.reassembly import LEAST_BYTES, Reassembly

_V4: Final = Struct("!2xH2xH1xB2x4s4s")
_V6: Final = Struct("!4xHBx16s16s")
_U16: Final = Struct("!H")
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_END_OF_OPTIONS: Final = 0
_NO_OPERATION: Final = 1
_SOURCE_ROUTES: Final = frozenset({131, 137})
_FRAGMENT_BITS: Final = ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET_MASK


class Transport(Protocol):
    """What packets are given to."""

    def receive(
        self, packet: memoryview, start: int, source: bytes, destination: bytes, segment: int, now: int
    ) -> None:
        """Take a packet.

        Args:
            packet: a whole IP packet; the buffer is the caller's again afterwards.
            start: of the transport header, whose fixed part is there.
            source: who sent it.
            destination: an address of ours; for others than TCP also a multicast group or broadcast address.
            segment: payload bytes of each segment but the last, of a super-packet; else 0.
            now: monotonic ns.
        """


class Way(NamedTuple):
    """What is known of a packet beside its bytes."""

    source: bytes
    destination: bytes
    segment: int
    is_partial: bool
    now: int


class Arrivals:
    """The receiving half of IP."""

    def __init__(self, ip: Ip, icmp: Icmp, tcp: Transport, udp: Transport) -> None:
        self._ip = ip
        self._icmp = icmp
        self._drops = ip.drops
        self._own = ip.addresses.own
        self._reassembly = Reassembly(ip.drops)
        self._tcp_receive = tcp.receive
        self._transports: dict[int, dict[int, Transport]] = {
            4: {TCP: tcp, UDP: udp, ICMP: icmp},
            16: {TCP: tcp, UDP: udp, ICMPV6: icmp},
        }
        """By bytes of an address: by protocol."""

    def receive(self, packet: memoryview, now: int, segment: int, *, is_partial: bool) -> None:
        """Take a packet from the network.

        Args:
            packet: an IP packet, or super-packet; the buffer is the caller's again afterwards.
            now: monotonic ns.
            segment: payload bytes of each segment but the last, of a super-packet; else 0.
            is_partial: the transport checksum was never computed; true of a super-packet.
        """
        length = len(packet)
        if length >= 60 and packet[0] >> 4 == 6:
            payload, protocol, source, destination = _V6.unpack_from(packet)
            own = self._own
            if (
                protocol == TCP
                and payload + 40 == length
                and destination in own
                and source not in own
                and source[0] not in {0x00, 0xFF}
                and (is_partial or verify(packet, 40, TCP))
            ):
                self._tcp_receive(packet, 40, source, destination, segment, now)
                return
        elif length >= 40 and packet[0] == 0x45:
            total, fragment, protocol, source, destination = _V4.unpack_from(packet)
            own = self._own
            if (
                protocol == TCP
                and total == length
                and not fragment & _FRAGMENT_BITS
                and destination in own
                and source not in own
                and 0 < source[0] < 224
                and source[0] != 127
                and source not in self._ip.addresses.broadcasts
                and verify_ipv4_header(packet)
                and (is_partial or verify(packet, 20, TCP))
            ):
                self._tcp_receive(packet, 20, source, destination, segment, now)
                return
        self._receive(packet, now, segment, is_partial=is_partial, is_looped=False)

    def receive_looped(self, packet: memoryview, now: int, segment: int, *, is_partial: bool) -> None:
        """Take a packet that the host has sent to itself; see `receive`."""
        self._receive(packet, now, segment, is_partial=is_partial, is_looped=True)

    def handle_timer(self, now: int) -> None:
        """Give up fragments whose others do not come."""
        for first in self._reassembly.expire(now):
            self._icmp.tell_expired(first, now)

    def next_timer(self) -> int | None:
        """When `handle_timer` next has something to do, monotonic ns."""
        return self._reassembly.next_timer()

    def _receive(self, packet: memoryview, now: int, segment: int, *, is_partial: bool, is_looped: bool) -> None:
        version = packet[0] >> 4 if len(packet) else 0
        if version == 6 and len(packet) >= ipv6.HEADER_BYTES:
            length, _, source, destination = _V6.unpack_from(packet)
            length += ipv6.HEADER_BYTES
        elif version == 4 and len(packet) >= ipv4.HEADER_BYTES:
            length, _, _, source, destination = _V4.unpack_from(packet)
            if (packet[0] & 0xF) << 2 > length or packet[0] & 0xF < 5:
                length = len(packet) + 1
        else:
            self._drops["ip: no IP packet"] += 1
            return
        if length > len(packet):
            self._drops["ip: bad length"] += 1
            return
        fault = self._address_fault(source, destination, is_looped=is_looped)
        if fault is not None:
            self._drops[fault] += 1
            return
        way = Way(source, destination, segment, is_partial, now)
        if version == 6:
            self._receive_v6(packet[:length], way)
        else:
            self._receive_v4(packet[:length], way)

    def _address_fault(self, source: bytes, destination: bytes, *, is_looped: bool) -> str | None:
        """Why a packet from one address to another can't be right here."""
        addresses = self._ip.addresses
        if is_looped:
            return None
        if not is_one_host(source) or source in addresses.broadcasts or source == LOOPBACK_V6:
            return "ip: source is no host"
        if source[:12] == _V4_MAPPED and len(source) == 16:
            return "ip: source is no host"
        if source in addresses.own:
            return "ip: source is ours"
        if is_loopback(destination):
            return "ip: not for us"
        if destination in addresses.own or destination in self._ip.groups or destination in addresses.broadcasts:
            return None
        return "ip: not for us"

    def _receive_v4(self, packet: memoryview, way: Way) -> None:
        if not verify_ipv4_header(packet):
            self._drops["ip: bad checksum"] += 1
            return
        start = (packet[0] & 0xF) << 2
        if start > ipv4.HEADER_BYTES and _are_bad(packet[ipv4.HEADER_BYTES : start]):
            self._drops["ip: bad options"] += 1
            return
        if _U16.unpack_from(packet, ipv4.FLAGS_AND_FRAGMENT)[0] & _FRAGMENT_BITS:
            rebuilt = self._reassembly.receive_v4(packet, way.source, way.destination, way.now)
            if rebuilt is None:
                return
            packet, way = memoryview(rebuilt), way._replace(segment=0, is_partial=False)
        self._deliver(packet, packet[ipv4.PROTOCOL], ipv4.PROTOCOL, start, way)

    def _receive_v6(self, packet: memoryview, way: Way) -> None:
        chain = walk(packet)
        if isinstance(chain, Chain) and chain.is_fragment:
            rebuilt = self._reassembly.receive_v6(packet, chain, way.source, way.destination, way.now)
            if rebuilt is None:
                return
            if isinstance(rebuilt, Problem):
                chain = rebuilt
            else:
                packet, way = memoryview(rebuilt), way._replace(segment=0, is_partial=False)
                chain = walk(packet)
        if isinstance(chain, Problem):
            self._drops[chain.reason] += 1
            self._icmp.refuse_header(packet, chain, way.now)
        else:
            self._deliver(packet, chain.protocol, chain.field, chain.start, way)

    def _deliver(self, packet: memoryview, protocol: int, field: int, start: int, way: Way) -> None:
        """Give a whole packet to its transport."""
        source, destination, segment, is_partial, now = way
        transport = self._transports[len(source)].get(protocol)
        is_local = self._ip.addresses.is_local(destination)
        if transport is None:
            self._drops["ip: unknown protocol"] += 1
            if is_local and (protocol != NO_NEXT_HEADER or len(source) == 4):
                self._icmp.refuse_protocol(packet, field, now)
            return
        if protocol == TCP and not is_local:
            self._drops["tcp: to many"] += 1
            return
        if len(packet) - start < LEAST_BYTES[protocol]:
            self._drops["ip: cut off transport header"] += 1
            return
        if protocol == UDP:
            length = _U16.unpack_from(packet, start + 4)[0]
            if not 8 <= length <= len(packet) - start:
                self._drops["udp: bad length"] += 1
                return
            packet = packet[: start + length]
        if not is_partial and not verify(packet, start, protocol):
            self._drops["ip: bad transport checksum"] += 1
            return
        transport.receive(packet, start, source, destination, segment, now)


def _are_bad(options: memoryview) -> bool:
    """Whether IPv4 options have a source route, or can't be read."""
    at, end = 0, len(options)
    while at < end and options[at] != _END_OF_OPTIONS:
        if options[at] == _NO_OPERATION:
            at += 1
            continue
        if options[at] in _SOURCE_ROUTES or at + 2 > end or not 2 <= options[at + 1] <= end - at:
            return True
        at += options[at + 1]
    return False
