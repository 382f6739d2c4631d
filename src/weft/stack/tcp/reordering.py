"""How far segments overtake each other on the path, and whether a recovery was in vain because they did.

A segment counts as lost when so many others have arrived that were sent after it: three at first, more on a path where
a segment was seen to come later than that. Where a recovery has begun, and then the segment came that was thought lost,
the window is again what it was: the acknowledgment echoes a time before the one at which anything was sent again.

Source: RFC 3522 and RFC 4015 (Eifel); the idea of a threshold that grows is that of RFC 4653 and Linux.
Not done here: what time-outs in vain did to the window (RFC 5682).
"""

from __future__ import annotations

from typing import Final

from weft.stack.tcp.congestion import CubicState
from weft.stack.tcp.scoreboard import DUPLICATE_THRESHOLD
from weft.stack.tcp.timers import MS

MOST_SEGMENTS: Final = 300


class Reordering:
    """What is known of it, of one connection.

    Attributes:
        segments: how many may arrive before one that was sent earlier, until that counts as lost.
    """

    __slots__ = ("_before", "_resent_at", "segments")

    def __init__(self) -> None:
        self.segments = DUPLICATE_THRESHOLD
        self._before: CubicState | None = None
        self._resent_at: int | None = None

    def threshold(self, in_flight: int, segment: int) -> int:
        """How many segments behind one must have arrived for it to count as lost; never more than may come.

        Args:
            in_flight: bytes on the way.
            segment: bytes of a full segment.
        """
        return max(DUPLICATE_THRESHOLD, min(self.segments, 3 * in_flight // (4 * segment)))

    def note_late(self, distance: int, segment: int) -> None:
        """A byte came for the first time when one so many bytes behind it was there already."""
        self.segments = max(self.segments, min(distance // segment + 1, MOST_SEGMENTS))

    def handle_timeout(self) -> None:
        """Nothing came back: losses are to be noticed early again."""
        self.segments = DUPLICATE_THRESHOLD
        self._before = None

    def begin(self, before: CubicState) -> None:
        """A recovery begins; the window was that before."""
        self._before = before
        self._resent_at = None

    def handle_resent(self, now: int) -> None:
        """Something is sent again."""
        if self._resent_at is None:
            self._resent_at = now

    def take_undo(self, echoed_ms: int | None) -> CubicState | None:
        """The first acknowledgment after a recovery began that says more than the one before: the window to go back to.

        Args:
            echoed_ms: when the segment was sent that it answers, monotonic ms; None if nobody knows.

        Returns:
            None if something was lost.
        """
        before, self._before = self._before, None
        if self._resent_at is None:
            return before
        return before if echoed_ms is not None and echoed_ms < self._resent_at // MS else None
