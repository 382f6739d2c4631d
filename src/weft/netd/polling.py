"""Who waits until a socket is ready, and who is told of it: POLL and events, as level and as edge.

An event that was not sent yet is sent once, with all that there is to tell by then: so there are never more of them
than sockets, however much happens and however slowly the client reads.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Final

from weft.netd.frames import EVENTS
from weft.netd.messages import ALWAYS, EDGE, FOREVER, Code, Happened, Mode, Poll, Polled, Ready
from weft.netd.status import RefusedError, Status

if TYPE_CHECKING:
    from weft.netd.handle import Handle
    from weft.netd.session import Session

MAX_POLLED: Final = 16_384
"""Rows of all POLLs of a client that wait."""
MAX_ROWS: Final = 4096
"""Of one POLL: as many as a client may have sockets."""

_MS: Final = 1_000_000
_ALWAYS: Final = int(ALWAYS)
_ALL: Final = int(Ready.READABLE | Ready.WRITABLE | ALWAYS)


class Waiting:
    """A POLL that waits."""

    __slots__ = ("has_timer", "is_edge", "is_over", "request", "wanted")

    def __init__(self, request: int, wanted: dict[int, int], *, is_edge: bool) -> None:
        self.request = request
        self.wanted = wanted
        self.is_edge = is_edge
        self.has_timer = self.is_over = False


class Polling:
    """All of a client.

    Args:
        session: whose.

    Attributes:
        mode: of events of sockets that the client will have.
        interest: in these.
        subscription: request that they have.
    """

    def __init__(self, session: Session) -> None:
        self.mode = Mode.OFF
        self.interest = 0
        self.subscription = 0
        self._session = session
        self._rows = 0
        self._timers: list[tuple[int, int, Waiting]] = []
        self._idle_timers = 0
        """Of these, whose POLL is answered."""
        self._order = count()
        self._to_tell: dict[Handle, None] = {}

    def poll(self, request: int, asked: Poll, now: int) -> Polled | None:
        """Answer a POLL, or let it wait.

        Raises:
            RefusedError: INVALID, NO_RESOURCE.
        """
        if asked.flags & ~EDGE or len(asked.sockets) > MAX_ROWS:
            raise RefusedError(Status.INVALID)
        wanted: dict[int, int] = {}
        for number, interest in asked.sockets:
            wanted[number] = wanted.get(number, 0) | _interest(interest)
            handle = self._session.sockets.handles.get(number)
            if handle is not None:
                handle.watch()
        waiting = Waiting(request, wanted, is_edge=bool(asked.flags & EDGE))
        ready = self._ready(waiting)
        if ready or not asked.timeout_ms:
            return Polled(ready)
        if self._rows + len(wanted) > MAX_POLLED:
            raise RefusedError(Status.NO_RESOURCE)
        self._rows += len(wanted)
        for number in wanted:
            self._session.sockets.handles[number].polls[waiting] = None
        if asked.timeout_ms != FOREVER:
            waiting.has_timer = True
            heapq.heappush(self._timers, (now + asked.timeout_ms * _MS, next(self._order), waiting))
        return None

    def subscribe(self, request: int, number: int, interest: int, mode: int) -> None:
        """Tell a client what happens from now on, and what is so already.

        Raises:
            RefusedError: INVALID, INVALID_HANDLE.
        """
        if mode not in {*Mode}:
            raise RefusedError(Status.INVALID)
        wanted = _interest(interest)
        session = self._session
        if number:
            self._set(session.sockets.find(number), request, wanted, Mode(mode))
            return
        self.mode, self.interest, self.subscription = Mode(mode), wanted, request
        for handle in session.sockets.handles.values():
            self._set(handle, request, wanted, Mode(mode))

    def join(self, handle: Handle) -> None:
        """A socket is new."""
        if self.mode is not Mode.OFF:
            self._set(handle, self.subscription, self.interest, self.mode)

    def replace(self, old: Handle, new: Handle) -> None:
        """A socket has become another kind."""
        new.polls, new.mode, new.interest, new.subscription = old.polls, old.mode, old.interest, old.subscription
        self._to_tell.pop(old, None)
        if old.is_watched:
            new.watch()

    def leave(self, handle: Handle) -> None:
        """A socket is gone: who waits for it is told."""
        self._to_tell.pop(handle, None)
        for waiting in list(handle.polls):
            self._end(waiting)
        handle.polls.clear()

    def look(self, handle: Handle) -> None:
        """Something about a socket may have changed."""
        for waiting in list(handle.polls):
            if self._flags(handle, waiting.wanted[handle.number], is_edge=waiting.is_edge):
                self._end(waiting)
        if handle.mode is not Mode.OFF and self._event(handle):
            self._to_tell[handle] = None

    def tell(self) -> None:
        """Send the events that there are, as far as the client takes them."""
        while self._to_tell and not self._session.is_blocked:
            handle = next(iter(self._to_tell))
            del self._to_tell[handle]
            flags = self._event(handle)
            if flags:
                handle.event_edges &= ~flags
                self._session.say(EVENTS, handle.subscription, Happened(handle.number, flags))

    def next_timer(self) -> int | None:
        """When the time of a POLL is over, monotonic ns; None for never."""
        while self._timers and self._timers[0][2].is_over:
            heapq.heappop(self._timers)
            self._idle_timers -= 1
        return self._timers[0][0] if self._timers else None

    def handle_timer(self, now: int) -> None:
        """Answer those whose time is over."""
        while self._timers and self._timers[0][0] <= now:
            waiting = heapq.heappop(self._timers)[2]
            waiting.has_timer = False
            if waiting.is_over:
                self._idle_timers -= 1
            else:
                self._end(waiting)

    def _set(self, handle: Handle, request: int, interest: int, mode: Mode) -> None:
        handle.subscription, handle.interest, handle.mode = request, interest, mode
        handle.watch()
        if mode is Mode.OFF:
            self._to_tell.pop(handle, None)
        elif self._event(handle):
            self._to_tell[handle] = None

    def _end(self, waiting: Waiting) -> None:
        if waiting.is_over:
            return
        waiting.is_over = True
        if waiting.has_timer:
            self._forget_timer()
        self._rows -= len(waiting.wanted)
        ready = self._ready(waiting)
        for number in waiting.wanted:
            handle = self._session.sockets.handles.get(number)
            if handle is not None:
                handle.polls.pop(waiting, None)
        self._session.answer(Code.POLL, waiting.request, Polled(ready))

    def _forget_timer(self) -> None:
        """One more is for nothing; they go before they are the most."""
        self._idle_timers += 1
        if self._idle_timers > MAX_ROWS and self._idle_timers * 2 > len(self._timers):
            self._timers = [each for each in self._timers if not each[2].is_over]
            heapq.heapify(self._timers)
            self._idle_timers = 0

    def _ready(self, waiting: Waiting) -> tuple[Happened, ...]:
        """What there is to tell; edges are told by that."""
        ready = []
        for number, interest in waiting.wanted.items():
            handle = self._session.sockets.handles.get(number)
            if handle is None:
                ready.append(Happened(number, Ready.INVALID))
            elif flags := self._flags(handle, interest, is_edge=waiting.is_edge):
                if waiting.is_edge:
                    handle.poll_edges &= ~flags
                ready.append(Happened(number, flags))
        return tuple(ready)

    @staticmethod
    def _flags(handle: Handle, interest: int, *, is_edge: bool) -> int:
        flags = handle.flags() & interest
        return flags & handle.poll_edges if is_edge else flags

    @staticmethod
    def _event(handle: Handle) -> int:
        flags = handle.flags() & handle.interest
        return flags & handle.event_edges if handle.mode is Mode.EDGE else flags


def _interest(flags: int) -> int:
    if flags & ~_ALL:
        raise RefusedError(Status.INVALID)
    return flags | _ALWAYS
