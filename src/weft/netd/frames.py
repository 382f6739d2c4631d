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

FIRST_BYTES: Final = 16 * 1024
"""Of the room for what comes; there is more where messages are longer."""
KEPT_BYTES: Final = 256 * 1024
"""More is given back as soon as it is empty."""

_LENGTH_BYTES: Final = 4
_REQUEST: Final = struct.Struct("<III")
_REPLY: Final = struct.Struct("<IIIi")


class Frames:
    """Cuts a stream of bytes, which is written where it is read from; a message is moved only if it comes in pieces.

    What `take` gives is valid until the next `room` or `feed`.
    """

    __slots__ = ("_at", "_end", "_view")

    def __init__(self) -> None:
        self._view = memoryview(bytearray(FIRST_BYTES))
        self._at = self._end = 0

    @property
    def size(self) -> int:
        """Bytes that wait, of whole messages and one that is not whole."""
        return self._end - self._at

    def room(self) -> memoryview:
        """Where what comes next is to be written, at least a byte; `fill` has to say then how much came."""
        view, have = self._view, self.size
        need = max(self._need(), have + 1)
        if not have and len(view) > KEPT_BYTES:
            view = memoryview(bytearray(FIRST_BYTES))
        elif need > len(view):
            view = memoryview(bytearray(max(need, 2 * len(view))))
        if view is not self._view or not have or self._at + need > len(view):
            view[:have] = self._view[self._at : self._end]
            self._view, self._at, self._end = view, 0, have
        return view[self._end :]

    def fill(self, size: int) -> None:
        """So many bytes were written there."""
        self._end += size

    def feed(self, data: bytes) -> None:
        """Take what came elsewhere."""
        rest = memoryview(data)
        while rest:
            room = self.room()
            part = rest[: len(room)]
            room[: len(part)] = part
            self.fill(len(part))
            rest = rest[len(part) :]

    def take(self) -> tuple[int, int, memoryview] | None:
        """The next message: code, request and the rest; None if none is whole.

        Raises:
            DecodeError: its length can't be one; nothing after it can be read either.
        """
        start = self._at
        if self._end - start < _REQUEST.size:
            return None
        length, code, request = _REQUEST.unpack_from(self._view, start)
        if not HEAD_BYTES <= length <= MAX_MESSAGE_BYTES:
            raise DecodeError(f"a message of {length} bytes")
        end = start + _LENGTH_BYTES + length
        if end > self._end:
            return None
        self._at = end
        return code, request, self._view[start + _REQUEST.size : end]

    def _need(self) -> int:
        """Bytes of the message that is not whole, as far as is known."""
        if self.size < _LENGTH_BYTES:
            return _REQUEST.size
        length = int.from_bytes(self._view[self._at : self._at + _LENGTH_BYTES], "little")
        return _LENGTH_BYTES + min(length, MAX_MESSAGE_BYTES)

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
