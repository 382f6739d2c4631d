"""The Internet checksum, by large integers.

Python pays per call and not per byte, so a buffer becomes one large integer (a few, above 2 KiB) whose remainder
modulo 65,535 is the ones-complement sum: 2^16 is 1 modulo 65,535, so each 16-bit word counts with weight 1. For the
same reason the upper half of the integer may be added to its lower half before the division, which is slow per digit.

The remainder alone can't tell the two zeros of ones-complement arithmetic apart: a sum of words that is a multiple of
65,535 but not 0 is 0xFFFF, never 0.

Integers are made of little-endian bytes, which takes less time and needs no care for an odd length; the sum comes out
with its two bytes swapped, as RFC 1071 section 2(B) says.

Packets given to these functions are whole IP packets whose lengths were checked before, and which end where their
buffer ends. A `start` is the offset of the transport header in the packet.

Source: RFC 1071; RFC 768 (UDP and its zero), RFC 9293 section 3.1 (TCP), RFC 4443 section 2.3 (ICMPv6), RFC 8200
section 8.1 (pseudo-header of IPv6).
Not done here: the incremental update of RFC 1624; the pseudo-header of an IPv6 packet whose routing header still has
segments left, which is made with the last address of that header.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP

Buffer: TypeAlias = bytes | bytearray | memoryview
Writable: TypeAlias = bytearray | memoryview

FIELD: Final = {TCP: 16, UDP: 6, ICMPV6: 2, ICMP: 2}
"""Where the checksum is in the transport header, by protocol. ICMP alone is summed without a pseudo-header."""

_IPV4_CHECKSUM: Final = slice(10, 12)
_IPV4_ADDRESSES: Final = (12, 20)
_IPV6_ADDRESSES: Final = (8, 40)

_PIECE_BYTES: Final = 2048
_SHORT_BYTES: Final = 128
_STEP_BYTES: Final = 64
_HALVINGS: Final = 3


def _folds(bits: int) -> list[tuple[int, int]]:
    """How to halve an integer of so many bits: where to cut, in whole words, and the mask of the lower half."""
    cuts = [-(-bits // (32 << number)) * 16 for number in range(_HALVINGS)]
    return [(cut, (1 << cut) - 1) for cut in cuts]


_FOLDS: Final = [_folds(length * 8) for length in range(0, _PIECE_BYTES + 1, _STEP_BYTES)]
"""By length in steps of `_STEP_BYTES`, rounded up."""


def swapped_sum(buffer: Buffer) -> int:
    """The ones-complement sum of the 16-bit words of `buffer`, its bytes swapped, neither folded nor complemented.

    For hot loops: what is to be added to it is multiplied by 256, which swaps the bytes of a sum modulo 65,535, and the
    checksum is then written with its bytes swapped.

    Args:
        buffer: any number of bytes; an odd length is summed as if a zero byte followed.

    Returns:
        A large integer, of which the remainder modulo 65,535 counts; 0 only if all bytes are zero.
    """
    length = len(buffer)
    if length <= _PIECE_BYTES:
        total = int.from_bytes(buffer, "little")
    else:
        total = 0
        view = memoryview(buffer)
        for start in range(0, length, _PIECE_BYTES):
            total += int.from_bytes(view[start : start + _PIECE_BYTES], "little")
        length = _PIECE_BYTES
    if length > _SHORT_BYTES:
        for bits, mask in _FOLDS[-(-length // _STEP_BYTES)]:
            total = (total >> bits) + (total & mask)
    return total


def sum16(buffer: Buffer) -> int:
    """The ones-complement sum of the 16-bit words of `buffer`, not complemented.

    The unit that everything else is made of: sums of buffers that start at even offsets may simply be added.

    Args:
        buffer: any number of bytes; an odd length is summed as if a zero byte followed.

    Returns:
        0 to 65,535, folded; 0 only if all bytes are zero.
    """
    total = swapped_sum(buffer)
    swapped = total % 0xFFFF or (total and 0xFFFF)
    return (swapped & 0xFF) << 8 | swapped >> 8


def checksum(buffer: Buffer, initial: int = 0) -> int:
    """The Internet checksum of `buffer`: the complement of its sum.

    Args:
        buffer: what is summed; its checksum field must hold zeros (or what shall be part of the sum).
        initial: a sum to begin with, folded or not: of a pseudo-header, of a header that lies elsewhere.

    Returns:
        0 to 65,535. For UDP the caller sends 0xFFFF instead of 0; `complete` does so by itself.
    """
    total = sum16(buffer) + initial
    return 0xFFFF - (total % 0xFFFF or (total and 0xFFFF))


def pseudo_header_sum(packet: Buffer, transport_length: int, protocol: int | None = None) -> int:
    """The sum of the pseudo-header of an IP packet, IPv4 or IPv6 by its first nibble.

    Args:
        packet: at least the fixed IP header.
        transport_length: bytes of transport header and payload; below 2^32.
        protocol: the transport protocol; by default the protocol field, or next header, of the fixed header, which is
            right unless IPv6 extension headers follow.

    Returns:
        1 to 65,535, folded, not complemented.
    """
    if packet[0] >> 4 == 4:
        total = int.from_bytes(packet[12:20], "big") + (packet[9] if protocol is None else protocol)
    else:
        total = int.from_bytes(packet[8:40], "big") + (packet[6] if protocol is None else protocol)
    return (total + transport_length) % 0xFFFF or 0xFFFF


def _swapped_transport_sum(packet: Buffer, start: int, protocol: int) -> int:
    """As `swapped_sum`, of pseudo-header, transport header and payload; 0 only for an ICMP message of zeros."""
    view = memoryview(packet)
    if protocol == ICMP:
        return swapped_sum(view[start:])
    addresses, end = _IPV4_ADDRESSES if packet[0] >> 4 == 4 else _IPV6_ADDRESSES
    if start == end:
        words = swapped_sum(view[addresses:])
    else:
        words = swapped_sum(view[addresses:end]) + swapped_sum(view[start:])
    return words + (protocol + len(packet) - start) * 256


def complete(packet: Writable, start: int, protocol: int) -> None:
    """Compute the transport checksum of a packet and write it.

    Args:
        packet: a whole packet; whatever its checksum field holds is ignored.
        start: offset of the transport header.
        protocol: a key of `FIELD`.
    """
    at = start + FIELD[protocol]
    packet[at] = packet[at + 1] = 0
    total = _swapped_transport_sum(packet, start, protocol)
    swapped = 0xFFFF - (total % 0xFFFF or (total and 0xFFFF))
    if swapped == 0 and protocol == UDP:
        swapped = 0xFFFF
    packet[at] = swapped & 0xFF
    packet[at + 1] = swapped >> 8


def write_pseudo_header_sum(packet: Writable, start: int, protocol: int, length: int | None = None) -> None:
    """Write the pseudo-header sum alone, folded and not complemented, into the checksum field.

    That is what a virtio header with NEEDS_CSUM promises to the kernel (and CHECKSUM_PARTIAL in Linux): whoever sums
    from `start` to the end, field included, and complements, has the checksum.

    Args:
        packet: a packet, or the first bytes of one: all of its headers.
        start: offset of the transport header.
        protocol: a key of `FIELD`, but not ICMP, which has no pseudo-header.
        length: bytes of the whole packet, if these are not all.
    """
    at = start + FIELD[protocol]
    value = pseudo_header_sum(packet, (length or len(packet)) - start, protocol)
    packet[at] = value >> 8
    packet[at + 1] = value & 0xFF


def verify(packet: Buffer, start: int, protocol: int) -> bool:
    """Whether the transport checksum of a packet is right.

    A UDP checksum of zero means that the sender computed none: right over IPv4, wrong over IPv6 (RFC 8200 section 8.1).

    Args:
        packet: a whole packet.
        start: offset of the transport header.
        protocol: a key of `FIELD`.
    """
    if protocol == UDP and packet[start + 6] == packet[start + 7] == 0:
        return packet[0] >> 4 == 4
    total = _swapped_transport_sum(packet, start, protocol)
    return total > 0 and total % 0xFFFF == 0


def write_ipv4_header_checksum(packet: Writable) -> None:
    """Compute the header checksum of an IPv4 packet and write it.

    Args:
        packet: at least the whole header, with its options.
    """
    packet[_IPV4_CHECKSUM] = b"\0\0"
    packet[_IPV4_CHECKSUM] = checksum(packet[: (packet[0] & 0xF) << 2]).to_bytes(2, "big")


def verify_ipv4_header(packet: Buffer) -> bool:
    """Whether the header checksum of an IPv4 packet is right.

    Args:
        packet: at least the whole header, with its options.
    """
    return sum16(packet[: (packet[0] & 0xF) << 2]) == 0xFFFF
