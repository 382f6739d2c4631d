"""A connection of the daemon's host, joined to the Unix socket whose other end a program has.

| what happens                         | what is done                                                            |
|--------------------------------------|-------------------------------------------------------------------------|
| data from the network                | it is taken when the program's socket has room, so that otherwise the   |
|                                      | window closes                                                           |
| data from the program                | it is read while less than `HIGH_BYTES` waits to be sent                |
| the network has no more to send      | the program is told, its socket is shut down in that direction          |
| the program has no more to send,     | a FIN goes out; if it has closed its socket, nothing more is taken      |
| and has said so                      |                                                                         |
| the connection failed                | what came before is handed over, the program is told, the socket closed |
| the program aborts, or is gone       | a reset goes out; but what it had closed before goes its way            |

Not done here: making connections (lender.py).
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

from weft.api.lent.messages import KeepAlive, Option
from weft.engine.driver import Driver
from weft.io.watching import Watch
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.connection import Connection, Keepalive

READ_BYTES: Final = 256 * 1024
HIGH_BYTES: Final = 512 * 1024
"""Of what the program wrote and the network has not taken: then it is not read."""
LOW_BYTES: Final = 256 * 1024


class Owner(Protocol):
    """To whom a relay belongs; the lender."""

    driver: Driver
    watch: Watch

    def look(self) -> None:
        """Take what the program has said."""

    def say_end(self, number: int) -> None:
        """Tell the program that the network has no more to send."""

    def handle_over(self, number: int, failure: Failure | None) -> None:
        """A relay has ended by itself."""


class StreamRelay:
    """One connection.

    Args:
        owner: whose it is.
        number: of the socket between daemon and program.
        connection: is established; the relay is its user.
        end: of the pair, the daemon's.
    """

    __slots__ = (
        "_connection", "_end", "_is_all_read", "_is_end_said", "_is_end_told", "_is_over", "_is_reading",
        "_is_released", "_number", "_owner", "_waiting",
    )  # fmt: skip

    def __init__(self, owner: Owner, number: int, connection: Connection, end: socket.socket) -> None:
        self._owner = owner
        self._number = number
        self._connection = connection
        self._end = end
        self._waiting: list[memoryview] = []
        self._is_reading = False
        self._is_end_told = False
        self._is_end_said = False
        self._is_all_read = False
        self._is_released = False
        self._is_over = False
        end.setblocking(False)
        connection.user = self
        connection.set_no_delay(True)
        self._read_on()
        self.handle_event()

    def handle_event(self) -> None:
        """Something happened to the connection."""
        if self._is_over:
            return
        if not self._waiting and not self._is_released:
            self._forward()
        connection = self._connection
        if connection.awaits_room and connection.unsent_bytes <= LOW_BYTES and not self._is_over:
            connection.awaits_room = False
            self._read_on()
        # What came before its end is handed over before that.
        if connection.is_closed and not self._waiting and not self._is_over:
            self._end_by_itself(connection.failure)

    def set(self, asked: Option | KeepAlive) -> None:
        """Set an option."""
        if isinstance(asked, KeepAlive):
            keepalive = Keepalive(*asked.times) if asked.times is not None else None
            self._connection.set_keepalive(keepalive, self._owner.driver.clock())
        elif asked.name == "no_delay":
            self._connection.set_no_delay(bool(asked.value))

    def release(self) -> None:
        """The program has closed its socket, or will as soon as it has written all: it takes nothing more."""
        self._is_released = True
        self._waiting.clear()
        self._owner.watch.remove_writer(self._end)
        self._end_if_written()

    def handle_end(self) -> None:
        """The program has said that it has written all."""
        self._is_end_said = True
        self._end_if_written()

    @property
    def is_left(self) -> bool:
        """Whether the program has written all, said so, and takes nothing more or has all that there is."""
        return self._is_end_said and (self._is_released or self._is_end_told)

    def abort(self) -> None:
        """End the connection by a reset."""
        if not self._is_over:
            self._close()
            self._connection.abort(self._owner.driver.clock())
            self._owner.driver.wake()

    def _forward(self) -> None:
        """Hand over what came from the network."""
        connection = self._connection
        while not self._waiting and (chunks := connection.receive(READ_BYTES)):
            self._waiting = [memoryview(chunk) for chunk in chunks]
            self._owner.driver.wake()
            self._write()
        if not self._waiting and connection.is_at_end and not self._is_end_told and not self._is_over:
            self._is_end_told = True
            self._owner.say_end(self._number)
            self._shut_down()

    def _write(self) -> None:
        """Write what waits for the program."""
        waiting = self._waiting
        try:
            while waiting:
                sent = self._end.sendmsg(waiting[:64])
                while waiting and sent >= len(waiting[0]):
                    sent -= len(waiting.pop(0))
                if sent:
                    waiting[0] = waiting[0][sent:]
        except BlockingIOError:
            self._owner.watch.add_writer(self._end, self._handle_writable)
        except OSError:
            self._handle_gone()

    def _handle_writable(self) -> None:
        self._owner.watch.remove_writer(self._end)
        self._write()
        if not self._waiting:
            self.handle_event()

    def _shut_down(self) -> None:
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            self._handle_gone()

    def _handle_readable(self) -> None:
        """The program has written something, or nothing more."""
        try:
            data = self._end.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._handle_gone()
            return
        if not data:
            self._rest()
            self._owner.look()
            self._is_all_read = True
            self._end_if_written()
            return
        connection = self._connection
        try:
            connection.send(data)
        except StackError:
            # It has ended; what the program writes goes nowhere, and it is told of that in its turn.
            self._rest()
            return
        self._owner.driver.wake()
        if connection.unsent_bytes > HIGH_BYTES:
            connection.awaits_room = True
            self._rest()

    def _end_if_written(self) -> None:
        """End what goes out once the program has written all: nothing more comes, and it has said that nothing will."""
        if self._is_over or not (self._is_all_read and self._is_end_said):
            return
        if self._is_released:
            self._leave()
        else:
            self._connection.shutdown(self._owner.driver.clock())
            self._owner.driver.wake()

    def _leave(self) -> None:
        """The program has written all and reads nothing more: what is left is up to the host."""
        self._close()
        self._connection.close(self._owner.driver.clock())
        self._owner.driver.wake()
        self._owner.handle_over(self._number, None)

    def _handle_gone(self) -> None:
        """The program has closed its socket with something unread, or is gone."""
        self._owner.look()
        if not self._is_over:
            self.abort()
            self._owner.handle_over(self._number, None)

    def _end_by_itself(self, failure: Failure | None) -> None:
        self._owner.handle_over(self._number, failure)
        self._close()

    def _read_on(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._owner.watch.add_reader(self._end, self._handle_readable)

    def _rest(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._owner.watch.remove_reader(self._end)

    def _close(self) -> None:
        self._is_over = True
        self._rest()
        self._owner.watch.remove_writer(self._end)
        self._waiting.clear()
        self._end.close()
        self._connection.user = None
