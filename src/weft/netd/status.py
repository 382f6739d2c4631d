"""Why a request was not done: the numbers of the seed, and those of Linux where the seed has none.

Source: seed 004 for -12, -22, -38, -100, -110, -111 and -300; errno of Linux, negative, for the others above -300.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from weft.stack.failure import Failure


class Status(IntEnum):
    """The field `status` of a reply."""

    OK = 0, "done"
    NO_NAME = -2, "there is no such name"
    TRY_AGAIN = -11, "the name can't be looked up now"
    NO_RESOURCE = -12, "more than a client, or all of them, may have; close or wait for something first"
    PROHIBITED = (
        -13,
        "not allowed: by a firewall on the way, a broadcast address, or a port that the daemon may not have",
    )
    INVALID = -22, "the message is malformed, or makes no sense in this state of the socket"
    CLOSED = -32, "the socket takes no more data: it was shut down"
    NOT_SUPPORTED = -38, "there is no such message, or not for this kind of socket"
    TOO_LONG = -90, "the datagram is too long"
    IN_USE = -98, "the port is taken"
    NOT_OURS = -99, "the address is not one of this node"
    INVALID_HANDLE = -100, "this client has no such socket"
    NO_ROUTE = -101, "nobody in the network has that address"
    ABORTED = -103, "the socket was closed while this waited, or the interface of the daemon has ended"
    RESET = -104, "the other side has reset the connection"
    NOT_CONNECTED = -107, "the socket is not connected, and no destination was given"
    TIMED_OUT = -110, "no answer in time"
    REFUSED = -111, "the other side has refused the connection"
    UNREACHABLE = -113, "the host can't be reached"
    WOULD_BLOCK = -300, "nothing to be had now; ask again, poll, or say that you wait"
    NO_INTERFACE = -302, "this node has no interface; `weft fc00 start` makes one"

    meaning: str

    def __new__(cls, number: int, meaning: str = "") -> Status:
        """A number that says what it means."""
        status = int.__new__(cls, number)
        status._value_ = number
        status.meaning = meaning
        return status


OF_FAILURE: Final = {
    Failure.REFUSED: Status.REFUSED,
    Failure.RESET: Status.RESET,
    Failure.ABORTED: Status.ABORTED,
    Failure.TIMED_OUT: Status.TIMED_OUT,
    Failure.NO_ROUTE: Status.NO_ROUTE,
    Failure.UNREACHABLE: Status.UNREACHABLE,
    Failure.PROHIBITED: Status.PROHIBITED,
    Failure.TOO_LONG: Status.TOO_LONG,
    Failure.IN_USE: Status.IN_USE,
    Failure.NOT_OURS: Status.NOT_OURS,
    Failure.NO_PORTS: Status.NO_RESOURCE,
    Failure.NO_ROOM: Status.NO_RESOURCE,
    Failure.NOT_CONNECTED: Status.NOT_CONNECTED,
    Failure.CLOSED: Status.CLOSED,
}
"""What clients are told of what the backend says."""


class RefusedError(Exception):
    """A request that is not done, inside the daemon.

    Attributes:
        status: why.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status
