"""The options of a TCP header.

| kind | length | option |
|---|---|---|
| 0 | 1 | end of the list |
| 1 | 1 | nothing, for alignment |
| 2 | 4 | maximum segment size (2); in a SYN |
| 3 | 3 | window scale: shift (1), at most 14; in a SYN |
| 4 | 2 | selective acknowledgments may be sent; in a SYN |
| 5 | 2 + 8 n | selective acknowledgment: n times left edge (4), right edge (4) |
| 8 | 10 | timestamps: value (4), echo (4) |

Unknown options are skipped by their length. A list whose lengths do not add up is refused as a whole: what follows the
fault can't be told.

Source: RFC 9293 sections 3.1 and 3.2 (MUST-4 to MUST-7); RFC 7323 sections 2.2 and 3.2; RFC 2018 sections 2 and 3.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from weft.errors import DecodeError
from weft.packet.checksum import Buffer

END, NOTHING, MAXIMUM_SEGMENT, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8

MAX_SHIFT: Final = 14
MAX_SACK_BLOCKS: Final = 4

TIMESTAMPS_BYTES: Final = 12
"""With the two that align it."""

_TIMESTAMPS_ONLY: Final = Struct("!III")
_TIMESTAMPS_PREFIX: Final = NOTHING << 24 | NOTHING << 16 | TIMESTAMPS << 8 | 10
_PAIR: Final = Struct("!II")

Block = tuple[int, int]
"""Left and right edge, 32 bits each."""


class Options(NamedTuple):
    """What a segment says in its options; None where it says nothing."""

    maximum_segment: int | None = None
    shift: int | None = None
    sack_permitted: bool = False
    blocks: tuple[Block, ...] = ()
    timestamps: tuple[int, int] | None = None
    """Value and echo, 32 bits each."""


NO_OPTIONS: Final = Options()


def decode_options(buffer: Buffer, start: int, end: int) -> Options:
    """Decode the options between two offsets.

    Raises:
        DecodeError: a length is less than the option needs, or goes past the end.
    """
    if end - start == TIMESTAMPS_BYTES:
        prefix, value, echo = _TIMESTAMPS_ONLY.unpack_from(buffer, start)
        if prefix == _TIMESTAMPS_PREFIX:
            return Options(None, None, False, (), (value, echo))
    elif start == end:
        return NO_OPTIONS
    return _decode_each(buffer, start, end)


def _decode_each(buffer: Buffer, start: int, end: int) -> Options:
    maximum_segment: int | None = None
    shift: int | None = None
    sack_permitted = False
    blocks: tuple[Block, ...] = ()
    timestamps: tuple[int, int] | None = None
    at = start
    while at < end:
        kind = buffer[at]
        if kind == END:
            break
        if kind == NOTHING:
            at += 1
            continue
        length = buffer[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            raise DecodeError("a TCP option that ends within the header", offset=at)
        body = at + 2
        if kind == MAXIMUM_SEGMENT and length == 4:
            maximum_segment = buffer[body] << 8 | buffer[body + 1]
        elif kind == WINDOW_SCALE and length == 3:
            shift = min(buffer[body], MAX_SHIFT)
        elif kind == SACK_PERMITTED and length == 2:
            sack_permitted = True
        elif kind == SACK and length % 8 == 2:
            blocks = tuple(_PAIR.unpack_from(buffer, body + 8 * number) for number in range((length - 2) // 8))
        elif kind == TIMESTAMPS and length == 10:
            timestamps = _PAIR.unpack_from(buffer, body)
        at += length
    return Options(maximum_segment, shift, sack_permitted, blocks, timestamps)


def encode_options(options: Options) -> bytes:
    """Encode options, aligned to 4 bytes; those of a SYN stand first.

    Args:
        options: at most `MAX_SACK_BLOCKS` blocks, or one less with timestamps.
    """
    parts: list[bytes] = []
    if options.maximum_segment is not None:
        parts.append(bytes((MAXIMUM_SEGMENT, 4)) + options.maximum_segment.to_bytes(2, "big"))
    if options.sack_permitted:
        parts.append(bytes((NOTHING, NOTHING, SACK_PERMITTED, 2)))
    if options.timestamps is not None:
        parts.append(encode_timestamps(*options.timestamps))
    if options.shift is not None:
        parts.append(bytes((NOTHING, WINDOW_SCALE, 3, options.shift)))
    if options.blocks:
        parts.append(bytes((NOTHING, NOTHING, SACK, 2 + 8 * len(options.blocks))))
        parts += [_PAIR.pack(*block) for block in options.blocks]
    return b"".join(parts)


def encode_timestamps(value: int, echo: int) -> bytes:
    """As `encode_options` of timestamps alone, which nearly all segments have."""
    return _TIMESTAMPS_ONLY.pack(_TIMESTAMPS_PREFIX, value, echo)
