"""Which bytes the other side has although earlier ones are missing.

The ranges are disjoint, sorted, and few: no more than there are losses in a window. Whether a byte counts as lost
follows from what was acknowledged behind it: three ranges, or more than two segments.

Source: RFC 2018 section 5; RFC 6675 sections 2 to 4.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

DUPLICATE_THRESHOLD: Final = 3
MAX_RANGES: Final = 256
"""What a peer that acknowledges every other byte can make us keep; further ranges are not noted."""


class Scoreboard:
    """The acknowledged ranges above the first missing byte.

    Attributes:
        sacked: bytes in them.
    """

    __slots__ = ("_ends", "_starts", "sacked")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.sacked = 0

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def highest(self) -> int:
        """Behind the last acknowledged byte; there must be one."""
        return self._ends[-1]

    def covers(self, sequence: int) -> bool:
        """Whether a byte has been acknowledged."""
        number = bisect_right(self._starts, sequence) - 1
        return number >= 0 and sequence < self._ends[number]

    def add(self, start: int, end: int) -> bool:
        """Note that the other side has these bytes; whether any of that was new."""
        starts, ends = self._starts, self._ends
        # All ranges that touch the new one become one with it.
        first = bisect_left(ends, start)
        last = first
        while last < len(starts) and starts[last] <= end:
            last += 1
        if first == last:
            if len(starts) >= MAX_RANGES:
                return False
            starts.insert(first, start)
            ends.insert(first, end)
            self.sacked += end - start
            return True
        if starts[first] <= start and end <= ends[first]:
            return False
        before = sum(ends[number] - starts[number] for number in range(first, last))
        start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        self.sacked += end - start - before
        return True

    def advance(self, until: int) -> None:
        """Forget what lies before a sequence number."""
        starts, ends = self._starts, self._ends
        while starts and starts[0] < until:
            cut = min(ends[0], until)
            self.sacked -= cut - starts[0]
            if ends[0] <= until:
                del starts[0], ends[0]
            else:
                starts[0] = until

    def clear(self) -> None:
        """Forget all of it."""
        self._starts, self._ends, self.sacked = [], [], 0

    def lost_below(self, segment: int, threshold: int = DUPLICATE_THRESHOLD) -> int:
        """Below which sequence number all bytes that are missing count as lost; 0 if none does.

        Args:
            segment: bytes of a full segment.
            threshold: how many segments must have arrived behind them.
        """
        total = 0
        for number in range(len(self._starts) - 1, -1, -1):
            total += self._ends[number] - self._starts[number]
            ranges = len(self._starts) - number
            if ranges >= threshold or total > (threshold - 1) * segment:
                return self._starts[number]
        return 0

    def missing(self, start: int, end: int) -> int:
        """How many bytes between two sequence numbers the other side does not have, as far as is known."""
        if end <= start:
            return 0
        missing = end - start
        for left, right in zip(self._starts, self._ends, strict=True):
            if left >= end:
                break
            if right > start:
                missing -= min(right, end) - max(left, start)
        return missing

    def gap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first run of missing bytes between two sequence numbers; None if there is none."""
        starts, ends = self._starts, self._ends
        number = bisect_right(ends, start)
        if number < len(starts) and starts[number] <= start:
            start = ends[number]
            number += 1
        if number < len(starts):
            end = min(end, starts[number])
        return (start, end) if start < end else None
