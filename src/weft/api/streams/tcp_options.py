"""The options of a TCP socket that the stack has.

| level | name | value |
|---|---|---|
| IPPROTO_TCP | TCP_NODELAY | send small writes at once; on at first, as asyncio sets it |
| SOL_SOCKET | SO_KEEPALIVE | ask a silent peer whether it is there |
| IPPROTO_TCP | TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT | after how many s, each how many s, how often |
| SOL_SOCKET | SO_LINGER | `struct linger`: with 0 s the end is a reset; nothing waits here, so there is no other time |

Where the platform's `socket` has no name for one of the last three, it is not there. At first each is as in Linux.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

from weft.api.streams.sockets import Option, Value, number_of
from weft.stack.tcp.connection import Connection, Keepalive
from weft.stack.tcp.timers import KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES

NO_DELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
KEEP_ALIVE: Final = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
LINGER: Final = (socket.SOL_SOCKET, socket.SO_LINGER)
LINGER_FORMAT: Final = "hh" if sys.platform == "win32" else "ii"
"""Whether it is on, and s."""
MAX_KEEP_ALIVE: Final = 32_767
"""Of each of the last three, as in Linux."""

# What the platform lacks gets a number that nobody can ask for.
_IDLE: Final = (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", -1))
_INTERVAL: Final = (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", -2))
_PROBES: Final = (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", -3))


class TcpOptions:
    """The options of one connection.

    Args:
        connection: on which they act.
        clock: monotonic ns.
        wake: has the host looked after.
    """

    __slots__ = ("_clock", "_connection", "_values", "_wake")

    def __init__(self, connection: Connection, clock: Callable[[], int], wake: Callable[[], None]) -> None:
        self._connection = connection
        self._clock = clock
        self._wake = wake
        self._values: dict[Option, int] = {
            NO_DELAY: 1,
            KEEP_ALIVE: int(connection.keepalive is not None),
            LINGER: 0,
            _IDLE: KEEPALIVE_IDLE_S,
            _INTERVAL: KEEPALIVE_INTERVAL_S,
            _PROBES: KEEPALIVE_PROBES,
        }

    @property
    def is_reset_at_end(self) -> bool:
        """Whether the other side is to hear of the end by a reset."""
        return bool(self._values[LINGER])

    def get(self, option: Option) -> int | None:
        """The value of an option; None if there is no such."""
        return self._values.get(option)

    def set(self, option: Option, value: Value) -> bool:
        """Set an option.

        Returns:
            Whether there is such.

        Raises:
            OSError: EINVAL, it can't have that value.
        """
        if option not in self._values:
            return False
        number = _number_of_linger(value) if option == LINGER else number_of(value)
        if option in {_IDLE, _INTERVAL, _PROBES} and not 0 < number <= MAX_KEEP_ALIVE:
            raise _invalid()
        values = self._values
        values[option] = number
        if option == NO_DELAY:
            self._connection.set_no_delay(bool(number))
        elif option == KEEP_ALIVE or values[KEEP_ALIVE]:
            times = Keepalive(values[_IDLE], values[_INTERVAL], values[_PROBES])
            self._connection.set_keepalive(times if values[KEEP_ALIVE] else None, self._clock())
        # What waited to be sent with more may leave, and a timer may be the first to end.
        self._wake()
        return True


def _number_of_linger(value: Value) -> int:
    if isinstance(value, int) or len(value) < struct.calcsize(LINGER_FORMAT):
        raise _invalid()
    is_on, seconds = struct.unpack_from(LINGER_FORMAT, value)
    if is_on and seconds:
        raise _invalid()
    return int(bool(is_on))


def _invalid() -> OSError:
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL))
