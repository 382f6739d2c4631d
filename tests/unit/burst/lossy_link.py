"""A sender and a receiver of bursts over a link that loses single datagrams, in virtual time.

Only what the two sides count is simulated: which datagrams of which burst were lost, when a burst with a gap is given
up, when a report is due, and that reports take their time and get lost too. A run of losses is skipped to, not
thrown dice for, so that a million datagrams take a blink.
"""

from __future__ import annotations

from collections import deque
from math import log
from random import Random

from weft.burst.size import REPORT_INTERVAL_NS, BurstSize, LossMeter, LossReport

MS = 1_000_000
SECOND = 1000 * MS
TICK_NS = 5 * MS
GIVEN_UP_NS = 250 * MS
LATENCY_NS = 20 * MS


class LossyLink:
    """One direction.

    Attributes:
        size: the sender's machine.
        sizes: (time in s since the last `mark`, pieces) of each change.
        wanted: likewise of what the loss alone would allow.
        per_second: datagrams that are sent from now on.
    """

    def __init__(self, per_second: int, seed: int = 0) -> None:
        self.size = BurstSize()
        self.sizes: list[tuple[float, int]] = []
        self.wanted: list[tuple[float, int]] = []
        self.now = 1000 * SECOND
        self._marked_at = self.now
        self.per_second = per_second
        self._random = Random(seed)
        self._loss = 0.0
        self._until_loss = 0
        self._meter = LossMeter()
        self._meter.start(0)
        self._counter = 0
        self._owed = 0.0
        self._gaps: deque[tuple[int, int, int]] = deque()
        self._reports: deque[tuple[int, LossReport]] = deque()
        self._report_at = 0
        self._is_report_due = False
        self._noted = (self.size.pieces, self.size.wanted)

    def mark(self) -> None:
        """Begin to note changes of the size anew."""
        self._marked_at = self.now
        self.sizes = []
        self.wanted = []

    def lose(self, share: float) -> None:
        """From now on this share of datagrams is lost."""
        self._loss = share
        self._until_loss = self._draw_run()

    def run(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            self.now += TICK_NS
            while self._gaps and self._gaps[0][0] <= self.now:
                _, got, missing = self._gaps.popleft()
                self._meter.give_up(got, missing)
            self._report()
            while self._reports and self._reports[0][0] <= self.now:
                self.size.receive_report(self._reports.popleft()[1], self.now)
                self._note()
            due = self.size.next_timer()
            if due is not None and due <= self.now:
                self.size.handle_timer(self.now)
                self._note()
            self._owed += self.per_second * TICK_NS / SECOND
            while self._owed >= self.size.pieces:
                self._send()

    def _send(self) -> None:
        """Send one burst, or as many as fare alike."""
        pieces = self.size.pieces
        count = self._alike(pieces)
        if pieces > 1:
            if self.size.handle_burst_sent(self.now):
                # The next one may be of another size.
                count = 1
            for _ in range(count - 1):
                self.size.handle_burst_sent(self.now)
            self._note()
        self._owed -= count * pieces
        self._counter += count
        self.size.datagrams_sent += count * pieces
        lost = self._lost_of(count * pieces)
        if lost == pieces:
            return
        meter = self._meter
        if lost:
            self._gaps.append((self.now + GIVEN_UP_NS, pieces - lost, lost))
            return
        meter.seen += count
        meter.highest = self._counter - 1
        if pieces > 1:
            meter.opened += count
            meter.expected += count * pieces
            meter.got += count * pieces
        self._is_report_due = True
        self._report()

    def _alike(self, pieces: int) -> int:
        """How many of the bursts to send all arrive, and no report is made before the last; 1 if there is no such."""
        if self.now >= self._report_at:
            return 1
        count = int(self._owed // pieces)
        return max(1, min(count, self._until_loss // pieces) if self._loss else count)

    def _report(self) -> None:
        if self._is_report_due and self.now >= self._report_at:
            self._is_report_due = False
            self._report_at = self.now + REPORT_INTERVAL_NS
            if self._random.random() >= self._loss:
                self._reports.append((self.now + LATENCY_NS, self._meter.report()))

    def _lost_of(self, pieces: int) -> int:
        lost = 0
        if self._loss:
            while self._until_loss < pieces:
                lost += 1
                pieces -= self._until_loss + 1
                self._until_loss = self._draw_run()
            self._until_loss -= pieces
        return lost

    def _draw_run(self) -> int:
        """How many datagrams arrive until the next one is lost."""
        if not 0 < self._loss < 1:
            return 0
        return int(log(1 - self._random.random()) / log(1 - self._loss))

    def _note(self) -> None:
        at = (self.now - self._marked_at) / SECOND
        pieces, wanted = self.size.pieces, self.size.wanted
        if pieces != self._noted[0]:
            self.sizes.append((at, pieces))
        if wanted != self._noted[1]:
            self.wanted.append((at, wanted))
        self._noted = (pieces, wanted)
