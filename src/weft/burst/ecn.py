"""Explicit congestion notification across the tunnel.

Source: RFC 3168; RFC 6040 section 4 (normal mode); wire.md section 4, "ECN, DSCP".
"""

from __future__ import annotations

from struct import Struct
from typing import Final

NOT_ECT: Final = 0
ECT_1: Final = 1
ECT_0: Final = 2
CE: Final = 3
CHANGING: Final = frozenset({ECT_1, CE})
"""What outside makes a difference inside."""

_U16 = Struct(">H")


def ecn_of(packet: memoryview | bytes) -> int:
    """The two ECN bits of an IP packet."""
    return packet[1] >> 4 & 3 if packet[0] >> 4 == 6 else packet[1] & 3


def mark_ce(packet: memoryview) -> bool:
    """Hand on what a router of the underlay said: congestion was met.

    Args:
        packet: a writable IP packet; an IPv4 header checksum is updated with it (RFC 1624).

    Returns:
        False if the packet is not ECN-capable: RFC 6040 has it dropped.
    """
    before = ecn_of(packet)
    if before == NOT_ECT:
        return False
    _change(packet, before, CE)
    return True


def decapsulate(packet: memoryview, outer: int) -> bool:
    """Hand on what the ECN bits of the outer header say to the one packet that was in it.

    Args:
        packet: a writable IP packet, as for `mark_ce`.
        outer: the ECN bits that the datagram came with; only those of `CHANGING` change anything.

    Returns:
        False if RFC 6040 has the packet dropped.

    Source: RFC 6040 section 4.2, figure 4.
    """
    if outer == CE:
        return mark_ce(packet)
    if outer == ECT_1 and ecn_of(packet) == ECT_0:
        _change(packet, ECT_0, ECT_1)
    return True


def _change(packet: memoryview, before: int, after: int) -> None:
    difference = before ^ after
    if packet[0] >> 4 == 6:
        packet[1] ^= difference << 4
    else:
        packet[1] ^= difference
        header_sum = 0xFFFF - _U16.unpack_from(packet, 10)[0] + 0xFFFF + after - before
        _U16.pack_into(packet, 10, 0xFFFF - (header_sum % 0xFFFF or 0xFFFF))
