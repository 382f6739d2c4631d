"""Split a super-packet into runs of n segments: one function serves everything from whole bursts to stock WireGuard.

A super-packet is one TCP or UDP packet over IP with the payload of many segments; a run of n segments is a smaller
super-packet, and a run of one is the packet that crosses the wire. What the header of each run says is what the
kernel's own segmentation would have said of its first segment:

    IPv4 total length, IPv6 payload length, UDP length   of the run
    IPv4 identification                                  of the first, plus the segments before
    TCP sequence number                                  of the first, plus the payload before
    TCP FIN and PSH                                      only on the last run
    TCP CWR                                              only on the first run
    TCP and UDP checksum                                 computed where a run is one segment, else left alone

Source: Linux, Documentation/networking/segmentation-offloads.rst; RFC 3168 section 6.1.2 (CWR); wire.md section 4.
Not done here: whether the super-packet is sound (`records.super_packet_fault`, or the kernel that made it).
"""

from __future__ import annotations

from struct import Struct

from weft.burst.seal import padding_of
from weft.packet.checksum import sum16, swapped_sum
from weft.packet.ipv6 import HEADER_BYTES, decode_ipv6_upper_layer
from weft.packet.protocols import TCP

_U16 = Struct(">H")
_SWAPPED = Struct("<H")
_U32 = Struct(">I")

_FIN_PSH = 0x09
_CWR = 0x80


def split(packet: memoryview, transport: int, segment: int, per_run: int, padded_to: int = 0) -> list[bytes]:
    """Split a super-packet into runs.

    Args:
        packet: an IPv4 or IPv6 packet with TCP or UDP, and no fragment; its transport checksum is not computed.
        transport: offset of the transport header.
        segment: payload bytes of each segment but the last.
        per_run: segments that go into one run, 1 or more.
        padded_to: zeros fill each run to a multiple of 16 bytes, as far as it gets no longer than this.

    Returns:
        The runs in order. With `per_run` 1 each has its transport checksum; else those of one segment have none either
        and their checksum field is as it was.
    """
    is_ipv4 = packet[0] >> 4 == 4
    if is_ipv4:
        protocol = packet[9]
    else:
        protocol = packet[6] if transport == HEADER_BYTES else decode_ipv6_upper_layer(packet).protocol
    is_tcp = protocol == TCP
    first = transport + ((packet[transport + 12] >> 4) * 4 if is_tcp else 8)
    header = bytearray(packet[:first])
    end = len(packet)
    step = segment * per_run
    flags = packet[transport + 13] if is_tcp else 0
    sequence = _U32.unpack_from(packet, transport + 4)[0] if is_tcp else 0
    identification = _U16.unpack_from(packet, 4)[0]
    checksum_at = transport + (16 if is_tcp else 6)
    sums = _header_sums(header, transport, protocol, is_ipv4=is_ipv4) if per_run == 1 else None
    constant, padding = 0, b""
    runs: list[bytes] = []
    for start in range(first, end, step):
        stop = start + step
        if not runs or len(runs) == 1 or stop >= end:
            # What the first, all in the middle, and the last have in their headers; else only numbers change.
            stop = min(stop, end)
            run_flags = flags & ~(_FIN_PSH if stop < end else 0) & ~(_CWR if runs else 0)
            length = first - transport + stop - start
            _write_lengths(header, transport, length, is_ipv4=is_ipv4, is_tcp=is_tcp)
            if is_tcp:
                header[transport + 13] = run_flags
            constant = (sums or 0) + length + (run_flags if is_tcp else length)
            padding = padding_of(transport + length, padded_to)
        if is_tcp:
            _U32.pack_into(header, transport + 4, sequence)
        if is_ipv4:
            _write_identification(header, identification + len(runs) * per_run)
        payload = packet[start:stop]
        if sums is not None:
            total = swapped_sum(payload) + (constant + sequence) * 256
            checksum = 0xFFFF - (total % 0xFFFF or 0xFFFF)
            _SWAPPED.pack_into(header, checksum_at, checksum if is_tcp else checksum or 0xFFFF)
        if is_tcp:
            sequence = (sequence + step) & 0xFFFFFFFF
        runs.append(b"".join((header, payload, padding)))
    return runs


def segments_in_run(room: int, headers: int, segment: int) -> int:
    """How many segments a run may have so that it fits `room` bytes with its headers; at least 1."""
    return max(1, (room - headers) // segment)


def _header_sums(header: bytearray, transport: int, protocol: int, *, is_ipv4: bool) -> int:
    """The checksum over what all segments share: pseudo-header without length, and the constant header fields."""
    same = header[transport:]
    if protocol == TCP:
        same[4:8] = bytes(4)
        same[13] = 0
        same[16:18] = b"\0\0"
    else:
        same[4:8] = bytes(4)
    return sum16(same) + sum16(header[12:20] if is_ipv4 else header[8:40]) + protocol


def _write_lengths(header: bytearray, transport: int, length: int, *, is_ipv4: bool, is_tcp: bool) -> None:
    """Write every field that follows from the bytes of transport header and payload."""
    if is_ipv4:
        _U16.pack_into(header, 2, transport + length)
    else:
        _U16.pack_into(header, 4, transport + length - 40)
    if not is_tcp:
        _U16.pack_into(header, transport + 4, length)


def _write_identification(header: bytearray, identification: int) -> None:
    """Write the identification of an IPv4 packet, and the header checksum that follows."""
    _U16.pack_into(header, 4, identification & 0xFFFF)
    header[10:12] = b"\0\0"
    _U16.pack_into(header, 10, 0xFFFF - sum16(header[: (header[0] & 0xF) * 4]))
