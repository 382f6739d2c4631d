"""What `get_extra_info("socket")` and `Server.sockets` give: enough of a socket for what libraries do with one.

There is no descriptor behind it, so `fileno` is -1, as that of a socket that is closed. Each kind of transport has
options of its own; others are refused as the kernel refuses one that it does not know.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Final, Protocol

from weft.api.streams.sockaddr import SocketAddress, family_of, sockaddr_of
from weft.stack.endpoint import Endpoint

Option = tuple[int, int]
"""Level and name, such as `SOL_SOCKET` and `SO_KEEPALIVE`."""
Value = int | bytes
"""A number, or what the system takes for the option."""

INT_BYTES: Final = 4


class Options(Protocol):
    """The options of one socket."""

    def get(self, option: Option) -> int | None:
        """The value of an option; None if there is no such."""

    def set(self, option: Option, value: Value) -> bool:
        """Set an option.

        Returns:
            Whether there is such.

        Raises:
            OSError: it can't have that value.
        """


class TransportSocket:
    """A socket of the overlay.

    Args:
        kind: `SOCK_STREAM` or `SOCK_DGRAM`.
        local: its own end.
        remote: the other end, if it is connected.
        options: those that it has beside its type and its error.

    Attributes:
        type: `SOCK_STREAM` or `SOCK_DGRAM`.
    """

    __slots__ = ("_local", "_options", "_remote", "type")

    def __init__(
        self, kind: socket.SocketKind, local: Endpoint, remote: Endpoint | None = None, options: Options | None = None
    ) -> None:
        self.type = kind
        self._local = local
        self._remote = remote
        self._options = options

    @property
    def family(self) -> socket.AddressFamily:
        """`AF_INET` or `AF_INET6`."""
        return family_of(self._local.address)

    @property
    def proto(self) -> int:
        """`IPPROTO_TCP` or `IPPROTO_UDP`."""
        return socket.IPPROTO_TCP if self.type == socket.SOCK_STREAM else socket.IPPROTO_UDP

    def __repr__(self) -> str:
        remote = f", raddr={sockaddr_of(self._remote)}" if self._remote is not None else ""
        return f"<weft socket {self.type.name}, laddr={self.getsockname()}{remote}>"

    def fileno(self) -> int:
        """-1: it has no descriptor."""
        return -1

    def getsockname(self) -> SocketAddress:
        """The local socket address."""
        return sockaddr_of(self._local)

    def getpeername(self) -> SocketAddress:
        """The remote socket address.

        Raises:
            OSError: ENOTCONN, it is not connected.
        """
        if self._remote is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return sockaddr_of(self._remote)

    def getsockopt(self, level: int, name: int, size: int = 0) -> int | bytes:
        """The value of an option.

        Args:
            level: such as `SOL_SOCKET`.
            name: such as `SO_KEEPALIVE`.
            size: 0 for a number, else how many bytes of it there may be.

        Raises:
            OSError: ENOPROTOOPT, it is not known.
        """
        value = self._value((level, name))
        return value.to_bytes(INT_BYTES, sys.byteorder)[:size] if size else value

    def setsockopt(self, level: int, name: int, value: Value) -> None:
        """Set an option.

        Raises:
            OSError: it is not known (ENOPROTOOPT), or can't have that value.
        """
        if self._options is None or not self._options.set((level, name), value):
            raise _unknown()

    def gettimeout(self) -> float:
        """0: nothing waits for it."""
        return 0.0

    def _value(self, option: Option) -> int:
        if option == (socket.SOL_SOCKET, socket.SO_TYPE):
            return self.type
        if option == (socket.SOL_SOCKET, socket.SO_ERROR):
            return 0
        value = self._options.get(option) if self._options is not None else None
        if value is None:
            raise _unknown()
        return value


def number_of(value: Value) -> int:
    """The number that a value is, whichever way it is given."""
    return int(value) if isinstance(value, int) else int.from_bytes(value[:INT_BYTES], sys.byteorder)


def _unknown() -> OSError:
    return OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
