"""The options of a UDP socket that the stack has.

| level | name | value |
|---|---|---|
| SOL_SOCKET | SO_BROADCAST | it may send to broadcast addresses |
| IPPROTO_IP | IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP | a group of 4 bytes, and an interface, which is ignored |
| IPPROTO_IPV6 | IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP | likewise, a group of 16 bytes |

There is one interface only.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from weft.api.streams.errors import error_of
from weft.api.streams.sockets import Option, Value, number_of
from weft.errors import UsageError
from weft.stack.failure import StackError
from weft.stack.udp_socket import UdpSocket

BROADCAST: Final = (socket.SOL_SOCKET, socket.SO_BROADCAST)

_JOIN: Final = {
    (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP): 4,
    (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP): 16,
}
_LEAVE: Final = {
    (socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP): 4,
    (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP): 16,
}


class DatagramOptions:
    """The options of one socket.

    Args:
        udp: on which they act.
    """

    __slots__ = ("_udp",)

    def __init__(self, udp: UdpSocket) -> None:
        self._udp = udp

    def get(self, option: Option) -> int | None:
        """The value of an option; None if there is no such that has one."""
        return int(self._udp.broadcast) if option == BROADCAST else None

    def set(self, option: Option, value: Value) -> bool:
        """Set an option.

        Returns:
            Whether there is such.

        Raises:
            OSError: EINVAL, it can't have that value; ENOBUFS, there are too many groups.
        """
        if option == BROADCAST:
            self._udp.broadcast = bool(number_of(value))
            return True
        length = _JOIN.get(option) or _LEAVE.get(option)
        if length is None:
            return False
        if isinstance(value, int) or len(value) < length:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        group = bytes(value[:length])
        try:
            if option in _JOIN:
                self._udp.join(group)
            else:
                self._udp.leave(group)
        except StackError as error:
            raise error_of(error.failure) from None
        except UsageError:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        return True
