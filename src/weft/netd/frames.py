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

_LENGTH_BYTES: Final = 4
_REQUEST: Final = struct.Struct("<III")
_REPLY: Final = struct.Struct("<IIIi")


class Frames:
    """Cuts a stream of bytes; a message that comes in pieces is put together once, when it is whole."""

    __slots__ = ("_at", "_data", "_pieces", "_pieces_bytes")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0

    @property
    def size(self) -> int:
        """Bytes that wait, of whole messages and one that is not whole."""
        return len(self._data) - self._at + self._pieces_bytes

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._pieces.append(data)
        self._pieces_bytes += len(data)

    def take(self) -> tuple[int, int, memoryview] | None:
        """The next message: code, request and the rest; None if none is whole.

        Raises:
            DecodeError: its length can't be one; nothing after it can be read either.
        """
        while True:
            have, need = len(self._data) - self._at, _REQUEST.size
            if have >= need:
                length, code, request = _REQUEST.unpack_from(self._data, self._at)
                if not HEAD_BYTES <= length <= MAX_MESSAGE_BYTES:
                    raise DecodeError(f"a message of {length} bytes")
                need = _LENGTH_BYTES + length
                if have >= need:
                    start, self._at = self._at + _REQUEST.size, self._at + need
                    return code, request, memoryview(self._data)[start : self._at]
            if self.size < need:
                return None
            self._data = b"".join((memoryview(self._data)[self._at :], *self._pieces))
            self._at = self._pieces_bytes = 0
            self._pieces.clear()

    def __iter__(self) -> Iterator[tuple[int, int, memoryview]]:
        """All that are whole."""
        while (message := self.take()) is not None:
            yield message


def encode_request(code: int, request: int, body: bytes) -> bytes:
    """A request."""
    return _REQUEST.pack(HEAD_BYTES + len(body), code, request) + body


def encode_reply(code: int, request: int, status: int, fields: bytes = b"", more_bytes: int = 0) -> bytes:
    """A reply, or the first part of one.

    Args:
        code: of the reply.
        request: its number.
        status: see status.py.
        fields: if it is 0.
        more_bytes: how many the caller sends behind this.
    """
    return _REPLY.pack(HEAD_BYTES + STATUS_BYTES + len(fields) + more_bytes, code, request, status) + fields


def decode_reply(rest: memoryview) -> tuple[int, memoryview]:
    """Status and fields of a reply, from what follows its head.

    Raises:
        DecodeError: it is too short.
    """
    if len(rest) < STATUS_BYTES:
        raise DecodeError("a reply without a status")
    return int.from_bytes(rest[:STATUS_BYTES], "little", signed=True), rest[STATUS_BYTES:]
