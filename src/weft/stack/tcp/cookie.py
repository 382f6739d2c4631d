"""SYN cookies: connections that a full listener takes all the same, without keeping anything of their SYN.

The sequence number of the answer says what must be known of the SYN when its acknowledgment comes:

    bits 27 to 31   the time, in units of 64 s
    bits 24 to 26   which of a few segment sizes
    bits 0 to 23    a keyed hash of that, of both ends and of the sequence number of the SYN

What else was agreed stands in the lower bits of our timestamp, which comes back too; without timestamps it is given up.

    bits 0 to 3     shift of their window; 15 for none
    bit 4           selective acknowledgments

Source: RFC 4987 section 3.6 and appendix A; the idea of the timestamp bits is that of Linux.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import Final

from weft.stack.tcp.options import Options
from weft.stack.tcp.sequence import MASK

TICK_NS: Final = 64_000_000_000
LIVES: Final = 2
"""Ticks in which a cookie is good."""
SEGMENTS: Final = (216, 536, 940, 1220, 1280, 1312, 1440, 8940)
"""What sizes a cookie can tell; what the SYN said is rounded down."""
_TICKS: Final = 32
_HASH_MASK: Final = 0xFF_FFFF
NOTE_BITS: Final = 5
_NOTE_MASK: Final = (1 << NOTE_BITS) - 1
_NO_SHIFT: Final = 15
_SACK: Final = 16


def make_cookie(secret: bytes, key: bytes, sequence: int, maximum_segment: int, now: int) -> int:
    """The initial sequence number of an answer to a SYN, 32 bits.

    Args:
        secret: of this host.
        key: of the connection: both ends.
        sequence: of the SYN.
        maximum_segment: that the SYN said.
        now: monotonic ns.
    """
    number = max((index for index, size in enumerate(SEGMENTS) if size <= maximum_segment), default=0)
    tick = now // TICK_NS % _TICKS
    return tick << 27 | number << 24 | _hash(secret, key, sequence, tick, number)


def check_cookie(secret: bytes, key: bytes, sequence: int, cookie: int, now: int) -> int | None:
    """The segment size that a cookie of ours tells; None if it is none, or too old.

    Args:
        secret: of this host.
        key: of the connection: both ends.
        sequence: of the SYN that it must have been for.
        cookie: 32 bits.
        now: monotonic ns.
    """
    tick, number = cookie >> 27, cookie >> 24 & 7
    if (now // TICK_NS - tick) % _TICKS >= LIVES or cookie & _HASH_MASK != _hash(secret, key, sequence, tick, number):
        return None
    return SEGMENTS[number]


def note_options(timestamp: int, options: Options) -> int:
    """Our timestamp, with what was agreed in its lower bits.

    Args:
        timestamp: 32 bits; the one that leaves is not later than this.
        options: of the SYN.
    """
    note = (_NO_SHIFT if options.shift is None else options.shift) | (_SACK if options.sack_permitted else 0)
    noted = timestamp & ~_NOTE_MASK | note
    return noted if noted <= timestamp else noted - (1 << NOTE_BITS) & MASK


def read_note(timestamp: int) -> tuple[int | None, bool]:
    """The shift and whether there are selective acknowledgments, of a timestamp of ours that came back."""
    shift = timestamp & 15
    return (None if shift == _NO_SHIFT else shift), bool(timestamp & _SACK)


def _hash(secret: bytes, key: bytes, sequence: int, tick: int, number: int) -> int:
    content = key + sequence.to_bytes(4, "big") + bytes((tick, number))
    return int.from_bytes(blake2s(content, key=secret, digest_size=3).digest(), "big")
