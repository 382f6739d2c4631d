"""What a user wrote, until the other side has it.

The bytes are kept as they were given, and sequence numbers lead into them, so that nothing is copied before a packet
leaves, however often it does.
"""

from __future__ import annotations

from bisect import bisect_right

from weft.packet.checksum import Buffer

_TIDY_CHUNKS = 64
"""So many chunks that are done with are kept in the lists before these are cut."""


class SendBuffer:
    """Bytes with sequence numbers.

    Attributes:
        start: the sequence number of the first byte that is kept.
        end: the one behind the last byte.
    """

    __slots__ = ("_chunks", "_done", "_starts", "end", "start")

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        self._done = 0

    def append(self, data: bytes) -> None:
        """Take more bytes."""
        if data:
            self._chunks.append(data)
            self._starts.append(self.end)
            self.end += len(data)

    def skip(self, size: int) -> None:
        """So many bytes more need not be kept, while none are."""
        self.end += size
        self.start = self.end

    def slices(self, start: int, end: int) -> list[Buffer]:
        """The bytes between two sequence numbers that are kept, as views that are valid until they are released."""
        starts, chunks = self._starts, self._chunks
        number = bisect_right(starts, start) - 1
        found: list[Buffer] = []
        while start < end:
            first, chunk = starts[number], chunks[number]
            found.append(memoryview(chunk)[start - first : end - first])
            start = first + len(chunk)
            number += 1
        return found

    def release(self, until: int) -> None:
        """Forget the bytes before a sequence number."""
        if until <= self.start:
            return
        if until >= self.end:
            self.start = self.end
            self._chunks, self._starts, self._done = [], [], 0
            return
        self.start = until
        chunks, starts, done = self._chunks, self._starts, self._done
        while starts[done] + len(chunks[done]) <= until:
            chunks[done] = b""
            done += 1
        if done > _TIDY_CHUNKS and done * 2 > len(chunks):
            del chunks[:done], starts[:done]
            done = 0
        self._done = done
