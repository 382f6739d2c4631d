"""One connection between the loop's thread, whose protocol it is, and the threads that read and write it.

| direction | waits here                          | bound                       | who waits then                     |
|-----------|-------------------------------------|-----------------------------|------------------------------------|
| in        | what came and was not read          | `READ_BYTES`, `MAX_PIECES`  | the other side, by a closed window |
| out       | what the transport did not take yet | `WRITE_BYTES`, `MAX_PIECES` | who writes                         |

A read takes what waits without asking the loop; it tells it to go on when half of the bound is free. A write leaves its
data here and wakes the loop, once for all that is written until the loop looks.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from weft.blocking.background import Background, closed_error
from weft.blocking.meeting import Meeting

Data = bytes | bytearray | memoryview

READ_BYTES: Final = 1024 * 1024
"""May wait to be read; beside them one piece, which is what a transport reads at a time."""
WRITE_BYTES: Final = 512 * 1024
MAX_PIECES: Final = 4096
"""May wait in either direction, so that very small ones can't fill memory."""


class Pipe(Meeting, asyncio.Protocol):
    """One connection; made in the loop's thread.

    Args:
        background: the node's.
        take: is told when the connection is there; of those that are accepted.

    Attributes:
        transport: of the connection; for the loop's thread.
        addresses: our end and the other one, as socket addresses.
        peer: the participant at the other end, as the node knows it.
    """

    transport: asyncio.Transport

    def __init__(self, background: Background, take: Callable[[Pipe], None] | None = None) -> None:
        super().__init__(background)
        self.addresses: tuple[Any, Any] = (None, None)
        self.peer: Any = None
        self._take = take
        self._is_tls = False
        self._chunks: deque[Data] = deque()
        self._unread_bytes = 0
        # Until somebody has accepted a connection, all but its first piece waits at the other side.
        self._bound = READ_BYTES if take is None else 0
        self._is_at_end = False
        self._is_reading_paused = False
        self._unsent: list[Data] = []
        self._unsent_bytes = 0
        self._is_end_wanted = False
        self._is_writing_paused = False
        self._is_flush_due = False

    # For those that block.

    def begin(self) -> None:
        """It was accepted."""
        with self._lock:
            self._bound = READ_BYTES
        self.background.soon(self._resume_reading)

    @property
    def is_readable(self) -> bool:
        """Whether a read would not wait."""
        return bool(self._chunks) or self._is_at_end or self.is_lost or self.is_closed

    def read(self, limit: int, timeout: float | None) -> bytes:
        """Take what came, up to a limit; nothing, if no more comes.

        Raises:
            OSError: as of `Meeting._wait`; or the connection failed, and all that came before was taken.
        """
        with self._lock:
            if not self._begin_read(timeout):
                return b""
            parts = [self._take_chunk(limit)]
            count = len(parts[0])
            while self._chunks and count + len(self._chunks[0]) <= limit:
                parts.append(self._chunks.popleft())
                count += len(parts[-1])
            self._end_read(count)
        # What came in one piece is handed on without a copy.
        return parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts)

    def read_into(self, buffer: memoryview, timeout: float | None) -> int:
        """As `read`, into a buffer of bytes; returns how many."""
        with self._lock:
            if not self._begin_read(timeout):
                return 0
            filled = 0
            while self._chunks and filled < len(buffer):
                chunk = self._take_chunk(len(buffer) - filled)
                buffer[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            self._end_read(filled)
        return filled

    def write(self, data: Data, timeout: float | None) -> int:
        """Take from some data what there is room for; returns how many bytes that is.

        Args:
            data: of bytes; it may change afterwards, unless it is `bytes` or a view of such.
            timeout: s; None for ever.

        Raises:
            OSError: as of `Meeting._wait`; or the connection failed, or its end was said (EPIPE).
        """
        with self._lock:
            self._wait(self._writable, self._has_room, timeout)
            if self.is_lost or self._is_end_wanted:
                raise self._error or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            taken = data[: WRITE_BYTES - self._unsent_bytes]
            self._unsent.append(taken if _is_frozen(taken) else bytes(taken))
            self._unsent_bytes += len(taken)
            self._flush_soon()
        return len(taken)

    def wait_written(self, timeout: float | None) -> None:
        """Return when the transport has taken all that was written.

        Raises:
            OSError: as of `write`.
        """
        with self._lock:
            self._wait(self._writable, lambda: not self._unsent or self.is_lost, timeout)
            if self.is_lost:
                raise self._error or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def end_reading(self) -> None:
        """Read no more than what came until now."""
        with self._lock:
            self._is_at_end = True
            self._readable.notify_all()

    def end_writing(self) -> None:
        """Say that nothing more will be written.

        Raises:
            OSError: ENOTCONN, the connection is lost; EOPNOTSUPP, TLS goes on both ways or not at all.
        """
        with self._lock:
            if self.is_lost:
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
            if self._is_tls:
                raise OSError(errno.EOPNOTSUPP, "TLS has no end for one direction; close it")
            self._is_end_wanted = True
            self._writable.notify_all()
            self._flush_soon()

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._use(cast(asyncio.Transport, transport))  # which uvloop's do not say they are
        info = transport.get_extra_info
        self.addresses, self.peer = (info("sockname"), info("peername")), info("peer")
        self.background.open.add(self)
        if self._take is not None:
            self._take(self)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        with self._lock:
            if self.is_closed or self._is_at_end:
                return
            self._chunks.append(data)
            self._unread_bytes += len(data)
            is_full = self._unread_bytes > self._bound or len(self._chunks) >= MAX_PIECES
            if is_full and not self._is_reading_paused:
                self._is_reading_paused = True
                self.transport.pause_reading()
            self._readable.notify()

    def eof_received(self) -> bool:
        """No more will come; we may go on, but for TLS."""
        self.end_reading()
        return not self._is_tls

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        with self._lock:
            self._is_at_end = True
            self._unsent.clear()
            self._unsent_bytes = 0
        self._lose(exc)

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._is_writing_paused = False
        self._flush()

    def take_unread(self) -> bytes:
        """What waits to be read goes to TLS, which begins."""
        with self._lock:
            unread = b"".join(self._chunks)
            self._chunks.clear()
            self._unread_bytes = 0
        return unread

    def go_on(self, transport: asyncio.Transport) -> None:
        """Use another transport, which stands on the one before."""
        self._use(transport)
        self._resume_reading()
        self.resume_writing()

    def end(self) -> None:
        """The node goes away."""
        self.transport.abort()
        self.connection_lost(closed_error())

    def _close(self) -> None:
        self._chunks.clear()
        self._flush()

    # How it is done.

    def _use(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._is_tls = transport.get_extra_info("ssl_object") is not None

    def _begin_read(self, timeout: float | None) -> bool:
        """Wait for something to read; returns whether there is any."""
        self._wait(self._readable, lambda: bool(self._chunks) or self._is_at_end or self.is_lost, timeout)
        if not self._chunks and self._error is not None:
            raise self._error
        return bool(self._chunks)

    def _take_chunk(self, limit: int) -> Data:
        """Take the first piece, up to a limit."""
        chunk = self._chunks.popleft()
        if len(chunk) > limit:
            rest = memoryview(chunk)
            chunk = rest[:limit]
            self._chunks.appendleft(rest[limit:])
        return chunk

    def _end_read(self, count: int) -> None:
        self._unread_bytes -= count
        if self._chunks:
            # Somebody else may wait for it.
            self._readable.notify()
        has_room = self._unread_bytes <= READ_BYTES // 2 and len(self._chunks) <= MAX_PIECES // 2
        if self._is_reading_paused and has_room:
            self._is_reading_paused = False
            self.background.soon(self._resume_reading)

    def _resume_reading(self) -> None:
        self._is_reading_paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _has_room(self) -> bool:
        has_room = self._unsent_bytes < WRITE_BYTES and len(self._unsent) < MAX_PIECES
        return has_room or self.is_lost or self._is_end_wanted

    def _flush_soon(self) -> None:
        if not self._is_flush_due and not self._is_writing_paused:
            self._is_flush_due = True
            self.background.soon(self._flush)

    def _flush(self) -> None:
        """Give the transport what waits, and then the end."""
        with self._lock:
            self._is_flush_due = False
            if self._is_writing_paused or self.is_lost:
                return
            unsent, self._unsent = self._unsent, []
            self._unsent_bytes = 0
            self._writable.notify()
            is_end_wanted, is_closed = self._is_end_wanted, self.is_closed
        if unsent:
            self.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
        if is_closed:
            self.transport.close()
        elif is_end_wanted:
            self.transport.write_eof()


def _is_frozen(data: Data) -> bool:
    return type(data) is bytes or (type(data) is memoryview and type(data.obj) is bytes)
