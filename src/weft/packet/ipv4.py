"""The IPv4 header.

| offset | length | field |
|---|---|---|
| 0 | 1 | version 4 (high nibble), header length in words of 4 bytes (low nibble) |
| 1 | 1 | DSCP (6 bits), ECN (2 bits) |
| 2 | 2 | total length, header included |
| 4 | 2 | identification |
| 6 | 2 | flags (3 bits: reserved, don't fragment, more fragments), fragment offset in units of 8 bytes (13 bits) |
| 8 | 1 | time to live |
| 9 | 1 | protocol |
| 10 | 2 | header checksum |
| 12 | 4 | source |
| 16 | 4 | destination |
| 20 | 0 to 40 | options |

Source: RFC 791 section 3.1; RFC 2474 (DSCP), RFC 3168 (ECN).
Not done here: the meaning of options; the header checksum is written by `encode_ipv4` but checked only by
`checksum.verify_ipv4_header`; reassembly.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.packet.checksum import Buffer, write_ipv4_header_checksum
from weft.packet.upper import Fragment, UpperLayer

VERSION_AND_HEADER_LENGTH: Final = 0
TRAFFIC_CLASS: Final = 1
TOTAL_LENGTH: Final = 2
IDENTIFICATION: Final = 4
FLAGS_AND_FRAGMENT: Final = 6
TTL: Final = 8
PROTOCOL: Final = 9
CHECKSUM: Final = 10
SOURCE: Final = slice(12, 16)
DESTINATION: Final = slice(16, 20)
OPTIONS: Final = 20

HEADER_BYTES: Final = 20
OPTIONS_MAX_BYTES: Final = 40
DONT_FRAGMENT: Final = 0x4000
MORE_FRAGMENTS: Final = 0x2000
FRAGMENT_OFFSET_MASK: Final = 0x1FFF

_LAYOUT: Final = struct.Struct("!BBHHHBBH4s4s")


@dataclass(frozen=True, slots=True)
class Ipv4Header:
    """An IPv4 header; its checksum is not part of the value.

    Attributes:
        source: 4 bytes.
        destination: 4 bytes.
        protocol: number from `protocols`.
        total_length: bytes of the packet, header included.
        ttl: time to live, 0 to 255.
        traffic_class: DSCP and ECN, the byte as it is.
        identification: 16 bits, the same in all fragments of a packet.
        dont_fragment: the flag.
        more_fragments: the flag.
        fragment_offset: in bytes, a multiple of 8.
        options: a multiple of 4 bytes, at most 40.
    """

    source: bytes
    destination: bytes
    protocol: int
    total_length: int
    ttl: int = 64
    traffic_class: int = 0
    identification: int = 0
    dont_fragment: bool = False
    more_fragments: bool = False
    fragment_offset: int = 0
    options: bytes = b""

    @property
    def header_length(self) -> int:
        """Bytes of the header with its options."""
        return HEADER_BYTES + len(self.options)


def decode_ipv4(buffer: Buffer, start: int = 0, *, truncated: bool = False) -> Ipv4Header:
    """Decode the IPv4 header at `start`.

    Args:
        buffer: the packet; bytes after its end are allowed, and not looked at.
        start: offset of the header in `buffer`.
        truncated: the packet may end early, as it does where an ICMP error quotes it; the header must be whole.

    Raises:
        DecodeError: the header is cut off, is not IPv4, or its lengths contradict each other or the buffer.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DecodeError(f"an IPv4 header of {HEADER_BYTES} bytes", offset=start)
    first, traffic_class, total, identification, flags, ttl, protocol, _, source, destination = _LAYOUT.unpack_from(
        buffer, start
    )
    if first >> 4 != 4:
        raise DecodeError("version 4", offset=start)
    header_length = (first & 0xF) << 2
    if not HEADER_BYTES <= header_length <= min(total, len(buffer) - start):
        raise DecodeError("an IPv4 header length within the packet", offset=start)
    if not truncated and total > len(buffer) - start:
        raise DecodeError(f"an IPv4 packet of {total} bytes", offset=start + TOTAL_LENGTH)
    return Ipv4Header(
        source=source,
        destination=destination,
        protocol=protocol,
        total_length=total,
        ttl=ttl,
        traffic_class=traffic_class,
        identification=identification,
        dont_fragment=bool(flags & DONT_FRAGMENT),
        more_fragments=bool(flags & MORE_FRAGMENTS),
        fragment_offset=(flags & FRAGMENT_OFFSET_MASK) << 3,
        options=bytes(buffer[start + OPTIONS : start + header_length]),
    )


def encode_ipv4(header: Ipv4Header) -> bytes:
    """Encode an IPv4 header, with its checksum.

    Raises:
        UsageError: a field does not fit its place.
    """
    if len(header.source) != 4 or len(header.destination) != 4:
        raise UsageError("an IPv4 address has 4 bytes")
    if len(header.options) % 4 or len(header.options) > OPTIONS_MAX_BYTES:
        raise UsageError("IPv4 options have a multiple of 4 bytes, at most 40")
    if header.fragment_offset % 8 or not 0 <= header.fragment_offset >> 3 <= FRAGMENT_OFFSET_MASK:
        raise UsageError("an IPv4 fragment offset is a multiple of 8 below 65536")
    flags = DONT_FRAGMENT * header.dont_fragment | MORE_FRAGMENTS * header.more_fragments | header.fragment_offset >> 3
    try:
        fixed = _LAYOUT.pack(
            0x40 | header.header_length >> 2,
            header.traffic_class,
            header.total_length,
            header.identification,
            flags,
            header.ttl,
            header.protocol,
            0,
            header.source,
            header.destination,
        )
    except struct.error as error:
        raise UsageError(f"a field of an IPv4 header is out of its range: {error}") from error
    encoded = bytearray(fixed + header.options)
    write_ipv4_header_checksum(encoded)
    return bytes(encoded)


def decode_ipv4_upper_layer(packet: Buffer, *, truncated: bool = False) -> UpperLayer:
    """Find out what an IPv4 packet carries, and where.

    Args:
        packet: begins with the IPv4 header.
        truncated: as in `decode_ipv4`.

    Raises:
        DecodeError: as in `decode_ipv4`, or a fragment runs beyond the largest packet that there can be.
    """
    header = decode_ipv4(packet, truncated=truncated)
    start, fragment = header.header_length, None
    if header.more_fragments or header.fragment_offset:
        if header.fragment_offset + header.total_length > 0xFFFF:
            raise DecodeError("a fragment of a packet of at most 65535 bytes", offset=FLAGS_AND_FRAGMENT)
        fragment = Fragment(header.identification, header.fragment_offset, header.more_fragments, start)
    return UpperLayer(header.protocol, start, header.total_length, fragment)
