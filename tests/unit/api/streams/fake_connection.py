"""A connection of the stack that a test makes do what it wants."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from typing import Any

from weft.api.streams.ground import Ground
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError


class FakeDriver:
    """Counts who wakes it."""

    def __init__(self) -> None:
        self.host: Any = None
        self.wakes = 0
        self.clock = time.monotonic_ns

    def wake(self) -> None:
        self.wakes += 1


def make_ground() -> Ground:
    """Something for transports to stand on."""

    async def resolve(name: str, family: int) -> list[bytes]:
        raise AssertionError((name, family))

    driver: Any = FakeDriver()
    return Ground(driver, resolve, lambda address: f"peer {address[-1]}")


class FakeConnection:
    """What `TcpTransport` uses of a connection.

    Attributes:
        sent: all that was written.
        calls: the other verbs, in order.
        incoming: what is there to be read.
    """

    def __init__(self) -> None:
        self.local = Endpoint(ip_address("fc00::1").packed, 1000)
        self.remote = Endpoint(ip_address("fc00::2").packed, 80)
        self.user: Any = None
        self.failure: Failure | None = None
        self.is_established = True
        self.is_closed = False
        self.keepalive: Any = None
        self.has_end = False
        self.incoming: list[bytes] = []
        self.sent = bytearray()
        self.unsent_bytes = 0
        self.calls: list[Any] = []

    @property
    def readable_bytes(self) -> int:
        return sum(map(len, self.incoming))

    @property
    def is_at_end(self) -> bool:
        return self.has_end and not self.incoming

    def receive(self, limit: int | None = None) -> list[bytes]:
        taken: list[bytes] = []
        room = self.readable_bytes if limit is None else limit
        while self.incoming and room:
            chunk = self.incoming.pop(0)
            taken.append(chunk[:room])
            if chunk[room:]:
                self.incoming.insert(0, chunk[room:])
            room -= len(taken[-1])
        return taken

    def send(self, data: Any) -> None:
        if self.is_closed:
            raise StackError(self.failure or Failure.CLOSED)
        self.sent += data
        self.unsent_bytes += len(data)

    def shutdown(self, now: int) -> None:
        self.calls.append("shutdown")

    def close(self, now: int) -> None:
        self.calls.append("close")

    def abort(self, now: int) -> None:
        self.calls.append("abort")
        self.unsent_bytes = 0

    def set_no_delay(self, no_delay: bool) -> None:
        self.calls.append(("no delay", no_delay))

    def set_keepalive(self, keepalive: Any, now: int) -> None:
        self.calls.append(("keepalive", keepalive))

    # What a test makes happen.

    def bring(self, *chunks: bytes) -> None:
        """Data comes."""
        self.incoming.extend(chunks)
        self.tell()

    def bring_end(self) -> None:
        """The other side has no more to send."""
        self.has_end = True
        self.tell()

    def fail(self, failure: Failure) -> None:
        """It ends."""
        self.failure = failure
        self.is_closed = True
        self.unsent_bytes = 0
        self.tell()

    def drain(self, left: int = 0) -> None:
        """What was written leaves, but for so many bytes."""
        self.unsent_bytes = left
        self.tell()

    def tell(self) -> None:
        """As the driver does."""
        if self.user is not None:
            self.user.handle_event()


async def settle() -> None:
    """Let callbacks run."""
    for _ in range(5):
        await asyncio.sleep(0)
