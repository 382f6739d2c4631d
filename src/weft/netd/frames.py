"""Where messages begin and end in a stream of bytes, and their heads; see messages.py."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from weft.errors import DecodeError
from weft.netd.messages import MAX_MESSAGE_BYTES

HEAD_BYTES: Final = 8
"""Of `code` and `request`, which `length` counts."""
STATUS_BYTES: Final = 4

_LENGTH: Final = struct.Struct("<I")
_REQUEST: Final = struct.Struct("<III")
_REPLY: Final = struct.Struct("<IIIi")


class Frames:
    """Cuts a stream of bytes.

    Attributes:
        size: bytes that wait, of whole messages and one that is not whole.
    """

    __slots__ = ("_at", "_buffer")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Take what came."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def take(self) -> tuple[int, int, bytes] | None:
        """The next message: code, request and the rest; None if none is whole.

        Raises:
            DecodeError: its length can't be one; nothing after it can be read either.
        """
        buffer, at = self._buffer, self._at
        if len(buffer) - at < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(buffer, at)
        if not HEAD_BYTES <= length <= MAX_MESSAGE_BYTES:
            raise DecodeError(f"a message of {length} bytes")
        end = at + _LENGTH.size + length
        if end > len(buffer):
            return None
        _, code, request = _REQUEST.unpack_from(buffer, at)
        self._at = end
        return code, request, bytes(memoryview(buffer)[at + _REQUEST.size : end])

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        """All that are whole."""
        while (message := self.take()) is not None:
            yield message


def encode_request(code: int, request: int, body: bytes) -> bytes:
    """A request."""
    return _REQUEST.pack(HEAD_BYTES + len(body), code, request) + body


def encode_reply(code: int, request: int, status: int, body: bytes = b"") -> bytes:
    """A reply; `code` is its own."""
    return _REPLY.pack(HEAD_BYTES + STATUS_BYTES + len(body), code, request, status) + body


def decode_reply(rest: bytes) -> tuple[int, bytes]:
    """Status and fields of a reply, from what follows its head.

    Raises:
        DecodeError: it is too short.
    """
    if len(rest) < STATUS_BYTES:
        raise DecodeError("a reply without a status")
    return int.from_bytes(rest[:STATUS_BYTES], "little", signed=True), rest[STATUS_BYTES:]
