"""A connection of the stack as `asyncio.Transport`.

What is written is at once the stack's. Of what it has not sent yet, `SEND_BUFFER_BYTES` are what a kernel would hold
for a socket, and the rest is the write buffer, which the marks are about; so a protocol pauses when it would over a
kernel, and the stack has enough to send in large bursts. What comes is taken from the stack only while the protocol
reads, so that otherwise the window closes and the other side stops.

| what happens | what the protocol sees |
|---|---|
| data came | `data_received`, or `get_buffer` and `buffer_updated` |
| the other side has no more to send, and all of it was taken | `eof_received`; false closes the transport |
| `close` | nothing more comes; when the write buffer is empty, `connection_lost(None)` |
| `abort` | `connection_lost(None)`; the other side gets a RST if some of what was written did not leave, else a FIN |
| either of them, with SO_LINGER of 0 s | the same; the other side gets a RST |
| the connection failed | what came before it, if the protocol reads; then `connection_lost(error)` |

What was written before a `close` is sent, and sent again if it is lost, after the protocol's end too, as by a kernel.

Source: `asyncio.selector_events`, RFC 9293 section 3.10.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar, Final

from weft.api.streams.errors import error_of
from weft.api.streams.lifecycle import OverlayTransport
from weft.api.streams.sockets import TransportSocket
from weft.api.streams.tcp_options import TcpOptions
from weft.stack.endpoint import Endpoint
from weft.stack.failure import StackError
from weft.stack.tcp.connection import Connection

if TYPE_CHECKING:
    from weft.api.streams.ground import Ground
    from weft.api.streams.server import Server

Data = bytes | bytearray | memoryview
BUFFERS: Final = (bytes, bytearray, memoryview)

SEND_BUFFER_BYTES: Final = 192 * 1024
READ_BYTES: Final = 256 * 1024
"""What is taken from the stack at a time."""
SMALL_BYTES: Final = 16 * 1024
"""Chunks that are smaller on the average are handed over in one."""


class TcpTransport(OverlayTransport):
    """One connection.

    Args:
        ground: what it stands on.
        connection: is established; nobody uses it yet.
        protocol: is told `connection_made` in the next turn of the loop.
        waiter: is done after that.
        server: that accepted it.
        context: in which the protocol runs; None for a copy of the present one.
    """

    __slots__ = ("_chunks", "_connection", "_is_buffered", "_is_end_told", "_is_end_written", "_options", "_server")

    # What asyncio's `loop.start_tls` and `loop.sendfile` ask for.
    _start_tls_compatible: ClassVar[bool] = True
    _sendfile_compatible: ClassVar[object] = asyncio.constants._SendfileMode.FALLBACK

    def __init__(
        self,
        ground: Ground,
        connection: Connection,
        protocol: asyncio.BaseProtocol,
        *,
        waiter: asyncio.Future[None] | None = None,
        server: Server | None = None,
        context: Context | None = None,
    ) -> None:
        self._connection = connection
        self._chunks: deque[Data] | None = None
        self._is_buffered = False
        self._is_end_told = False
        self._is_end_written = False
        self._options: TcpOptions | None = None
        self._server = server
        super().__init__(ground, protocol, context)
        if server is not None:
            server._attach(self)
        connection.set_no_delay(True)
        self._call_soon_start(waiter)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Serve another protocol from now on."""
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)
        super().set_protocol(protocol)

    def get_write_buffer_size(self) -> int:
        """Bytes that were written, and that a kernel would not have taken yet."""
        return 0 if self._losses else max(0, self._connection.unsent_bytes - SEND_BUFFER_BYTES)

    def write(self, data: Data) -> None:
        """Send data.

        Raises:
            RuntimeError: after `write_eof`.
            TypeError: it is no buffer.
        """
        if not isinstance(data, BUFFERS):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._is_end_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if data and not self._is_lost_for_writing() and not self._is_closing:
            self._send(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        """Send several pieces of data."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Whether the stream can be ended while the other one goes on: it can."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        if not self._is_closing and not self._is_end_written:
            self._is_end_written = True
            self._connection.shutdown(self._ground.now())
            self._ground.driver.wake()

    def close(self) -> None:
        """End when the write buffer is empty; nothing more is read."""
        if self._is_closing:
            return
        self._is_closing = True
        self._chunks = None
        if self._has_unsent():
            # The FIN will go with the last data.
            self._connection.awaits_room = True
            self._connection.shutdown(self._ground.now())
        else:
            self._end_connection()
            self._lose(None)
        self._ground.driver.wake()

    def end(self) -> None:
        """The host goes away: both sides are told so; of what was closed before, the rest still goes its way."""
        if self._is_closing:
            self._connection.close(self._ground.now())
            if not self._losses:
                self._lose(None)
            return
        self._connection.abort(self._ground.now())
        super().end()

    def _ends(self) -> tuple[Endpoint, Endpoint | None]:
        return self._connection.local, self._connection.remote

    def _make_socket(self) -> TransportSocket:
        local, remote = self._ends()
        self._options = TcpOptions(self._connection, self._ground.now, self._ground.driver.wake)
        return TransportSocket(socket.SOCK_STREAM, local, remote, self._options)

    def _attach(self) -> None:
        self._connection.user = self

    def _send(self, data: Data) -> None:
        connection = self._connection
        try:
            connection.send(data)
        except StackError as error:
            self._fatal_error(error_of(connection.failure or error.failure), "Fatal write error on socket transport")
            return
        self._ground.driver.wake()
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        super()._pause_if_full()
        self._connection.awaits_room = self._protocol_paused

    _maybe_pause_protocol = _pause_if_full

    def _look(self) -> None:
        if self._losses:
            return
        connection = self._connection
        self._read()
        failure = connection.failure
        if failure is not None and not (self._is_paused and self._has_data()):
            self._fatal_error(error_of(failure))
            return
        self._resume_if_drained()
        connection.awaits_room = self._protocol_paused or self._is_closing
        if self._is_closing and not self._losses and not self._has_unsent():
            self._lose(None)

    def _has_unsent(self) -> bool:
        """Whether the end has to wait for what was written."""
        return bool(self.get_write_buffer_size() if self._ground.keeps_sending else self._connection.unsent_bytes)

    def _has_data(self) -> bool:
        return bool(self._chunks or self._connection.readable_bytes)

    def _read(self) -> None:
        """Hand over what came, as long as the protocol takes it."""
        while not self._is_paused and not self._is_closing and self._has_data():
            if not self._chunks:
                self._chunks = self._take()
            if self._is_buffered:
                self._fill_buffer(self._chunks)
            else:
                data = self._chunks.popleft()
                self._tell("data_received", data if type(data) is bytes else bytes(data))
        if not self._chunks:
            self._chunks = None
        if not self._is_paused and not self._is_closing and self._connection.is_at_end and not self._is_end_told:
            self._is_end_told = True
            self._handle_end()

    def _take(self) -> deque[Data]:
        chunks = self._connection.receive(READ_BYTES)
        if len(chunks) > 1 and sum(map(len, chunks)) < len(chunks) * SMALL_BYTES:
            return deque((b"".join(chunks),))
        return deque(chunks)

    def _fill_buffer(self, chunks: deque[Data]) -> None:
        """Copy into the protocol's buffer what it has room for."""
        try:
            # It must be free again when the protocol is told, for that may cut it.
            with memoryview(self._protocol.get_buffer(-1)) as given, given.cast("B") as buffer:
                filled = _fill(buffer, chunks)
            if not filled:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
            return
        self._tell("buffer_updated", filled)

    def _handle_end(self) -> None:
        if not self._tell("eof_received") and not self._is_closing:
            self.close()

    def _tell(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._protocol, method)(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, f"Fatal error: protocol.{method}() call failed.")

    def _drop(self) -> None:
        self._chunks = None
        if self._connection.unsent_bytes:
            self._connection.abort(self._ground.now())
            self._ground.driver.wake()

    def _detach(self) -> None:
        self._connection.user = None
        self._end_connection()
        self._ground.driver.wake()
        if self._server is not None:
            self._server._detach(self)
            self._server = None

    def _end_connection(self) -> None:
        if self._options is not None and self._options.is_reset_at_end:
            self._connection.abort(self._ground.now())
        else:
            self._connection.close(self._ground.now())


def _fill(buffer: memoryview, chunks: deque[Data]) -> int:
    """Move into a buffer what it has room for; returns how much that is."""
    filled = 0
    while chunks and filled < len(buffer):
        chunk = chunks.popleft()
        room = len(buffer) - filled
        if len(chunk) > room:
            chunks.appendleft(memoryview(chunk)[room:])
            chunk = memoryview(chunk)[:room]
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return filled
