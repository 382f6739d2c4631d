"""TAI64N: the timestamp of an initiation, which keeps old initiations from being played again.

A responder compares timestamps of one peer as strings of 12 bytes and takes only what is greater than all before. So
what must hold on the sending side is that they grow, not that they are right: a clock that was set back is overruled
by the last timestamp sent.

Layout, big-endian: 0..8 seconds since 1970 TAI plus 2^62; 8..12 nanoseconds.

Source: the WireGuard paper, section 5.4.2; D. J. Bernstein, "TAI64, TAI64N, and TAI64NA".
Not done here: leap seconds; like the WireGuard implementations, TAI is taken as UTC + 10 s.
"""

from __future__ import annotations

from struct import Struct

from weft.noise.timers import SECOND_NS

TIMESTAMP_BYTES = 12
EPOCH = (1 << 62) + 10
"""The label of 1970-01-01 00:00:00 UTC."""

_LAYOUT = Struct(">QI")
_WHITENING = ~((1 << 24) - 1)


def encode_timestamp(wall_ns: int) -> bytes:
    """Write a wall time.

    The lowest 24 bits of the nanoseconds are cleared, about 17 ms, so that the timestamp tells nobody how long the
    steps of a handshake took.

    Args:
        wall_ns: ns since 1970, not negative.

    Returns:
        12 bytes.
    """
    seconds, nanoseconds = divmod(wall_ns, SECOND_NS)
    return _LAYOUT.pack(EPOCH + seconds, nanoseconds & _WHITENING)


def later_timestamp(timestamp: bytes, seconds: int) -> bytes:
    """The timestamp so many seconds after another one; 12 bytes."""
    whole, nanoseconds = _LAYOUT.unpack(timestamp)
    return _LAYOUT.pack(whole + seconds, nanoseconds)


def next_timestamp(wall_ns: int, floor: bytes) -> bytes:
    """The timestamp to send now: of the wall clock, or the one after `floor` if the clock is not past it.

    Args:
        wall_ns: ns since 1970.
        floor: the last timestamp sent to anyone who compares, 12 bytes.

    Returns:
        12 bytes, greater than `floor`.
    """
    timestamp = encode_timestamp(wall_ns)
    if timestamp > floor:
        return timestamp
    seconds, nanoseconds = _LAYOUT.unpack(floor)
    if nanoseconds + 1 < SECOND_NS:
        return _LAYOUT.pack(seconds, nanoseconds + 1)
    return _LAYOUT.pack(seconds + 1, 0)
