"""What goes wrong: why a socket ended or a verb could not be done.

The faces of the stack turn each into what their users expect: an `OSError` of asyncio, a code of netd.
"""

from __future__ import annotations

from enum import Enum

from weft.errors import WeftError


class Failure(Enum):
    """Why; the text is for people."""

    REFUSED = "connection refused"
    RESET = "connection reset by peer"
    ABORTED = "connection aborted"
    TIMED_OUT = "timed out"
    NO_ROUTE = "no route to the network"
    UNREACHABLE = "host is unreachable"
    PROHIBITED = "administratively prohibited"
    TOO_LONG = "message too long"
    IN_USE = "address in use"
    NOT_OURS = "address is not of this host"
    NO_PORTS = "no free port"
    NO_ROOM = "too many sockets"
    NOT_CONNECTED = "not connected"
    CLOSED = "closed"


class StackError(WeftError):
    """A verb could not be done; nothing has changed.

    Attributes:
        failure: why.
    """

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{failure.value}: {detail}" if detail else failure.value)
        self.failure = failure
