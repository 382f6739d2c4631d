"""asyncio's `StreamReader`, which keeps what came as it came.

asyncio's own copies all that comes into a buffer, and what is read out of it twice, which in bulk takes as long as to
decrypt it. Here `read` hands over the very chunks that the transport gave. All else that asyncio's reader does is done
by asyncio: whatever looks at its buffer finds one, with all in it that is there.

Source: `asyncio.streams`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

JOINED_BYTES: Final = 16 * 1024
"""A chunk that is shorter is read together with those behind it, which costs less than one more `read`."""
MAX_CHUNKS: Final = 256
"""Are kept as they came. Each takes some 50 bytes besides, which who sends byte by byte has for nothing."""


class OverlayStreamReader(asyncio.StreamReader):
    """The same to whoever uses it."""

    _eof: bool
    _exception: BaseException | None
    _limit: int
    _paused: bool
    _transport: Any

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        """Make one.

        Args:
            limit: bytes of a line; twice as much may wait to be read.
            loop: on which it is used.
        """
        # A deque that holds nothing takes 700 bytes, of each connection.
        self._chunks: list[bytes] = []
        self._chunk_bytes = 0
        self._gathered = bytearray()
        super().__init__(limit=limit, loop=loop)

    @property
    def _buffer(self) -> bytearray:
        if self._chunks:
            self._gathered += b"".join(self._chunks)
            self._chunks.clear()
            self._chunk_bytes = 0
        return self._gathered

    @_buffer.setter
    def _buffer(self, value: bytearray) -> None:
        self._gathered = value

    def at_eof(self) -> bool:
        """Whether all was read, and no more will come."""
        return self._eof and not self._unread

    def feed_data(self, data: Any) -> None:
        """Take what came; bytes are kept as they are."""
        if type(data) is not bytes or not data or len(self._chunks) >= MAX_CHUNKS:
            super().feed_data(data)
            return
        assert not self._eof, "feed_data after feed_eof"
        self._chunks.append(data)
        self._chunk_bytes += len(data)
        self._wakeup_waiter()  # type: ignore[attr-defined]
        if self._transport is not None and not self._paused and self._unread > 2 * self._limit:
            self._transport.pause_reading()
            self._paused = True

    async def read(self, n: int = -1) -> bytes:
        """Up to so many bytes, as soon as there are any; see asyncio's."""
        if n > 0 and self._exception is None and not self._eof and not self._unread:
            await self._wait_for_data("read")  # type: ignore[attr-defined]
        if n <= 0 or self._exception is not None or self._gathered or not self._chunks or len(self._chunks[0]) > n:
            return await super().read(n)
        data = self._take(n)
        self._maybe_resume_transport()
        return data

    @property
    def _unread(self) -> int:
        """Bytes that wait to be read."""
        return self._chunk_bytes + len(self._gathered)

    def _take(self, limit: int) -> bytes:
        """The first chunk, or several short ones; the first is no longer than the limit."""
        chunks = self._chunks
        data, count = chunks[0], 1
        if len(data) < JOINED_BYTES and len(chunks) > 1:
            length = len(data)
            while count < len(chunks) and length + len(chunks[count]) <= limit:
                length += len(chunks[count])
                count += 1
            data = b"".join(chunks[:count])
        del chunks[:count]
        self._chunk_bytes -= len(data)
        return data

    def _maybe_resume_transport(self) -> None:
        if self._paused and self._unread <= self._limit:
            self._paused = False
            self._transport.resume_reading()
