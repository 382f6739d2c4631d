"""The IP header of what the host sends itself: no options, no extension headers.

An IPv4 packet that is not a fragment may not be fragmented on its way, and its identification says nothing (RFC 6864
section 4.1); so it is zero, which also suits a super-packet whose segments count on from there.

Source: RFC 791 section 3.1, RFC 8200 section 3.
Not done here: flow labels.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from weft.packet import ipv4

DEFAULT_HOP_LIMIT: Final = 64

_V4: Final = Struct("!BBHHHBBH4s4s")
_V6: Final = Struct("!IHBB16s16s")


def encode_header(
    source: bytes,
    destination: bytes,
    protocol: int,
    length: int,
    *,
    hop_limit: int = DEFAULT_HOP_LIMIT,
    traffic_class: int = 0,
    identification: int = 0,
    fragment: int = ipv4.DONT_FRAGMENT,
) -> bytes:
    """Encode an IP header.

    Args:
        source: 4 or 16 bytes.
        destination: as many.
        protocol: what follows it.
        length: bytes that follow it.
        hop_limit: or time to live.
        traffic_class: DSCP and ECN.
        identification: of IPv4.
        fragment: flags and offset of IPv4.
    """
    if len(source) == 16:
        return _V6.pack(6 << 28 | traffic_class << 20, length, protocol, hop_limit, source, destination)
    # The words of the header, some of them two at once: 2^16 is 1 modulo 65,535.
    total = 0x4500 + traffic_class + 20 + length + identification + fragment + (hop_limit << 8) + protocol
    total += int.from_bytes(source, "big") + int.from_bytes(destination, "big")
    checksum = 0xFFFF - (total % 0xFFFF or 0xFFFF)
    return _V4.pack(
        0x45, traffic_class, 20 + length, identification, fragment, hop_limit, protocol, checksum, source, destination
    )
