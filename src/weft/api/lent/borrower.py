"""A program's way to the host of a daemon: what api/streams/ takes for a host of the stack and for its driver.

Sockets are asked for by a channel, and what passes through them goes by Unix sockets that come with the answers. When
the daemon goes, all of them end as if they had been aborted.

Not done here: opening the channel (attached.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol, cast

from weft.api.lent import messages
from weft.api.lent.borrowed_datagram import BorrowedDatagrams
from weft.api.lent.borrowed_stream import BorrowedStream
from weft.api.lent.channel import Channel
from weft.api.lent.messages import Asked, Told, endpoint_of, failure_of, place_of
from weft.api.streams.ground import DescribePeer, Ground, Resolve
from weft.engine.driver import Driver
from weft.io.clock import monotonic_ns
from weft.io.watching import watch_of
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.socket import User
from weft.stack.tcp.listener import Listener
from weft.stack.udp_socket import UdpSocket

log = logging.getLogger(__name__)

ANY: Final = Endpoint(bytes(16), 0)


class Used(Protocol):
    """A socket to which something may happen."""

    user: User | None


class BorrowedListener:
    """A port that takes connections; `stack.tcp.listener` says what its parts mean.

    Args:
        borrower: whose it is.
        number: of the socket between daemon and program.
        local: where it listens.
    """

    __slots__ = ("_borrower", "_number", "_waiting", "local", "user")

    def __init__(self, borrower: Borrower, number: int, local: Endpoint) -> None:
        self._borrower = borrower
        self._number = number
        self._waiting: list[BorrowedStream] = []
        self.local = local
        self.user: User | None = None

    def accept(self) -> BorrowedStream | None:
        """The connection that has waited the longest; None if none waits."""
        return self._waiting.pop(0) if self._waiting else None

    def close(self, now: int) -> None:
        """Take no more."""
        self._borrower.say(messages.Close(id=self._number))
        self.fail(None)

    def put(self, connection: BorrowedStream) -> None:
        """Let a connection wait."""
        self._waiting.append(connection)
        self._borrower.notify(self)

    def fail(self, failure: Failure | None) -> None:
        """It is over; nobody takes what waits."""
        self._borrower.forget(self._number)
        for connection in self._waiting:
            connection.abort(0)
        self._waiting.clear()


class _Asking:
    """What was asked for and is not there yet."""

    def __init__(self, borrower: Borrower, number: int) -> None:
        self._borrower = borrower
        self.number = number
        self.answer: asyncio.Future[tuple[Told, int | None]] = borrower.loop.create_future()

    def fail(self, failure: Failure) -> None:
        """There is none."""
        self._borrower.forget(self.number)
        if not self.answer.done():
            self.answer.set_exception(StackError(failure))


class Borrower:
    """All sockets that a program has of a daemon's host. It is their driver, their host, and TCP and IP of that.

    Args:
        sock: the channel.
        when_lost: is called once, when the daemon has gone.

    Attributes:
        loop: on which all of it runs.
        watch: tells when descriptors are ready.
        host: as of a driver.
        tcp: as of a host.
        ip: as of a host.
        clock: as of a driver.
    """

    def __init__(self, sock: socket.socket, when_lost: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.watch = watch_of(self.loop)
        self.host = self.tcp = self.ip = self
        self.clock = monotonic_ns
        self._when_lost = when_lost
        self._is_lost = False
        self._number = -1
        self._sockets: dict[int, Any] = {}
        self._happened: dict[Used, None] = {}
        self._channel: Channel[Told] = Channel(sock, Told, self._handle, self._handle_lost)

    # What api/streams/ asks of a driver and a host.

    def wake(self) -> None:
        """Nothing: what was done has been said."""

    def has_room(self, length: int = 0) -> bool:
        """Whether a datagram may be sent: what is one too many is lost."""
        return True

    def connect(self, remote: Endpoint, now: int, *, local: Endpoint | None = None) -> BorrowedStream:
        """Begin a connection; if it can't be had, it fails."""
        number = self._next_number()
        connection = BorrowedStream(self, number, local or ANY, remote)
        self._sockets[number] = connection
        if self._is_lost:
            connection.end(Failure.ABORTED)
            return connection
        place = place_of(local) if local is not None else None
        self.say(messages.Connect(id=number, remote=place_of(remote), local=place))
        return connection

    async def listen(self, local: Endpoint, backlog: int) -> BorrowedListener:
        """Take connections.

        Raises:
            StackError: IN_USE, NOT_OURS, and so on.
        """
        asking = self._ask(
            lambda number: messages.Listen(id=number, local=place_of(local), backlog=max(1, min(backlog, 4096)))
        )
        told, _ = await self._answer_to(asking)
        assert isinstance(told, messages.Listening)
        listener = BorrowedListener(self, told.id, endpoint_of(told.local))
        self._sockets[told.id] = listener
        return listener

    async def open_udp(
        self, local: Endpoint | None, remote: Endpoint | None, *, reuse: bool, broadcast: bool
    ) -> BorrowedDatagrams:
        """Open a UDP socket.

        Raises:
            StackError: IN_USE, NO_ROUTE, and so on.
        """
        asking = self._ask(
            lambda number: messages.Open(
                id=number,
                local=place_of(local) if local is not None else None,
                remote=place_of(remote) if remote is not None else None,
                reuse=reuse,
                broadcast=broadcast,
            )
        )
        told, descriptor = await self._answer_to(asking)
        assert isinstance(told, messages.Opened)
        assert descriptor is not None
        remote = endpoint_of(told.remote) if told.remote is not None else None
        udp = BorrowedDatagrams(
            self, told.id, socket.socket(fileno=descriptor), endpoint_of(told.local), remote, broadcast=broadcast
        )
        self._sockets[told.id] = udp
        return udp

    def close(self) -> None:
        """End all sockets."""
        self._channel.close()
        self._end_all()

    # What the sockets call.

    def say(self, asked: Asked) -> None:
        """Say something to the daemon."""
        self._channel.send(asked)

    def look(self) -> None:
        """Take what the daemon has said."""
        self._channel.receive()

    def forget(self, number: int) -> None:
        """A socket is over."""
        self._sockets.pop(number, None)

    def notify(self, used: Used) -> None:
        """Something happened to a socket; its user sees to it in the next turn of the loop."""
        if not self._happened:
            self.loop.call_soon(self._tell_users)
        self._happened[used] = None

    def _tell_users(self) -> None:
        happened, self._happened = self._happened, {}
        for used in happened:
            if used.user is not None:
                try:
                    used.user.handle_event()
                except Exception:
                    # One user's fault is no reason to stop serving the others.
                    log.exception("a user of a socket failed")

    # What the daemon says.

    def _next_number(self) -> int:
        self._number += 2
        return self._number

    def _ask(self, message: Callable[[int], Asked]) -> _Asking:
        if self._is_lost:
            raise StackError(Failure.ABORTED)
        number = self._next_number()
        asking = self._sockets[number] = _Asking(self, number)
        self.say(message(number))
        return asking

    async def _answer_to(self, asking: _Asking) -> tuple[Told, int | None]:
        try:
            return await asking.answer
        except asyncio.CancelledError:
            # Whoever asked is gone; what comes yet is for nobody.
            self.forget(asking.number)
            self.say(messages.Close(id=asking.number))
            raise

    def _handle(self, told: Told, descriptor: int | None) -> None:
        known = self._sockets.get(told.id)
        match told:
            case messages.Failed():
                if known is not None:
                    known.fail(failure_of(told.failure))
            case messages.End():
                if isinstance(known, BorrowedStream):
                    known.handle_end()
            case messages.Accepted():
                assert descriptor is not None
                self._accept(told, socket.socket(fileno=descriptor))
            case messages.Opened() if isinstance(known, BorrowedStream) and told.remote is not None:
                assert descriptor is not None
                known.open(socket.socket(fileno=descriptor), endpoint_of(told.local), endpoint_of(told.remote))
            case _ if isinstance(known, _Asking) and not known.answer.done():
                known.answer.set_result((told, descriptor))
            case _ if descriptor is not None:
                # It was not wanted any more when it came.
                socket.socket(fileno=descriptor).close()

    def _accept(self, told: messages.Accepted, sock: socket.socket) -> None:
        listener = self._sockets.get(told.listener)
        connection = BorrowedStream(self, told.id, endpoint_of(told.local), endpoint_of(told.remote))
        self._sockets[told.id] = connection
        connection.open(sock, connection.local, connection.remote)
        if isinstance(listener, BorrowedListener):
            listener.put(connection)
        else:
            connection.abort(0)

    def _handle_lost(self) -> None:
        self._end_all()
        self._when_lost()

    def _end_all(self) -> None:
        self._is_lost = True
        for each in list(self._sockets.values()):
            each.fail(Failure.ABORTED)


class BorrowedGround(Ground):
    """What the sockets of a program stand on that are a daemon's.

    Args:
        borrower: has them.
        resolve: as of a `Ground`.
        describe_peer: likewise.
    """

    keeps_sending: ClassVar[bool] = False  # what the daemon has not got yet ends with the program

    def __init__(self, borrower: Borrower, resolve: Resolve, describe_peer: DescribePeer) -> None:
        super().__init__(cast("Driver", borrower), resolve, describe_peer)
        self._borrower = borrower

    async def listen(self, local: Endpoint, backlog: int) -> Listener:
        """Take connections at an endpoint."""
        return cast("Listener", await self._borrower.listen(local, backlog))

    async def open_udp(
        self, local: Endpoint | None, remote: Endpoint | None, *, reuse: bool, broadcast: bool
    ) -> UdpSocket:
        """Open a UDP socket."""
        return cast("UdpSocket", await self._borrower.open_udp(local, remote, reuse=reuse, broadcast=broadcast))
