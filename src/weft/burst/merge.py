"""Merge packets that came one by one into super-packets, so that the TUN takes them in one write.

The inverse of `split`, and in the way of Linux' own GRO: packets of one TCP stream are merged while nothing but what a
segmentation would have changed differs between them. A packet joins the one before it only if

    all of the IP header but lengths, IPv4 identification and checksum is the same, and it is a plain packet
    (no fragment, no IPv6 extension header; IPv4 options are taken as they are),
    ports, acknowledgement number, window and options are the same, ACK alone is set besides PSH, FIN and (first) CWR,
    its sequence number follows, and the IPv4 identification grows by one or stays with DF,
    it is not longer than the segments before, none of which was shorter than the first,
    the whole stays below 64 KiB, and its checksums are right: merging would hide that they were wrong.

A segment with PSH or FIN, or a shorter one, ends its super-packet. Packets that can't be merged pass unchanged, in
their order: nothing of a flow ever overtakes. One flow is open at a time; another one's packet closes it.

Source: Linux, tcp_gro_receive and inet_gro_receive, read for their conditions; RFC 3168 section 6.1.2 (CWR).
Not done here: merging of UDP, whose datagrams' bounds a receiver without USO could not tell.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from weft.burst.records import MIN_SEGMENT_BYTES
from weft.packet.checksum import swapped_sum, verify, verify_ipv4_header
from weft.packet.protocols import TCP

_U16 = Struct(">H")
_U32 = Struct(">I")

_FIN, _PSH, _ACK, _CWR = 0x01, 0x08, 0x10, 0x80
_MAY_DIFFER = _FIN | _PSH | _CWR
_MAX_PACKET_BYTES = 65_535
_DF = 0x4000
_HEADERS = {start: Struct(f">44sI8s2x{start - 58}s").unpack_from for start in range(60, 101, 4)}
"""By where the payload begins: what the IPv6 and TCP headers have before and behind the sequence number, and behind the
checksum."""
_FLAGS = 5
"""Place in the second of these."""
_ACK_ALONE = bytes((_ACK,))


class Merged(NamedTuple):
    """What goes to the TUN in one write."""

    parts: list[memoryview]
    """The first packet, then the payload of each further one; views of what was given."""
    segment: int
    """Payload bytes of each segment but the last; 0 for a packet that passes unchanged."""
    transport: int
    """Offset of the TCP header; meaningless where segment is 0."""


class Merger:
    """Takes packets in their order and gives back fewer, larger ones.

    The buffers of the packets must stay as they are until what they became a part of was given back, but for the
    headers of a first packet, which are rewritten in place.
    """

    def __init__(self) -> None:
        self._parts: list[memoryview] = []
        self._key = b""
        self._total = 0
        self._segment = 0
        self._transport = 0
        self._next_sequence = 0
        self._identification = 0
        self._fixed_identification = False
        self._tail_flags = 0
        self._foretold = 0
        self._headers = _HEADERS[60]
        self._front = self._middle = self._tail = b""

    def extend(self, plain: memoryview) -> int:
        """Take the next full segment of the super-packet that is open, if that is what comes: it nearly always is.

        Its header is then what can be foretold of it, checksum aside, so nothing needs to be looked at that was looked
        at for the first packet: it is of the same source and flow, and only acknowledges. The caller sees to it that it
        came from the same peer.

        Args:
            plain: an IPv6 packet, perhaps with padding behind it; writable.

        Returns:
            The length of the packet, or 0 where it is something else, for `add`.
        """
        length, segment, sequence = self._foretold, self._segment, self._next_sequence
        if not length or len(plain) < length or self._total + segment > _MAX_PACKET_BYTES:
            return 0
        if self._headers(plain) != (self._front, sequence, self._middle, self._tail):
            return 0
        if (swapped_sum(plain[8:length]) + (TCP + length - 40) * 256) % 0xFFFF:
            return 0
        self._parts.append(plain[length - segment : length])
        self._total += segment
        self._next_sequence = (sequence + segment) & 0xFFFFFFFF
        return length

    def add(self, packet: memoryview) -> list[Merged]:
        """Take one packet.

        Args:
            packet: one IP packet, its lengths checked, its transport checksum computed; writable.

        Returns:
            What is complete now, in the order of arrival; often nothing.
        """
        shape = _shape(packet)
        if shape is None:
            return [*self.flush(), Merged([packet], 0, 0)]
        transport, payload_start, key = shape
        payload = len(packet) - payload_start
        flags = packet[transport + 13]
        sequence = _U32.unpack_from(packet, transport + 4)[0]
        if self._parts and self._continues(packet, key, sequence, payload, flags):
            if not _is_sound(packet, transport):
                return [*self.flush(), Merged([packet], 0, 0)]
            self._parts.append(packet[payload_start:])
            self._total += payload
            self._next_sequence = (sequence + payload) & 0xFFFFFFFF
            self._tail_flags |= flags & (_FIN | _PSH)
            return self.flush() if payload < self._segment or flags & (_FIN | _PSH) else []
        done = self.flush()
        if payload < MIN_SEGMENT_BYTES or flags & (_FIN | _PSH) or not _is_sound(packet, transport):
            return [*done, Merged([packet], 0, 0)]
        self._parts = [packet]
        self._key = key
        self._total = len(packet)
        self._segment = payload
        self._transport = transport
        self._next_sequence = (sequence + payload) & 0xFFFFFFFF
        self._tail_flags = 0
        self._identification = _U16.unpack_from(packet, 4)[0]
        if packet[0] >> 4 == 6:
            self._foretell(packet, payload_start)
        return done

    def _foretell(self, packet: memoryview, payload_start: int) -> None:
        """Note what the headers of the next full segment will be: those of the first, but for its sequence number."""
        self._headers = _HEADERS[payload_start]
        self._front, _, middle, self._tail = self._headers(packet)
        self._middle = middle[:_FLAGS] + _ACK_ALONE + middle[_FLAGS + 1 :]
        self._foretold = len(packet)

    def flush(self) -> list[Merged]:
        """Give back the super-packet that is open, if there is one: at the end of what came together."""
        parts = self._parts
        self._foretold = 0
        if not parts:
            return []
        self._parts = []
        if len(parts) == 1:
            return [Merged(parts, 0, 0)]
        first = parts[0]
        transport = self._transport
        first[transport + 13] |= self._tail_flags
        if first[0] >> 4 == 4:
            old, new = _U16.unpack_from(first, 2)[0], self._total
            _U16.pack_into(first, 2, new)
            header_sum = 0xFFFF - _U16.unpack_from(first, 10)[0] + (0xFFFF - old) + new
            _U16.pack_into(first, 10, 0xFFFF - (header_sum % 0xFFFF or 0xFFFF))
        else:
            _U16.pack_into(first, 4, self._total - 40)
        return [Merged(parts, self._segment, transport)]

    def _continues(self, packet: memoryview, key: bytes, sequence: int, payload: int, flags: int) -> bool:
        """Whether a packet is the next segment of the open super-packet, its checksum aside."""
        if (
            key != self._key
            or sequence != self._next_sequence
            or not 0 < payload <= self._segment
            or flags & _CWR
            or self._total + payload > _MAX_PACKET_BYTES
        ):
            return False
        if packet[0] >> 4 == 6:
            return True
        step: int = (_U16.unpack_from(packet, 4)[0] - self._identification) & 0xFFFF
        number = len(self._parts)
        if number == 1:
            self._fixed_identification = step == 0 and bool(_U16.unpack_from(packet, 6)[0] & _DF)
        return step == (0 if self._fixed_identification else number & 0xFFFF)


def _is_sound(packet: memoryview, transport: int) -> bool:
    """Whether the checksums of a packet are right."""
    return verify(packet, transport, TCP) and (packet[0] >> 4 == 6 or verify_ipv4_header(packet))


def _shape(packet: memoryview) -> tuple[int, int, bytes] | None:
    """Where the TCP header and the payload of a packet begin, and all that must be the same to merge it.

    Returns:
        (offset of the TCP header, offset of the payload, key), or None where the packet passes unchanged.
    """
    length = len(packet)
    if length < 40:
        return None
    if packet[0] >> 4 == 6:
        if packet[6] != TCP or length < 60 or _U16.unpack_from(packet, 4)[0] + 40 != length:
            return None
        transport = 40
    else:
        transport = (packet[0] & 0xF) * 4
        if packet[9] != TCP or transport < 20 or length < transport + 20 or _U16.unpack_from(packet, 2)[0] != length:
            return None
        if _U16.unpack_from(packet, 6)[0] & 0x3FFF:
            return None
    payload_start = transport + (packet[transport + 12] >> 4) * 4
    if not transport + 20 <= payload_start < length or packet[transport + 13] & ~_MAY_DIFFER != _ACK:
        return None
    if transport == 40 and packet[0] >> 4 == 6:
        same = bytes(packet[0:4]) + packet[6:44]
    else:
        same = bytes(packet[0:2]) + packet[6:10] + packet[12 : transport + 4]
    # Acknowledgement, data offset, window, urgent pointer and options; flags are judged by themselves.
    same += bytes(packet[transport + 8 : transport + 13]) + packet[transport + 14 : transport + 16]
    return transport, payload_start, same + packet[transport + 18 : payload_start]
