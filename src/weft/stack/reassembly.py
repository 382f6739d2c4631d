"""Fragments of IPv4 and IPv6 packets: which may be put together, and the packet that comes out.

| a fragment is dropped if | and its sender is told (IPv6) |
|---|---|
| it is not the last, and no multiple of 8 bytes long | parameter problem at the payload length |
| it ends beyond the longest packet there can be | parameter problem at the fragment offset |
| it is the first, and the transport header is not all in it | parameter problem, incomplete header chain |
| it has no data | |

The packet that comes out has no fragment header, and none of the IPv6 extension headers before it, which were heeded
when the fragments came.

Source: RFC 791 section 3.2; RFC 8200 section 4.5; RFC 7112; RFC 1858 and RFC 3128 (tiny first fragments).
Not done here: where a fragment belongs (`fragments`); atomic fragments, which are none (`extensions`).
"""

from __future__ import annotations

from collections import Counter
from struct import Struct
from typing import Final

from weft.packet import ipv4, ipv6
from weft.packet.checksum import write_ipv4_header_checksum
from weft.packet.icmpv6 import ERRONEOUS_HEADER_FIELD
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP
from weft.stack.extensions import INCOMPLETE, Chain, Problem, walk_on
from weft.stack.fragments import LIFETIME_V4_NS, LIFETIME_V6_NS, Fragment, Fragments, Whole

LEAST_BYTES: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
"""What a message of a transport has at least."""

_U16: Final = Struct("!H")
_MAX_PAYLOAD_BYTES: Final = 0xFFFF


class Reassembly:
    """The fragments of both versions."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._v4 = Fragments(LIFETIME_V4_NS, drops)
        self._v6 = Fragments(LIFETIME_V6_NS, drops)

    def receive_v4(self, packet: memoryview, source: bytes, destination: bytes, now: int) -> bytearray | None:
        """Take a fragment of IPv4.

        Args:
            packet: ends where its header says, which is right.
            source: of the packet.
            destination: likewise.
            now: monotonic ns.

        Returns:
            The packet that it was the last missing fragment of.
        """
        start, protocol = (packet[0] & 0xF) << 2, packet[ipv4.PROTOCOL]
        flags = _U16.unpack_from(packet, ipv4.FLAGS_AND_FRAGMENT)[0]
        offset, more = (flags & ipv4.FRAGMENT_OFFSET_MASK) << 3, bool(flags & ipv4.MORE_FRAGMENTS)
        data = packet[start:]
        if not data or (more and len(data) % 8) or offset + start + len(data) > _MAX_PAYLOAD_BYTES:
            self._drops["ip: bad fragment"] += 1
            return None
        if offset == 0 and len(data) < LEAST_BYTES.get(protocol, 8):
            self._drops[INCOMPLETE.reason] += 1
            return None
        key = (source, destination, protocol, bytes(packet[ipv4.IDENTIFICATION : ipv4.IDENTIFICATION + 2]))
        whole = self._v4.receive(Fragment(source, key, offset, more, data, packet, bytes(packet[:start])), now)
        return None if whole is None else self._packet_v4(whole)

    def receive_v6(
        self, packet: memoryview, chain: Chain, source: bytes, destination: bytes, now: int
    ) -> bytearray | Problem | None:
        """Take a fragment of IPv6.

        Args:
            packet: ends where its header says.
            chain: as `walk` returned it.
            source: of the packet.
            destination: likewise.
            now: monotonic ns.

        Returns:
            The packet that it was the last missing fragment of, or why it is dropped.
        """
        problem = _problem_v6(packet, chain)
        if problem is not None:
            return problem
        key = (source, destination, chain.identification)
        data = packet[chain.start :]
        head = b""
        if chain.offset == 0:
            head = bytes(packet[: ipv6.NEXT_HEADER]) + bytes((chain.protocol,)) + packet[ipv6.HOP_LIMIT : 40]
        whole = self._v6.receive(Fragment(source, key, chain.offset, chain.more, data, packet, head), now)
        if whole is None:
            return None
        rebuilt = bytearray(whole.head + whole.payload)
        _U16.pack_into(rebuilt, ipv6.PAYLOAD_LENGTH, len(whole.payload))
        return rebuilt

    def expire(self, now: int) -> list[bytes]:
        """Forget what has waited too long; see `Fragments.expire`."""
        return self._v4.expire(now) + self._v6.expire(now)

    def next_timer(self) -> int | None:
        """When `expire` next has something to do, monotonic ns."""
        v4, v6 = self._v4.next_timer(), self._v6.next_timer()
        return v4 if v6 is None else v6 if v4 is None else min(v4, v6)

    def _packet_v4(self, whole: Whole) -> bytearray | None:
        length = len(whole.head) + len(whole.payload)
        if length > _MAX_PAYLOAD_BYTES:
            # The header of the first fragment is longer than those of the others.
            self._drops["ip: bad fragment"] += 1
            return None
        rebuilt = bytearray(whole.head + whole.payload)
        _U16.pack_into(rebuilt, ipv4.TOTAL_LENGTH, length)
        _U16.pack_into(rebuilt, ipv4.FLAGS_AND_FRAGMENT, 0)
        write_ipv4_header_checksum(rebuilt)
        return rebuilt


def _problem_v6(packet: memoryview, chain: Chain) -> Problem | None:
    """Why a fragment can't be a part of a packet."""
    length = len(packet) - chain.start
    if length == 0:
        return Problem("ip: bad fragment")
    if chain.more and length % 8:
        return Problem("ip: bad fragment", ERRONEOUS_HEADER_FIELD, ipv6.PAYLOAD_LENGTH)
    if chain.offset + length > _MAX_PAYLOAD_BYTES:
        return Problem("ip: bad fragment", ERRONEOUS_HEADER_FIELD, chain.start - ipv6.FRAGMENT_HEADER_BYTES + 2)
    if chain.offset:
        return None
    inner = walk_on(packet, chain)
    if isinstance(inner, Problem):
        return inner
    return INCOMPLETE if len(packet) - inner.start < LEAST_BYTES.get(inner.protocol, 0) else None
