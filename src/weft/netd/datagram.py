"""A socket of a client for datagrams.

It is opened when it is bound, connected or sends for the first time. A datagram is sent at once or never; one that was
refused on the way is told by the next RECV, as a status.

Not done here: groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.netd import messages
from weft.netd.handle import FAILED, READABLE, WRITABLE, Family, check_flags, place
from weft.netd.layout import NOWHERE
from weft.netd.messages import TRUNCATED, WAIT
from weft.netd.receiving import Receiving
from weft.netd.status import OF_FAILURE, RefusedError, Status
from weft.stack.endpoint import Endpoint
from weft.stack.failure import StackError

if TYPE_CHECKING:
    from weft.io.backend import Backend, Datagrams
    from weft.netd.session import Session


class Datagram(Receiving):
    """One of them.

    Args:
        session: whose it is.
        number: by which the client knows it.
        backend: where it comes from.
        family: of its addresses.
    """

    __slots__ = ("_came", "_family", "_socket")

    def __init__(self, session: Session, number: int, backend: Backend, family: Family) -> None:
        super().__init__(session, number, backend)
        self._family = family
        self._socket: Datagrams | None = None
        self._came = 0

    def flags(self) -> int:
        """What it is ready for; it can always send."""
        socket = self._socket
        if socket is None:
            return WRITABLE
        if socket.has_failed:
            return WRITABLE | READABLE | FAILED
        return WRITABLE | READABLE if socket.queued_bytes else WRITABLE

    def mark(self) -> int:
        """How often something came."""
        return self._came

    def status(self) -> messages.SocketStatus:
        """What it is like."""
        socket = self._socket
        if socket is None:
            return messages.SocketStatus(self.flags(), 0, 0, 0, NOWHERE, NOWHERE)
        return messages.SocketStatus(self.flags(), socket.queued_bytes, 0, 0, socket.local, place(socket.remote))

    def handle_event(self) -> None:
        """A datagram or a failure came."""
        self._came += 1
        super().handle_event()

    def bind(self, request: int, asked: messages.Bind) -> messages.Bound:
        """Open it where the client wants it."""
        if self._socket is not None:
            raise RefusedError(Status.INVALID)
        return messages.Bound(self._open(self._family.local(asked.local)).local)

    def connect(self, request: int, asked: messages.Connect) -> messages.Bound:
        """Talk to one other end only; what came before is forgotten."""
        remote = self._family.remote(asked.remote)
        before, self._socket = self._socket, None
        local = before.local if before is not None else None
        if before is not None:
            before.user = None
            before.close()
        try:
            return messages.Bound(self._open(_local_for(local, remote), remote).local)
        except StackError:
            if before is not None:
                self._open(before.local, before.remote)
            raise

    def send(self, request: int, asked: messages.Send) -> messages.Sent:
        """Send a datagram."""
        check_flags(asked.flags, WAIT)
        to = self._family.remote(asked.to) if asked.to.address else None
        socket = self._socket
        if to is None and (socket is None or socket.remote is None):
            raise RefusedError(Status.NOT_CONNECTED)
        if socket is None:
            socket = self._open(self._family.local(NOWHERE))
        socket.send(asked.data, to, self.backend.clock())
        return messages.Sent(len(asked.data))

    def close(self, *, abort: bool = False) -> None:
        """End it."""
        if self._socket is not None:
            self._socket.user = None
            self._socket.close()
        self._fail_receiving(Status.ABORTED)

    def _open(self, local: Endpoint | None, remote: Endpoint | None = None) -> Datagrams:
        socket = self._socket = self.backend.open_udp(local, remote)
        socket.user = self
        return socket

    def _take(self, limit: int) -> messages.Received | None:
        socket = self._socket
        if socket is None:
            raise RefusedError(Status.NOT_CONNECTED)
        failed = socket.take_failure()
        if failed is not None:
            raise RefusedError(OF_FAILURE[failed[0]])
        received = socket.receive()
        if received is None:
            return None
        data, sender = received
        return messages.Received(TRUNCATED if len(data) > limit else 0, sender, data[:limit])


def _local_for(local: Endpoint | None, remote: Endpoint) -> Endpoint | None:
    """Where a socket is that goes on with one other end: any address is one of its family then."""
    if local is None or any(local.address):
        return local
    return Endpoint(bytes(len(remote.address)), local.port)
