"""A port that takes connections, on one address of a node or on several.

Who connects from outside of the network is not taken. One connection is taken ahead, so that it is known whether one
waits; the others wait in the kernel.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from weft.io.kernel.connection import KernelConnection
from weft.io.kernel.options import check_room, endpoint_of
from weft.stack.endpoint import Endpoint

if TYPE_CHECKING:
    from weft.io.kernel.backend import KernelBackend
    from weft.stack.socket import User

log = logging.getLogger("weft.io")

RETRY_S: Final = 1.0
"""After the system had no room for one more."""


class KernelListener:
    """One listener; `stack.tcp.listener` says what its parts mean.

    Args:
        backend: whose it is.
        sockets: that listen.
        local: where, as it was asked for, with the port.
    """

    __slots__ = ("_backend", "_next", "_ready", "_sockets", "local", "user")

    def __init__(self, backend: KernelBackend, sockets: Sequence[socket.socket], local: Endpoint) -> None:
        self.local = local
        self.user: User | None = None
        self._backend = backend
        self._sockets = sockets
        self._ready: dict[socket.socket, None] = {}
        self._next: KernelConnection | None = None
        backend.listeners.add(self)
        for sock in sockets:
            backend.poller.add(sock, partial(self._handle_ready, sock))

    @property
    def has_waiting(self) -> bool:
        """Whether one waits to be accepted."""
        return self._next is not None

    def accept(self) -> KernelConnection | None:
        """Take the connection that waits the longest."""
        connection, self._next = self._next, None
        if connection is not None:
            self._take_ahead()
        return connection

    def close(self, now: int) -> None:
        """Take no more; those that wait are reset."""
        sockets, self._sockets = self._sockets, ()
        for sock in sockets:
            self._backend.poller.remove(sock)
            sock.close()
        self._ready.clear()
        if self._next is not None:
            self._next.abort(now)
            self._next = None
        self._backend.listeners.discard(self)

    def _handle_ready(self, sock: socket.socket, events: int = 0) -> None:
        if not self._sockets:
            return
        self._ready[sock] = None
        self._take_ahead()
        if self._next is not None and self.user is not None:
            self.user.handle_event()

    def _take_ahead(self) -> None:
        while self._next is None and self._ready:
            sock = next(iter(self._ready))
            try:
                accepted, address = sock.accept()
                check_room(accepted)
                self._take(accepted, endpoint_of(sock, address))
            except BlockingIOError:
                del self._ready[sock]
            except ConnectionError:
                continue
            except OSError as error:
                log.warning("no socket for who connects to %s: %s", self.local, error.strerror)
                del self._ready[sock]
                self._backend.poller.loop.call_later(RETRY_S, self._handle_ready, sock)

    def _take(self, accepted: socket.socket, remote: Endpoint) -> None:
        accepted.setblocking(False)
        if not self._backend.inside.has(remote.address):
            accepted.close()
            return
        try:
            local = endpoint_of(accepted, accepted.getsockname())
            self._next = KernelConnection(self._backend, accepted, local, remote, is_established=True)
        except OSError:
            accepted.close()
            raise
