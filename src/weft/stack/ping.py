"""Echo requests that wait for their replies.

Each has an identifier and a sequence number by chance, and is answered only by a reply from its destination with both
and all of its data.

Source: RFC 792 (echo), RFC 4443 sections 4.1 and 4.2.
Not done here: the messages (`icmp`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from weft.stack.failure import Failure, StackError
from weft.stack.socket import Socket

MAX_PINGS: Final = 1024
_IDENTITY_BYTES: Final = 4


class Ping(Socket):
    """One echo request.

    Attributes:
        destination: whom it asks.
        request: identifier, sequence number and data.
        reply_ns: how long the reply took, or None while there is none.
        failure: why there will be none, or None.
    """

    __slots__ = ("_deadline", "_sent_at", "destination", "failure", "reply_ns", "request")

    def __init__(self, events: deque[Socket], destination: bytes, request: bytes, sent_at: int, deadline: int) -> None:
        super().__init__(events)
        self.destination = destination
        self.request = request
        self.reply_ns: int | None = None
        self.failure: Failure | None = None
        self._sent_at = sent_at
        self._deadline = deadline

    @property
    def deadline(self) -> int:
        """When it is given up, monotonic ns."""
        return self._deadline

    def _end(self, *, reply_at: int | None = None, failure: Failure | None = None) -> None:
        self.reply_ns = None if reply_at is None else reply_at - self._sent_at
        self.failure = failure
        self._notify()


class Pings:
    """Those that wait, at most `MAX_PINGS`."""

    def __init__(self, random_bytes: Callable[[int], bytes], events: deque[Socket]) -> None:
        self._random_bytes = random_bytes
        self._events = events
        self._waiting: dict[bytes, Ping] = {}
        """By identifier and sequence number."""

    def start(self, destination: bytes, data: bytes, now: int, deadline: int) -> Ping:
        """Note one that is about to be sent.

        Raises:
            StackError: NO_ROOM.
        """
        if len(self._waiting) >= MAX_PINGS:
            raise StackError(Failure.NO_ROOM, f"{MAX_PINGS} pings")
        identity = self._random_bytes(_IDENTITY_BYTES)
        while identity in self._waiting:
            identity = self._random_bytes(_IDENTITY_BYTES)
        ping = self._waiting[identity] = Ping(self._events, destination, identity + data, now, deadline)
        return ping

    def forget(self, ping: Ping) -> None:
        """It was not sent after all."""
        del self._waiting[ping.request[:_IDENTITY_BYTES]]

    def receive_reply(self, source: bytes, reply: memoryview, now: int) -> bool:
        """A reply came.

        Args:
            source: who sent it.
            reply: identifier, sequence number and data.
            now: monotonic ns.

        Returns:
            Whether it is one to a ping that waits.
        """
        identity = bytes(reply[:_IDENTITY_BYTES])
        ping = self._waiting.get(identity)
        if ping is None or ping.destination != source or ping.request != reply:
            return False
        del self._waiting[identity]
        ping._end(reply_at=now)
        return True

    def receive_error(self, failure: Failure, destination: bytes, quoted: memoryview) -> bool:
        """An error quotes an ICMP message of ours.

        Args:
            failure: what became of the message.
            destination: whom it was for.
            quoted: its first 8 bytes, or more.

        Returns:
            Whether it is a ping that waits.
        """
        identity = bytes(quoted[4 : 4 + _IDENTITY_BYTES])
        ping = self._waiting.get(identity)
        if ping is None or ping.destination != destination:
            return False
        del self._waiting[identity]
        ping._end(failure=failure)
        return True

    def handle_timer(self, now: int) -> None:
        """Give up those whose time is over."""
        for identity, ping in list(self._waiting.items()):
            if ping.deadline <= now:
                del self._waiting[identity]
                ping._end(failure=Failure.TIMED_OUT)

    def next_timer(self) -> int | None:
        """When the next one is given up, monotonic ns."""
        return min(ping.deadline for ping in self._waiting.values()) if self._waiting else None
