"""What happens in a node, told to whoever listens: programs through the API, people through `weft status --watch`.

Each listener has a queue of its own with a bound; one that does not keep up loses the oldest and is told how many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from weft.engine.status import Event, EventKind
from weft.io.clock import wall_ns

QUEUE: Final = 1024
"""Events that wait for one listener."""


class Events:
    """Publishes to all listeners."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()

    def publish(self, kind: EventKind, text: str = "", *, peer: str | None = None, level: str | None = None) -> None:
        """Tell everybody who listens; costs nothing if nobody does.

        Args:
            kind: of the event.
            text: one line for a person.
            peer: peer id, or WireGuard key of a peer that has none.
            level: of a log record.
        """
        if self._listeners:
            event = Event(at=wall_ns() / 1e9, kind=kind, peer=peer, text=text, level=level)
            for listener in self._listeners:
                listener.put(event)

    async def listen(self, kinds: frozenset[EventKind] = frozenset()) -> AsyncIterator[Event]:
        """What happens from the first `anext` on, until the iterator is closed.

        Args:
            kinds: what to tell, besides `missed`; empty for all.
        """
        listener = _Listener(kinds)
        self._listeners.add(listener)
        try:
            while True:
                yield await listener.get()
        finally:
            self._listeners.discard(listener)


class _Listener:
    """The queue of one listener."""

    def __init__(self, kinds: frozenset[EventKind]) -> None:
        self._kinds = kinds
        self._queue: deque[Event] = deque()
        self._missed = 0
        self._filled = asyncio.Event()

    def put(self, event: Event) -> None:
        if self._kinds and event.kind not in self._kinds:
            return
        if len(self._queue) == QUEUE:
            self._queue.popleft()
            self._missed += 1
        self._queue.append(event)
        self._filled.set()

    async def get(self) -> Event:
        await self._filled.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return Event(
                at=self._queue[0].at, kind="missed", text=f"{missed} events were not told: the listener is too slow"
            )
        event = self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        return event
