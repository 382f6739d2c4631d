"""What is lost, and what of it is to be sent again.

| phase | begins | until |
|---|---|---|
| OPEN | | something counts as lost |
| RECOVERY | the other side acknowledges the same three times, or has as many segments more behind a hole | see below |
| LOSS | the retransmission timer ended | see below |

A phase ends when all is acknowledged that was sent before it began. What was sent again is lost again if three segments
that were sent after it have arrived.

The pipe is what is on the way by the best guess: what was sent and neither arrived nor counts as lost, and what of the
lost was sent again. A peer without selective acknowledgments says only how many segments arrived behind the hole, which
is NewReno: then the first segment counts as lost, and the next one after each partial acknowledgment.

Source: RFC 6675; RFC 6582; RFC 5681 section 3.2; RFC 3042 (more may be sent before anything counts as lost).
Not done here: how much may be on the way (congestion.py); whether it was for nothing, and when three segments are too
few (reordering.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from weft.stack.tcp.scoreboard import DUPLICATE_THRESHOLD, Scoreboard

MAX_RESENT: Final = 1024
"""Runs whose loss is noticed; that of others by the timer."""
MAX_DUPLICATES: Final = 1 << 20


class Phase(Enum):
    """How the sender fares."""

    OPEN = "open"
    RECOVERY = "recovery"
    LOSS = "loss"


# A member of a class is slow to look up (Python 3.11), and this one is for each packet.
OPEN: Final = Phase.OPEN


class Recovery:
    """Losses of one connection; all numbers are sequence numbers.

    Attributes:
        phase: see the table.
        is_quiet: whether nothing is missing, as far as is known.
        selective: whether the other side tells what it has.
        point: what was sent before the phase began ends there.
        scoreboard: what the other side has of it.
    """

    __slots__ = (
        "_again",
        "_duplicates",
        "_has_rescued",
        "_lost_below",
        "_resent",
        "_resent_to",
        "is_quiet",
        "phase",
        "point",
        "scoreboard",
        "selective",
    )

    def __init__(self) -> None:
        self.phase = OPEN
        self.is_quiet = True
        self.selective = False
        self.point = 0
        self.scoreboard = Scoreboard()
        self._duplicates = 0
        self._lost_below = 0
        self._resent_to = 0
        self._has_rescued = False
        self._resent: list[tuple[int, int, int]] = []
        """What was sent again: start, end, and what had been sent for the first time by then."""
        self._again: list[tuple[int, int]] = []
        """What of it is lost again."""

    def pipe(self, una: int, nxt: int, segment: int) -> int:
        """Bytes that are on the way.

        Args:
            una: the first byte that is not acknowledged.
            nxt: behind the last that was sent.
            segment: bytes of a full segment.
        """
        if self.is_quiet:
            return max(0, nxt - una - self._duplicates * segment) if self._duplicates else nxt - una
        lost, resent = max(self._lost_below, una), self._resent_to
        pipe = self.scoreboard.missing(lost, nxt) + self.scoreboard.missing(una, min(resent, lost))
        # What was only doubtful and left again is there twice.
        pipe += self.scoreboard.missing(lost, min(resent, nxt))
        for start, end in self._again:
            pipe -= self.scoreboard.missing(max(start, una), end)
        return max(0, pipe - self._duplicates * segment) if not self.selective else pipe

    def note_blocks(self, blocks: Iterable[tuple[int, int]], una: int, nxt: int, resent_below: int) -> int:
        """Take what the other side says it has.

        Args:
            blocks: left and right edges. Those outside of what is on the way say nothing, or that something came twice.
            una: the first byte that is not acknowledged.
            nxt: behind the last that was sent.
            resent_below: nothing was ever sent again from there on.

        Returns:
            How far behind the furthest a byte came that was sent once; 0 if all came in order.
        """
        scoreboard, late = self.scoreboard, 0
        highest = scoreboard.highest if scoreboard else 0
        for left, right in blocks:
            if una < left < right <= nxt:
                if left < highest:
                    gap = scoreboard.gap(max(left, resent_below), min(right, highest))
                    if gap is not None:
                        late = max(late, highest - gap[0])
                scoreboard.add(left, right)
                self.is_quiet = False
        return late

    def handle_duplicate(self) -> None:
        """An acknowledgment said nothing but that a segment has arrived behind a hole.

        After a time-out it may be one that counts as lost already, and so is not in the pipe.
        """
        if not self.selective and self.phase is not Phase.LOSS and self._duplicates < MAX_DUPLICATES:
            self._duplicates += 1

    def detect(self, una: int, nxt: int, segment: int, threshold: int) -> bool:
        """Look for losses; whether a phase of recovery begins with that.

        Args:
            una: the first byte that is not acknowledged.
            nxt: behind the last that was sent.
            segment: bytes of a full segment.
            threshold: how many segments must have arrived behind one.
        """
        if self.selective:
            self._lost_below = max(self._lost_below, self.scoreboard.lost_below(segment, threshold))
            self._look_for_lost_again(una, segment, threshold)
            is_lost = self._lost_below > una
        else:
            is_lost = self._duplicates >= DUPLICATE_THRESHOLD
        # What was sent before the last phase ended says nothing about the window that it left (RFC 6582 section 3.2).
        has_begun = self.phase is OPEN and is_lost and una >= self.point
        if has_begun:
            self._begin(Phase.RECOVERY, una, nxt)
            if not self.selective:
                self._lost_below = min(una + segment, self.point)
        self._settle(una)
        return has_begun

    def _settle(self, una: int) -> None:
        """See again whether something is missing; to be called when what that depends on has changed."""
        self.is_quiet = self.phase is OPEN and not self.scoreboard and self._lost_below <= una

    def _look_for_lost_again(self, una: int, segment: int, threshold: int) -> None:
        resent = self._resent
        highest = self.scoreboard.highest if self.scoreboard else 0
        while resent:
            start, end, sent = resent[0]
            if end > una:
                if highest < sent + threshold * segment:
                    return
                self._again.append((start, end))
            del resent[0]

    def handle_acknowledged(self, una: int, acknowledged: int, segment: int) -> bool:
        """More was acknowledged; whether that ends the phase.

        Args:
            una: the first byte that is not acknowledged now.
            acknowledged: how many bytes were.
            segment: bytes of a full segment.
        """
        if self.is_quiet:
            self._duplicates = 0
            return False
        if self.scoreboard.covers(una):
            # It acknowledges less than what it said it had: it has thrown that away.
            self.scoreboard.clear()
        else:
            self.scoreboard.advance(una)
        has_ended = self.phase is not OPEN and una >= self.point
        if has_ended:
            self.phase = OPEN
            self._lost_below = una
        if self.phase is OPEN:
            self._duplicates = 0
        elif not self.selective:
            self._duplicates = max(0, self._duplicates - max(0, acknowledged // segment - 1))
            if self.phase is Phase.RECOVERY:
                self._lost_below = min(una + segment, self.point)
                self._resent_to = una
        self._settle(una)
        return has_ended

    def handle_timeout(self, una: int, nxt: int) -> None:
        """The retransmission timer ended: all that was sent counts as lost."""
        self._begin(Phase.LOSS, una, nxt)
        self._lost_below = nxt
        self._duplicates = 0

    def handle_in_vain(self, una: int) -> None:
        """Nothing was lost: the phase ends, and what is missing may still come."""
        self.phase = OPEN
        self.point = self._lost_below = self._resent_to = una
        self._duplicates = 0
        self._resent.clear()
        self._again.clear()
        self._settle(una)

    def handle_too_big(self, una: int, nxt: int) -> None:
        """What is on the way does not arrive because it is too big for the path; that is no sign of congestion."""
        self._lost_below = nxt
        self._resent_to = una
        self._settle(una)

    def _begin(self, phase: Phase, una: int, nxt: int) -> None:
        self.phase = phase
        self.is_quiet = False
        self.point = nxt
        self._resent_to = una
        self._has_rescued = False
        self._resent.clear()
        self._again.clear()

    def next_lost(self, una: int) -> tuple[int, int] | None:
        """The first run of bytes that counts as lost and was not sent again since; None if there is none."""
        while self._again:
            start, end = self._again[0]
            gap = self.scoreboard.gap(max(start, una), end)
            if gap is not None:
                return gap
            del self._again[0]
        return self.scoreboard.gap(max(una, self._resent_to), self._lost_below)

    def next_doubtful(self, una: int, segment: int) -> tuple[int, int] | None:
        """A segment to send again for want of anything better: missing below what has arrived, but not lost yet."""
        if self.phase is not Phase.RECOVERY or not self.scoreboard:
            return None
        gap = self.scoreboard.gap(max(una, self._resent_to), self.scoreboard.highest)
        return (gap[0], min(gap[1], gap[0] + segment)) if gap is not None else None

    def take_rescue(self, una: int, segment: int) -> tuple[int, int] | None:
        """The last segment before `point`, once in a phase, so that the loss of a tail need not wait for the timer."""
        if self.phase is not Phase.RECOVERY or not self.selective or self._has_rescued:
            return None
        self._has_rescued = True
        return self.scoreboard.gap(max(una, self.point - segment), self.point)

    def handle_resent(self, start: int, end: int, nxt: int) -> None:
        """Bytes were sent again.

        Args:
            start: the first.
            end: behind the last.
            nxt: behind the last byte that was ever sent.
        """
        if self._again and self._again[0][0] <= start < self._again[0][1]:
            self._again[0] = end, self._again[0][1]
        self._resent_to = max(self._resent_to, end)
        if len(self._resent) < MAX_RESENT:
            self._resent.append((start, end, nxt))
