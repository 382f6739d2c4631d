"""What all sockets of a host have in common: something happens to them, and somebody looks at them then.

Nothing is told twice: a socket to which something happened waits once in the queue of its host until it is looked at,
however much happens. Who looks at it sees what it has become, as with a level-triggered poll.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol


class User(Protocol):
    """Who uses a socket."""

    def handle_event(self) -> None:
        """Something happened to the socket; look at it."""


class Socket:
    """One socket of a host.

    Attributes:
        user: who uses it; the stack never calls it, but whoever drives the host does.
    """

    __slots__ = ("_events", "_is_queued", "user")

    def __init__(self, events: deque[Socket]) -> None:
        """Make a socket to which nothing has happened.

        Args:
            events: the queue of the host; see `Host.next_event`.
        """
        self._events = events
        self._is_queued = False
        self.user: User | None = None

    def _notify(self) -> None:
        """Something happened that the user may want to see."""
        if not self._is_queued:
            self._is_queued = True
            self._events.append(self)

    def _handle_looked_at(self) -> None:
        """The host hands it out now."""
        self._is_queued = False
