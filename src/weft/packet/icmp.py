"""The ICMP header (of IPv4).

| offset | length | field |
|---|---|---|
| 0 | 1 | type |
| 1 | 1 | code |
| 2 | 2 | checksum over the whole message |
| 4 | 4 | by type. Echo: identifier (2), sequence number (2). Fragmentation needed: zero (2), MTU (2). Else zero |
| 8 | … | echo: any data; errors: the packet in question, from its IP header on |

Source: RFC 792; RFC 1191 section 4 (MTU).
Not done here: the checksum (`checksum.complete`, `checksum.verify`); whole answers (`answers`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.packet.checksum import Buffer

TYPE: Final = 0
CODE: Final = 1
CHECKSUM: Final = 2
REST: Final = 4
IDENTIFIER: Final = 4
SEQUENCE: Final = 6
MTU: Final = 6

HEADER_BYTES: Final = 8

ECHO_REPLY: Final = 0
DESTINATION_UNREACHABLE: Final = 3
SOURCE_QUENCH: Final = 4
REDIRECT: Final = 5
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12

ERRORS: Final = frozenset({DESTINATION_UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM})

NET_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
ADMINISTRATIVELY_PROHIBITED: Final = 13
REASSEMBLY_TIME_EXCEEDED: Final = 1

_LAYOUT: Final = struct.Struct("!BBHI")


@dataclass(frozen=True, slots=True)
class IcmpHeader:
    """An ICMP header; its checksum is not part of the value.

    Attributes:
        type: 0 to 255.
        code: 0 to 255; what it says depends on the type.
        rest: the second word, 32 bits.
    """

    type: int
    code: int
    rest: int = 0

    @property
    def identifier(self) -> int:
        """Of an echo request or reply: whose it is."""
        return self.rest >> 16


def decode_icmp(buffer: Buffer, start: int = 0) -> IcmpHeader:
    """Decode the ICMP header at `start`.

    Raises:
        DecodeError: the header is cut off.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DecodeError(f"an ICMP header of {HEADER_BYTES} bytes", offset=start)
    type_, code, _, rest = _LAYOUT.unpack_from(buffer, start)
    return IcmpHeader(type_, code, rest)


def encode_icmp(header: IcmpHeader) -> bytes:
    """Encode an ICMP header, with zeros for the checksum.

    Raises:
        UsageError: a field does not fit its place.
    """
    try:
        return _LAYOUT.pack(header.type, header.code, 0, header.rest)
    except struct.error as error:
        raise UsageError(f"a field of an ICMP header is out of its range: {error}") from error
