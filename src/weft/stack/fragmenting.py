"""A packet that is too long for its way, cut into fragments by its sender.

Source: RFC 791 section 3.2, RFC 8200 section 4.5.
Not done here: putting together (`fragments`); the identification, which must not be foreseen (RFC 7739).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from weft.packet import ipv4, ipv6
from weft.packet.checksum import Buffer
from weft.stack.header import encode_header

_FRAGMENT_HEADER: Final = Struct("!BxHI")


def fragment(
    source: bytes, destination: bytes, protocol: int, payload: Buffer, mtu: int, identification: int, hop_limit: int
) -> list[bytes]:
    """Cut the payload of a packet, and make a packet of each piece.

    Args:
        source: 4 or 16 bytes.
        destination: as many.
        protocol: of the payload.
        payload: transport header, its checksum computed, and data.
        mtu: bytes of the largest packet.
        identification: 16 bits for IPv4, 32 for IPv6.
        hop_limit: or time to live.
    """
    is_ipv6 = len(source) == 16
    headers = ipv6.HEADER_BYTES + ipv6.FRAGMENT_HEADER_BYTES if is_ipv6 else ipv4.HEADER_BYTES
    step = (mtu - headers) // 8 * 8
    packets = []
    for start in range(0, len(payload), step):
        piece = bytes(payload[start : start + step])
        more = start + step < len(payload)
        if is_ipv6:
            extension = _FRAGMENT_HEADER.pack(protocol, start | more, identification)
            header = encode_header(
                source, destination, ipv6.FRAGMENT, ipv6.FRAGMENT_HEADER_BYTES + len(piece), hop_limit=hop_limit
            )
            packets.append(header + extension + piece)
        else:
            flags = start >> 3 | (ipv4.MORE_FRAGMENTS if more else 0)
            header = encode_header(
                source, destination, protocol, len(piece),
                hop_limit=hop_limit, identification=identification, fragment=flags,
            )  # fmt: skip
            packets.append(header + piece)
    return packets
