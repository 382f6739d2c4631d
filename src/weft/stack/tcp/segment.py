"""One TCP segment, or super-segment, as it came.

Source: RFC 9293 section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

from weft.errors import DecodeError
from weft.packet.tcp import ACK, FIN, HEADER_BYTES, LAYOUT, SYN
from weft.stack.tcp.options import Options, decode_options

__all__ = ["Segment", "decode_segment"]


class Segment(NamedTuple):
    """What it says; sequence numbers are the 32 bits of the wire."""

    sequence: int
    acknowledgment: int
    flags: int
    window: int
    """16 bits, not scaled."""
    urgent_pointer: int
    options: Options
    payload: memoryview
    """Of the caller's buffer; to be copied."""
    segment: int
    """Payload bytes of each segment of a super-segment; 0 for a single one."""

    @property
    def length(self) -> int:
        """Of what it occupies in the sequence space."""
        flags = self.flags
        return len(self.payload) + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)

    @property
    def has_ack(self) -> bool:
        """Whether the acknowledgment number means something."""
        return bool(self.flags & ACK)


def decode_segment(packet: memoryview, start: int, segment: int = 0) -> Segment:
    """Decode the segment that begins at `start` and ends with the packet.

    Args:
        packet: whose checksum is right.
        start: offset of the TCP header.
        segment: payload bytes of each segment, if it is a super-packet.

    Raises:
        DecodeError: the header is cut off, or its options make no sense.
    """
    length = len(packet) - start
    if length < HEADER_BYTES:
        raise DecodeError(f"a TCP header of {HEADER_BYTES} bytes", offset=start)
    _, _, sequence, acknowledgment, words, flags, window, _, urgent_pointer = LAYOUT.unpack_from(packet, start)
    header = words >> 4 << 2
    if not HEADER_BYTES <= header <= length:
        raise DecodeError("a TCP data offset within the packet", offset=start)
    options = decode_options(packet, start + HEADER_BYTES, start + header)
    return Segment(sequence, acknowledgment, flags, window, urgent_pointer, options, packet[start + header :], segment)
