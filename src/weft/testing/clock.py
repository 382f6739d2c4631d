"""A clock that moves only when told: monotonic and wall time, and callbacks in the order in which they fall due.

State machines of this package take `now` as an argument and read no clock, so a test owns time entirely: hours pass in
microseconds, and a run can be repeated to the nanosecond. Monotonic time only grows. Wall time runs along with it and
can be stepped either way, because that is what clocks of real machines do when NTP or a person corrects them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from weft.errors import UsageError

MS = 1_000_000
"""One millisecond in nanoseconds."""
S = 1_000_000_000
"""One second in nanoseconds."""

FIRST_WALL_NS = 1_750_000_000 * S
"""Wall time of a new clock: a day in June 2025, so that dates look like dates."""

CALLBACKS_PER_INSTANT = 100_000
"""More callbacks than this without time moving are a livelock, not a busy test."""


@dataclass(eq=False, slots=True)
class Timer:
    """A callback that waits for its time; keep it to be able to cancel it.

    Attributes:
        at: when it is due, monotonic nanoseconds.
    """

    at: int
    _callback: Callable[[], object] | None

    @property
    def waiting(self) -> bool:
        """Whether it has neither run nor been cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Let it never run; without effect when it has run already."""
        self._callback = None

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class VirtualClock:
    """Monotonic and wall time under the control of a test.

    Args:
        now: first monotonic time, nanoseconds. Not 0 by default, so that a machine which takes 0 for "never" shows.
        wall_ns: first wall time, nanoseconds since 1970.

    Not done here: real time, and asyncio (a machine driven through this clock needs no event loop).
    """

    def __init__(self, now: int = S, wall_ns: int = FIRST_WALL_NS) -> None:
        self._now = now
        self._wall_offset = wall_ns - now
        self._heap: list[tuple[int, int, Timer]] = []
        self._numbers = 0
        self._sweep_above = 64
        self._at_this_instant = 0

    @property
    def now(self) -> int:
        """Monotonic time, nanoseconds."""
        return self._now

    @property
    def wall_ns(self) -> int:
        """Wall time, nanoseconds since 1970."""
        return self._now + self._wall_offset

    def step_wall(self, by_ns: int) -> None:
        """Correct the wall clock by a span, forwards or backwards; monotonic time and timers stay as they are."""
        self._wall_offset += by_ns

    def call_at(self, at: int, callback: Callable[[], object]) -> Timer:
        """Run a callback when monotonic time reaches `at`; those due at one time run in the order of these calls.

        Args:
            at: monotonic nanoseconds. A time that has passed means: at the next move of the clock, before others.
            callback: is called without arguments; what it raises leaves the `advance` that ran it.
        """
        if len(self._heap) > self._sweep_above:
            self._sweep()
        self._numbers += 1
        timer = Timer(max(at, self._now), callback)
        heapq.heappush(self._heap, (timer.at, self._numbers, timer))
        return timer

    def call_later(self, delay_ns: int, callback: Callable[[], object]) -> Timer:
        """Run a callback after a span of virtual time."""
        return self.call_at(self._now + delay_ns, callback)

    def next_at(self) -> int | None:
        """When the next callback is due, or None if none waits."""
        while self._heap and not self._heap[0][2].waiting:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_next(self) -> bool:
        """Jump to the next callback that is due and run that one; False if none waits.

        Raises:
            UsageError: callbacks keep asking for callbacks at the same instant, so that time can't move.
        """
        at = self.next_at()
        if at is None:
            return False
        self._run_first()
        return True

    def advance_to(self, at: int) -> None:
        """Let time pass until `at`, running every callback that falls due on the way at exactly its time.

        Raises:
            UsageError: `at` has passed already, or a livelock as in `run_next`.
        """
        if at < self._now:
            raise UsageError(f"monotonic time can't go back from {self._now} ns to {at} ns")
        while (due := self.next_at()) is not None and due <= at:
            self._run_first()
        self._move(at)

    def advance(self, span_ns: int) -> None:
        """Let a span of time pass; see `advance_to`."""
        self.advance_to(self._now + span_ns)

    def _run_first(self) -> None:
        at, _, timer = heapq.heappop(self._heap)
        self._move(at)
        self._at_this_instant += 1
        if self._at_this_instant > CALLBACKS_PER_INSTANT:
            raise UsageError(f"livelock: {CALLBACKS_PER_INSTANT} callbacks ran and time stays at {self._now} ns")
        timer._run()

    def _sweep(self) -> None:
        # A machine that sets its timer anew with each datagram leaves a cancelled one behind each time.
        self._heap = [item for item in self._heap if item[2].waiting]
        heapq.heapify(self._heap)
        self._sweep_above = 64 + 2 * len(self._heap)

    def _move(self, at: int) -> None:
        if at > self._now:
            self._now = at
            self._at_this_instant = 0
