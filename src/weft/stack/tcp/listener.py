"""A port that takes connections.

    half-open   the SYN was answered; at most as many as `backlog`, then answers are cookies (`cookie.py`)
    waiting     established, until the user accepts them; at most `backlog`, then further SYNs and acknowledgments are
                dropped, and come again

Source: RFC 9293 section 3.10.1 (passive OPEN); RFC 4987 (floods of SYNs).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from weft.stack.endpoint import Endpoint
from weft.stack.socket import Socket
from weft.stack.tcp.connection import Connection

if TYPE_CHECKING:
    from weft.stack.tcp.tcp import Tcp


class Listener(Socket):
    """One of them.

    Attributes:
        local: where it listens; an address of zeros is any.
        backlog: see above.
        half_open: how many.
        is_closed: whether it takes no more.
    """

    __slots__ = ("_tcp", "_waiting", "backlog", "half_open", "is_closed", "local")

    def __init__(self, tcp: Tcp, events: deque[Socket], local: Endpoint, backlog: int) -> None:
        super().__init__(events)
        self._tcp = tcp
        self._waiting: list[Connection] = []
        self.local = local
        self.backlog = max(1, backlog)
        self.half_open = 0
        self.is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether as many wait as may."""
        return len(self._waiting) >= self.backlog

    @property
    def has_waiting(self) -> bool:
        """Whether one waits to be accepted."""
        return bool(self._waiting)

    def accept(self) -> Connection | None:
        """Take the connection that waits the longest; None if there is none."""
        if not self._waiting:
            return None
        connection = self._waiting.pop(0)
        connection.listener = None
        return connection

    def close(self, now: int) -> None:
        """Take no more; those that wait are reset."""
        if self.is_closed:
            return
        self.is_closed = True
        self._tcp.close_listener(self)
        for connection in self._tcp.of_listener(self):
            connection.abort(now)
        self._waiting.clear()

    def handle_established(self, connection: Connection) -> None:
        """A handshake is done."""
        self.half_open -= 1
        self._waiting.append(connection)
        self._notify()

    def handle_gone(self, connection: Connection) -> None:
        """A connection that was not accepted has ended; one that brought something may still be accepted."""
        if not connection.is_established:
            self.half_open -= 1
        elif connection in self._waiting and not connection.readable_bytes:
            self._waiting.remove(connection)
