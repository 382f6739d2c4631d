"""One UDP socket: what waits to be received, and what went wrong.

Source: RFC 768; RFC 1122 section 4.1.3.
Not done here: which datagrams are for it, and sending (`udp`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from weft.packet.checksum import Buffer
from weft.stack.addresses import ANY_V4, ANY_V6
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.socket import Socket
from weft.stack.train import Flow

if TYPE_CHECKING:
    from weft.stack.udp import Udp

RECEIVE_QUEUE_BYTES: Final = 256 * 1024
DATAGRAM_OVERHEAD_BYTES: Final = 256
"""Counted for each datagram beside its payload: what Python needs for it."""
MAX_FAILURES: Final = 16
MAX_GROUPS: Final = 64


class UdpSocket(Socket):
    """A socket of `Udp.open`.

    Something happened to it when a datagram or a failure waits.

    Attributes:
        local: where it receives.
        remote: the only one it talks to, or None.
        reuse: whether it shares its port.
        broadcast: whether it may send to broadcast addresses.
        rank: how particular it is; see `udp`.
        flow: of the last datagram sent.
        queued_bytes: what waits to be received, `DATAGRAM_OVERHEAD_BYTES` for each datagram included.
    """

    __slots__ = (
        "_failures", "_groups", "_is_closed", "_queue", "_udp", "broadcast", "flow", "local", "queued_bytes", "rank",
        "remote", "reuse",
    )  # fmt: skip

    def __init__(
        self,
        udp: Udp,
        events: deque[Socket],
        local: Endpoint,
        remote: Endpoint | None,
        *,
        reuse: bool,
        broadcast: bool,
    ) -> None:
        super().__init__(events)
        self.local = local
        self.remote = remote
        self.reuse = reuse
        self.broadcast = broadcast
        self.flow: Flow | None = None
        self.rank = _rank(local, remote)
        self._udp = udp
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self.queued_bytes = 0
        self._failures: deque[tuple[Failure, Endpoint]] = deque(maxlen=MAX_FAILURES)
        self._groups: set[bytes] = set()
        self._is_closed = False

    def send(self, data: Buffer, remote: Endpoint | None, now: int) -> None:
        """Send a datagram; one that the host's queue has no room for is lost and counted.

        Args:
            data: its payload; copied unless it is bytes.
            remote: where to; None for the socket's own.
            now: monotonic ns.

        Raises:
            StackError: CLOSED; NOT_CONNECTED, neither the socket nor the caller says where to; NO_ROUTE; TOO_LONG;
                PROHIBITED, broadcast was not asked for.
        """
        if self._is_closed:
            raise StackError(Failure.CLOSED)
        remote = remote or self.remote
        if remote is None:
            raise StackError(Failure.NOT_CONNECTED)
        self._udp.send(self, data, remote)

    def receive(self) -> tuple[bytes, Endpoint] | None:
        """Take the next datagram, and who sent it; None if none waits."""
        if not self._queue:
            return None
        datagram = self._queue.popleft()
        self.queued_bytes -= len(datagram[0]) + DATAGRAM_OVERHEAD_BYTES
        return datagram

    @property
    def has_failed(self) -> bool:
        """Whether `take_failure` gives one."""
        return bool(self._failures)

    def take_failure(self) -> tuple[Failure, Endpoint] | None:
        """Take the oldest failure of a datagram that was sent, and where to; None if there is none."""
        return self._failures.popleft() if self._failures else None

    def join(self, group: bytes) -> None:
        """Receive what is sent to a multicast group.

        Raises:
            StackError: CLOSED; NO_ROOM, the socket or the host is in too many.
            UsageError: it is none.
        """
        if self._is_closed:
            raise StackError(Failure.CLOSED)
        if group in self._groups:
            return
        if len(self._groups) >= MAX_GROUPS:
            raise StackError(Failure.NO_ROOM, f"{MAX_GROUPS} groups")
        self._udp.join(group)
        self._groups.add(group)

    def leave(self, group: bytes) -> None:
        """Receive that no more; nothing, if it was not joined."""
        if group in self._groups:
            self._groups.remove(group)
            self._udp.leave(group)

    def close(self) -> None:
        """Give back the port; what waits is forgotten."""
        if not self._is_closed:
            self._is_closed = True
            for group in list(self._groups):
                self.leave(group)
            self._udp.close(self)
            self._queue.clear()
            self._failures.clear()

    def suits(self, destination: bytes, remote: Endpoint) -> bool:
        """Whether a datagram to its port may be for it."""
        local = self.local.address
        return (self.remote is None or self.remote == remote) and (
            local in {destination, ANY_V6} or (local == ANY_V4 and len(destination) == 4)
        )

    def hears(self, destination: bytes) -> bool:
        """Whether it takes what is sent to many: broadcast always, multicast if it joined the group."""
        return destination in self._groups or (len(destination) == 4 and destination[0] >> 4 != 0xE)

    def put(self, data: bytes, remote: Endpoint) -> bool:
        """Let a datagram wait for the user; returns whether there was room."""
        length = len(data) + DATAGRAM_OVERHEAD_BYTES
        if self.queued_bytes + length > RECEIVE_QUEUE_BYTES:
            return False
        self._queue.append((data, remote))
        self.queued_bytes += length
        self._notify()
        return True

    def put_failure(self, failure: Failure, remote: Endpoint) -> None:
        """Let a failure wait for the user; the oldest makes room."""
        self._failures.append((failure, remote))
        self._notify()


def _rank(local: Endpoint, remote: Endpoint | None) -> int:
    if remote is not None:
        return 4
    return {ANY_V6: 1, ANY_V4: 2}.get(local.address, 3)
