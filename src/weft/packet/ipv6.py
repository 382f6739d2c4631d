"""The IPv6 header, and the chain of extension headers after it.

| offset | length | field |
|---|---|---|
| 0 | 4 | version 6 (4 bits), traffic class (8 bits), flow label (20 bits) |
| 4 | 2 | payload length: what follows these 40 bytes, extension headers included |
| 6 | 1 | next header |
| 7 | 1 | hop limit |
| 8 | 16 | source |
| 24 | 16 | destination |

Extension headers, all but the fragment header:

| offset | length | field |
|---|---|---|
| 0 | 1 | next header |
| 1 | 1 | length n: the header has (n + 1) * 8 bytes; the authentication header (n + 2) * 4 |
| 2 | 1 | routing header only: type |
| 3 | 1 | routing header only: segments left |

The fragment header, 8 bytes:

| offset | length | field |
|---|---|---|
| 0 | 1 | next header |
| 1 | 1 | reserved |
| 2 | 2 | offset in units of 8 bytes (13 bits), reserved (2 bits), more fragments (1 bit) |
| 4 | 4 | identification |

The walk along the chain goes forward by at least 8 bytes a step and ends after `EXTENSION_HEADERS_MAX` headers, so that
no packet makes it long. It refuses what no honest sender makes and what two readers could understand differently: a
hop-by-hop header that is not the first, and a second fragment header.

Source: RFC 8200 sections 3 and 4; RFC 4302 section 2.2 (length of the authentication header); RFC 6946 (atomic
fragments); RFC 7112 (the first fragment has the whole chain).
Not done here: what the options in extension headers mean, jumbograms, reassembly.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.packet.checksum import Buffer
from weft.packet.upper import Fragment, UpperLayer

VERSION_CLASS_LABEL: Final = 0
PAYLOAD_LENGTH: Final = 4
NEXT_HEADER: Final = 6
HOP_LIMIT: Final = 7
SOURCE: Final = slice(8, 24)
DESTINATION: Final = slice(24, 40)

HEADER_BYTES: Final = 40
MIN_MTU_BYTES: Final = 1280
FRAGMENT_HEADER_BYTES: Final = 8
EXTENSION_HEADERS_MAX: Final = 8

HOP_BY_HOP: Final = 0
ROUTING: Final = 43
FRAGMENT: Final = 44
AUTHENTICATION: Final = 51
DESTINATION_OPTIONS: Final = 60
MOBILITY: Final = 135
HOST_IDENTITY: Final = 139
SHIM6: Final = 140

EXTENSION_HEADERS: Final = frozenset(
    {HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS, MOBILITY, HOST_IDENTITY, SHIM6}
)

_LAYOUT: Final = struct.Struct("!IHBB16s16s")
_FRAGMENT_LAYOUT: Final = struct.Struct("!BxHI")


@dataclass(frozen=True, slots=True)
class Ipv6Header:
    """The fixed IPv6 header.

    Attributes:
        source: 16 bytes.
        destination: 16 bytes.
        next_header: number from `protocols` or of an extension header.
        payload_length: bytes after this header.
        hop_limit: 0 to 255.
        traffic_class: DSCP and ECN, 8 bits.
        flow_label: 20 bits.
    """

    source: bytes
    destination: bytes
    next_header: int
    payload_length: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0


def decode_ipv6(buffer: Buffer, start: int = 0, *, truncated: bool = False) -> Ipv6Header:
    """Decode the fixed IPv6 header at `start`.

    Args:
        buffer: the packet; bytes after its end are allowed, and not looked at.
        start: offset of the header in `buffer`.
        truncated: the packet may end early, as it does where an ICMPv6 error quotes it; the header must be whole.

    Raises:
        DecodeError: the header is cut off, is not IPv6, or says that the packet is longer than the buffer.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DecodeError(f"an IPv6 header of {HEADER_BYTES} bytes", offset=start)
    first, payload_length, next_header, hop_limit, source, destination = _LAYOUT.unpack_from(buffer, start)
    if first >> 28 != 6:
        raise DecodeError("version 6", offset=start)
    if not truncated and HEADER_BYTES + payload_length > len(buffer) - start:
        raise DecodeError(f"an IPv6 payload of {payload_length} bytes", offset=start + PAYLOAD_LENGTH)
    return Ipv6Header(
        source=source,
        destination=destination,
        next_header=next_header,
        payload_length=payload_length,
        hop_limit=hop_limit,
        traffic_class=first >> 20 & 0xFF,
        flow_label=first & 0xFFFFF,
    )


