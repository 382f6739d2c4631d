"""One program that uses the daemon's host: its sockets, from what it asks for to their end.

When the program goes, all that it has open goes with it: connections by a reset, so that the other side is told.

Not done here: what passes (stream_relay.py, datagram_relay.py); how programs come here (lending.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from weft.api.lent import messages
from weft.api.lent.channel import Channel
from weft.api.lent.datagram_relay import DatagramRelay
from weft.api.lent.messages import Asked, endpoint_of, place_of
from weft.api.lent.stream_relay import StreamRelay
from weft.engine.driver import Driver
from weft.io.watching import watch_of
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.listener import Listener

log = logging.getLogger(__name__)

MAX_SOCKETS: Final = 4096
"""Of one program."""
BUFFER_BYTES: Final = 1 << 20
"""Of each end of a Unix socket."""


class Lent(Protocol):
    """A socket of the host that a program has."""

    def set(self, asked: messages.Option | messages.KeepAlive) -> None:
        """Set an option."""

    def release(self) -> None:
        """The program has closed it."""

    def abort(self) -> None:
        """End it at once."""


class Lender:
    """Serves one program.

    Args:
        driver: of the host.
        sock: connected with the program; the lender's from now on.
        when_over: is called once the program has gone.

    Attributes:
        driver: of the host.
        watch: tells when descriptors are ready.
    """

    def __init__(self, driver: Driver, sock: socket.socket, when_over: Callable[[], None]) -> None:
        self.driver = driver
        self.watch = watch_of(asyncio.get_running_loop())
        self._sockets: dict[int, Lent] = {}
        self._accepted = 0
        self._when_over = when_over
        driver.users.add(self)
        self._channel: Channel[Asked] = Channel(sock, Asked, self._handle, self.close)
        self._channel.when_sent = self._accept_on

    def look(self) -> None:
        """Take what the program has said."""
        self._channel.receive()

    def close(self) -> None:
        """End all that the program has open; what it has closed goes its way."""
        self._channel.close()
        sockets, self._sockets = self._sockets, {}
        for each in sockets.values():
            if not (isinstance(each, StreamRelay) and each.is_left):
                each.abort()
        self.driver.users.discard(self)
        when_over, self._when_over = self._when_over, lambda: None
        when_over()

    def say_end(self, number: int) -> None:
        """The network has no more to send."""
        self._channel.send(messages.End(id=number))

    def handle_over(self, number: int, failure: Failure | None) -> None:
        """A socket has ended by itself."""
        if self._sockets.pop(number, None) is not None and failure is not None:
            self._channel.send(messages.Failed(id=number, failure=failure.name))

    def lend_accepted(self, listener: int, connection: Connection) -> None:
        """A listener has taken a connection: the program gets it."""
        if len(self._sockets) >= MAX_SOCKETS:
            connection.abort(self.driver.clock())
            return
        self._accepted += 2
        number = self._accepted
        told = messages.Accepted(
            id=number, listener=listener, local=place_of(connection.local), remote=place_of(connection.remote)
        )
        self._lend_stream(number, connection, told)

    def lend_connected(self, number: int, connection: Connection) -> None:
        """A connection is established: the program gets it."""
        told = messages.Opened(id=number, local=place_of(connection.local), remote=place_of(connection.remote))
        self._lend_stream(number, connection, told)

    @property
    def is_blocked(self) -> bool:
        """Whether the program does not read what it is told."""
        return self._channel.is_blocked

    def _handle(self, asked: Asked, _: int | None) -> None:
        known = self._sockets.get(asked.id)
        match asked:
            case messages.Option() | messages.KeepAlive():
                if known is not None:
                    known.set(asked)
                    self.driver.wake()
            case messages.End():
                if isinstance(known, StreamRelay):
                    known.handle_end()
            case messages.Close():
                if known is not None:
                    known.release()
            case messages.Abort():
                if known is not None:
                    del self._sockets[asked.id]
                    known.abort()
            case _ if known is not None or len(self._sockets) >= MAX_SOCKETS or asked.id % 2 == 0:
                self._fail(asked.id, Failure.NO_ROOM)
            case _:
                try:
                    self._open(asked)
                except StackError as error:
                    self._fail(asked.id, error.failure)
                except ValueError:
                    self._fail(asked.id, Failure.NO_ROUTE)
                self.driver.wake()

    def _open(self, asked: messages.Connect | messages.Listen | messages.Open) -> None:
        host, number = self.driver.host, asked.id
        local = endpoint_of(asked.local) if asked.local is not None else None
        if isinstance(asked, messages.Listen):
            assert local is not None
            listener = host.tcp.listen(local, backlog=asked.backlog)
            self._sockets[number] = _Listening(self, number, listener)
            self._channel.send(messages.Listening(id=number, local=place_of(listener.local)))
        elif isinstance(asked, messages.Connect):
            connection = host.tcp.connect(endpoint_of(asked.remote), self.driver.clock(), local=local)
            self._sockets[number] = _Connecting(self, number, connection)
        else:
            remote = endpoint_of(asked.remote) if asked.remote is not None else None
            udp = host.udp.open(local, remote, reuse=asked.reuse, broadcast=asked.broadcast)
            ends = _pair(socket.SOCK_DGRAM)
            if ends is None:
                udp.close()
                raise StackError(Failure.NO_ROOM)
            self._sockets[number] = DatagramRelay(self, number, udp, ends[0])
            place = place_of(udp.remote) if udp.remote is not None else None
            self._channel.send(messages.Opened(id=number, local=place_of(udp.local), remote=place), ends[1])

    def _lend_stream(self, number: int, connection: Connection, told: messages.Opened | messages.Accepted) -> None:
        ends = _pair(socket.SOCK_STREAM)
        if ends is None:
            self._sockets.pop(number, None)
            connection.abort(self.driver.clock())
            if isinstance(told, messages.Opened):
                self._fail(number, Failure.NO_ROOM)
            return
        # First the program learns of it, and then perhaps that it has ended.
        self._channel.send(told, ends[1])
        self._sockets[number] = StreamRelay(self, number, connection, ends[0])

    def _fail(self, number: int, failure: Failure) -> None:
        self._channel.send(messages.Failed(id=number, failure=failure.name))

    def _accept_on(self) -> None:
        for each in list(self._sockets.values()):
            if isinstance(each, _Listening):
                each.handle_event()


class _Connecting:
    """A connection whose handshake is under way."""

    def __init__(self, lender: Lender, number: int, connection: Connection) -> None:
        self._lender = lender
        self._number = number
        self._connection = connection
        connection.user = self

    def handle_event(self) -> None:
        """It is established, or has failed."""
        connection = self._connection
        if connection.is_established:
            connection.user = None
            self._lender.lend_connected(self._number, connection)
        elif connection.is_closed:
            connection.user = None
            self._lender.handle_over(self._number, connection.failure or Failure.ABORTED)

    def set(self, asked: messages.Option | messages.KeepAlive) -> None:
        """Nothing: there is nothing yet to set it of."""

    def release(self) -> None:
        """Nobody waits for it any more."""
        self._lender.handle_over(self._number, None)
        self.abort()

    def abort(self) -> None:
        """End it."""
        self._connection.user = None
        self._connection.abort(self._lender.driver.clock())


class _Listening:
    """A listener."""

    def __init__(self, lender: Lender, number: int, listener: Listener) -> None:
        self._lender = lender
        self._number = number
        self._listener = listener
        listener.user = self

    def handle_event(self) -> None:
        """Somebody has connected; who comes while the program does not read waits in the backlog."""
        while not self._lender.is_blocked and (connection := self._listener.accept()) is not None:
            self._lender.lend_accepted(self._number, connection)

    def set(self, asked: messages.Option | messages.KeepAlive) -> None:
        """Nothing: there is nothing to set."""

    def release(self) -> None:
        """End it."""
        self._lender.handle_over(self._number, None)
        self.abort()

    def abort(self) -> None:
        """End it."""
        self._listener.user = None
        self._listener.close(self._lender.driver.clock())
        self._lender.driver.wake()


def _pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket] | None:
    """The two ends of a Unix socket; None if this process has no descriptors left."""
    try:
        ends = socket.socketpair(socket.AF_UNIX, kind)
    except OSError as error:
        log.warning("no socket for a program that uses the network: %s", error.strerror)
        return None
    for end in ends:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return ends
