"""The datagrams of the fast path: type 4 (one WireGuard packet) and type 5 (a piece of a burst).

A burst is sealed once and its ciphertext cut into datagrams. Layout of a piece, little-endian:

    0..4    type 5, three zero bytes
    4..8    receiver index
    8..16   counter: one for the whole burst
    16..18  total: bytes of ciphertext with its tag
    18      number of this piece, from 0
    19      count of pieces, 1 to 64
    20..    the piece; all have the size s but the last

The associated data of the burst is header[0:18], so that every piece but the number and the count is authenticated, and
those by the order in which the ciphertext is put together. A type 4 message has the first 16 bytes with type 4.

Source: wire.md section 4; the WireGuard paper, section 5.4.6.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from weft.errors import DecodeError

TYPE_DATA = 4
TYPE_BURST = 5
TYPE = Struct("<I")

DATA_HEADER = Struct("<IIQ")
"""type, receiver index, counter"""
BURST_PREFIX = Struct("<IIQH")
"""type, receiver index, counter, total: what all pieces of a burst share, and its associated data"""
PIECE_HEADER = Struct("<IIQHBB")

DATA_HEADER_BYTES = DATA_HEADER.size
PREFIX_BYTES = BURST_PREFIX.size
PIECE_HEADER_BYTES = PIECE_HEADER.size
TAG_BYTES = 16
DATA_OVERHEAD_BYTES = DATA_HEADER_BYTES + TAG_BYTES

MAX_TOTAL_BYTES = 64_400
"""Ciphertext and tag of the largest burst: 54 pieces of 1,212 bytes with their headers fit one UDP send."""
MAX_PIECES = 64
MIN_PIECE_BYTES = 512
"""Of every piece but the last, where there is more than one."""

PIECE_SUFFIXES = [[b"", *(bytes((number, count)) for number in range(count))] for count in range(MAX_PIECES + 1)]
"""By count: an empty string, then (number, count) of each piece; joined with the common prefix they are all headers."""

NONCE = Struct("<4xQ")
"""ChaCha20-Poly1305's nonce: four zero bytes, then the counter (the paper, section 5.4.6)."""


class PieceHeader(NamedTuple):
    """The fields of a piece that vary; the type is checked."""

    receiver_index: int
    counter: int
    total: int
    number: int
    pieces: int


def decode_piece_header(datagram: bytes | bytearray | memoryview) -> PieceHeader:
    """Decode the header of one piece of a burst and check all that can be checked before joining.

    Layout: see the head of this file.

    Args:
        datagram: one whole datagram of the UDP port.

    Returns:
        The header; the piece is `datagram[20:]`.

    Raises:
        DecodeError: too short, another type, or sizes and counts that no sender makes.

    Source: wire.md section 4.
    Not done here: looking at other pieces of the same burst (see join.py).
    """
    if len(datagram) <= PIECE_HEADER_BYTES:
        raise DecodeError("a piece of a burst, 21 bytes or more", offset=len(datagram))
    kind, index, counter, total, number, count = PIECE_HEADER.unpack_from(datagram)
    if kind != TYPE_BURST:
        raise DecodeError("type 5", offset=0)
    if not TAG_BYTES <= total <= MAX_TOTAL_BYTES:
        raise DecodeError(f"a total of 16 to {MAX_TOTAL_BYTES:,} bytes", offset=16)
    if not 1 <= count <= MAX_PIECES:
        raise DecodeError("1 to 64 pieces", offset=19)
    if number >= count:
        raise DecodeError("a number below the count of pieces", offset=18)
    if piece_size(total, number, count, len(datagram) - PIECE_HEADER_BYTES) == 0:
        raise DecodeError("a piece whose size fits its place", offset=PIECE_HEADER_BYTES)
    return PieceHeader(index, counter, total, number, count)


def piece_size(total: int, number: int, count: int, length: int) -> int:
    """The size s of the pieces of a burst, told from one of them.

    Args:
        total: bytes of ciphertext with tag.
        number: of the piece, from 0.
        count: of pieces.
        length: of the piece, bytes.

    Returns:
        s in bytes, or 0 where no cut into pieces of one size gives such a piece.

    Source: wire.md section 4, "Joining".
    """
    if count == 1:
        return length if length == total else 0
    if number < count - 1:
        size = length
    else:
        size, rest = divmod(total - length, count - 1)
        if rest:
            return 0
    if size < MIN_PIECE_BYTES or -(-total // size) != count:
        return 0
    return size
