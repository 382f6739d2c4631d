"""Where the loop's thread and threads that block meet: one lock, and who waits for what.

| who waits                              | for                                       | is woken by           |
|----------------------------------------|-------------------------------------------|-----------------------|
| who reads, or accepts                  | something that came, or the end           | the loop's thread     |
| who writes                             | room, or the end                          | the loop's thread     |
| both                                   | `close` in another thread                 | that thread           |

Nobody waits while what it wants is there. The lock is never held while somebody waits, nor while the other side is
called; it is reentrant, since a signal's handler may use the socket that its thread was using.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable

from weft.blocking.background import Background


class Meeting:
    """What the two sides of a socket have in common.

    It is made in the loop's thread, and put into `Background.open` when it opens.

    Args:
        background: the node's.

    Attributes:
        background: the node's.
        over: is done when nothing is left of it in the loop.
        is_closed: the program has closed it.
        is_lost: nothing more comes or goes.
    """

    def __init__(self, background: Background) -> None:
        self.background = background
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closed = False
        self.is_lost = False
        self._error: Exception | None = None
        self._make_lock()

    def check_open(self) -> None:
        """See that it is not closed.

        Raises:
            OSError: EBADF, it is.
        """
        if self.is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def close(self) -> None:
        """The program wants no more of it: whoever waits gets EBADF."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            self._wake_all()
        self.background.soon(self._close)

    def abandon(self) -> None:
        """This process is a child that was forked."""
        # Somebody may have held the old one.
        self._make_lock()
        self._error = OSError(errno.EBADF, "it belongs to the process that made it")
        self.is_lost = True

    def end(self) -> None:
        """The node goes away; called in the loop's thread."""
        raise NotImplementedError

    def _close(self) -> None:
        """The program has closed it; called in the loop's thread."""
        raise NotImplementedError

    def _lose(self, error: Exception | None) -> None:
        """Nothing is left of it; called in the loop's thread."""
        with self._lock:
            if self.is_lost:
                return
            self.is_lost = True
            self._error = error
            self._wake_all()
        self.background.open.discard(self)
        self.over.set_result(None)

    def _make_lock(self) -> None:
        self._lock = threading.RLock()
        self._readable = threading.Condition(self._lock)
        self._writable = threading.Condition(self._lock)

    def _wake_all(self) -> None:
        self._readable.notify_all()
        self._writable.notify_all()

    def _wait(self, condition: threading.Condition, is_there: Callable[[], bool], timeout: float | None) -> None:
        """Wait, with the lock held.

        Args:
            condition: is notified.
            is_there: what is waited for.
            timeout: s; None for ever, 0 not at all.

        Raises:
            BlockingIOError: it is not there, and the time-out is 0.
            OSError: EBADF, it is closed.
            TimeoutError: it was not there in time.
        """

        def is_over() -> bool:
            return self.is_closed or is_there()

        if not is_over():
            if timeout == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if not condition.wait_for(is_over, timeout):
                raise TimeoutError("timed out")
        self.check_open()
