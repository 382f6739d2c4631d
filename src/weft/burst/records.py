"""Records: what the plain text of a burst is made of.

Layout of a record, little-endian, one behind the other and zeros up to a multiple of 16 at the end:

    0..4    length of the bytes that follow the header; zero ends the list
    4       kind
    5       flags
    6..8    segment size
    8..     the bytes

Source: wire.md section 4, "Plain text".
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from weft.errors import DecodeError

RECORD_HEADER = Struct("<IBBH")
RECORD_HEADER_BYTES = RECORD_HEADER.size

KIND_PACKET: Final = 0
KIND_TCP: Final = 1
"""A TCP super-packet: headers once, the payload of many segments."""
KIND_UDP: Final = 2
"""A UDP super-packet, likewise."""
KIND_MULTIGRAM: Final = 3
FLAG_CHECKSUM_PARTIAL: Final = 1
"""The transport checksum is not computed."""

MAX_RECORDS = 256
"""So that a burst of tiny records costs its receiver no more than as many small packets would."""
MIN_SEGMENT_BYTES = 256
MAX_UDP_SEGMENTS = 64

_SYN, _RST, _URG = 2, 4, 32
_FORBIDDEN_IN_SUPER = _SYN | _RST | _URG
_PROTOCOL_OF_KIND = {KIND_TCP: 6, KIND_UDP: 17}
_ZEROS = bytes(16)
_IPV6 = Struct("!4xHB").unpack_from
"""Payload length, next header."""
_IPV4 = Struct("!2xH2xHxB").unpack_from
"""Total length, flags and fragment offset, protocol."""


class Record(NamedTuple):
    """One record; the bytes are `plain[start:end]`."""

    kind: int
    flags: int
    segment: int
    start: int
    end: int


def decode_records(plain: memoryview) -> list[Record]:
    """Find the records of an opened burst.

    Nothing is delivered of a burst whose lengths do not end exactly, so this looks at all of it first.

    Args:
        plain: the whole plain text.

    Returns:
        The records in their order, unknown kinds and flags among them.

    Raises:
        DecodeError: lengths that do not end exactly, an empty list, more than MAX_RECORDS, padding that is not zero or
            16 bytes and more, or no multiple of 16 bytes.

    Source: wire.md section 4.
    Not done here: whether a super-packet is one (see `super_packet_fault`).
    """
    records: list[Record] = []
    start, end = 0, len(plain)
    if end % 16:
        raise DecodeError("a multiple of 16 bytes", offset=end)
    unpack = RECORD_HEADER.unpack_from
    while end - start > RECORD_HEADER_BYTES:
        length, kind, flags, segment = unpack(plain, start)
        if length == 0:
            break
        first = start + RECORD_HEADER_BYTES
        start = first + length
        if start > end:
            raise DecodeError("a record that ends inside its burst", offset=first - RECORD_HEADER_BYTES)
        if len(records) == MAX_RECORDS:
            raise DecodeError(f"at most {MAX_RECORDS} records", offset=first - RECORD_HEADER_BYTES)
        records.append(Record(kind, flags, segment, first, start))
    if start < end and (end - start >= 16 or plain[start:end] != _ZEROS[: end - start]):
        raise DecodeError("fewer than 16 zero bytes behind the last record", offset=start)
    if not records:
        raise DecodeError("at least one record", offset=0)
    return records


def super_packet_fault(packet: memoryview, kind: int, segment: int) -> str | None:
    """Why a record of kind 1 or 2 may not be delivered, or None.

    The kernel builds packets from what the virtio header says; whatever could make it build something else than the
    segments of one plain TCP or UDP stream stays outside.

    Args:
        packet: IP packet; its transport checksum is not computed.
        kind: KIND_TCP or KIND_UDP.
        segment: payload bytes of each segment but the last.

    Returns:
        A reason in two or three words, for the counters.

    Source: wire.md section 4, the paragraph below the table of kinds.
    """
    layout = transport_of(packet)
    return "super: not plain IP" if layout is None else plain_super_fault(packet, kind, segment, *layout)


def plain_super_fault(packet: memoryview, kind: int, segment: int, protocol: int, transport: int) -> str | None:
    """As `super_packet_fault`, of a packet whose protocol and offset `transport_of` has given."""
    if protocol != _PROTOCOL_OF_KIND[kind]:
        return "super: other protocol"
    if kind == KIND_TCP:
        if len(packet) < transport + 20:
            return "super: short header"
        header = transport + (packet[transport + 12] >> 4) * 4
        if header < transport + 20 or packet[transport + 13] & _FORBIDDEN_IN_SUPER:
            return "super: TCP flags"
    else:
        header = transport + 8
    payload = len(packet) - header
    if not MIN_SEGMENT_BYTES <= segment < payload:
        return "super: segment size"
    if kind == KIND_UDP:
        if -(-payload // segment) > MAX_UDP_SEGMENTS:
            return "super: too many segments"
        if int.from_bytes(packet[transport + 4 : transport + 6], "big") != payload + 8:
            return "super: UDP length"
    return None


def transport_of(packet: memoryview) -> tuple[int, int] | None:
    """Protocol and offset of the transport header of a plain IP packet.

    Plain means: the IP length is the length of the packet, it is no fragment, and no IPv6 extension header lies before
    the transport header.

    Args:
        packet: one IP packet.

    Returns:
        (protocol, offset), or None where the packet is not plain.
    """
    length = len(packet)
    if length >= 40 and packet[0] >> 4 == 6:
        payload, protocol = _IPV6(packet)
        return (protocol, 40) if payload + 40 == length and protocol in {6, 17, 58} else None
    if length >= 20 and packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total, fragment, protocol = _IPV4(packet)
        return (protocol, header) if 20 <= header <= length == total and not fragment & 0x3FFF else None
    return None
