"""The ICMPv6 header.

| offset | length | field |
|---|---|---|
| 0 | 1 | type: below 128 an error, else information |
| 1 | 1 | code |
| 2 | 2 | checksum over the message and the pseudo-header |
| 4 | 4 | by type. Echo: identifier (2), sequence number (2). Packet too big: MTU (4). Unreachable, exceeded: zero |
| 8 | … | echo: any data; errors: the packet in question, from its IPv6 header on |

Source: RFC 4443 sections 2 to 4.
Not done here: the checksum (`checksum.complete`, `checksum.verify`); whole answers (`answers`); neighbour discovery.
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
MTU: Final = 4

HEADER_BYTES: Final = 8

DESTINATION_UNREACHABLE: Final = 1
PACKET_TOO_BIG: Final = 2
TIME_EXCEEDED: Final = 3
PARAMETER_PROBLEM: Final = 4
ECHO_REQUEST: Final = 128
ECHO_REPLY: Final = 129
REDIRECT: Final = 137

ERRORS: Final = frozenset(range(128))

NO_ROUTE: Final = 0
ADMINISTRATIVELY_PROHIBITED: Final = 1
ADDRESS_UNREACHABLE: Final = 3
PORT_UNREACHABLE: Final = 4
REASSEMBLY_TIME_EXCEEDED: Final = 1
ERRONEOUS_HEADER_FIELD: Final = 0
UNRECOGNIZED_NEXT_HEADER: Final = 1
UNRECOGNIZED_OPTION: Final = 2
INCOMPLETE_HEADER_CHAIN: Final = 3

_LAYOUT: Final = struct.Struct("!BBHI")


@dataclass(frozen=True, slots=True)
class Icmpv6Header:
    """An ICMPv6 header; its checksum is not part of the value.

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


def decode_icmpv6(buffer: Buffer, start: int = 0) -> Icmpv6Header:
    """Decode the ICMPv6 header at `start`.

    Raises:
        DecodeError: the header is cut off.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DecodeError(f"an ICMPv6 header of {HEADER_BYTES} bytes", offset=start)
    type_, code, _, rest = _LAYOUT.unpack_from(buffer, start)
    return Icmpv6Header(type_, code, rest)


def encode_icmpv6(header: Icmpv6Header) -> bytes:
    """Encode an ICMPv6 header, with zeros for the checksum.

    Raises:
        UsageError: a field does not fit its place.
    """
    try:
        return _LAYOUT.pack(header.type, header.code, 0, header.rest)
    except struct.error as error:
        raise UsageError(f"a field of an ICMPv6 header is out of its range: {error}") from error
