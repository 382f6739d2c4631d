"""Limits of rates, for one thing and for each of many sources.

Both are the generic cell rate algorithm: of each thing only the time is kept at which its debt will be paid; what comes
while the debt is larger than the burst allows is refused and adds nothing.

Source: ITU-T I.371, annex A (virtual scheduling).
"""

from __future__ import annotations

from collections.abc import Hashable

SECOND_NS = 1_000_000_000


class Rate:
    """At most `per_second` in the long run and `burst` at once."""

    __slots__ = ("_interval_ns", "_paid_at", "_tolerance_ns")

    def __init__(self, per_second: int, burst: int) -> None:
        self._interval_ns = SECOND_NS // per_second
        self._tolerance_ns = (burst - 1) * self._interval_ns
        self._paid_at = 0

    def allows(self, now: int) -> bool:
        """Whether one more fits now; if so it is counted."""
        paid_at = self._paid_at
        if paid_at <= now:
            self._paid_at = now + self._interval_ns
            return True
        if paid_at - now > self._tolerance_ns:
            return False
        self._paid_at = paid_at + self._interval_ns
        return True


class SourceRates:
    """The same limit for each of many sources, in bounded memory.

    Two generations of a second each are kept; a source that is in neither has no debt, for a burst is paid back within
    a second. Where a generation is full, sources that it does not know are refused.
    """

    __slots__ = ("_capacity", "_interval_ns", "_newer", "_older", "_tolerance_ns", "_turned_at")

    def __init__(self, per_second: int, burst: int, capacity: int) -> None:
        self._interval_ns = SECOND_NS // per_second
        self._tolerance_ns = (burst - 1) * self._interval_ns
        self._capacity = capacity
        self._newer: dict[Hashable, int] = {}
        self._older: dict[Hashable, int] = {}
        self._turned_at = 0

    def allows(self, source: Hashable, now: int) -> bool:
        """Whether one more of this source fits now; if so it is counted."""
        if now - self._turned_at >= SECOND_NS:
            self._older, self._newer, self._turned_at = self._newer, {}, now
        paid_at = self._newer.get(source)
        if paid_at is None:
            if len(self._newer) >= self._capacity:
                return False
            paid_at = self._older.get(source, 0)
        paid_at = max(paid_at, now)
        if paid_at - now > self._tolerance_ns:
            return False
        self._newer[source] = paid_at + self._interval_ns
        return True
