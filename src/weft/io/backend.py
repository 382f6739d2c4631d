"""Where the sockets of programs come from that talk to a daemon: one interface, with an implementation for each device.

| device  | backend                                    | may reach                               |
|---------|--------------------------------------------|-----------------------------------------|
| `stack` | engine/stack_backend.py: the host inside   | what the host has a route to            |
| `tun`   | io/kernel/: the system's                   | addresses of the network, and no others |

The sockets have the shape of the stack's: nothing in them waits, and whoever uses one is told that something happened
to it and looks at it then. Which of both a node has is decided by its interface (engine/interface.py,
engine/host_interface.py).

Not done here: what programs say (netd/).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure
from weft.stack.socket import User


class Closable(Protocol):
    """Who uses a backend."""

    def close(self) -> None:
        """It is there no longer."""


class Connection(Protocol):
    """A TCP connection; `stack.tcp.connection` says what its parts mean.

    Attributes:
        user: who uses it.
        awaits_room: set by the user that wants to be told when something has left.
    """

    user: User | None
    awaits_room: bool

    @property
    def local(self) -> Endpoint:
        """Our end."""

    @property
    def remote(self) -> Endpoint:
        """The other end."""

    @property
    def failure(self) -> Failure | None:
        """Why it ended, if not in order."""

    @property
    def is_established(self) -> bool:
        """Whether the handshake is done; stays so."""

    @property
    def is_closed(self) -> bool:
        """Nothing more will happen, but what has come may still be taken."""

    @property
    def is_at_end(self) -> bool:
        """Whether the other side has no more to send, and all that it sent was taken."""

    @property
    def arrived(self) -> int:
        """A number that grows with all that comes, the end included."""

    @property
    def readable_bytes(self) -> int:
        """What has come and was not taken."""

    @property
    def unsent_bytes(self) -> int:
        """What was written and never sent."""

    def receive(self, limit: int | None = None) -> list[bytes]:
        """Take what has come; nothing, if nothing is there."""

    def send(self, data: bytes) -> None:
        """Send data; all of it is taken.

        Raises:
            StackError: it has ended, or its end was said.
        """

    def shutdown(self, now: int) -> None:
        """Say, behind all data, that nothing more will be sent."""

    def close(self, now: int) -> None:
        """Send what is left, and take nothing more."""

    def abort(self, now: int) -> None:
        """End it at once."""

    def set_no_delay(self, no_delay: bool) -> None:
        """Whether small segments leave at once."""


class Listener(Protocol):
    """A port that takes connections.

    Attributes:
        user: who uses it.
    """

    user: User | None

    @property
    def local(self) -> Endpoint:
        """Where it listens."""

    @property
    def has_waiting(self) -> bool:
        """Whether one waits to be accepted."""

    def accept(self) -> Connection | None:
        """Take the connection that waits the longest; None if there is none."""

    def close(self, now: int) -> None:
        """Take no more; those that wait are reset."""


class Datagrams(Protocol):
    """A UDP socket; `stack.udp_socket` says what its parts mean.

    Attributes:
        user: who uses it.
    """

    user: User | None

    @property
    def local(self) -> Endpoint:
        """Where it receives."""

    @property
    def remote(self) -> Endpoint | None:
        """The only one it talks to, or None."""

    @property
    def queued_bytes(self) -> int:
        """What waits to be received, with what it costs to keep."""

    @property
    def has_failed(self) -> bool:
        """Whether `take_failure` gives one."""

    def send(self, data: bytes, remote: Endpoint | None, now: int) -> None:
        """Send a datagram; one for which there is no room is lost.

        Raises:
            StackError: CLOSED, NOT_CONNECTED, NO_ROUTE, TOO_LONG, PROHIBITED.
        """

    def receive(self) -> tuple[bytes, Endpoint] | None:
        """Take the next datagram, and who sent it; None if none waits."""

    def take_failure(self) -> tuple[Failure, Endpoint] | None:
        """Take the oldest failure of a datagram that was sent; None if there is none."""

    def close(self) -> None:
        """Give back the port."""


class Ping(Protocol):
    """An echo request.

    Attributes:
        user: who uses it.
    """

    user: User | None

    @property
    def reply_ns(self) -> int | None:
        """How long the reply took; None while there is none."""

    @property
    def failure(self) -> Failure | None:
        """Why there will be none."""


class Counts(NamedTuple):
    """What is counted."""

    sent_packets: int
    """From this machine into the network; a super-packet is one."""
    received_packets: int
    sent_bytes: int
    received_bytes: int
    drops: int
    """What was not taken."""
    connections: int
    listeners: int
    datagrams: int


class Backend(Protocol):
    """Sockets in the network, on the loop on which they were asked for.

    Attributes:
        users: who ends with it, and is closed then.
        clock: monotonic ns.
    """

    users: set[Closable]
    clock: Callable[[], int]

    def wake(self) -> None:
        """Something was done to its sockets, and more may follow."""

    def run(self) -> None:
        """All was done to its sockets that there was to do for now; called from callbacks of the loop."""

    def is_own(self, address: bytes) -> bool:
        """Whether an address, 4 or 16 bytes, is one of this node."""

    def connect(self, remote: Endpoint, local: Endpoint | None) -> Connection:
        """Begin a connection.

        Args:
            remote: the other end.
            local: our end; zeros are for this to choose.

        Raises:
            StackError: NO_ROUTE, NOT_OURS, IN_USE, NO_PORTS, NO_ROOM, ABORTED.
        """

    def listen(self, local: Endpoint, backlog: int) -> Listener:
        """Take connections; an address of zeros is any of this node, of both families if it is one of IPv6.

        Raises:
            StackError: NOT_OURS, IN_USE, NO_PORTS, NO_ROOM.
        """

    def open_udp(self, local: Endpoint | None, remote: Endpoint | None) -> Datagrams:
        """Open a UDP socket; for zeros see `listen`.

        Args:
            local: where it receives.
            remote: the only one it talks to, or None.

        Raises:
            StackError: NO_ROUTE, NOT_OURS, IN_USE, NO_PORTS, NO_ROOM.
        """

    def ping(self, destination: bytes, timeout_s: float) -> Ping:
        """Send an echo request.

        Raises:
            StackError: NO_ROUTE, NO_ROOM.
        """

    def counts(self) -> Counts:
        """What is counted now."""
