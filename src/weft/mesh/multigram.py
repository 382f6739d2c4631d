"""Multigrams: what weft nodes put into a tunnel beside IP packets.

A 4-byte codec, then its body. The codec is an unsigned LEB128 number padded to exactly four bytes, so the first byte is
0x80 or more, where an IP packet has 0x4. or 0x6.; a multigram is never padded.

Source: wire.md section 5.
"""

from __future__ import annotations

from typing import Final

from weft.errors import DecodeError

PROBE: Final = 0x42005
NOTICE: Final = 0x42007

CODEC_BYTES: Final = 4
FIRST_BYTE: Final = 0x80
"""What the first byte of a multigram is at least."""


def encode_codec(codec: int) -> bytes:
    """The four bytes of a codec number below 2^28."""
    return bytes((codec & 0x7F | 0x80, codec >> 7 & 0x7F | 0x80, codec >> 14 & 0x7F | 0x80, codec >> 21 & 0x7F))


_CODECS = {codec: encode_codec(codec) for codec in (PROBE, NOTICE)}


def encode_multigram(codec: int, body: bytes) -> bytes:
    """Put the codec in front of a body.

    Args:
        codec: PROBE or NOTICE.
        body: what the codec says.
    """
    return _CODECS[codec] + body


def decode_multigram(data: bytes | memoryview) -> tuple[int, bytes]:
    """Part a multigram into codec and body.

    Args:
        data: the plain text of a type 4 message, or of a record of kind 3.

    Returns:
        The codec, known or not, and the body.

    Raises:
        DecodeError: fewer than four bytes, or a codec that is not padded to four.
    """
    if len(data) < CODEC_BYTES:
        raise DecodeError("a codec of four bytes", offset=len(data))
    first, second, third, last = data[:CODEC_BYTES]
    if not first & second & third & 0x80 or last & 0x80:
        raise DecodeError("a codec padded to exactly four bytes", offset=0)
    return first & 0x7F | (second & 0x7F) << 7 | (third & 0x7F) << 14 | last << 21, bytes(data[CODEC_BYTES:])
