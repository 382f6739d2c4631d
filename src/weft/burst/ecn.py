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

_U16 = Struct(">H")


def ecn_of(packet: memoryview | bytearray) -> int:
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
    if packet[0] >> 4 == 6:
        packet[1] |= CE << 4
    else:
        packet[1] |= CE
        header_sum = 0xFFFF - _U16.unpack_from(packet, 10)[0] + CE - before
        _U16.pack_into(packet, 10, 0xFFFF - (header_sum % 0xFFFF or 0xFFFF))
    return True
