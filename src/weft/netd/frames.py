"""Where messages begin and end in a stream of bytes, and their heads; see messages.py."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from weft.errors import DecodeError
from weft.netd.layout import Layout
from weft.netd.messages import EVENT, HAPPENED, MAX_MESSAGE_BYTES, MESSAGES, code_of_reply
from weft.netd.status import Status

HEAD_BYTES: Final = 8
"""Of `code` and `request`, which `length` counts."""
STATUS_BYTES: Final = 4

FIRST_BYTES: Final = 16 * 1024
"""Of the room for what comes; there is more where messages are longer."""
KEPT_BYTES: Final = 256 * 1024
"""More is given back as soon as it is empty."""

_LENGTH_BYTES: Final = 4
_REQUEST: Final = struct.Struct("<III")
_REQUEST_BYTES: Final = _REQUEST.size
_REPLY_HEAD: Final = "IIIi"
_REPLY: Final = struct.Struct(f"<{_REPLY_HEAD}")


class Frames:
    """Cuts a stream of bytes, which is written where it is read from; a message is moved only if it comes in pieces.

    What was taken is valid until the next `room` or `feed`, and no more is taken from an iterator then.
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
        view, have = self._view, self._end - self._at
        if not have:
            if len(view) > KEPT_BYTES:
                self._view = view = memoryview(bytearray(FIRST_BYTES))
            self._at = self._end = 0
            return view
        need = max(self._need(), have + 1)
        if need > len(view):
            view = memoryview(bytearray(max(need, 2 * len(view))))
        if view is not self._view or self._at + need > len(view):
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
        return next(iter(self), None)

    def _need(self) -> int:
        """Bytes of the message that is not whole, as far as is known."""
        if self.size < _LENGTH_BYTES:
            return _REQUEST_BYTES
        length = int.from_bytes(self._view[self._at : self._at + _LENGTH_BYTES], "little")
        return _LENGTH_BYTES + min(length, MAX_MESSAGE_BYTES)

    def __iter__(self) -> Iterator[tuple[int, int, memoryview]]:
        """All that are whole; those that are not asked for stay."""
        view, end, at = self._view, self._end, self._at
        while end - at >= _REQUEST_BYTES:
            length, code, request = _REQUEST.unpack_from(view, at)
            if not HEAD_BYTES <= length <= MAX_MESSAGE_BYTES:
                raise DecodeError(f"a message of {length} bytes")
            start, at = at + _REQUEST_BYTES, at + _LENGTH_BYTES + length
            if at > end:
                return
            self._at = at
            yield code, request, view[start:at]


def encode_request(code: int, request: int, body: bytes) -> bytes:
    """A request."""
    return _REQUEST.pack(HEAD_BYTES + len(body), code, request) + body


Encoder = Callable[[Any, int], tuple[bytes, bytes]]
"""Of the fields of a reply that says what was done, and its request; gives the reply, and data that comes behind it."""


def _encoder(code: int, layout: Layout[Any]) -> Encoder:
    return layout.encoder(_REPLY_HEAD, HEAD_BYTES + STATUS_BYTES + layout.size, code, None, Status.OK)


REPLIES: Final = {int(code): _encoder(code_of_reply(code), message.reply) for code, message in MESSAGES.items()}
"""To requests, by their codes."""
EVENTS: Final = _encoder(EVENT, HAPPENED)


def encode_status(code: int, request: int, status: int) -> bytes:
    """A reply that says why it was not done.

    Args:
        code: of the reply.
        request: its number.
        status: see status.py.
    """
    return _REPLY.pack(HEAD_BYTES + STATUS_BYTES, code, request, status)


def decode_reply(rest: memoryview) -> tuple[int, memoryview]:
    """Status and fields of a reply, from what follows its head.

    Raises:
        DecodeError: it is too short.
    """
    if len(rest) < STATUS_BYTES:
        raise DecodeError("a reply without a status")
    return int.from_bytes(rest[:STATUS_BYTES], "little", signed=True), rest[STATUS_BYTES:]
