"""The TCP header.

| offset | length | field |
|---|---|---|
| 0 | 2 | source port |
| 2 | 2 | destination port |
| 4 | 4 | sequence number |
| 8 | 4 | acknowledgment number |
| 12 | 1 | data offset: header length in words of 4 bytes (high nibble), reserved (low nibble) |
| 13 | 1 | flags |
| 14 | 2 | window |
| 16 | 2 | checksum |
| 18 | 2 | urgent pointer |
| 20 | 0 to 40 | options |

Source: RFC 9293 section 3.1; RFC 3168 (ECE, CWR).
Not done here: the checksum (`checksum.complete`, `checksum.verify`), the meaning of options.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.packet.checksum import Buffer

SOURCE_PORT: Final = 0
DESTINATION_PORT: Final = 2
SEQUENCE: Final = 4
ACKNOWLEDGMENT: Final = 8
DATA_OFFSET: Final = 12
FLAGS: Final = 13
WINDOW: Final = 14
CHECKSUM: Final = 16
URGENT_POINTER: Final = 18
OPTIONS: Final = 20

HEADER_BYTES: Final = 20
OPTIONS_MAX_BYTES: Final = 40

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

LAYOUT: Final = struct.Struct("!HHIIBBHHH")
"""The fixed part: ports, sequence, acknowledgment, data offset, flags, window, checksum, urgent pointer."""


@dataclass(frozen=True, slots=True)
class TcpHeader:
    """A TCP header; its checksum is not part of the value.

    Attributes:
        source_port: 0 to 65,535.
        destination_port: 0 to 65,535.
        sequence: of the first byte of payload, or of the SYN; 32 bits.
        acknowledgment: the next sequence number expected, if ACK is set; 32 bits.
        flags: `FIN` to `CWR`, or-ed.
        window: 16 bits, unscaled.
        urgent_pointer: 16 bits, if URG is set.
        reserved: 4 bits that senders set to zero, and receivers ignore.
        options: a multiple of 4 bytes, at most 40.
    """

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: int
    window: int
    urgent_pointer: int = 0
    reserved: int = 0
    options: bytes = b""

    @property
    def header_length(self) -> int:
        """Bytes of the header with its options."""
        return HEADER_BYTES + len(self.options)


def decode_tcp(buffer: Buffer, start: int = 0) -> TcpHeader:
    """Decode the TCP header at `start`.

    Raises:
        DecodeError: the header or its options are cut off, or the data offset is less than the fixed header.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DecodeError(f"a TCP header of {HEADER_BYTES} bytes", offset=start)
    source_port, destination_port, sequence, acknowledgment, words, flags, window, _, urgent_pointer = (
        LAYOUT.unpack_from(buffer, start)
    )
    header_length = words >> 4 << 2
    if not HEADER_BYTES <= header_length <= len(buffer) - start:
        raise DecodeError("a TCP data offset within the packet", offset=start + DATA_OFFSET)
    return TcpHeader(
        source_port=source_port,
        destination_port=destination_port,
        sequence=sequence,
        acknowledgment=acknowledgment,
        flags=flags,
        window=window,
        urgent_pointer=urgent_pointer,
        reserved=words & 0xF,
        options=bytes(buffer[start + OPTIONS : start + header_length]),
    )


def encode_tcp(header: TcpHeader) -> bytes:
    """Encode a TCP header, with zeros for the checksum.

    Raises:
        UsageError: a field does not fit its place.
    """
    if len(header.options) % 4 or len(header.options) > OPTIONS_MAX_BYTES:
        raise UsageError("TCP options have a multiple of 4 bytes, at most 40")
    if not 0 <= header.reserved <= 0xF:
        raise UsageError("the reserved bits of a TCP header are 4")
    try:
        fixed = LAYOUT.pack(
            header.source_port,
            header.destination_port,
            header.sequence,
            header.acknowledgment,
            header.header_length >> 2 << 4 | header.reserved,
            header.flags,
            header.window,
            0,
            header.urgent_pointer,
        )
    except struct.error as error:
        raise UsageError(f"a field of a TCP header is out of its range: {error}") from error
    return fixed + header.options
