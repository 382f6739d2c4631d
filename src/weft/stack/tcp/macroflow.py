"""What all connections to one host have on the way together, and how much that may be.

    limit     HELD + rate * the shortest round trip: what the socket at the other end holds, and what the path does
    waiting   who has data while the limit is reached, or while others wait already: one run each, in turn

The window of a connection says what the path takes of one. Those of many may allow more together than the other host
has room for before it looks at it, and where a window is a run or two, each datagram that is dropped there costs its
connection a time-out: the others go on, and nobody shares with anybody. With the limit the queue is here, where each
has its turn and runs are as long as the windows are. A connection that is alone has nobody to take turns with, and one
that sends again what was lost does not wait.

Source: RFC 3124 section 2 (the term: streams to one host, which share what is known of the path); the limit is our own.
Not done here: the window of each (congestion.py); a path that gets longer while connections stay, whose shortest round
trip is that of before: what all of them have on the way stays close to HELD then.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from weft.stack.tcp.timers import MS

if TYPE_CHECKING:
    from weft.stack.tcp.connection import Connection

HELD_BYTES: Final = 4 * 1024 * 1024
"""Half of what our sockets ask for; the kernel counts what it needs for a datagram, too."""
SAMPLE_NS: Final = 100 * MS
"""The rate is what was acknowledged in so long."""
DECAY: Final = 7 / 8
"""What is left of a higher rate with each further sample."""


class Macroflow:
    """The connections to one host.

    Args:
        with_room: where it queues while somebody waits and may go.

    Attributes:
        connections: how many.
        on_the_way: bytes of all, without those that are lost.
        waiting: who waits, the first to go first.
    """

    __slots__ = (
        "_delivered",
        "_is_queued",
        "_least_ns",
        "_rate",
        "_since",
        "_turn",
        "_with_room",
        "connections",
        "on_the_way",
        "waiting",
    )

    def __init__(self, with_room: deque[Macroflow]) -> None:
        self.connections = 0
        self.on_the_way = 0
        self.waiting: dict[Connection, None] = {}
        self._with_room = with_room
        self._is_queued = False
        self._turn: Connection | None = None
        self._least_ns = 0
        self._rate = 0.0
        self._delivered = self._since = 0

    @property
    def has_room(self) -> bool:
        """Whether more may leave."""
        return self.connections < 2 or self.on_the_way < HELD_BYTES + self._rate * self._least_ns

    def holds(self, connection: Connection) -> bool:
        """Whether one of them has to wait with new data."""
        if connection is self._turn or (not self.waiting and self._turn is None and self.has_room):
            return False
        return connection.sender.recovery.is_quiet

    def wait(self, connection: Connection, now: int) -> None:
        """One of them has data, and waits; it keeps its place."""
        if connection not in self.waiting:
            self.waiting[connection] = None
            connection.sender.handle_held(now)
        self._queue()

    def admit(self, now: int) -> None:
        """Let the first one go, if there is still room for it."""
        self._is_queued = False
        if self.waiting and self.has_room:
            self._turn = connection = next(iter(self.waiting))
            del self.waiting[connection]
            connection.sender.handle_admitted(now)
            connection.queue_to_send()

    def end_turn(self, connection: Connection, now: int) -> None:
        """One of them was asked for a packet, whether it had one or not; if it was its turn, that is over."""
        if self._turn is connection:
            self._turn = None
        self.count(connection, now)

    def count(self, connection: Connection, now: int) -> None:
        """Something happened to one of them, which may be its end.

        Args:
            connection: which.
            now: monotonic ns.
        """
        if connection.is_closed:
            return
        sender = connection.sender
        pipe = sender.pipe
        self.on_the_way += pipe - connection.counted_pipe
        connection.counted_pipe = pipe
        delivered = sender.una - connection.counted_una
        if delivered > 0:
            connection.counted_una = sender.una
            self._delivered += delivered
            if now - self._since >= SAMPLE_NS:
                self._measure(now)
            least_ns = sender.round_trip.least_ns
            if least_ns and least_ns != self._least_ns:
                self._least_ns = min(self._least_ns or least_ns, least_ns)
                # What one has measured is true of the path of all.
                sender.round_trip.least_ns = self._least_ns
        if self.waiting:
            self._queue()

    def remove(self, connection: Connection) -> None:
        """One of them is over."""
        self.connections -= 1
        self.on_the_way -= connection.counted_pipe
        self.waiting.pop(connection, None)
        if self._turn is connection:
            self._turn = None
        self._queue()

    def _queue(self) -> None:
        if self.waiting and self._turn is None and not self._is_queued and self.has_room:
            self._is_queued = True
            self._with_room.append(self)

    def _measure(self, now: int) -> None:
        self._rate = max(self._delivered / (now - self._since), self._rate * DECAY)
        self._delivered, self._since = 0, now
