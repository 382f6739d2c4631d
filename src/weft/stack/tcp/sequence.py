"""Sequence numbers.

Inside the stack they are plain integers that never wrap: a connection begins with its initial sequence number and
counts up for as long as it likes, so that all comparisons are comparisons. The 32 bits of the wire become such a number
at the border, next to one that is known, and lose their upper bits again when they leave.

Source: RFC 9293 section 3.4.
"""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFF_FFFF
_MODULUS: Final = 1 << 32
_HALF: Final = 1 << 31


def unwrap(wire: int, near: int) -> int:
    """The number with these lower 32 bits that is the nearest to another one.

    Args:
        wire: 32 bits.
        near: any number; what is meant must be less than 2^31 away.
    """
    ahead = (wire - near) & MASK
    return near + ahead if ahead < _HALF else near + ahead - _MODULUS
