"""What a client wants of a proxy, in whichever protocol it asks, and why it may not get it.

| what was raised                       | refusal             |
|---------------------------------------|---------------------|
| `ConnectionRefusedError`              | REFUSED             |
| no such name; `EHOSTUNREACH`          | HOST_UNREACHABLE    |
| `ENETUNREACH`, `EADDRNOTAVAIL`        | NETWORK_UNREACHABLE |
| a time-out                            | TIMED_OUT           |
| `EACCES`, `EPERM`                     | NOT_ALLOWED         |
| `EAFNOSUPPORT`                        | ADDRESS_TYPE        |
| anything else                         | FAILED              |

Sources: RFC 1928 section 6 (codes of SOCKS5); RFC 9110 section 15 (status codes of HTTP).
"""

from __future__ import annotations

import errno
import socket
from enum import Enum
from typing import Final, NamedTuple, Protocol

from weft.errors import WeftError

FAILURES: Final = (OSError, WeftError, RuntimeError, ValueError)
"""What a network raises when it does not connect: RuntimeError if it is closed, ValueError of a name that is none."""


class Command(Enum):
    """What is to be done."""

    CONNECT = "connect"
    UDP_ASSOCIATE = "udp associate"


class Request(NamedTuple):
    """What a client wants.

    Attributes:
        command: what is to be done.
        host: a name or an address, never empty; for UDP_ASSOCIATE where the client's datagrams will come from.
        port: 0 to 65,535.
    """

    command: Command
    host: str
    port: int


class Refusal(Enum):
    """Why not: the code in SOCKS5, the status in HTTP, and words."""

    FAILED = 1, 502, "it failed"
    MALFORMED = 1, 400, "this is no request that a proxy understands"
    BUSY = 1, 503, "there are too many already"
    NO_LOGIN = 2, 407, "a user and a password are needed"
    NOT_ALLOWED = 2, 403, "it is not allowed"
    NETWORK_UNREACHABLE = 3, 502, "it is not in the network"
    HOST_UNREACHABLE = 4, 502, "there is no way to it"
    REFUSED = 5, 502, "connection refused"
    TIMED_OUT = 6, 504, "no answer"
    COMMAND = 7, 501, "this is not done here"
    ADDRESS_TYPE = 8, 400, "this kind of address is not known"

    @property
    def code(self) -> int:
        """Of a reply of SOCKS5."""
        return self.value[0]

    @property
    def status(self) -> int:
        """Of a response of HTTP."""
        return self.value[1]

    @property
    def words(self) -> str:
        """For people."""
        return self.value[2]


_REFUSALS: Final = {
    errno.ECONNREFUSED: Refusal.REFUSED,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
    errno.ENETUNREACH: Refusal.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: Refusal.NETWORK_UNREACHABLE,
    errno.ETIMEDOUT: Refusal.TIMED_OUT,
    errno.EACCES: Refusal.NOT_ALLOWED,
    errno.EPERM: Refusal.NOT_ALLOWED,
    errno.EAFNOSUPPORT: Refusal.ADDRESS_TYPE,
}


def refusal_of(error: Exception) -> Refusal:
    """What to tell the client of a failure."""
    match error:
        case socket.gaierror():
            return Refusal.HOST_UNREACHABLE
        case TimeoutError():
            return Refusal.TIMED_OUT
        case OSError(errno=int(number)):
            return _REFUSALS.get(number, Refusal.FAILED)
        case _:
            return Refusal.FAILED


class Dialect(Protocol):
    """One client's side of a protocol, without input or output.

    Attributes:
        request: what the client wants, once that is known.
        refusal: why it gets nothing, if that is known already.
        first: what is for the destination of what came so far: what stands behind the request, or belongs to it.
    """

    request: Request | None
    refusal: Refusal | None
    first: bytes

    def receive(self, data: bytes) -> bytes:
        """Take what came, as long as there is neither a request nor a refusal.

        Returns:
            What is to be answered at once.

        Raises:
            DecodeError: it is no request; `refuse` is the answer.
        """

    def accept(self, host: str, port: int) -> bytes:
        """The answer to a request that is granted.

        Args:
            host: our end: an address.
            port: likewise.
        """

    def refuse(self, refusal: Refusal) -> bytes:
        """The answer to one that is not."""
