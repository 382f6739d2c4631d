"""What the stack's failures are to a program that uses asyncio: one table.

The numbers are those that the kernel gives for the same mishap on a socket of its own, so that
`ConnectionRefusedError`, `TimeoutError`, `PermissionError` and the like come out of `OSError` by themselves.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from weft.stack.failure import Failure

ERRNO: Final = {
    Failure.REFUSED: errno.ECONNREFUSED,
    Failure.RESET: errno.ECONNRESET,
    Failure.ABORTED: errno.ECONNABORTED,
    Failure.TIMED_OUT: errno.ETIMEDOUT,
    Failure.NO_ROUTE: errno.ENETUNREACH,
    Failure.UNREACHABLE: errno.EHOSTUNREACH,
    Failure.PROHIBITED: errno.EACCES,
    Failure.TOO_LONG: errno.EMSGSIZE,
    Failure.IN_USE: errno.EADDRINUSE,
    Failure.NOT_OURS: errno.EADDRNOTAVAIL,
    Failure.NO_PORTS: errno.EADDRNOTAVAIL,
    Failure.NO_ROOM: errno.ENOBUFS,
    Failure.NOT_CONNECTED: errno.ENOTCONN,
    Failure.CLOSED: errno.EPIPE,
}

OF_LOCAL_END: Final = frozenset({Failure.IN_USE, Failure.NOT_OURS, Failure.NO_PORTS})
"""What is wrong with the address and the port of one's own."""


def error_of(failure: Failure, message: str = "") -> OSError:
    """What to raise, or to tell a protocol.

    Args:
        failure: why.
        message: in place of the system's own words.
    """
    number = ERRNO[failure]
    return OSError(number, message or os.strerror(number))


def binding_error(failure: Failure, address: tuple[object, ...]) -> OSError:
    """What asyncio raises when a socket can't have a local address."""
    reason = os.strerror(ERRNO[failure]).lower()
    return error_of(failure, f"error while attempting to bind on address {address!r}: {reason}")
