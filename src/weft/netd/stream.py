"""A stream of a client: a TCP connection, before, while and after it is one.

| state       | from             | CONNECT   | BIND, LISTEN | SEND, RECV | SHUTDOWN |
|-------------|------------------|-----------|--------------|------------|----------|
| new         | SOCKET_CREATE    | yes       | yes          | -107       | -107     |
| connecting  | CONNECT          | -22       | -22          | may wait   | -107     |
| connected   | the handshake    | -22       | -22          | yes        | yes      |

What waits is answered in order: a SEND is never overtaken by a later one, nor a RECV.

Not done here: a stream that listens (listening.py), which takes the place of this.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from weft.netd import messages
from weft.netd.handle import AT_END, FAILED, READABLE, WRITABLE, Family, check_flags, place
from weft.netd.layout import NOWHERE
from weft.netd.listening import Listening
from weft.netd.messages import END, HOW_WRITE, WAIT, Code
from weft.netd.receiving import Receiving
from weft.netd.status import OF_FAILURE, RefusedError, Status
from weft.stack.endpoint import Endpoint

if TYPE_CHECKING:
    from weft.io.backend import Backend, Connection
    from weft.netd.session import Session

HIGH_BYTES: Final = 512 * 1024
"""Of what was taken and has not left: then no more is taken."""
LOW_BYTES: Final = 256 * 1024
"""Then it is again."""
MAX_BACKLOG: Final = 1024


class _Sending:
    """A SEND that waits."""

    __slots__ = ("at", "data", "request")

    def __init__(self, request: int, data: bytes, at: int) -> None:
        self.request = request
        self.data = data
        self.at = at


class Stream(Receiving):
    """One stream.

    Args:
        session: whose it is.
        number: by which the client knows it.
        backend: where it comes from.
        family: of its addresses.
        connection: that was accepted; None for a new one.
    """

    __slots__ = ("_connecting", "_connection", "_family", "_is_full", "_is_shut", "_local", "_sending")

    def __init__(
        self, session: Session, number: int, backend: Backend, family: Family, connection: Connection | None = None
    ) -> None:
        super().__init__(session, number, backend)
        self._family = family
        self._local: Endpoint | None = None
        self._connection: Connection | None = None
        self._connecting: int | None = None
        self._is_full = self._is_shut = False
        self._sending: deque[_Sending] = deque()
        if connection is not None:
            self._join(connection)
            self.note()

    def flags(self) -> int:
        """What it is ready for."""
        connection = self._connection
        if connection is None:
            return 0
        flags = 0
        if connection.readable_bytes:
            flags = READABLE
        elif connection.is_at_end or connection.is_closed:
            flags = READABLE | AT_END
        if connection.failure is not None:
            flags |= FAILED
        if connection.is_established and not (connection.is_closed or self._is_full or self._is_shut):
            flags |= WRITABLE
        return flags

    def mark(self) -> int:
        """How much has come, and the end."""
        return self._connection.arrived if self._connection is not None else 0

    def status(self) -> messages.SocketStatus:
        """What it is like."""
        connection = self._connection
        if connection is None:
            return messages.SocketStatus(0, 0, 0, 0, place(self._local), NOWHERE)
        waiting = sum(len(each.data) - each.at for each in self._sending)
        return messages.SocketStatus(
            flags=self.flags(),
            readable=connection.readable_bytes,
            unsent=connection.unsent_bytes + waiting,
            error=OF_FAILURE[connection.failure] if connection.failure is not None else Status.OK,
            local=connection.local,
            remote=connection.remote,
        )

    def connect(self, request: int, asked: messages.Connect) -> None:
        """Connect; the answer comes when the other side's does."""
        if self._connection is not None:
            raise RefusedError(Status.INVALID)
        remote = self._family.remote(asked.remote)
        local = self._local if self._local is not None and any((any(self._local.address), self._local.port)) else None
        if local is not None and not any(local.address):
            local = Endpoint(bytes(len(remote.address)), local.port)
        self._join(self.backend.connect(remote, local))
        self._connecting = request

    def bind(self, request: int, asked: messages.Bind) -> messages.Bound:
        """Say where it will be."""
        if self._connection is not None or self._local is not None:
            raise RefusedError(Status.INVALID)
        local = self._family.local(asked.local)
        if any(local.address) and not self.backend.is_own(local.address):
            raise RefusedError(Status.NOT_OURS)
        self._local = local
        return messages.Bound(local)

    def listen(self, request: int, asked: messages.Listen) -> messages.Bound:
        """Take connections from now on: this socket becomes one that does nothing else."""
        if self._connection is not None:
            raise RefusedError(Status.INVALID)
        local = self._local or self._family.local(NOWHERE)
        backlog = min(max(asked.backlog, 1), MAX_BACKLOG)
        listener = self.backend.listen(local, backlog)
        self.session.sockets.replace(self, Listening(self, self._family, listener))
        return messages.Bound(listener.local)

    def send(self, request: int, asked: messages.Send) -> messages.Sent | None:
        """Send data: what there is room for, or all of it by and by."""
        check_flags(asked.flags, WAIT)
        connection = self._connected()
        if asked.to.address or not asked.data:
            raise RefusedError(Status.INVALID)
        if connection.failure is not None:
            raise RefusedError(OF_FAILURE[connection.failure])
        if self._is_shut or connection.is_closed:
            raise RefusedError(Status.CLOSED)
        must_wait = self._sending or self._is_full or not connection.is_established
        room = 0 if must_wait else HIGH_BYTES - connection.unsent_bytes
        data = asked.data
        if len(data) <= room:
            self._write(connection, data, room)
            return messages.Sent(len(data))
        if asked.flags & WAIT:
            self.session.reserve(len(data))
            self._sending.append(_Sending(request, data, 0))
            self._send_on()
            return None
        if room <= 0:
            raise RefusedError(Status.WOULD_BLOCK)
        self._write(connection, data[:room], room)
        return messages.Sent(room)

    def shutdown(self, request: int, asked: messages.Shutdown) -> messages.Nothing:
        """Send nothing more, behind what waits."""
        if asked.how != HOW_WRITE:
            raise RefusedError(Status.NOT_SUPPORTED)
        connection = self._connected()
        if not connection.is_established or self._sending:
            raise RefusedError(Status.NOT_CONNECTED if not self._sending else Status.WOULD_BLOCK)
        connection.shutdown(self.backend.clock())
        self._is_shut = True
        return messages.Nothing()

    def close(self, *, abort: bool = False) -> None:
        """End it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.user = None
            if abort:
                connection.abort(self.backend.clock())
            else:
                connection.close(self.backend.clock())
        self._fail_all(Status.ABORTED)

    def go_on(self) -> None:
        """Answer what waits."""
        connection = self._connection
        if connection is None:
            return
        if self._connecting is not None and (connection.is_established or connection.is_closed):
            self._answer_connect(connection)
        if connection.is_closed:
            failure = connection.failure
            while self._sending:
                self._fail_send(OF_FAILURE[failure] if failure is not None else Status.CLOSED)
        if self._sending or self._is_full:
            self._send_on()
        if self._receiving:
            super().go_on()

    def _join(self, connection: Connection) -> None:
        self._connection = connection
        connection.user = self
        connection.set_no_delay(True)

    def _connected(self) -> Connection:
        if self._connection is None:
            raise RefusedError(Status.NOT_CONNECTED)
        return self._connection

    def _answer_connect(self, connection: Connection) -> None:
        request, self._connecting = self._connecting, None
        assert request is not None
        if connection.is_established:
            self.session.answer(Code.CONNECT, request, messages.Bound(connection.local))
        else:
            failure = connection.failure
            self.session.fail(Code.CONNECT, request, OF_FAILURE[failure] if failure is not None else Status.ABORTED)

    def _take(self, limit: int) -> messages.Received | None:
        """What has come, or that no more will; None if neither is known."""
        connection = self._connected()
        chunks = connection.receive(limit)
        if chunks:
            return messages.Received(0, NOWHERE, b"".join(chunks))
        if connection.is_at_end:
            return messages.Received(END, NOWHERE, b"")
        if connection.failure is not None:
            raise RefusedError(OF_FAILURE[connection.failure])
        return messages.Received(END, NOWHERE, b"") if connection.is_closed else None

    def _write(self, connection: Connection, data: bytes, room: int) -> None:
        """Write what there was so much room for, at least."""
        connection.send(data)
        if len(data) >= room and connection.unsent_bytes >= HIGH_BYTES:
            self._is_full = connection.awaits_room = True

    def _send_on(self) -> None:
        """Give the backend what waits, as far as there is room."""
        connection = self._connection
        if connection is None:
            return
        if self._is_full and connection.unsent_bytes <= LOW_BYTES:
            self._is_full = connection.awaits_room = False
        while self._sending and connection.is_established and not connection.is_closed and not self._is_full:
            first = self._sending[0]
            room = HIGH_BYTES - connection.unsent_bytes
            part = first.data[first.at : first.at + room]
            self._write(connection, part, room)
            first.at += len(part)
            if first.at == len(first.data):
                self._sending.popleft()
                self.session.give_back(len(first.data))
                self.session.answer(Code.SEND, first.request, messages.Sent(len(first.data)))

    def _fail_send(self, status: Status) -> None:
        first = self._sending.popleft()
        self.session.give_back(len(first.data))
        self.session.fail(Code.SEND, first.request, status)

    def _fail_all(self, status: Status) -> None:
        if self._connecting is not None:
            self.session.fail(Code.CONNECT, self._connecting, status)
            self._connecting = None
        while self._sending:
            self._fail_send(status)
        self._fail_receiving(status)
