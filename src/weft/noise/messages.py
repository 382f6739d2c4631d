"""The three handshake messages of WireGuard, little-endian; the data message is in `weft.burst.header`.

Initiation, 148 bytes            Response, 92 bytes              Cookie reply, 64 bytes

    0..4     type 1, three zeros     0..4    type 2, three zeros     0..4    type 3, three zeros
    4..8     sender index            4..8    sender index            4..8    receiver index
    8..116   Noise message 1         8..12   receiver index          8..32   nonce
    116..132 MAC1                    12..60  Noise message 2         32..64  sealed cookie
    132..148 MAC2                    60..76  MAC1
                                     76..92  MAC2

Noise message 1: ephemeral public key 32, sealed static public key 48, sealed timestamp 28. Noise message 2: ephemeral
public key 32, sealed nothing 16. MAC1 covers all that is before it, MAC2 that and MAC1.

Source: the WireGuard paper, sections 5.4.2, 5.4.3, 5.4.4 and 5.4.7.
Not done here: checking MACs (cookie.py) and opening what is sealed (handshake.py).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from weft.errors import DecodeError

TYPE_INITIATION = 1
TYPE_RESPONSE = 2
TYPE_COOKIE_REPLY = 3

INITIATION_BYTES = 148
RESPONSE_BYTES = 92
COOKIE_REPLY_BYTES = 64
MACS_BYTES = 32
"""MAC1 and MAC2, the end of an initiation and of a response."""

_INITIATION = Struct("<II108s32x")
_RESPONSE = Struct("<III48s32x")
_COOKIE_REPLY = Struct("<II24s32s")
_INITIATION_BODY = Struct("<II108s")
_RESPONSE_BODY = Struct("<III48s")


class Initiation(NamedTuple):
    """The first message; `noise` is its Noise message, 108 bytes."""

    sender_index: int
    noise: bytes


class Response(NamedTuple):
    """The second message; `noise` is its Noise message, 48 bytes."""

    sender_index: int
    receiver_index: int
    noise: bytes


class CookieReply(NamedTuple):
    """What a node under load answers; `nonce` has 24 bytes, `sealed` 32."""

    receiver_index: int
    nonce: bytes
    sealed: bytes


def decode_initiation(datagram: bytes | memoryview) -> Initiation:
    """Read an initiation.

    Args:
        datagram: the whole message; the layout is at the head of this file.

    Returns:
        Its fields without the MACs.

    Raises:
        DecodeError: another size or type.
    """
    _check_size(datagram, INITIATION_BYTES)
    kind, sender_index, noise = _INITIATION.unpack(datagram)
    _check_type(kind, TYPE_INITIATION)
    return Initiation(sender_index, noise)


def decode_response(datagram: bytes | memoryview) -> Response:
    """Read a response.

    Args:
        datagram: the whole message; the layout is at the head of this file.

    Returns:
        Its fields without the MACs.

    Raises:
        DecodeError: another size or type.
    """
    _check_size(datagram, RESPONSE_BYTES)
    kind, sender_index, receiver_index, noise = _RESPONSE.unpack(datagram)
    _check_type(kind, TYPE_RESPONSE)
    return Response(sender_index, receiver_index, noise)


def decode_cookie_reply(datagram: bytes | memoryview) -> CookieReply:
    """Read a cookie reply.

    Args:
        datagram: the whole message; the layout is at the head of this file.

    Returns:
        Its fields.

    Raises:
        DecodeError: another size or type.
    """
    _check_size(datagram, COOKIE_REPLY_BYTES)
    kind, receiver_index, nonce, sealed = _COOKIE_REPLY.unpack(datagram)
    _check_type(kind, TYPE_COOKIE_REPLY)
    return CookieReply(receiver_index, nonce, sealed)


def encode_initiation(message: Initiation) -> bytes:
    """Write an initiation up to its MACs, 116 bytes."""
    return _INITIATION_BODY.pack(TYPE_INITIATION, *message)


def encode_response(message: Response) -> bytes:
    """Write a response up to its MACs, 60 bytes."""
    return _RESPONSE_BODY.pack(TYPE_RESPONSE, *message)


def _check_size(datagram: bytes | memoryview, size: int) -> None:
    if len(datagram) != size:
        raise DecodeError(f"a message of {size} bytes", offset=min(len(datagram), size))


def _check_type(kind: int, wanted: int) -> None:
    if kind != wanted:
        raise DecodeError(f"type {wanted} and three zero bytes")
