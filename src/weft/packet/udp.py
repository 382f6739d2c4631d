"""The UDP header.

| offset | length | field |
|---|---|---|
| 0 | 2 | source port |
| 2 | 2 | destination port |
| 4 | 2 | length, header included |
| 6 | 2 | checksum; 0 means none, which IPv6 forbids |

Source: RFC 768; RFC 8200 section 8.1.
Not done here: the checksum (`checksum.complete`, `checksum.verify`); whether the length fits the IP packet, which is
not to be asked of a fragment.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.packet.checksum import Buffer

SOURCE_PORT: Final = 0
DESTINATION_PORT: Final = 2
LENGTH: Final = 4
CHECKSUM: Final = 6

HEADER_BYTES: Final = 8

_LAYOUT: Final = struct.Struct("!HHHH")


@dataclass(frozen=True, slots=True)
class UdpHeader:
    """A UDP header; its checksum is not part of the value.

    Attributes:
        source_port: 0 to 65,535.
        destination_port: 0 to 65,535.
        length: bytes of header and payload, at least 8.
    """

    source_port: int
    destination_port: int
    length: int


def decode_udp(buffer: Buffer, start: int = 0) -> UdpHeader:
    """Decode the UDP header at `start`.

    Raises:
        DecodeError: the header is cut off, or its length is less than its own.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DecodeError(f"a UDP header of {HEADER_BYTES} bytes", offset=start)
    source_port, destination_port, length, _ = _LAYOUT.unpack_from(buffer, start)
    if length < HEADER_BYTES:
        raise DecodeError(f"a UDP length of at least {HEADER_BYTES}", offset=start + LENGTH)
    return UdpHeader(source_port, destination_port, length)


def encode_udp(header: UdpHeader) -> bytes:
    """Encode a UDP header, with zeros for the checksum.

    Raises:
        UsageError: a field does not fit its place.
    """
    try:
        return _LAYOUT.pack(header.source_port, header.destination_port, header.length, 0)
    except struct.error as error:
        raise UsageError(f"a field of a UDP header is out of its range: {error}") from error
