"""What a host sends: IP packets and super-packets, in parts that are gathered when they leave."""

from __future__ import annotations

from typing import NamedTuple

from weft.packet.checksum import Buffer


class Outgoing(NamedTuple):
    """One packet, or super-packet."""

    parts: list[Buffer]
    """Buffers whose concatenation is the packet, valid until the host is called again. The first has all headers."""
    segment: int
    """Payload bytes of each segment but the last, of a super-packet; 0 for a single packet."""
    is_partial: bool
    """The transport checksum is not computed, and its field zero; always so for a super-packet."""
