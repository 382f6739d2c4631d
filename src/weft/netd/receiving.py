"""RECV, of streams and of datagrams: at once if something is there, else in turn when it comes.

Not done here: what there is to take (stream.py, datagram.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from weft.netd import messages
from weft.netd.handle import Handle, check_flags
from weft.netd.messages import MAX_DATA_BYTES, WAIT, Code
from weft.netd.status import RefusedError, Status

if TYPE_CHECKING:
    from weft.io.backend import Backend
    from weft.netd.session import Session


class Receiving(Handle):
    """A socket from which data can be taken; for the arguments see `Handle`."""

    __slots__ = ("_receiving",)

    def __init__(self, session: Session, number: int, backend: Backend) -> None:
        super().__init__(session, number, backend)
        self._receiving: deque[tuple[int, int]] = deque()

    def receive(self, request: int, asked: messages.Receive) -> messages.Received | None:
        """Take data."""
        check_flags(asked.flags, WAIT)
        if not asked.max:
            raise RefusedError(Status.INVALID)
        limit = min(asked.max, MAX_DATA_BYTES)
        received = self._take(limit) if not self._receiving else None
        if received is None:
            if not asked.flags & WAIT:
                raise RefusedError(Status.WOULD_BLOCK)
            self._receiving.append((request, limit))
        return received

    def go_on(self) -> None:
        """Answer what waits."""
        while self._receiving and not self.session.is_blocked:
            request, limit = self._receiving[0]
            try:
                received = self._take(limit)
            except RefusedError as error:
                self._receiving.popleft()
                self.session.fail(Code.RECV, request, error.status)
                continue
            if received is None:
                return
            self._receiving.popleft()
            self.session.answer(Code.RECV, request, received)

    def _take(self, limit: int) -> messages.Received | None:
        """What has come, up to so many bytes, or that no more will; None if neither is known.

        Raises:
            RefusedError: NOT_CONNECTED, or why nothing comes.
        """
        raise NotImplementedError

    def _fail_receiving(self, status: Status) -> None:
        while self._receiving:
            self.session.fail(Code.RECV, self._receiving.popleft()[0], status)
