"""What the sockets here have in common to a program: time-outs, `with`, and that there is no descriptor.

Source: `socket.socket`.
"""

from __future__ import annotations

import asyncio
import io
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final, NoReturn, Self

from weft.blocking.meeting import Meeting

Address = tuple[Any, ...]
"""Host and port; of IPv6, flow and scope may follow. A host is whatever names a peer, an address or a name."""

DEFAULT: Final = object()
"""The time-out that `socket.setdefaulttimeout` set."""


class Face:
    """One socket.

    Args:
        meeting: where it meets the loop's thread.
        timeout: s; None for ever, 0 not at all, `DEFAULT`.
    """

    type: socket.SocketKind
    proto: int

    def __init__(self, meeting: Meeting, timeout: object = DEFAULT) -> None:
        self._meeting = meeting
        self._timeout = timeout_of(timeout)

    def __repr__(self) -> str:
        state = " closed" if self._meeting.is_closed else ""
        return f"<weft.blocking.{self.__class__.__name__}{state} {self._sockname()}>"

    def __del__(self) -> None:
        if not self._meeting.is_closed and not self._meeting.is_lost:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._meeting.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def family(self) -> socket.AddressFamily:
        """`AF_INET` or `AF_INET6`."""
        return socket.AF_INET6 if ip_address(self._sockname()[0].partition("%")[0]).version == 6 else socket.AF_INET

    @property
    def timeout(self) -> float | None:
        """As `gettimeout`."""
        return self._timeout

    def settimeout(self, value: float | None) -> None:
        """How long a call waits: s; None for ever, 0 not at all.

        Raises:
            ValueError: less than 0.
        """
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """How long a call waits: s; None for ever."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Wait for ever, or not at all."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether a call waits."""
        return self._timeout != 0

    def fileno(self) -> NoReturn:
        """There is none.

        Raises:
            io.UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation("a socket of the network has no descriptor")

    def getsockname(self) -> Address:
        """Our end.

        Raises:
            OSError: EBADF, it is closed.
        """
        self._meeting.check_open()
        return self._sockname()

    def close(self) -> None:
        """End it; what was written is still sent, and whoever waits for it gets EBADF."""
        self._meeting.close()

    def _sockname(self) -> Address:
        raise NotImplementedError


def timeout_of(value: object) -> float | None:
    """A time-out in s; whatever is none is the default one, as the marks that other modules have for it."""
    if value is None or isinstance(value, int | float):
        return value
    return socket.getdefaulttimeout()


@asynccontextmanager
async def within(time_s: float | None) -> AsyncIterator[None]:
    """A time for what the loop's thread does, whose end is raised as sockets raise it."""
    try:
        async with asyncio.timeout(time_s) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise TimeoutError("timed out") from None
        raise
