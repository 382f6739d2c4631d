"""A connection of a daemon's host, as a program has it: what api/streams/ takes for a connection of the stack.

It is the program's end of a Unix socket. What comes is read while less than `RECEIVE_BYTES` waits for the program, so
that otherwise the socket fills, and then the window of the connection closes.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from weft.api.lent import messages
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.socket import User
from weft.stack.tcp.connection import Keepalive

if TYPE_CHECKING:
    from weft.api.lent.borrower import Borrower

READ_BYTES: Final = 256 * 1024
RECEIVE_BYTES: Final = 512 * 1024


class BorrowedStream:
    """One connection; `stack.tcp.connection` says what its parts mean.

    Args:
        borrower: whose it is.
        number: of the socket between daemon and program.
        local: our end.
        remote: the other end.
    """

    __slots__ = (
        "_borrower", "_has_delay", "_is_all_read", "_is_end_told", "_is_ending", "_is_reading", "_is_written",
        "_number", "_received", "_socket", "_unsent", "awaits_room", "failure", "has_fin", "has_released", "is_closed",
        "is_established", "keepalive", "local", "readable_bytes", "remote", "unsent_bytes", "user",
    )  # fmt: skip

    def __init__(self, borrower: Borrower, number: int, local: Endpoint, remote: Endpoint) -> None:
        self._borrower = borrower
        self._number = number
        self.local = local
        self.remote = remote
        self.user: User | None = None
        self.failure: Failure | None = None
        self.is_established = False
        self.is_closed = False
        self.has_fin = False
        self.has_released = False
        self.awaits_room = False
        self.keepalive: Keepalive | None = None
        self.readable_bytes = 0
        self.unsent_bytes = 0
        self._socket: socket.socket | None = None
        self._received: deque[bytes] = deque()
        self._unsent: deque[memoryview] = deque()
        self._is_reading = False
        self._is_ending = False
        self._is_written = False
        self._is_all_read = False
        self._is_end_told = False
        self._has_delay = False

    # What a user does.

    @property
    def is_at_end(self) -> bool:
        """Whether the other side has no more to send, and all that it sent was taken."""
        return self.has_fin and not self.readable_bytes

    def receive(self, limit: int | None = None) -> list[bytes]:
        """Take what has come."""
        taken: list[bytes] = []
        while self._received and (limit is None or limit > 0):
            chunk = self._received.popleft()
            if limit is not None:
                if len(chunk) > limit:
                    self._received.appendleft(chunk[limit:])
                    chunk = chunk[:limit]
                limit -= len(chunk)
            self.readable_bytes -= len(chunk)
            taken.append(chunk)
        self._read_if_room()
        return taken

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send data.

        Raises:
            StackError: it has ended, or its end was said.
        """
        if self.is_closed or self._is_ending:
            raise StackError(Failure.CLOSED)
        self._unsent.append(memoryview(bytes(data)))
        self.unsent_bytes += len(data)
        if len(self._unsent) == 1:
            self._write()

    def shutdown(self, now: int) -> None:
        """Say that nothing more will be sent."""
        if not self._is_ending and not self.is_closed:
            self._is_ending = True
            self._write()

    def close(self, now: int) -> None:
        """Send what is left, and take nothing more."""
        if self.has_released or self.is_closed:
            self.has_released = True
            return
        self.has_released = self._is_ending = True
        self._rest()
        self._borrower.say(messages.Close(id=self._number))
        if self._socket is None:
            self.end(None)
        self._write()

    def abort(self, now: int) -> None:
        """End it at once."""
        self.has_released = True
        if not self.is_closed:
            self._borrower.say(messages.Abort(id=self._number))
            self.end(Failure.ABORTED)

    def set_no_delay(self, no_delay: bool) -> None:
        """Whether small segments leave at once, as they do at first."""
        if self._has_delay is no_delay:
            self._has_delay = not no_delay
            self._tell(messages.Option(id=self._number, name="no_delay", value=no_delay))

    def set_keepalive(self, keepalive: Keepalive | None, now: int) -> None:
        """When a peer that says nothing is asked whether it is there."""
        self.keepalive = keepalive
        self._tell(
            messages.KeepAlive(
                id=self._number, times=keepalive and (keepalive.idle_s, keepalive.interval_s, keepalive.probes)
            )
        )

    # What the borrower calls.

    def open(self, sock: socket.socket, local: Endpoint, remote: Endpoint) -> None:
        """It is established.

        Args:
            sock: the program's end; the connection's from now on.
            local: our end.
            remote: the other end.
        """
        sock.setblocking(False)
        self._socket = sock
        self.local, self.remote = local, remote
        self.is_established = True
        self._read_if_room()
        self._borrower.notify(self)

    def handle_end(self) -> None:
        """The daemon has said that the network has no more to send."""
        self._is_end_told = True
        self._end_if_read()

    def fail(self, failure: Failure) -> None:
        """It has ended, and not in order; what came before can still be taken."""
        with suppress(OSError):
            while self._socket is not None and not self.has_fin and (data := self._socket.recv(READ_BYTES)):
                self._keep(data)
        self.end(failure)

    def end(self, failure: Failure | None) -> None:
        """It is over."""
        if self.is_closed:
            return
        self._rest()
        self.is_closed = True
        self.failure = failure
        self.unsent_bytes = 0
        self._unsent.clear()
        if self._socket is not None:
            self._borrower.watch.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self._borrower.forget(self._number)
        self._borrower.notify(self)

    def _tell(self, asked: messages.Option | messages.KeepAlive) -> None:
        if not self.is_closed:
            self._borrower.say(asked)

    # Reading.

    def _read_if_room(self) -> None:
        wants = self.readable_bytes < RECEIVE_BYTES and not (self._is_all_read or self.has_released or self.is_closed)
        if wants and not self._is_reading and self._socket is not None:
            self._is_reading = True
            self._borrower.watch.add_reader(self._socket, self._read)

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._handle_gone()
            return
        if data:
            self._keep(data)
            if self.readable_bytes >= RECEIVE_BYTES:
                self._rest()
        else:
            self._rest()
            self._borrower.look()
            self._is_all_read = True
            self._end_if_read()
        self._borrower.notify(self)

    def _keep(self, data: bytes) -> None:
        self._received.append(data)
        self.readable_bytes += len(data)

    def _end_if_read(self) -> None:
        """End what comes once the daemon has written all: nothing more comes, and it has said that nothing will."""
        if self._is_all_read and self._is_end_told and not self.is_closed:
            self.has_fin = True
            if self._is_written:
                self.end(None)
            self._borrower.notify(self)

    def _rest(self) -> None:
        if self._is_reading and self._socket is not None:
            self._is_reading = False
            self._borrower.watch.remove_reader(self._socket)

    # Writing.

    def _write(self) -> None:
        """Write what waits, and then its end."""
        sock = self._socket
        if sock is None:
            return
        try:
            while self._unsent:
                sent = sock.send(self._unsent[0])
                self.unsent_bytes -= sent
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
            if self._is_ending:
                self._end_written(sock)
        except BlockingIOError:
            self._borrower.watch.add_writer(sock, self._write_on)
        except OSError:
            self._handle_gone()

    def _end_written(self, sock: socket.socket) -> None:
        """All is written, and nothing more will be."""
        if not self._is_written:
            self._is_written = True
            self._borrower.say(messages.End(id=self._number))
        if self.has_released or self.has_fin:
            self.end(None)
        elif not self.is_closed:
            sock.shutdown(socket.SHUT_WR)

    def _write_on(self) -> None:
        if self._socket is not None:
            self._borrower.watch.remove_writer(self._socket)
            self._write()
            self._borrower.notify(self)

    def _handle_gone(self) -> None:
        """The daemon has closed its end, and has said why before."""
        self._borrower.look()
        self.fail(Failure.RESET)
