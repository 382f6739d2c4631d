"""A TCP connection of the kernel, as the stack has its own.

What came waits in the kernel until it is taken, so that its window closes where nobody takes it. What is sent waits
there too, `KERNEL_UNSENT_BYTES` of it at most, and the rest here.

| epoll says       | what it means here                                            |
|------------------|---------------------------------------------------------------|
| OUT, the first   | the handshake is done                                         |
| IN               | there may be something to take                                |
| RDHUP            | the other side sends no more                                  |
| ERR              | it has failed; what came before can still be taken            |
| HUP              | both directions have ended                                    |
| OUT, later       | there is room for what waits                                  |

Source: tcp(7), epoll(7); linux/sockios.h, asm-generic/ioctls.h for numbers that Python does not have everywhere.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from weft.io.kernel.options import endpoint_of, failure_of
from weft.stack.failure import Failure, StackError

if TYPE_CHECKING:
    from weft.io.kernel.backend import KernelBackend
    from weft.stack.endpoint import Endpoint
    from weft.stack.socket import User

KERNEL_UNSENT_BYTES: Final = 128 * 1024
"""What the kernel takes that has not left; as HTTP servers have it, so that it never runs dry."""
READ_BYTES: Final = 256 * 1024
"""In one call."""

_FIONREAD, _SIOCOUTQNSD = 0x541B, 0x894B
_NUMBER: Final = struct.Struct("=i")
_RESET: Final = struct.pack("=ii", 1, 0)
"""SO_LINGER: the end is a reset."""


class KernelConnection:
    """One connection; `stack.tcp.connection` says what its parts mean.

    Args:
        backend: whose it is.
        sock: connected, or about to be.
        local: our end.
        remote: the other end.
        is_established: whether it is connected.
    """

    __slots__ = (
        "_backend", "_has_fin", "_is_ending", "_is_released", "_may_read", "_socket", "_taken", "_unsent",
        "_unsent_bytes", "awaits_room", "failure", "is_closed", "is_established", "local", "remote", "user",
    )  # fmt: skip

    def __init__(
        self, backend: KernelBackend, sock: socket.socket, local: Endpoint, remote: Endpoint, *, is_established: bool
    ) -> None:
        self.local = local
        self.remote = remote
        self.user: User | None = None
        self.failure: Failure | None = None
        self.is_established = is_established
        self.is_closed = False
        self.awaits_room = False
        self._backend = backend
        self._socket: socket.socket | None = sock
        self._may_read = is_established
        self._has_fin = self._is_ending = self._is_released = False
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = self._taken = 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        backend.poller.add(sock, self._handle_ready)
        backend.connections.add(self)

    @property
    def readable_bytes(self) -> int:
        """What has come and was not taken."""
        if self._socket is None or not self._may_read:
            return 0
        count = _count(self._socket, _FIONREAD)
        # What comes then is told.
        self._may_read = count > 0
        return count

    @property
    def arrived(self) -> int:
        """A number that grows with all that comes, the end included."""
        return self._taken + self.readable_bytes + self._has_fin

    @property
    def is_at_end(self) -> bool:
        """Whether the other side has no more to send, and all that it sent was taken."""
        return self._has_fin and not self.readable_bytes

    @property
    def unsent_bytes(self) -> int:
        """What was written and never sent."""
        if self._socket is None or self.is_closed:
            return 0
        return self._unsent_bytes + _count(self._socket, _SIOCOUTQNSD)

    @property
    def waiting_bytes(self) -> int:
        """Of these, what waits here."""
        return self._unsent_bytes

    def receive(self, limit: int | None = None) -> list[bytes]:
        """Take what has come."""
        if self._socket is None or not self._may_read:
            return []
        try:
            data = self._socket.recv(READ_BYTES if limit is None else min(limit, READ_BYTES))
        except BlockingIOError:
            self._may_read = False
            return []
        except OSError as error:
            self._fail(error.errno)
            return []
        if not data:
            self._may_read = False
            # After a failure there is an end too, which the other side has not said.
            self._has_fin |= self.failure is None
            return []
        self._taken += len(data)
        return [data]

    def send(self, data: bytes) -> None:
        """Send data.

        Raises:
            StackError: it has ended, or its end was said.
        """
        if self._socket is None or self.is_closed or self._is_ending:
            raise StackError(self.failure or Failure.CLOSED)
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)
        if len(self._unsent) == 1:
            self._write()

    def shutdown(self, now: int) -> None:
        """Say that nothing more will be sent."""
        self._is_ending = True
        if not self._unsent:
            self._write()

    def close(self, now: int) -> None:
        """Send what is left, and take nothing more."""
        self._is_released = True
        if self._unsent and self.readable_bytes:
            self.abort(now)
        elif self._unsent:
            self._backend.leave(self)
        else:
            self._end()

    def abort(self, now: int) -> None:
        """End it at once."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._end()

    def set_no_delay(self, no_delay: bool) -> None:
        """Whether small segments leave at once."""
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)

    def _handle_ready(self, events: int) -> None:
        sock = self._socket
        if sock is None:
            return
        if events & select.EPOLLERR:
            self._fail(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        elif not self.is_established and events & select.EPOLLOUT:
            self.is_established = True
            self.local = endpoint_of(sock, sock.getsockname())
        self._may_read |= bool(events & select.EPOLLIN)
        self._has_fin |= bool(events & select.EPOLLRDHUP) and self.failure is None
        self.is_closed |= bool(events & select.EPOLLHUP)
        if self._unsent and self.is_established:
            self._write()
        if self._is_released and (self.is_closed or self.readable_bytes):
            self.abort(0)
        if self.user is not None:
            self.user.handle_event()

    def _write(self) -> None:
        """Write what waits, and then its end."""
        sock = self._socket
        try:
            while sock is not None and self._unsent:
                sent = sock.send(self._unsent[0])
                self._unsent_bytes -= sent
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
            if sock is not None and self._is_ending:
                sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.errno)
            return
        if self._is_released:
            self._end()

    def _fail(self, number: int | None) -> None:
        """It has ended, and not in order; what came before can still be taken."""
        if not self.is_closed and number:
            self.is_closed = True
            self.failure = failure_of(number)
        self._unsent.clear()
        self._unsent_bytes = 0

    def _end(self) -> None:
        sock, self._socket = self._socket, None
        self.is_closed = True
        self._unsent.clear()
        self._unsent_bytes = 0
        if sock is not None:
            self._backend.poller.remove(sock)
            self._backend.forget(self)
            sock.close()


def _count(sock: socket.socket, question: int) -> int:
    import fcntl

    return int(_NUMBER.unpack(fcntl.ioctl(sock, question, bytes(_NUMBER.size)))[0])
