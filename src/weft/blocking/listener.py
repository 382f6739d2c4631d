"""A listening socket as `socket.socket` has it: `accept` takes what came.

Who connects is taken by the loop's thread and waits here; whom there is no room for is reset.

Source: `socket.create_server`, `socket.socket.accept`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress

from weft.blocking.background import Background, closed_error
from weft.blocking.face import Address, Face
from weft.blocking.meeting import Meeting
from weft.blocking.pipe import Pipe
from weft.blocking.stream import Stream
from weft.errors import UsageError


class Arrivals(Meeting):
    """Connections that wait to be accepted; made in the loop's thread.

    Args:
        background: the node's.
        room: for so many.
    """

    server: asyncio.AbstractServer

    def __init__(self, background: Background, room: int) -> None:
        super().__init__(background)
        self._room = room
        self._pipes: deque[Pipe] = deque()

    def make_pipe(self) -> Pipe:
        """The protocol of a connection that comes."""
        return Pipe(self.background, self._take)

    def open(self, server: asyncio.AbstractServer) -> None:
        """It listens."""
        self.server = server
        self.background.open.add(self)

    def accept(self, timeout: float | None) -> Pipe:
        """Take the one that came first.

        Raises:
            OSError: as of `Meeting._wait`; ECONNABORTED, the node was closed.
        """
        with self._lock:
            self._wait(self._readable, lambda: bool(self._pipes) or self.is_lost, timeout)
            if not self._pipes:
                raise self._error or closed_error()
            pipe = self._pipes.popleft()
        pipe.begin()
        return pipe

    def end(self) -> None:
        """The node goes away."""
        self._close()
        self._lose(closed_error())

    def _close(self) -> None:
        self.server.close()
        with self._lock:
            pipes, self._pipes = self._pipes, deque()
        for pipe in pipes:
            pipe.transport.abort()
        self._lose(None)

    def _take(self, pipe: Pipe) -> None:
        with self._lock:
            if not self.is_closed and len(self._pipes) < self._room:
                self._pipes.append(pipe)
                self._readable.notify()
                return
        pipe.transport.abort()


class Listener(Face):
    """A socket that listens.

    Args:
        arrivals: at it.
        address: where it listens.
    """

    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, arrivals: Arrivals, address: Address) -> None:
        super().__init__(arrivals)
        self._arrivals = arrivals
        self._address = address

    def accept(self) -> tuple[Stream, Address]:
        """Take a connection; returns it and the address of the other end.

        Raises:
            OSError: `TimeoutError`, `BlockingIOError` and so on.
        """
        pipe = self._arrivals.accept(self._timeout)
        return Stream(pipe), pipe.addresses[1]

    def close(self) -> None:
        """Listen no more, from when this returns; who was not accepted is reset, and whoever accepts gets EBADF."""
        super().close()
        with suppress(UsageError, OSError):
            self._arrivals.background.call(asyncio.sleep, 0)

    def _sockname(self) -> Address:
        return self._address
