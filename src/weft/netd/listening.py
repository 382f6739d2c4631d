"""A socket of a client that listens.

Who comes while the client does not take its answers, or has as many sockets as it may, waits in the backlog.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from weft.netd import messages
from weft.netd.handle import READABLE, Family, Handle, check_flags
from weft.netd.layout import NOWHERE
from weft.netd.messages import WAIT, Code
from weft.netd.status import RefusedError, Status

if TYPE_CHECKING:
    from weft.io.backend import Listener


class Listening(Handle):
    """One listener.

    Args:
        stream: in whose place it comes.
        family: of its addresses.
        listener: of the backend.
    """

    __slots__ = ("_accepting", "_came", "_family", "_listener")

    def __init__(self, stream: Handle, family: Family, listener: Listener) -> None:
        super().__init__(stream.session, stream.number, stream.backend)
        self._family = family
        self._listener = listener
        self._accepting: deque[int] = deque()
        self._came = 0
        listener.user = self

    def flags(self) -> int:
        """Readable while somebody waits to be accepted."""
        return READABLE if self._listener.has_waiting else 0

    def mark(self) -> int:
        """How often somebody came."""
        return self._came

    def status(self) -> messages.SocketStatus:
        """What it is like."""
        return messages.SocketStatus(self.flags(), 0, 0, 0, self._listener.local, NOWHERE)

    def handle_event(self) -> None:
        """Somebody has connected."""
        self._came += 1
        super().handle_event()

    def accept(self, request: int, asked: messages.Accept) -> messages.Accepted | None:
        """Take who waits the longest."""
        check_flags(asked.flags, WAIT)
        if not self._accepting:
            self.session.sockets.check_room()
            accepted = self._take()
            if accepted is not None:
                return accepted
        if not asked.flags & WAIT:
            raise RefusedError(Status.WOULD_BLOCK)
        self._accepting.append(request)
        return None

    def close(self, *, abort: bool = False) -> None:
        """End it; who was not accepted is reset."""
        self._listener.user = None
        self._listener.close(self.backend.clock())
        while self._accepting:
            self.session.fail(Code.ACCEPT, self._accepting.popleft(), Status.ABORTED)

    def go_on(self) -> None:
        """Answer what waits."""
        while self._accepting and not self.session.is_blocked and self.session.sockets.has_room:
            accepted = self._take()
            if accepted is None:
                return
            self.session.answer(Code.ACCEPT, self._accepting.popleft(), accepted)

    def _take(self) -> messages.Accepted | None:
        connection = self._listener.accept()
        if connection is None:
            return None
        number = self.session.sockets.take_accepted(self.backend, self._family, connection)
        return messages.Accepted(number, connection.remote, connection.local)
