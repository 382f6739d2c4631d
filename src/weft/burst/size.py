"""How many pieces a burst may have: the receiver's count of what was lost, and the sender's answer to it.

A lost datagram loses its burst, so the number of pieces follows the measured loss: pieces = c / p, from 1 (type 4
messages, exactly WireGuard's) to 64.

    receiver    counts and, at most each 200 ms while anything comes, reports six numbers that only grow:
                [datagrams missing by counter gap, pieces expected, pieces got, bursts opened, given up, bad tags]
    sender      p = lost / sent since the last report that covers enough, smoothed; down at once, up by doubling at
                most once a second, and only when the goal is clearly another, so that steady loss gives steady bursts
    black hole  no report within 1 s of the first burst: type 4 only, one trial burst after 10 s, doubling to 10 min

Source: wire.md section 4, "Loss". Going up by doubling instead of a quarter a second is ours: from the size at 1 loss
in 100 to whole bursts takes 5 s instead of 20.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from weft.burst.header import MAX_PIECES

LOSS_PER_BURST: Final = 0.03
"""c: the loss of whole bursts that is aimed at; the benchmark finds 0.02 to 0.05 equally good."""
REPORT_INTERVAL_NS: Final = 200_000_000
SAMPLE_PIECES: Final = 1_000
SAMPLE_NS: Final = 5_000_000_000
GAIN: Final = 1 / 4
HYSTERESIS: Final = 1.5
GROW_INTERVAL_NS: Final = 1_000_000_000
REPORT_TIMEOUT_NS: Final = 1_000_000_000
FIRST_TRIAL_NS: Final = 10_000_000_000
LAST_TRIAL_NS: Final = 600_000_000_000
SIGNIFICANT_LOSSES: Final = 5
"""Fewer are chance: one sample with this many lost pieces lowers the size at once."""


class LossReport(NamedTuple):
    """What a receiver has counted since its start; the value of `r` in a notice."""

    missing: int
    """Datagrams that the gaps between counters tell of."""
    expected: int
    """Pieces of all bursts of which at least one piece came."""
    got: int
    opened: int
    given_up: int
    bad_tags: int


class LossMeter:
    """The receiver's counts. The datapath adds to the attributes directly, once per burst.

    `highest` and `seen` belong to the keypair in use; `start` closes the account of the one before. A burst that was
    given up is seen too: its missing pieces are counted as such, not as a gap.
    """

    __slots__ = (
        "_missing_before",
        "bad_tags",
        "expected",
        "first",
        "given_up",
        "got",
        "highest",
        "opened",
        "seen",
    )

    def __init__(self) -> None:
        self.first = 0
        self.highest = -1
        self.seen = 0
        self.expected = 0
        self.got = 0
        self.opened = 0
        self.given_up = 0
        self.bad_tags = 0
        self._missing_before = 0

    def start(self, counter: int) -> None:
        """Begin to count gaps anew, with the first counter of another keypair."""
        self._missing_before += self._missing()
        self.first = counter
        self.highest = counter - 1
        self.seen = 0

    def give_up(self, got: int, missing: int) -> None:
        """Count a burst that was given up."""
        self.given_up += 1
        self.seen += 1
        self.got += got
        self.expected += got + missing

    def report(self) -> LossReport:
        """The counts of now."""
        missing = self._missing_before + self._missing()
        return LossReport(missing, self.expected, self.got, self.opened, self.given_up, self.bad_tags)

    def _missing(self) -> int:
        return max(0, self.highest - self.first + 1 - self.seen)


class BurstSize:
    """The sender's side for one path.

    Attributes:
        pieces: how many datagrams a burst may have now; 1 means type 4 messages only.
        loss: smoothed share of lost datagrams, 0 to 1.
        datagrams_sent: counted up by the datapath, once per burst.
    """

    __slots__ = (
        "_first_unreported_at",
        "_grown_at",
        "_hole_for",
        "_hole_until",
        "_is_trial",
        "_last",
        "_last_at",
        "_last_sent",
        "_refused_for",
        "_refused_until",
        "_wanted",
        "datagrams_sent",
        "fixed",
        "loss",
        "pieces",
    )

    def __init__(self, *, fixed: int | None = None) -> None:
        """Start with whole bursts.

        Args:
            fixed: a size that no report changes, for measurements; 0 and 1 both mean type 4 messages only.
        """
        self.fixed = None if fixed is None else max(1, min(fixed, MAX_PIECES))
        self.pieces = self._wanted = self.fixed or MAX_PIECES
        self.loss = 0.0
        self.datagrams_sent = 0
        self._last: LossReport | None = None
        self._last_sent = 0
        self._last_at = 0
        self._grown_at = 0
        self._first_unreported_at: int | None = None
        self._hole_until = 0
        self._hole_for = FIRST_TRIAL_NS
        self._is_trial = False
        self._refused_until = 0
        self._refused_for = FIRST_TRIAL_NS

    def handle_burst_sent(self, now: int) -> bool:
        """Note that a burst of more than one piece left; the first since the last report starts the watch.

        Returns:
            True if that set a timer.
        """
        if self._first_unreported_at is not None:
            return False
        self._first_unreported_at = now
        if self._is_trial:
            self._settle(now)
        return True

    def receive_report(self, report: LossReport, now: int) -> None:
        """Take the other side's counts."""
        self._first_unreported_at = None
        self._is_trial = False
        self._hole_until = 0
        self._hole_for = FIRST_TRIAL_NS
        self._settle(now)
        last = self._last
        if last is None or any(new < old for new, old in zip(report[1:], last[1:], strict=True)):
            self._begin(report, now)
            return
        sent = self.datagrams_sent - self._last_sent
        if sent < SAMPLE_PIECES and (now - self._last_at < SAMPLE_NS or sent <= 0):
            return
        lost = (report.missing - last.missing) + (report.expected - last.expected) - (report.got - last.got)
        sample = min(1.0, max(0, lost) / sent)
        self.loss += GAIN * (sample - self.loss)
        self._begin(report, now)
        self._adapt(sample if lost >= SIGNIFICANT_LOSSES else 0.0, now)

    def receive_refusal(self, now: int) -> None:
        """The other side asks for type 4 only (`burst` 0): three bad tags in a second."""
        self._refused_until = now + self._refused_for
        self._refused_for = min(2 * self._refused_for, LAST_TRIAL_NS)
        self._settle(now)

    def handle_timer(self, now: int) -> None:
        """Look for a black hole, and for the end of one."""
        since = self._first_unreported_at
        if since is not None and now - since >= REPORT_TIMEOUT_NS:
            self._first_unreported_at = None
            self._is_trial = True
            self._hole_until = now + self._hole_for
            self._hole_for = min(2 * self._hole_for, LAST_TRIAL_NS)
        self._settle(now)

    def next_timer(self) -> int | None:
        """When `handle_timer` has something to do, monotonic ns."""
        times = [at for at in (self._hole_until, self._refused_until) if at]
        if self._first_unreported_at is not None:
            times.append(self._first_unreported_at + REPORT_TIMEOUT_NS)
        return min(times, default=None)

    def _begin(self, report: LossReport, now: int) -> None:
        self._last = report
        self._last_sent = self.datagrams_sent
        self._last_at = now

    def _adapt(self, sudden: float, now: int) -> None:
        """Move the wanted size towards c / p."""
        loss = max(self.loss, sudden / 2)
        goal = MAX_PIECES if loss * MAX_PIECES <= LOSS_PER_BURST else max(1, int(LOSS_PER_BURST / loss))
        if goal * HYSTERESIS < self._wanted or (goal == 1 and self._wanted == 2):
            self._wanted = goal
            self._grown_at = now
        elif (goal > self._wanted * HYSTERESIS or goal == MAX_PIECES) and now - self._grown_at >= GROW_INTERVAL_NS:
            self._wanted = min(goal, 2 * self._wanted)
            self._grown_at = now
        self._settle(now)

    def _settle(self, now: int) -> None:
        """Derive `pieces` from the wanted size and what forbids bursts."""
        if self._refused_until and now >= self._refused_until:
            self._refused_until = 0
        if self._hole_until and now >= self._hole_until:
            self._hole_until = 0
        if self.fixed is not None:
            self.pieces = self.fixed
        elif self._refused_until or self._hole_until or (self._is_trial and self._first_unreported_at is not None):
            self.pieces = 1
        else:
            self.pieces = self._wanted
