"""A UDP socket, on one address of a node or on several.

| a datagram                    | what becomes of it                                              |
|-------------------------------|-----------------------------------------------------------------|
| to outside of the network     | refused                                                         |
| to a peer                     | leaves by the interface, whatever other routes the machine has  |
| to this node itself           | stays in the machine                                            |
| from outside of the network   | dropped                                                         |

As many as the stack keeps are kept here, and more in the kernel.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from weft.io.kernel.options import address_of, by_interface, endpoint_of, keep_errors, kept_errors, stack_error
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.udp_socket import DATAGRAM_OVERHEAD_BYTES, MAX_FAILURES, RECEIVE_QUEUE_BYTES

if TYPE_CHECKING:
    from weft.io.kernel.backend import KernelBackend
    from weft.stack.socket import User

MAX_DATAGRAM_BYTES: Final = 65_535
DATAGRAMS_IN_A_TURN: Final = 256


class KernelDatagrams:
    """One UDP socket; `stack.udp_socket` says what its parts mean.

    Args:
        backend: whose it is.
        sockets: by the address that each has.
        local: where it receives, as it was asked for, with the port.
        remote: the only one it talks to, or None.
    """

    __slots__ = (
        "_backend", "_failures", "_queue", "_ready", "_sockets", "local", "queued_bytes", "remote", "user",
    )  # fmt: skip

    def __init__(
        self,
        backend: KernelBackend,
        sockets: Mapping[bytes, socket.socket],
        local: Endpoint,
        remote: Endpoint | None,
    ) -> None:
        self.local = local
        self.remote = remote
        self.user: User | None = None
        self.queued_bytes = 0
        self._backend = backend
        self._sockets = sockets
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self._failures: deque[tuple[Failure, Endpoint]] = deque(maxlen=MAX_FAILURES)
        self._ready: dict[socket.socket, None] = {}
        backend.datagrams.add(self)
        for sock in sockets.values():
            keep_errors(sock)
            backend.poller.add(sock, partial(self._handle_ready, sock))

    @property
    def has_failed(self) -> bool:
        """Whether `take_failure` gives one."""
        return bool(self._failures)

    def send(self, data: bytes, remote: Endpoint | None, now: int) -> None:
        """Send a datagram; one that the kernel has no room for is lost.

        Raises:
            StackError: CLOSED; NOT_CONNECTED; NO_ROUTE; TOO_LONG; PROHIBITED, broadcast.
        """
        if not self._sockets:
            raise StackError(Failure.CLOSED)
        to = remote or self.remote
        if to is None:
            raise StackError(Failure.NOT_CONNECTED)
        source = self._backend.inside.source_for(to.address)
        sock = self._sockets.get(source) or self._of_family(len(to.address))
        for is_last in (False, True):
            try:
                self._send(sock, data, to)
            except BlockingIOError:
                return
            except OSError as error:
                # It may be about one that was sent before.
                if self._take_errors(sock) and not is_last:
                    continue
                raise stack_error(error) from error
            return

    def receive(self) -> tuple[bytes, Endpoint] | None:
        """Take the next datagram, and who sent it; None if none waits."""
        if not self._queue:
            return None
        datagram = self._queue.popleft()
        self.queued_bytes -= len(datagram[0]) + DATAGRAM_OVERHEAD_BYTES
        self._fill()
        return datagram

    def take_failure(self) -> tuple[Failure, Endpoint] | None:
        """Take the oldest failure of a datagram that was sent, and where to; None if there is none."""
        return self._failures.popleft() if self._failures else None

    def close(self) -> None:
        """Give back the port; what waits is forgotten."""
        sockets, self._sockets = self._sockets, {}
        for sock in sockets.values():
            self._backend.poller.remove(sock)
            sock.close()
        self._ready.clear()
        self._queue.clear()
        self._failures.clear()
        self.queued_bytes = 0
        self._backend.datagrams.discard(self)

    def _of_family(self, length: int) -> socket.socket:
        """The socket for an address of that many bytes."""
        found = next((sock for address, sock in self._sockets.items() if len(address) == length), None)
        if found is None:
            raise StackError(Failure.NO_ROUTE)
        return found

    def _send(self, sock: socket.socket, data: bytes, to: Endpoint) -> None:
        if to == self.remote:
            sock.send(data)
        elif self._backend.is_own(to.address):
            sock.sendto(data, address_of(to))
        else:
            source = endpoint_of(sock, sock.getsockname()).address
            sock.sendmsg([data], by_interface(self._backend.index, source), 0, address_of(to))

    def _handle_ready(self, sock: socket.socket, events: int) -> None:
        if not self._sockets:
            return
        if events & select.EPOLLERR:
            self._take_errors(sock)
        if events & select.EPOLLIN:
            self._ready[sock] = None
            self._fill()
        self._tell()

    def _fill(self) -> None:
        """Take what there is room for, and what comes from outside away."""
        for _ in range(DATAGRAMS_IN_A_TURN):
            if not self._ready or self.queued_bytes >= RECEIVE_QUEUE_BYTES:
                return
            sock = next(iter(self._ready))
            try:
                data, address = sock.recvfrom(MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                del self._ready[sock]
                continue
            except OSError:
                self._take_errors(sock)
                continue
            sender = endpoint_of(sock, address)
            if self._backend.inside.has(sender.address):
                self._queue.append((data, sender))
                self.queued_bytes += len(data) + DATAGRAM_OVERHEAD_BYTES
        self._backend.poller.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._fill()
        self._tell()

    def _take_errors(self, sock: socket.socket) -> bool:
        """Take what ICMP has said; returns whether it said something."""
        errors = list(kept_errors(sock))
        self._failures.extend(errors)
        return bool(errors)

    def _tell(self) -> None:
        if self.user is not None and (self._queue or self._failures):
            self.user.handle_event()