def encode_ipv6(header: Ipv6Header) -> bytes:
    """Encode the fixed IPv6 header.

    Raises:
        UsageError: a field does not fit its place.
    """
    if len(header.source) != 16 or len(header.destination) != 16:
        raise UsageError("an IPv6 address has 16 bytes")
    if not (0 <= header.traffic_class <= 0xFF and 0 <= header.flow_label <= 0xFFFFF):
        raise UsageError("an IPv6 traffic class has 8 bits and a flow label 20")
    try:
        return _LAYOUT.pack(
            6 << 28 | header.traffic_class << 20 | header.flow_label,
            header.payload_length,
            header.next_header,
            header.hop_limit,
            header.source,
            header.destination,
        )
    except struct.error as error:
        raise UsageError(f"a field of an IPv6 header is out of its range: {error}") from error


def decode_ipv6_upper_layer(packet: Buffer, *, truncated: bool = False) -> UpperLayer:
    """Find out what an IPv6 packet carries behind its extension headers, and where.

    Args:
        packet: begins with the IPv6 header.
        truncated: as in `decode_ipv6`; the chain must be whole.

    Returns:
        The upper layer, which may be empty (`start` equal to `end`); in a fragment other than the first, its data.

    Raises:
        DecodeError: as in `decode_ipv6`, or the chain is cut off, too long or one that no sender may make.
    """
    header = decode_ipv6(packet, truncated=truncated)
    end = HEADER_BYTES + header.payload_length
    limit = min(end, len(packet))
    protocol, at, fragment, segments_left = header.next_header, HEADER_BYTES, None, 0
    for _ in range(EXTENSION_HEADERS_MAX + 1):
        if protocol not in EXTENSION_HEADERS or (fragment is not None and fragment.offset):
            return UpperLayer(protocol, at, end, _unless_atomic(fragment), segments_left)
        if limit - at < 8:
            raise DecodeError("an extension header of 8 bytes or more", offset=at)
        if protocol == HOP_BY_HOP and at != HEADER_BYTES:
            raise DecodeError("the hop-by-hop header right after the IPv6 header", offset=at)
        if protocol == FRAGMENT:
            if fragment is not None:
                raise DecodeError("at most one fragment header", offset=at)
            fragment = _decode_fragment(packet, at, end)
        elif protocol == ROUTING:
            segments_left = max(segments_left, packet[at + 3])
        protocol, at = packet[at], at + _length(protocol, packet[at + 1])
        if at > limit:
            raise DecodeError("an extension header that ends within the packet", offset=limit)
    raise DecodeError(f"at most {EXTENSION_HEADERS_MAX} extension headers", offset=at)


def _length(protocol: int, field: int) -> int:
    """The bytes of an extension header by its length field."""
    if protocol == FRAGMENT:
        return FRAGMENT_HEADER_BYTES
    if protocol == AUTHENTICATION:
        return (field + 2) * 4
    return (field + 1) * 8


def _decode_fragment(packet: Buffer, at: int, end: int) -> Fragment:
    _, offset_and_more, identification = _FRAGMENT_LAYOUT.unpack_from(packet, at)
    start = at + FRAGMENT_HEADER_BYTES
    offset = offset_and_more & 0xFFF8
    if offset + end - start > 0xFFFF:
        raise DecodeError("a fragment of a payload of at most 65535 bytes", offset=at + 2)
    return Fragment(identification, offset, bool(offset_and_more & 1), start)


def _unless_atomic(fragment: Fragment | None) -> Fragment | None:
    return fragment if fragment is not None and (fragment.offset or fragment.more) else None
