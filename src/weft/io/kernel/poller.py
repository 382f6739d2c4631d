"""Tells sockets of the kernel what happened to them: each change once, as the stack does.

One epoll for all of them, edge-triggered, which the loop watches. So a socket that nobody looks at costs nothing, and
more data is told even where data waits already.

Source: epoll(7).
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from typing import Final

log = logging.getLogger("weft.io")

EVENTS_IN_A_TURN: Final = 256
"""Before others get their turn."""


class Poller:
    """All sockets of one backend, on the loop on which it is made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._told: dict[int, Callable[[int], None]] = {}
        self.loop.add_reader(self._epoll, self._look)

    def add(self, sock: socket.socket, told: Callable[[int], None]) -> None:
        """Tell what happens to a socket, as bits of epoll, and what is so already."""
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
        self._told[sock.fileno()] = told

    def remove(self, sock: socket.socket) -> None:
        """Tell that no more; before it is closed."""
        del self._told[sock.fileno()]
        self._epoll.unregister(sock)

    def close(self) -> None:
        """Tell nothing any more."""
        self.loop.remove_reader(self._epoll)
        self._epoll.close()

    def _look(self) -> None:
        for number, events in self._epoll.poll(0, EVENTS_IN_A_TURN):
            told = self._told.get(number)
            if told is not None:
                try:
                    told(events)
                except Exception:
                    # One user's fault is no reason to stop serving the others.
                    log.exception("a user of a socket failed")
